"""The weighted sum of terms."""

from __future__ import annotations

from functools import reduce

import torch
from torch import Tensor
from transformers import PreTrainedConfig

from compactbio.data.batches import Batch
from compactbio.models.forward import Needs, Outputs
from compactbio.objectives.terms import build_terms
from compactbio.spec import objective as spec


class Objective:
    """The terms of a training stage, seen as one list of parts.

    loss = sum over parts of lambda x (sum of totals) / (sum of counts), the sums over the global batch.
    """

    def __init__(self, section: spec.Objective, student: PreTrainedConfig) -> None:
        named = build_terms(section, student).values()
        self._terms = [term for _, term in named]
        self.parts = tuple(part for term in self._terms for part in term.parts)
        self.weights = torch.tensor([weight for weight, term in named for _ in term.parts])
        self.student_needs = reduce(Needs.__or__, (term.student_needs for term in self._terms))
        self.teacher_needs = reduce(Needs.__or__, (term.teacher_needs for term in self._terms))

    def count(self, batch: Batch) -> Tensor:
        """Denominators [parts] of this batch, before any forward pass."""
        return torch.cat([term.count(batch) for term in self._terms])

    def totals(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        """Sums [parts] of this batch."""
        return torch.cat([term.total(student, teacher, batch) for term in self._terms])

    def loss(self, totals: Tensor, counts: Tensor) -> Tensor:
        """The weighted loss, given totals of a batch (or of all) and counts of the global batch.

        A part that nothing in the global batch is counted for contributes zero.
        """
        return torch.sum(self.weights.to(totals.device) * totals / counts.clamp_min(1.0))
