"""Where the time of a training step goes, and how much of the machine's arithmetic it uses."""

from __future__ import annotations

import resource
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from compactbio.data.batches import Batch
from compactbio.models.forward import Outputs
from compactbio.training.loop import Span, steps
from compactbio.training.stage import TrainingStage

_MATRIX = 4096
_ROUNDS = 5


@dataclass(frozen=True)
class StepProfile:
    """Figures over some steps, without the first one."""

    num_steps: int
    num_tokens: int
    """Real tokens."""

    seconds: float
    parts: dict[str, float]
    """Seconds by part of the step; what is in none of them is `rest`."""

    flops: float
    """Operations that the recipe needs on its real tokens: linear layers and attention of all passes, the vocabulary at
    scored positions alone."""

    peak_flops: float
    """Operations a second of a large matrix product on this device, measured."""

    peak_bytes: int
    """Memory of this process, or of the GPU, at its highest."""

    @property
    def tokens_per_second(self) -> float:
        """Real tokens a second."""
        return self.num_tokens / self.seconds

    @property
    def utilisation(self) -> float:
        """Model FLOPs utilisation (Chowdhery et al. 2022, appendix B), against the measured peak."""
        return self.flops / self.seconds / self.peak_flops


class _Clock:
    """Seconds by part, with the device waited for at the edges of each."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self.parts: dict[str, float] = defaultdict(float)

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        self.wait()
        started = time.perf_counter()
        yield
        self.wait()
        self.parts[name] += time.perf_counter() - started

    def wait(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)

    def timed(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, its time counted."""

        def call(*args: Any, **kwargs: Any) -> Any:
            with self.part(name):
                return function(*args, **kwargs)

        return call


class _TimedEngine:
    """The stage's engine with its passes timed."""

    def __init__(self, stage: TrainingStage, clock: _Clock) -> None:
        self._inner = stage.engine
        self.totals = clock.timed("student forward and objective", stage.engine.totals)
        self.backward = clock.timed("backward", stage.engine.backward)
        self.step = clock.timed("gradients and optimiser", stage.engine.step)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


def profile_steps(stage: TrainingStage, num_steps: int, *, seed: int) -> StepProfile:
    """Trains the stage for a step that is not counted and `num_steps` that are."""
    device = stage.engine.device
    clock = _Clock(device)
    counted = _Counted(stage)
    targets = clock.timed("teacher", counted.targets)
    batches = clock.timed("reading and masking", counted.batches)
    engine: Any = _TimedEngine(stage, clock)
    for _ in steps(engine, stage.learner, targets, batches, Span(1), report_every=1, seed=seed):
        pass
    clock.parts.clear()
    counted.reset()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    clock.wait()
    started = time.perf_counter()
    span = Span(1 + num_steps, start=1)
    for _ in steps(engine, stage.learner, targets, batches, span, report_every=num_steps, seed=seed):
        pass
    clock.wait()
    seconds = time.perf_counter() - started
    parts = {**clock.parts, "rest": seconds - sum(clock.parts.values())}
    return StepProfile(
        num_steps,
        counted.num_tokens,
        seconds,
        parts,
        counted.flops,
        peak_flops(device, next(stage.learner.student.parameters()).dtype),
        _peak_bytes(device),
    )


class _Counted:
    """The stage's batches and targets, their tokens and operations counted on the way."""

    def __init__(self, stage: TrainingStage) -> None:
        self._stage = stage
        self._models = [(stage.learner.student, 3)] + [(model, 1) for model in stage.teachers]
        self.reset()

    def reset(self) -> None:
        self.num_tokens, self.flops = 0, 0.0

    def batches(self, step: int) -> list[Batch]:
        found = self._stage.batches(step)
        for batch in found:
            self.num_tokens += batch.num_real
            self.flops += sum(passes * forward_flops(model, batch) for model, passes in self._models)
        return found

    def targets(self, batch: Batch) -> Outputs:
        return self._stage.targets(batch)


def forward_flops(model: PreTrainedModel, batch: Batch) -> float:
    """Operations of a forward pass over the real tokens of a batch, with the vocabulary at scored positions alone."""
    encoder, head = _linear_weights(model.base_model), _linear_weights(model) - _linear_weights(model.base_model)
    lengths = batch.real.sum(1).double()
    config = model.config
    attention = 4.0 * config.num_hidden_layers * config.hidden_size * float(lengths.square().sum())
    return 2.0 * encoder * float(lengths.sum()) + attention + 2.0 * head * float(batch.scored.sum())


def _linear_weights(module: nn.Module) -> int:
    return sum(inner.weight.numel() for inner in module.modules() if isinstance(inner, nn.Linear))


def peak_flops(device: torch.device, dtype: torch.dtype) -> float:
    """Operations a second of the best of a few large matrix products."""
    first, second = (torch.randn(_MATRIX, _MATRIX, device=device).to(dtype) for _ in range(2))
    clock, best = _Clock(device), float("inf")
    product: Tensor = first @ second
    for _ in range(_ROUNDS):
        clock.wait()
        started = time.perf_counter()
        torch.matmul(first, second, out=product)
        clock.wait()
        best = min(best, time.perf_counter() - started)
    return 2.0 * _MATRIX**3 / best


def _peak_bytes(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
