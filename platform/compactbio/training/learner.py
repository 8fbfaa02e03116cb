"""The one module that is wrapped and differentiated: a student and what it is trained for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal, Protocol

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from compactbio.data.batches import Batch
from compactbio.models.attention import make_observable
from compactbio.models.forward import Needs, Outputs, forward
from compactbio.objectives.objective import Objective

Averaging = Literal["logits", "probabilities"]


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
        needs = self.objective.student_needs if self.training else self.objective.measured_needs
        student = forward(self.student, batch, needs)
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


class Ensemble:
    """A teacher whose outputs are averaged with those of others, by weight; the teacher's own weight is 1."""

    def __init__(self, teacher: Teacher, others: Sequence[tuple[PreTrainedModel, float]], averaging: Averaging) -> None:
        for model, _ in others:
            make_observable(model)
        self._teacher = teacher
        self._models = [model.eval().requires_grad_(False) for model, _ in others]
        self._averaging = averaging
        weights = torch.tensor([1.0, *(weight for _, weight in others)])
        self._weights = weights / weights.sum()

    @torch.no_grad()
    def __call__(self, batch: Batch) -> Outputs:
        """What the objective needs of the teacher, with the logits of all."""
        first = self._teacher(batch)
        assert first.logits is not None
        needs = Needs(logits=first.logit_positions)
        logits = [first.logits, *(forward(model, batch, needs).logits for model in self._models)]
        return replace(first, logits=self._mean([some.float() for some in logits if some is not None]))

    def _mean(self, logits: list[Tensor]) -> Tensor:
        weights = self._weights.to(logits[0])
        if self._averaging == "logits":
            return torch.stack([weight * some for weight, some in zip(weights, logits, strict=True)]).sum(0)
        weighted = zip(weights.log(), logits, strict=True)
        return torch.stack([some.log_softmax(-1) + log_weight for log_weight, some in weighted]).logsumexp(0)


def no_teacher(batch: Batch) -> Outputs:
    """The targets of an objective that needs no teacher."""
    return Outputs()
