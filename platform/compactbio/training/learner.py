"""The one module that is wrapped and differentiated: a student and what it is trained for."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from compactbio.data.batches import Batch
from compactbio.models.attention import make_observable
from compactbio.models.forward import Outputs, forward
from compactbio.objectives.objective import Objective


class Learner(Protocol):
    """What the loop knows of a learner. Called with a batch and targets it returns the totals of its parts, and in
    eval mode those of its measures behind them."""

    @property
    def parts(self) -> tuple[str, ...]:
        """Names of the loss's parts."""

    @property
    def measures(self) -> tuple[str, ...]:
        """Names of what is measured besides when dropout is off."""

    def count(self, batch: Batch) -> Tensor:
        """Denominators [parts + measures] of this batch, before any forward pass."""

    def loss(self, totals: Tensor, counts: Tensor, step: int) -> Tensor:
        """The weighted loss from totals and the counts of the global batch, at a step counted from 0."""


class StudentLearner(nn.Module):
    """A student under an objective."""

    def __init__(self, student: PreTrainedModel, objective: Objective) -> None:
        super().__init__()
        make_observable(student)
        self.student = student
        self.objective = objective
        self.parts = objective.parts
        self.measures = objective.measures
        self.count = objective.count
        self.loss = objective.loss

    def forward(self, batch: Batch, targets: Outputs) -> Tensor:
        """Totals [parts], in eval mode [parts + measures], of the batch; `targets` is what the teacher said of it."""
        student = forward(self.student, batch, self.objective.student_needs)
        return self.objective.totals(student, targets, batch, measure=not self.training)


class Teacher:
    """A frozen model outside the learner: no gradients, no dropout, not in any checkpoint."""

    def __init__(self, model: PreTrainedModel, objective: Objective) -> None:
        make_observable(model)
        self._model = model.eval().requires_grad_(False)
        self._needs = objective.teacher_needs

    @torch.no_grad()
    def __call__(self, batch: Batch) -> Outputs:
        """What the objective needs of the teacher on this batch."""
        return forward(self._model, batch, self._needs)


def no_teacher(batch: Batch) -> Outputs:
    """The targets of an objective that needs no teacher."""
    return Outputs()
