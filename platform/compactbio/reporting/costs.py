"""What models cost to run, and the scores that they have: which of them no other beats."""

from __future__ import annotations

import csv
import json
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from compactbio.spec.base import SpecError
from compactbio.spec.benchmarks import column_name


@dataclass(frozen=True)
class Cost:
    """One model under one runtime, on batches of one shape."""

    model: str
    runtime: str
    device: str
    threads: int
    batch: int
    length: int
    encoder_parameters: int
    seconds: float
    peak_mib: float | None
    libraries_mib: float | None
    agreement: float | None


@dataclass(frozen=True)
class TaskScore:
    """The score of a model on a task, in percent, as it runs under `runtimes`."""

    model: str
    task: str
    value: float
    runtimes: tuple[str, ...] = ("torch", "onnx")
    """Those that give the same predictions; what was scored in PyTorch says nothing of int8."""


def read_scores(path: Path) -> list[TaskScore]:
    """Scores from the `results.json` of a run, the mean of seeds and folds, or from a CSV file with the
    columns `model` and `score` (percent), and where there are several tasks or runtimes `task` and `runtime`.

    Raises SpecError with file and line.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise SpecError.at("--scores", f"cannot read '{path}': {error}") from None
    return _from_results(path, text) if path.suffix == ".json" else _from_csv(path, text)


def _from_results(path: Path, text: str) -> list[TaskScore]:
    try:
        stages = [stage for stage in json.loads(text).values() if isinstance(stage, dict) and "cells" in stage]
        values: dict[tuple[str, str], list[float]] = {}
        for cell in (cell for stage in stages for cell in stage["cells"]):
            place = cell["model_name"], column_name(cell["task_name"])
            values.setdefault(place, []).append(cell["scores"][cell["main"]])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise SpecError.at("--scores", f"'{path}' is not the results.json of a run: {error!r}") from None
    if not values:
        raise SpecError.at("--scores", f"'{path}' has no scores of a fine-tuning stage")
    return [TaskScore(model, task, statistics.fmean(some)) for (model, task), some in values.items()]


def _from_csv(path: Path, text: str) -> list[TaskScore]:
    reader = csv.DictReader(text.splitlines())
    missing = {"model", "score"} - set(reader.fieldnames or ())
    if missing:
        raise SpecError.at("--scores", f"{path}:1: there is no column '{min(missing)}'")
    found = []
    for row in reader:
        try:
            value = float(row["score"])
        except (TypeError, ValueError):
            raise SpecError.at("--scores", f"{path}:{reader.line_num}: '{row['score']}' is not a number") from None
        runtimes = {"runtimes": (row["runtime"],)} if row.get("runtime") else {}
        found.append(TaskScore(row["model"], row.get("task") or "score", value, **runtimes))
    return found


def check_names(scores: Sequence[TaskScore], models: Sequence[str]) -> None:
    """Raises SpecError where no model has a score."""
    scored = sorted({score.model for score in scores})
    if not set(scored) & set(models):
        raise SpecError.at(
            "--scores",
            f"scores are there for {', '.join(scored)}, none for {', '.join(models)}; name models NAME=FOLDER",
        )


def pareto_front(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Of points (cost, score) those that no other beats: none is as cheap and as good, and better in one of the two.

    By rising cost, so that the scores rise too.
    """
    front: list[tuple[float, float]] = []
    for cost, score in sorted(set(points), key=lambda point: (point[0], -point[1])):
        if not front or score > front[-1][1]:
            front.append((cost, score))
    return front
