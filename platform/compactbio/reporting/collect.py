"""What a run's folder holds, as rows for tables and plots."""

from __future__ import annotations

import json
import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from compactbio.evaluation.score import Counts
from compactbio.evaluation.significance import Difference, interval, paired_bootstrap
from compactbio.reporting.cells import Study
from compactbio.spec.base import SpecError
from compactbio.spec.job import Finetune, JobSpec
from compactbio.spec.load import load
from compactbio.tracking import journal, metrics

RESULTS_FILE = "results.json"
SPEC_FILE = "spec.yaml"
REPORT_FOLDER = "report"
HELD_OUT = "held_out_mlm/"
"""Before the name of a training stage: the last held-out MLM loss of its student."""


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

    study: Study
    scores: list[Score]
    footprints: dict[str, dict[str, float]]
    absent: dict[str, str]
    """Tasks without data here, and what to do about it."""

    def score(self, model: str, task: str) -> Score:
        """The score of one model on one task."""
        return next(score for score in self.scores if (score.model, score.task) == (model, task))

    @property
    def section(self) -> Finetune:
        """The stage's section of the spec."""
        return self.study.section

    @property
    def tasks(self) -> list[str]:
        """The columns of the result table: tasks, the folds of one together."""
        return self.study.columns


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


def headline(data: RunData) -> dict[str, float]:
    """What a run came to: the last held-out loss of its training stages, and its scores."""
    held_out = {name: data.held_out(name) for name in data.curves}
    values = {f"{HELD_OUT}{name}": value for name, value in held_out.items() if value is not None}
    for comparison in data.comparisons:
        values |= {f"{metrics.SCORE_PREFIX}{score.model}/{score.task}": score.value for score in comparison.scores}
    return values


def _compare(folder: Path, section: Finetune, results: dict[str, Any], seed: int) -> Comparison:
    study = Study(folder, section, results["cells"], seed)
    summary = statistics.median if section.summary == "median" else statistics.fmean
    scores = []
    for task in study.columns:
        metric = study.of(section.reference, task)[0]["main"]
        reference = summary(cell["scores"][metric] for cell in study.of(section.reference, task))
        for model in section.models_:
            cells = study.of(model, task)
            values = tuple(cell["scores"][metric] for cell in cells)
            compared = section.control is not None and model not in (section.control, section.reference)
            scores.append(
                Score(
                    model,
                    task,
                    cells[0]["setting"],
                    metric,
                    summary(values),
                    *_bounds(study.counts(model, task), values, metric, seed),
                    values,
                    retention=100 * summary(values) / reference if reference else None,
                    against_control=paired_bootstrap(
                        study.counts(model, task), study.counts(section.control, task), metric, seed
                    )
                    if compared and section.control
                    else None,
                    sizes=cells[0]["sizes"],
                    num_cut=cells[0]["num_cut"],
                    notes=tuple(cells[0]["notes"]),
                )
            )
    return Comparison(study, scores, results["footprints"], results["absent"])


def _bounds(counts: Counts, values: tuple[float, ...], metric: str, seed: int) -> tuple[float, float]:
    if len(values) > 1:
        return min(values), max(values)
    bounds = interval(counts, metric, seed)
    return bounds.low, bounds.high
