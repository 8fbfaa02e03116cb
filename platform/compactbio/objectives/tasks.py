"""What a model is fine-tuned for: the loss of a task's labels, and of a fine-tuned teacher's logits.

M scored positions, B rows, T tokens, C classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor
from torch.nn import functional

from compactbio.data.batches import Batch

Reading = Literal["tokens", "texts", "spans"]
"""Where a head's answer is read: at each scored position, once a text, or as the start and the end of a span."""


def read_logits(logits: Tensor, batch: Batch, reading: Reading) -> Tensor:
    """A head's logits as its loss takes them, one distribution a line.

    tokens: [B, T, C] to [M, C]. texts: [B, C] as they are. spans: [B, T, 2] to [2B, T], start and end of each row in
    turn, with no weight on padding.
    """
    match reading:
        case "tokens":
            return logits[batch.scored]
        case "texts":
            return logits
        case "spans":
            lowest = torch.finfo(logits.dtype).min / 1024  # finite under a temperature below 1, too
            return logits.masked_fill(~batch.real[..., None], lowest).transpose(1, 2).flatten(0, 1)


class TaskLoss(Protocol):
    """A loss over the labels of a batch."""

    @property
    def part(self) -> str:
        """The loss's name."""

    def count(self, batch: Batch) -> Tensor:
        """The denominator, from the labels alone."""

    def total(self, logits: Tensor, batch: Batch) -> Tensor:
        """The sum; logits as `read_logits` gives them."""


@dataclass(frozen=True)
class ClassLoss:
    """Cross-entropy of one class a line, where `weights` [C] are there weighed by class."""

    part: str
    weights: Tensor | None = None

    def count(self, batch: Batch) -> Tensor:
        if self.weights is None:
            return torch.tensor(float(len(batch.labels)), device=batch.labels.device)
        return self.weights.to(batch.labels.device)[batch.labels].sum()

    def total(self, logits: Tensor, batch: Batch) -> Tensor:
        weights = None if self.weights is None else self.weights.to(logits.device)
        return functional.cross_entropy(logits, batch.labels, weights, reduction="sum")


@dataclass(frozen=True)
class MultiLabelLoss:
    """Binary cross-entropy of each of C labels of a text; `weights` [C] weigh the texts that have the label."""

    weights: Tensor | None = None
    part = "labels"

    def count(self, batch: Batch) -> Tensor:
        return torch.tensor(float(batch.labels.numel()), device=batch.labels.device)

    def total(self, logits: Tensor, batch: Batch) -> Tensor:
        weights = None if self.weights is None else self.weights.to(logits.device)
        return functional.binary_cross_entropy_with_logits(logits, batch.labels, pos_weight=weights, reduction="sum")


@dataclass(frozen=True)
class TeacherLoss:
    """How far a student's logits are from those of a teacher that is fine-tuned for the same task.

    `mse`: of the logits (Mehmood et al. 2020). `kl`: KL(teacher || student) at the temperature, times its square
    (Hinton et al. 2015); of multi-label tasks, of each label for itself.
    """

    loss: Literal["mse", "kl"]
    temperature: float
    reading: Reading
    num_classes: int
    multi_label: bool = False
    part = "teacher"

    def count(self, batch: Batch) -> Tensor:
        """Logits for `mse`; distributions for `kl`."""
        if self.reading == "spans":
            return 2.0 * (batch.real.sum() if self.loss == "mse" else torch.tensor(float(len(batch.real))))
        lines = batch.scored.sum() if self.reading == "tokens" else torch.tensor(float(len(batch.real)))
        return lines.float() * (self.num_classes if self.loss == "mse" or self.multi_label else 1)

    def total(self, logits: Tensor, teacher: Tensor) -> Tensor:
        """The sum over all lines."""
        if self.loss == "mse":
            return functional.mse_loss(logits, teacher, reduction="sum")
        ours, theirs = logits / self.temperature, teacher / self.temperature
        if self.multi_label:
            cross = functional.binary_cross_entropy_with_logits(ours, theirs.sigmoid(), reduction="sum")
            own = functional.binary_cross_entropy_with_logits(theirs, theirs.sigmoid(), reduction="sum")
            return self.temperature**2 * (cross - own)
        log_probs = theirs.log_softmax(-1)
        return self.temperature**2 * functional.kl_div(
            ours.log_softmax(-1), log_probs, reduction="sum", log_target=True
        )


def balanced_weights(counts: Tensor) -> Tensor:
    """Weights [C] by which every class weighs the same: N / (C x examples of the class); 0 for a class without one."""
    present = counts > 0
    return torch.where(present, counts.sum() / (present.sum() * counts.clamp_min(1)), 0.0).float()
