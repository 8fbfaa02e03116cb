"""What a run's folder holds, as rows for tables and plots."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from compactbio.evaluation import f1
from compactbio.spec.base import SpecError
from compactbio.spec.job import Finetune, JobSpec
from compactbio.spec.load import load
from compactbio.tracking import journal, metrics

RESULTS_FILE = "results.json"
SPEC_FILE = "spec.yaml"
HELD_OUT = "held_out_mlm/"
"""Before the name of a training stage: the last held-out MLM loss of its student."""


@dataclass(frozen=True)
class Score:
    """One model on one task, beside the reference model and the control."""

    model: str
    task: str
    protocol: str
    value: float
    low: float
    high: float
    retention: float | None
    """Percent of the reference's score."""

    against_control: f1.Interval | None
    """Interval of the difference to the control's score, on the same test examples."""

    num_train: int
    num_test: int
    num_cut: int


@dataclass(frozen=True)
class Comparison:
    """The scores and footprints of one fine-tuning stage."""

    stage: str
    section: Finetune
    scores: list[Score]
    footprints: dict[str, dict[str, float]]

    def score(self, model: str, task: str) -> Score:
        """The score of one cell."""
        return next(score for score in self.scores if (score.model, score.task) == (model, task))


@dataclass(frozen=True)
class RunData:
    """Everything that the report is made from."""

    folder: Path
    spec: JobSpec
    results: dict[str, Any]
    curves: dict[str, dict[str, list[tuple[int, float]]]]
    """Training stage to metric to (step, value)."""

    comparisons: list[Comparison]

    def held_out(self, stage: str) -> float | None:
        """Held-out MLM loss of a training stage after its last step."""
        points = self.curves[stage].get(metrics.HELD_OUT_PREFIX + metrics.LOSS_PART_PREFIX + "mlm")
        return points[-1][1] if points else None


def collect(folder: Path) -> RunData:
    """Reads a finished run. Raises SpecError where there is none."""
    if not (folder / RESULTS_FILE).is_file():
        raise SpecError.at("", f"{folder} is not the folder of a finished run: it has no {RESULTS_FILE}")
    spec = load(folder / SPEC_FILE)
    results = json.loads((folder / RESULTS_FILE).read_text())
    return RunData(
        folder=folder,
        spec=spec,
        results=results,
        curves={name: journal.series(folder / name) for name in spec.training_stages()},
        comparisons=[
            _compare(name, section, results[name], spec.seed)
            for name, section in spec.stages.items()
            if isinstance(section, Finetune)
        ],
    )


def headline(data: RunData) -> dict[str, float]:
    """What a run came to: the last held-out loss of its training stages, and its scores."""
    held_out = {name: data.held_out(name) for name in data.curves}
    values = {f"{HELD_OUT}{name}": value for name, value in held_out.items() if value is not None}
    for comparison in data.comparisons:
        values |= {f"{metrics.SCORE_PREFIX}{score.model}/{score.task}": score.value for score in comparison.scores}
    return values


def _compare(name: str, section: Finetune, results: dict[str, Any], seed: int) -> Comparison:
    cells = {(cell["model_name"], cell["task_name"]): cell for cell in results["cells"]}
    scores = []
    for (model, task), cell in cells.items():
        reference = cells[section.reference, task]["score"]
        compared = section.control is not None and model not in (section.control, section.reference)
        scores.append(
            Score(
                model,
                task,
                cell["protocol"],
                cell["score"],
                cell["low"],
                cell["high"],
                retention=100 * cell["score"] / reference if reference else None,
                against_control=_difference(cell, cells[section.control, task], seed)
                if compared and section.control
                else None,
                num_train=cell["num_train"],
                num_test=cell["num_test"],
                num_cut=cell["num_cut"],
            )
        )
    return Comparison(name, section, scores, results["footprints"])


def _difference(cell: dict[str, Any], control: dict[str, Any], seed: int) -> f1.Interval:
    return f1.difference(np.array(cell["counts"]), np.array(control["counts"]), seed)
