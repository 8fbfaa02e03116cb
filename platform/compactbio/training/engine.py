"""Who owns the step: forward, backward, gradients between workers, clipping, optimiser."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_
from torch.optim import AdamW

from compactbio.data.batches import Batch
from compactbio.models.forward import Outputs
from compactbio.training.optimiser import Schedule, set_learning_rate


class Engine(Protocol):
    """A learner with its optimiser, on one worker of a group."""

    device: torch.device
    world_size: int

    def totals(self, batch: Batch, targets: Outputs) -> Tensor:
        """The learner's totals for a micro-batch."""

    def backward(self, loss: Tensor) -> None:
        """Adds this micro-batch's gradients; the workers' losses are summed."""

    def step(self, *, last_micro_batch: bool) -> None:
        """Behind every backward pass: after the last of a step the optimiser moves, unless the gradient is not
        finite."""

    def moved(self) -> bool:
        """Whether the optimiser moved in the last step."""

    def scaling_skips(self) -> bool:
        """Whether steps that do not move are part of finding the scale of the loss (fp16)."""

    def sum(self, values: Tensor) -> Tensor:
        """The sum over workers."""

    def train(self, mode: bool) -> None:
        """Dropout on or off."""

    def gradient_norm(self) -> float:
        """Norm of the last step's gradient, before clipping."""

    def learning_rate(self) -> float:
        """Learning rate of the last step."""


class LocalEngine:
    """A learner on one device of this process alone."""

    world_size = 1

    def __init__(
        self, learner: nn.Module, optimiser: AdamW, schedule: Schedule, *, max_grad_norm: float, device: torch.device
    ) -> None:
        self.device = device
        self._learner = learner.to(device)
        self._max_norm = max_grad_norm or float("inf")
        self._optimiser = optimiser
        self._schedule = schedule
        self._num_steps = 0
        self._norm = torch.zeros(())
        self._moved = True

    def totals(self, batch: Batch, targets: Outputs) -> Tensor:
        return self._learner(batch, targets)

    def backward(self, loss: Tensor) -> None:
        loss.backward()

    def step(self, *, last_micro_batch: bool) -> None:
        if not last_micro_batch:
            return
        set_learning_rate(self._optimiser, self._schedule(self._num_steps))
        self._norm = clip_grad_norm_(self._learner.parameters(), self._max_norm)
        self._moved = bool(self._norm.isfinite())
        if self._moved:
            self._optimiser.step()
        self._optimiser.zero_grad()
        self._num_steps += 1

    def moved(self) -> bool:
        return self._moved

    def scaling_skips(self) -> bool:
        return False

    def sum(self, values: Tensor) -> Tensor:
        return values

    def train(self, mode: bool) -> None:
        self._learner.train(mode)

    def gradient_norm(self) -> float:
        return float(self._norm)

    def learning_rate(self) -> float:
        return float(self._optimiser.param_groups[0]["lr"])
