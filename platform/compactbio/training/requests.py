"""What workers are asked to do. Imports little: these travel through processes that never compute."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from compactbio.spec.evaluation import OntologyTask, Tuning
from compactbio.spec.job import Distill, JobSpec, Pretrain

MODEL_FOLDER = "model"
"""In a stage's folder: its exported model."""
RESULT_FILE = "result.json"
"""In a cell's folder: what it came to."""
STOP_FILE = "stop"
"""In a run's folder: asks its workers to save and to stop."""


@dataclass(frozen=True)
class StageRequest:
    """One training stage: the job, which stage of it, and where things are."""

    spec: JobSpec
    stage: str
    models: dict[str, str]
    """For each field of the stage that names a model, where that model is."""

    store: Path
    folder: Path
    """The stage's own folder, on storage that every worker sees."""

    tags: dict[str, str]
    """What the stage's run is tracked under."""

    num_workers: int
    """How many there are this time; fewer than the spec's while machines are away."""

    @property
    def section(self) -> Pretrain | Distill:
        """The stage's section of the spec."""
        return self.spec.training_stages()[self.stage]


@dataclass(frozen=True)
class Cell:
    """One fine-tuning: which model, which task, how, and where its folder is."""

    model_name: str
    model: str
    """Where the model is: a folder or a hub name."""

    task_name: str
    task: OntologyTask
    tuning: Tuning
    seed: int
    tags: dict[str, str]
    """What its run is tracked under."""

    threads: int
    online: bool
    folder: Path


@dataclass(frozen=True)
class CellResult:
    """What a cell came to."""

    model_name: str
    task_name: str
    protocol: str
    score: float
    low: float
    high: float
    num_train: int
    num_test: int
    num_cut: int
    """Test texts that were longer than a row and were cut."""

    counts: list[list[int]]
    """For each test example correct, predicted and gold items."""
