"""The loop: one generator for every kind of training. Its caller saves, logs and reports."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

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
    """More steps than allowed had a loss or a gradient that is not finite."""


@dataclass(frozen=True)
class Wishes:
    """What somebody wants to happen behind a step: one worker's wish is all workers' command."""

    save: bool = False
    stop: bool = False


@dataclass(frozen=True)
class Report:
    """What is known behind a step (counted from 1)."""

    step: int
    values: dict[str, float] = field(default_factory=dict)
    """Metric name to value; empty where no report was due."""

    wishes: Wishes = Wishes()
    num_skipped: int = 0
    """Steps so far that moved nothing because their loss or gradient was not finite."""

    skipped: bool = False
    """Whether this was one."""


@dataclass(frozen=True)
class Span:
    """The steps of a stage that are still to be done, and how many before them were skipped."""

    num_steps: int
    start: int = 0
    num_skipped: int = 0
    max_skipped: int = 0


def no_wishes(step: int) -> Wishes:
    """For a training that is neither saved nor stopped on its way."""
    return Wishes()


def steps(
    engine: Engine,
    learner: Learner,
    targets: Targets,
    batches: MicroBatches,
    span: Span,
    *,
    report_every: int,
    seed: int,
    report_at: Collection[int] = (),
    ask: Callable[[int], Wishes] = no_wishes,
) -> Iterator[Report]:
    """Trains over the span. Reports the first step, every so many, those of `report_at`, the last, every step that was
    skipped, and those behind which a worker has a wish; `ask` is called in every step, counted from 1.

    The losses of a report are those of its own step, over the global batch; the speed is that since the last one.
    Nothing but wishes, and whether the optimiser moved, is read from the device between reports. Raises DivergedError
    behind the report of the step that was skipped too many.
    """
    engine.train(True)
    num_skipped = span.num_skipped
    unreported = sum(batch.num_real for step in _unreported(span, report_every, report_at) for batch in batches(step))
    num_tokens, started = 0, time.perf_counter()
    for step, read in read_ahead(batches, range(span.start, span.num_steps)):
        num_tokens += sum(batch.num_real for batch in read)  # while they are in the host's memory
        micro_batches = [batch.to(engine.device) for batch in read]
        done = step + 1
        totals, counts, wishes = _step(engine, learner, targets, micro_batches, ask(done), seed=seed, step=step)
        skipped = not engine.moved() and not (  # on all workers or on none
            engine.scaling_skips() and bool(engine.sum(totals.clone()).isfinite().all())
        )
        num_skipped += skipped
        values: dict[str, float] = {}
        if _is_due(done, span, report_every, report_at):
            values = _losses(engine, learner, totals, counts, step)
            elapsed = time.perf_counter() - started
            tokens = torch.tensor([float(num_tokens), float(unreported)], device=engine.device)
            here, before = engine.sum(tokens).tolist()
            values[metrics.TOKENS.name] = here + before
            values[metrics.TOKENS_PER_SECOND.name] = here / elapsed
            values[metrics.GRADIENT_NORM.name] = engine.gradient_norm()
            values[metrics.LEARNING_RATE.name] = engine.learning_rate()
            values = {name: value for name, value in values.items() if math.isfinite(value)}
        if values or skipped or wishes != Wishes():
            yield Report(done, values, wishes, num_skipped, skipped)
        if skipped and num_skipped > span.max_skipped:
            raise DivergedError(
                f"the loss or the gradient of step {done} is not finite, and max_skipped_steps is {span.max_skipped}; "
                "lower the learning rate, or look at the rows"
            )
        if values:
            unreported, num_tokens, started = 0, 0, time.perf_counter()


def read_ahead(batches: MicroBatches, span: range) -> Iterator[tuple[int, list[Batch]]]:
    """Each step with its batches, those of the next one read by a thread while this one is computed."""
    with ThreadPoolExecutor(1, "batches") as thread:
        coming = thread.submit(batches, span[0]) if span else None
        for step in span:
            assert coming is not None
            read = coming.result()
            coming = thread.submit(batches, step + 1) if step + 1 < span.stop else None
            yield step, read


def _is_due(done: int, span: Span, report_every: int, report_at: Collection[int]) -> bool:
    return done in (1, span.num_steps) or done % report_every == 0 or done in report_at


def _unreported(span: Span, report_every: int, report_at: Collection[int]) -> range:
    """The steps, counted from 0, that were done before the span and are in no report yet."""
    first = span.start
    while first > 0 and not _is_due(first, span, report_every, report_at):
        first -= 1
    return range(first, span.start)


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
    engine: Engine,
    learner: Learner,
    targets: Targets,
    micro_batches: list[Batch],
    wishes: Wishes,
    *,
    seed: int,
    step: int,
) -> tuple[Tensor, Tensor, Wishes]:
    """One optimiser step: this worker's totals, the counts of the global batch, and what any worker wishes."""
    counted = torch.stack([learner.count(batch) for batch in micro_batches]).sum(0)
    wished = torch.tensor([float(wishes.save), float(wishes.stop)], device=engine.device)
    counts, wished = engine.sum(torch.cat([counted, wished.to(counted)])).split([len(counted), 2])
    totals = torch.zeros(len(learner.parts), device=engine.device)
    rank = torch.distributed.get_rank() if engine.world_size > 1 else 0
    for index, batch in enumerate(micro_batches):
        torch.manual_seed(int(counter.at(seed, step, index, rank)) >> 1)  # dropout: a function of its place alone
        micro_totals = engine.totals(batch, targets(batch))
        engine.backward(learner.loss(micro_totals, counts, step))
        engine.step(last_micro_batch=index == len(micro_batches) - 1)
        totals += micro_totals.detach()
    save, stop = (wished > 0).tolist()
    return totals, counts, Wishes(save, stop)


def _losses(engine: Engine, learner: Learner, totals: Tensor, counts: Tensor, step: int) -> dict[str, float]:
    totals = engine.sum(totals.clone())
    means = (totals / counts[: len(totals)].clamp_min(1.0)).tolist()
    parts = {metrics.LOSS_PART_PREFIX + part: mean for part, mean in zip(learner.parts, means, strict=False)}
    measured = dict(zip(learner.measures, means[len(learner.parts) :], strict=False))
    return {metrics.LOSS.name: float(learner.loss(totals, counts, step)), **parts, **measured}
