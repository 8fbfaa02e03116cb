"""What a trial that has run scores by the yardsticks of its sweep."""

from __future__ import annotations

import statistics
from typing import Any, Literal

from compactbio.launch.trial_stages import TrialRequest
from compactbio.spec.job import Finetune
from compactbio.spec.sweep import HeldOut, Latency, Score, Yardstick
from compactbio.tracking import metrics
from compactbio.tracking.journal import series

MEASURES = {
    "mlm": f"{metrics.HELD_OUT_PREFIX}{metrics.LOSS_PART_PREFIX}mlm",
    "agreement": f"{metrics.HELD_OUT_PREFIX}agreement",
    "loss": f"{metrics.HELD_OUT_PREFIX}{metrics.LOSS.name}",
}
"""Measure on held-out rows to the metric that a training stage's journal has it under."""


def scores(request: TrialRequest, fine_tuned: dict[str, Any]) -> list[float]:
    """Its score by each, given what its fine-tunings came to."""
    return [_score(request, objective, fine_tuned) for objective in request.objectives]


def _score(request: TrialRequest, objective: Yardstick, fine_tuned: dict[str, Any]) -> float:
    match objective:
        case HeldOut():
            return series(request.folder / objective.stage)[MEASURES[objective.measure]][-1][1]
        case Score():
            section = request.spec.stages[objective.stage]
            assert isinstance(section, Finetune)
            return task_score(fine_tuned[objective.stage]["cells"], section.summary, objective)
        case Latency():
            return float(fine_tuned[objective.stage]["footprints"][objective.model]["seconds_a_sentence"])


def task_score(cells: list[dict[str, Any]], summary: Literal["mean", "median"], objective: Score) -> float:
    """The main score of a task on the objective's split, its seeds put together as the stage's `summary` says; of
    several tasks the mean."""
    by_task: dict[str, list[float]] = {}
    for cell in cells:
        if cell["model_name"] == objective.model and objective.task in (None, cell["task_name"]):
            score = cell["scores"][cell["main"]] if objective.split == "test" else cell["dev_score"]
            by_task.setdefault(cell["task_name"], []).append(score)
    over_seeds = statistics.median if summary == "median" else statistics.fmean
    return statistics.fmean(map(over_seeds, by_task.values()))
