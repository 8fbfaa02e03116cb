"""AdamW, its parameter groups, and the learning rate over the steps."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from torch import nn
from torch.optim import AdamW

from compactbio.spec.training import Optimiser

Schedule = Callable[[int], float]
"""From a step, counted from 0, to its share of the peak learning rate."""


def build_optimiser(module: nn.Module, section: Optimiser, *, scales: Mapping[str, float] | None = None) -> AdamW:
    """AdamW over the trainable parameters; biases and norms (fewer than two dimensions) are not decayed.

    A parameter named in `scales` learns at so many times the section's rate.
    """
    groups: dict[tuple[bool, float], list[nn.Parameter]] = {}
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            scale = (scales or {}).get(name, 1.0)
            groups.setdefault((parameter.ndim >= 2, scale), []).append(parameter)
    return AdamW(
        [
            {
                "params": parameters,
                "weight_decay": section.weight_decay if decayed else 0.0,
                "peak_lr": section.lr * scale,
            }
            for (decayed, scale), parameters in groups.items()
        ],
        lr=section.lr,
        betas=(section.beta1, section.beta2),
        eps=section.epsilon,
        fused=True,
    )


def set_learning_rate(optimiser: AdamW, share: float) -> None:
    """Sets every group's rate to a share of its peak."""
    for group in optimiser.param_groups:
        group["lr"] = group["peak_lr"] * share


def build_schedule(section: Optimiser, *, steps: int, warmup_steps: int) -> Schedule:
    """Linear warm-up to the peak, then the section's shape down to the last step: a function of the step alone, so
    that a resumed run needs no state of it."""

    def share(step: int) -> float:
        if step < warmup_steps:
            return (step + 1) / warmup_steps
        left = max(0.0, 1.0 - (step - warmup_steps) / max(1, steps - warmup_steps))
        match section.schedule:
            case "linear":
                return left
            case "cosine":
                return 0.5 * (1.0 - math.cos(math.pi * left))
            case "polynomial":
                return left**section.power
            case "constant":
                return 1.0

    return share
