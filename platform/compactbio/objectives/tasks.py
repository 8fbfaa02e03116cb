"""What a model is fine-tuned for: the loss of a task's labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor
from torch.nn import functional

from compactbio.data.batches import Batch


class TaskLoss(Protocol):
    """A loss over the positions that carry a label."""

    @property
    def part(self) -> str:
        """The loss's name."""

    def count(self, batch: Batch) -> Tensor:
        """The denominator, from the labels alone."""

    def total(self, logits: Tensor, batch: Batch) -> Tensor:
        """The sum; logits [M, C]."""


@dataclass(frozen=True)
class TagLoss:
    """Cross-entropy of one tag a position."""

    part = "tags"

    def count(self, batch: Batch) -> Tensor:
        return batch.scored.sum().float()

    def total(self, logits: Tensor, batch: Batch) -> Tensor:
        return functional.cross_entropy(logits, batch.labels, reduction="sum")


@dataclass(frozen=True)
class MultiLabelLoss:
    """Binary cross-entropy of each of C labels of a text."""

    part = "labels"

    def count(self, batch: Batch) -> Tensor:
        return batch.scored.sum().float() * batch.labels.shape[-1]

    def total(self, logits: Tensor, batch: Batch) -> Tensor:
        return functional.binary_cross_entropy_with_logits(logits, batch.labels, reduction="sum")
