"""The arithmetic of a training step, and how much of it the machine could do."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from torch import Tensor
from transformers import PreTrainedConfig

from compactbio.data.batches import Batch
from compactbio.models.count import linear_weights
from compactbio.training.stage import TrainingStage

_MATRIX = 4096
_ROUNDS = 5
_QUICK_MATRIX = 1536
"""On CPUs, when a stage starts: large enough for a peak, and small enough to take tenths of a second."""


def passes(stage: TrainingStage) -> list[tuple[PreTrainedConfig, int]]:
    """The models of a step, and how many forward passes their arithmetic comes to: a backward pass is two of them."""
    return [(stage.learner.student.config, 3), *((teacher.config, 1) for teacher in stage.teachers)]


def forward_flops(config: PreTrainedConfig, batch: Batch) -> float:
    """Operations of a forward pass over the real tokens of a batch, with the vocabulary at scored positions alone."""
    return _flops(config, linear_weights(config), batch)


def _flops(config: PreTrainedConfig, weights: tuple[int, int], batch: Batch) -> float:
    encoder, head = weights
    lengths = batch.real.sum(1).double()
    width = getattr(config, "true_hidden_size", config.hidden_size)  # MobileBERT attends inside its bottleneck
    attention = 4.0 * config.num_hidden_layers * width * float(lengths.square().sum())
    return 2.0 * encoder * float(lengths.sum()) + attention + 2.0 * head * float(batch.scored.sum())


def ideal_seconds(stage: TrainingStage) -> Callable[[Batch], float]:
    """How long a batch's arithmetic would take at the peak of all workers together, which is measured now.

    Every worker has to call it. Every parameter is taken for trained.
    """
    device = stage.engine.device
    size = _QUICK_MATRIX if device.type == "cpu" else _MATRIX
    peak = peak_flops(device, next(stage.learner.student.parameters()).dtype, size)
    total = float(stage.engine.sum(torch.tensor([peak], device=device)))
    models = [(times, config, linear_weights(config)) for config, times in passes(stage)]
    return lambda batch: sum(times * _flops(config, weights, batch) for times, config, weights in models) / total


def peak_flops(device: torch.device, dtype: torch.dtype, size: int = _MATRIX) -> float:
    """Operations a second of the best of a few large matrix products."""
    first, second = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    best = float("inf")
    product: Tensor = first @ second
    for _ in range(_ROUNDS):
        wait(device)
        started = time.perf_counter()
        torch.matmul(first, second, out=product)
        wait(device)
        best = min(best, time.perf_counter() - started)
    return 2.0 * size**3 / best


def wait(device: torch.device) -> None:
    """Until the device has done what it was told."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
