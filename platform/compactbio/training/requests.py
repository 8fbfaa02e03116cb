"""What workers are asked to do. Imports little: these travel through processes that never compute."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from compactbio.spec.job import Distill, JobSpec, Pretrain
from compactbio.spec.tasks import AnyTask
from compactbio.spec.tuning import TaskDistillation, Tuning
from compactbio.storage.copies import IN_PLACE, Storage

MODEL_FOLDER = "model"
"""In a stage's folder: its exported model."""
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
    """The stage's own folder, on storage that every worker sees or that is copied."""

    tags: dict[str, str]
    """What the stage's run is tracked under."""

    num_workers: int
    """How many there are this time; fewer than the spec's while machines are away."""

    storage: Storage = IN_PLACE
    """Where the run is kept."""

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
    task: AnyTask
    tuning: Tuning | None
    """None where nothing is fine-tuned."""

    seed: int
    tags: dict[str, str]
    """What its run is tracked under."""

    threads: int
    use_gpu: bool
    online: bool
    folder: Path
    """The cell's own, on storage that every worker sees or that is copied."""

    distillation: TaskDistillation | None = None
    teacher: Path | None = None
    """The folder of the teacher's cell, which has ended."""

    storage: Storage = IN_PLACE
    """Where the run is kept."""

    @property
    def field(self) -> str:
        """What messages call the model."""
        return f"models.{self.model_name}"


@dataclass(frozen=True)
class CellResult:
    """What a cell came to, and everything that has to be equal for it to stand beside another."""

    model_name: str
    task_name: str
    seed: int
    setting: str
    """Protocol, split and subsets."""

    protocol: str
    split: str
    data_fingerprint: str
    model_digest: str
    main: str
    """Name of the main score."""

    scores: dict[str, float]
    """Percent, by name."""

    detail: dict[str, dict[str, float]]
    """By entity type or class."""

    sizes: dict[str, int]
    """Examples of each set."""

    num_cut: int
    """Test texts that were longer than a row and were cut."""

    num_steps: int
    """Steps that were done."""

    kept_step: int
    """The step whose weights are tested and exported."""

    dev_score: float | None
    """Main score of these weights on the development set, where it was computed."""

    seconds: float
    """All of it, reading and scoring included."""

    notes: tuple[str, ...] = ()
    """What readers of the result should know of the data."""
