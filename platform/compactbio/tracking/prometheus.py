"""What Prometheus sees of a run: gauges, filled from the journals. Who publishes them is the caller's business.

Labels are `recipe` (the job's name; `job` is Prometheus' own), `run` (its folder), `stage` (empty for the job itself),
and `term` for the parts of a loss.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from compactbio.tracking import metrics
from compactbio.tracking.journal import Follower
from compactbio.tracking.metrics import Metric

PREFIX = "compactbio_"
LABELS = ("recipe", "run", "stage")
TERM = "term"


@dataclass(frozen=True)
class Gauge:
    """A series for every combination of its labels."""

    name: str
    description: str
    labels: tuple[str, ...] = LABELS


Publish = Callable[[Gauge, Mapping[str, str], float], None]


def gauge_of(metric: Metric, description: str) -> Gauge:
    """The gauge of a metric: its name, with the unit where the name does not say it."""
    return Gauge(PREFIX + _name(metric), description)


def _name(metric: Metric) -> str:
    plain = metric.name.replace("/", "_")
    unit = metric.unit.replace("/s", "_per_second").replace(" ", "_")
    return plain if unit == "1" or unit in plain else f"{plain}_{unit}"


def _by_term(name: str, description: str) -> Gauge:
    return Gauge(PREFIX + name.replace("/", "_") + "by_term", description, (*LABELS, TERM))


LOSS = gauge_of(metrics.LOSS, "Loss of the last reported step, over the global batch")
LOSS_BY_TERM = _by_term(metrics.LOSS_PART_PREFIX, "Unweighted mean of a part of the loss")
HELD_OUT_BY_TERM = _by_term(metrics.HELD_OUT_PREFIX + metrics.LOSS_PART_PREFIX, "The same on held-out rows")
TOKENS_PER_SECOND = gauge_of(metrics.TOKENS_PER_SECOND, "Real tokens of all workers since the report before")
GRADIENT_NORM = gauge_of(metrics.GRADIENT_NORM, "Norm of the gradient before it is clipped")
LEARNING_RATE = gauge_of(metrics.LEARNING_RATE, "Learning rate of the last reported step")
UTILISATION = gauge_of(metrics.UTILISATION, "Model FLOPs utilisation against measured matrix products")
SKIPPED_STEPS = gauge_of(metrics.SKIPPED_STEPS, "Steps whose loss or gradient was not finite")
CHECKPOINT_TIME = gauge_of(metrics.CHECKPOINT_TIME, "When the newest checkpoint was written; first the stage's start")
RESTARTS = gauge_of(metrics.RESTARTS, "How often workers were started again")
STEPS = Gauge(PREFIX + "steps", "Steps done")
REPORT_TIME = Gauge(PREFIX + "report_time_seconds", "When the last step was reported; first the stage's start")
RUNNING = Gauge(PREFIX + "running", "1 from the start of a training stage to its end, then 0")

BY_METRIC = {
    metrics.LOSS: LOSS,
    metrics.TOKENS_PER_SECOND: TOKENS_PER_SECOND,
    metrics.GRADIENT_NORM: GRADIENT_NORM,
    metrics.LEARNING_RATE: LEARNING_RATE,
    metrics.UTILISATION: UTILISATION,
    metrics.SKIPPED_STEPS: SKIPPED_STEPS,
    metrics.CHECKPOINT_TIME: CHECKPOINT_TIME,
    metrics.RESTARTS: RESTARTS,
}
BY_PREFIX = {  # the longer one first
    metrics.HELD_OUT_PREFIX + metrics.LOSS_PART_PREFIX: HELD_OUT_BY_TERM,
    metrics.LOSS_PART_PREFIX: LOSS_BY_TERM,
}
ALL = (*BY_METRIC.values(), *BY_PREFIX.values(), STEPS, REPORT_TIME, RUNNING)
_BY_NAME = {metric.name: gauge for metric, gauge in BY_METRIC.items()}


class GaugeSink:
    """Publishes what the journals of one run say, or of a sweep, whose trials have the same training stages."""

    def __init__(self, recipe: str, run: Path, training_stages: Collection[str], publish: Publish) -> None:
        self._recipe = recipe
        self._run = run
        self._training_stages = frozenset(training_stages)
        self._publish = publish
        self._since = time.time()

    def catch_up(self, follower: Follower) -> None:
        """Publishes what is new."""
        for folder, events in follower.new_events():
            stage = "" if folder == self._run else str(folder.relative_to(self._run))
            for event in events:
                match event["kind"]:
                    case "start":
                        self._start(stage, event)
                    case "metrics":
                        self._metrics(stage, event)
                    case "end" if self._trains(stage):
                        self._set(RUNNING, stage, 0.0)

    def _start(self, stage: str, event: Mapping[str, Any]) -> None:
        """Sets what rules compare with, before there is anything to report."""
        if not stage:
            self._set(RESTARTS, stage, 0.0)
        elif self._trains(stage):
            for gauge, value in ((RUNNING, 1.0), (SKIPPED_STEPS, 0.0)):
                self._set(gauge, stage, value)
            for gauge in (REPORT_TIME, CHECKPOINT_TIME):
                self._set(gauge, stage, event["time"])

    def _metrics(self, stage: str, event: Mapping[str, Any]) -> None:
        for name, value in event["values"].items():
            if name in _BY_NAME:
                self._set(_BY_NAME[name], stage, value)
                continue
            for prefix, gauge in BY_PREFIX.items():
                if name.startswith(prefix):
                    self._set(gauge, stage, value, name.removeprefix(prefix))
                    break
        if event["num_steps"] and self._trains(stage):
            self._set(STEPS, stage, event["step"])
            self._set(REPORT_TIME, stage, event["time"])

    def _trains(self, stage: str) -> bool:
        return stage.rpartition("/")[2] in self._training_stages

    def _set(self, gauge: Gauge, stage: str, value: float, term: str | None = None) -> None:
        labels = {"recipe": self._recipe, "run": self._run.name, "stage": stage}
        labels |= {TERM: term} if term is not None else {}
        if gauge in (REPORT_TIME, CHECKPOINT_TIME):
            value = max(value, self._since)  # a run that goes on after a week has not been stalled for a week
        self._publish(gauge, labels, value)
