"""AdamW, its parameter groups, and the learning rate over the steps."""

from __future__ import annotations

import math

from torch import nn
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR

from compactbio.spec.training import Optimiser


def build_optimiser(
    module: nn.Module, section: Optimiser, *, new: frozenset[str] = frozenset(), new_lr: float | None = None
) -> AdamW:
    """AdamW over the trainable parameters; biases and norms (fewer than two dimensions) are not decayed.

    The parameters named in `new` learn at `new_lr`, the others at the section's rate.
    """
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            groups.setdefault((parameter.ndim >= 2, name in new), []).append(parameter)
    return AdamW(
        [
            {
                "params": parameters,
                "weight_decay": section.weight_decay if decayed else 0.0,
                "lr": new_lr if is_new and new_lr is not None else section.lr,
            }
            for (decayed, is_new), parameters in groups.items()
        ],
        lr=section.lr,
        betas=(section.beta1, section.beta2),
        eps=section.epsilon,
        fused=True,
    )


def build_schedule(optimiser: AdamW, section: Optimiser, *, steps: int, warmup_steps: int) -> LambdaLR:
    """Linear warm-up to the peak, then the section's shape down to the last step."""

    def factor(step: int) -> float:
        if step < warmup_steps:
            return (step + 1) / warmup_steps
        left = 1.0 - (step - warmup_steps) / max(1, steps - warmup_steps)
        match section.schedule:
            case "linear":
                return max(0.0, left)
            case "cosine":
                return 0.5 * (1.0 - math.cos(math.pi * max(0.0, left)))
            case "constant":
                return 1.0

    return LambdaLR(optimiser, factor)
