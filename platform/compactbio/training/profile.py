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
from torch import Tensor
from transformers import PreTrainedConfig

from compactbio.data.batches import Batch
from compactbio.models.count import linear_weights
from compactbio.training.loop import Span, Targets, steps
from compactbio.training.stage import TrainingStage

_MATRIX = 4096
_ROUNDS = 5
_BESIDE = "reading and masking, in a thread beside the others"


@dataclass(frozen=True)
class StepProfile:
    """Figures over some steps, without the first one. Every parameter is taken for trained."""

    num_steps: int
    num_tokens: int
    """Real tokens."""

    seconds: float
    shares: dict[str, float]
    """Share of the step's time by part; what is in none of them is `rest`. Batches are read beside the others."""

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
    """Trains the stage for a step that is not counted, for `num_steps` whose speed is taken, and for as many again that
    are timed part by part, which waits for the device at every edge."""
    device = stage.engine.device
    clock = _Clock(device)
    _train(stage, stage.engine, stage.targets, stage.batches, Span(1), seed)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    clock.wait()
    started = time.perf_counter()
    _train(stage, stage.engine, stage.targets, stage.batches, Span(1 + num_steps, start=1), seed)
    clock.wait()
    seconds = time.perf_counter() - started
    read = [batch for step in range(1, 1 + num_steps) for batch in stage.batches(step)]
    models = [(stage.learner.student, 3), *((model, 1) for model in stage.teachers)]
    return StepProfile(
        num_steps,
        sum(batch.num_real for batch in read),
        seconds,
        _shares(stage, num_steps, clock, seed),
        sum(passes * forward_flops(model.config, batch) for model, passes in models for batch in read),
        peak_flops(device, next(stage.learner.student.parameters()).dtype),
        _peak_bytes(device),
    )


def _shares(stage: TrainingStage, num_steps: int, clock: _Clock, seed: int) -> dict[str, float]:
    targets = clock.timed("teacher", stage.targets) if stage.teachers else stage.targets
    batches = clock.timed(_BESIDE, stage.batches)
    started = time.perf_counter()
    _train(stage, _TimedEngine(stage, clock), targets, batches, Span(1 + 2 * num_steps, start=1 + num_steps), seed)
    clock.wait()
    total = time.perf_counter() - started
    rest = total - sum(taken for part, taken in clock.parts.items() if part != _BESIDE)
    parts = {**clock.parts, "rest": rest}
    return {part: seconds / total for part, seconds in parts.items()}


def _train(
    stage: TrainingStage, engine: Any, targets: Targets, batches: Callable[[int], list[Batch]], span: Span, seed: int
) -> None:
    for _ in steps(engine, stage.learner, targets, batches, span, report_every=span.num_steps, seed=seed):
        pass


def forward_flops(config: PreTrainedConfig, batch: Batch) -> float:
    """Operations of a forward pass over the real tokens of a batch, with the vocabulary at scored positions alone."""
    encoder, head = linear_weights(config)
    lengths = batch.real.sum(1).double()
    width = getattr(config, "true_hidden_size", config.hidden_size)  # MobileBERT attends inside its bottleneck
    attention = 4.0 * config.num_hidden_layers * width * float(lengths.square().sum())
    return 2.0 * encoder * float(lengths.sum()) + attention + 2.0 * head * float(batch.scored.sum())


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
