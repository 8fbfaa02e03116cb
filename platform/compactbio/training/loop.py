"""The loop: one generator for every kind of training. Its caller saves, logs and reports."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from compactbio.data import counter
from compactbio.data.batches import Batch
from compactbio.models.forward import Outputs
from compactbio.tracking import metrics
from compactbio.training.engine import Engine
from compactbio.training.learner import Learner

Targets = Callable[[Batch], Outputs]
MicroBatches = Callable[[int], list[Batch]]


class DivergedError(RuntimeError):
    """The loss is not a number any more."""


@dataclass(frozen=True)
class Report:
    """What is known behind a step (counted from 1): metric name to value."""

    step: int
    values: dict[str, float]


def steps(
    engine: Engine,
    learner: Learner,
    targets: Targets,
    batches: MicroBatches,
    *,
    num_steps: int,
    report_every: int,
    seed: int,
    report_at: Collection[int] = (),
) -> Iterator[Report]:
    """Trains for `num_steps` and reports the first step, every so many, those of `report_at`, and the last.

    The losses of a report are those of its own step, over the global batch; the speed is that since the last one.
    Nothing is read from the device between reports. Raises DivergedError at a report whose loss is not finite.
    """
    engine.train(True)
    num_tokens, started = 0, time.perf_counter()
    for step in range(num_steps):
        read = batches(step)
        num_tokens += sum(batch.num_real for batch in read)  # while they are in the host's memory
        micro_batches = [batch.to(engine.device) for batch in read]
        totals, counts = _step(engine, learner, targets, micro_batches, seed=seed, step=step)
        done = step + 1
        if done in (1, num_steps) or done % report_every == 0 or done in report_at:
            values = _losses(engine, learner, totals, counts, step)
            if not math.isfinite(values[metrics.LOSS.name]):
                raise DivergedError(f"the loss at step {done} is {values[metrics.LOSS.name]}; lower the learning rate")
            elapsed = time.perf_counter() - started
            all_tokens = float(engine.sum(torch.tensor([float(num_tokens)], device=engine.device)))
            values[metrics.TOKENS.name] = all_tokens
            values[metrics.TOKENS_PER_SECOND.name] = all_tokens / elapsed
            values[metrics.GRADIENT_NORM.name] = engine.gradient_norm()
            values[metrics.LEARNING_RATE.name] = engine.learning_rate()
            yield Report(done, values)
            num_tokens, started = 0, time.perf_counter()


def evaluate(
    engine: Engine, learner: Learner, targets: Targets, batches: Iterable[Batch], step: int
) -> dict[str, float]:
    """The losses and measures over all of the batches of all workers, with dropout off.

    `step` is the one whose lambdas weigh the loss. Leaves the engine in training mode.
    """
    engine.train(False)
    totals = torch.zeros(len(learner.parts) + len(learner.measures), device=engine.device)
    counts = torch.zeros_like(totals)
    with torch.no_grad():
        for batch in batches:
            batch = batch.to(engine.device)
            counts += learner.count(batch)
            totals += engine.totals(batch, targets(batch))
    engine.train(True)
    return _losses(engine, learner, totals, engine.sum(counts), step)


def _step(
    engine: Engine, learner: Learner, targets: Targets, micro_batches: list[Batch], *, seed: int, step: int
) -> tuple[Tensor, Tensor]:
    """One optimiser step: this worker's totals, and the counts of the global batch."""
    counts = engine.sum(torch.stack([learner.count(batch) for batch in micro_batches]).sum(0))
    totals = torch.zeros(len(learner.parts), device=engine.device)
    rank = torch.distributed.get_rank() if engine.world_size > 1 else 0
    for index, batch in enumerate(micro_batches):
        torch.manual_seed(int(counter.at(seed, step, index, rank)) >> 1)  # dropout: a function of its place alone
        micro_totals = engine.totals(batch, targets(batch))
        engine.backward(learner.loss(micro_totals, counts, step))
        engine.step(last_micro_batch=index == len(micro_batches) - 1)
        totals += micro_totals.detach()
    return totals, counts


def _losses(engine: Engine, learner: Learner, totals: Tensor, counts: Tensor, step: int) -> dict[str, float]:
    totals = engine.sum(totals.clone())
    means = (totals / counts[: len(totals)].clamp_min(1.0)).tolist()
    parts = {metrics.LOSS_PART_PREFIX + part: mean for part, mean in zip(learner.parts, means, strict=False)}
    measured = dict(zip(learner.measures, means[len(learner.parts) :], strict=False))
    return {metrics.LOSS.name: float(learner.loss(totals, counts, step)), **parts, **measured}
