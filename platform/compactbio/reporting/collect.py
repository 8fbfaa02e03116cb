"""What a run's folder holds, as rows for tables and plots."""

from __future__ import annotations

import json
import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from compactbio.evaluation.score import Counts
from compactbio.evaluation.significance import Difference, interval, paired_bootstrap
from compactbio.spec.base import SpecError
from compactbio.spec.benchmarks import column_name
from compactbio.spec.job import Finetune, JobSpec
from compactbio.spec.load import load
from compactbio.tracking import journal, metrics
from compactbio.tracking.cell_files import COUNTS_FILE, cell_name

RESULTS_FILE = "results.json"
SPEC_FILE = "spec.yaml"


@dataclass(frozen=True)
class Score:
    """One model on one task over its seeds and folds, beside the reference model and the control."""

    model: str
    task: str
    setting: str
    metric: str
    value: float
    """Mean or median of the cells, in percent, as are the bounds."""

    low: float
    high: float
    """Of one cell the bootstrap interval over test examples, of several the lowest and the highest."""

    values: tuple[float, ...]
    retention: float | None
    """Percent of the reference's score."""

    against_control: Difference | None
    """To the control's score, on the same test examples."""

    sizes: dict[str, int]
    num_cut: int
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Comparison:
    """The scores and footprints of one fine-tuning stage."""

    stage: str
    section: Finetune
    scores: list[Score]
    footprints: dict[str, dict[str, float]]
    absent: dict[str, str]
    """Tasks without data here, and what to do about it."""

    def score(self, model: str, task: str) -> Score:
        """The score of one model on one task."""
        return next(score for score in self.scores if (score.model, score.task) == (model, task))

    @property
    def tasks(self) -> list[str]:
        """The columns of the result table: tasks, the folds of one together."""
        return list(dict.fromkeys(score.task for score in self.scores))


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
            _compare(folder / name, section, results[name], spec.seed)
            for name, section in spec.stages.items()
            if isinstance(section, Finetune)
        ],
    )


def _compare(folder: Path, section: Finetune, results: dict[str, Any], seed: int) -> Comparison:
    cells: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for cell in results["cells"]:
        cells.setdefault((cell["model_name"], column_name(cell["task_name"])), []).append(cell)
    summary = statistics.median if section.summary == "median" else statistics.fmean
    scores = []
    for (model, task), some in cells.items():
        first, metric = some[0], some[0]["main"]
        values = tuple(cell["scores"][metric] for cell in some)
        low, high = _bounds(folder, some, seed)
        reference = summary(cell["scores"][metric] for cell in cells[section.reference, task])
        compared = section.control is not None and model not in (section.control, section.reference)
        scores.append(
            Score(
                model,
                task,
                first["setting"],
                metric,
                summary(values),
                low,
                high,
                values,
                retention=100 * summary(values) / reference if reference else None,
                against_control=_difference(folder, some, cells[section.control, task], metric, seed)
                if compared and section.control
                else None,
                sizes=first["sizes"],
                num_cut=first["num_cut"],
                notes=tuple(first["notes"]),
            )
        )
    return Comparison(folder.name, section, scores, results["footprints"], results["absent"])


def _bounds(folder: Path, cells: list[dict[str, Any]], seed: int) -> tuple[float, float]:
    metric = cells[0]["main"]
    if len(cells) > 1:
        values = [cell["scores"][metric] for cell in cells]
        return min(values), max(values)
    bounds = interval(_counts(folder, cells), metric, seed)
    return bounds.low, bounds.high


def _difference(
    folder: Path, cells: list[dict[str, Any]], control: list[dict[str, Any]], metric: str, seed: int
) -> Difference:
    return paired_bootstrap(_counts(folder, cells), _counts(folder, control), metric, seed)


def _counts(folder: Path, cells: list[dict[str, Any]]) -> Counts:
    """Counts by test example: the sum over seeds, the folds of a task one behind the other."""
    by_task: dict[str, list[Counts]] = {}
    for cell in cells:
        name = cell_name(cell["model_name"], cell["task_name"], cell["seed"])
        by_task.setdefault(cell["task_name"], []).append(np.load(folder / name / COUNTS_FILE))
    return np.concatenate([np.sum(seeds, axis=0) for seeds in by_task.values()])
