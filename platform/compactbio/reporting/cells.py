"""The cells of a fine-tuning stage, as they lie in the run's folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from compactbio.evaluation.score import Counts
from compactbio.spec.benchmarks import column_name
from compactbio.spec.job import Finetune
from compactbio.spec.task_base import Benchmark
from compactbio.spec.tasks import AnyTask
from compactbio.tracking.cell_files import COUNTS_FILE, cell_name

CellValues = dict[str, Any]
"""A cell's `result.json`."""


@dataclass(frozen=True)
class Study:
    """A stage's section, where it lies, and what its cells came to."""

    folder: Path
    section: Finetune
    cells: list[CellValues]
    seed: int

    def task(self, cell: CellValues) -> AnyTask:
        """The cell's task."""
        return self.section.tasks[cell["task_name"]]

    def of(self, model: str, column: str) -> list[CellValues]:
        """The cells of a model in a column: seeds, and folds."""
        return [cell for cell in self.cells if cell["model_name"] == model and column_name(cell["task_name"]) == column]

    @property
    def columns(self) -> list[str]:
        """Tasks, the folds of one together."""
        return list(dict.fromkeys(column_name(cell["task_name"]) for cell in self.cells))

    def counts(self, model: str, column: str) -> Counts:
        """Counts by test example: the sum over seeds, the folds of a task one behind the other."""
        by_task: dict[str, list[Counts]] = {}
        for cell in self.of(model, column):
            by_task.setdefault(cell["task_name"], []).append(np.load(self.cell_folder(cell) / COUNTS_FILE))
        return np.concatenate([np.sum(seeds, axis=0) for seeds in by_task.values()])

    def cell_folder(self, cell: CellValues) -> Path:
        """Where the cell lies."""
        return self.folder / cell_name(cell["model_name"], cell["task_name"], cell["seed"])

    @property
    def is_of_benchmarks(self) -> bool:
        """Whether every task is one of files of annotated data."""
        return all(isinstance(self.task(cell), Benchmark) for cell in self.cells)
