"""A job: everything that one spec asks for."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, field_validator

from compactbio.spec.base import Section
from compactbio.spec.corpus import Corpus
from compactbio.spec.evaluation import Measuring
from compactbio.spec.objective import Objective
from compactbio.spec.students import Student
from compactbio.spec.task_base import Seed
from compactbio.spec.tasks import AnyTask
from compactbio.spec.training import Positive, Precision, Training
from compactbio.spec.tuning import GROUP_OF, TaskDistillation, TaskGroup, Tuning, by_group

STAGE_PREFIX = "stage:"
STORE_TOKENIZER = "tokenizer"
"""The tokenizer's folder in a token store."""
RESERVED = frozenset({"corpus", "report", "ray", "stop", "lock"})
"""Names in a run's folder that are no stage's."""
NAME = r"^[A-Za-z0-9][A-Za-z0-9_-]*$"


class Pretrain(Section):
    """Masked language modelling on the corpus, from scratch or further, without a teacher."""

    kind: Literal["pretrain"]
    """Says that this is `pretrain`."""

    student: Student
    training: Training
    paper_parameters: str | None = None
    """The student's size as its paper gives it; `plan` prints it beside its own count."""

    @property
    def objective(self) -> Objective:
        """Masked language modelling alone."""
        return Objective.model_validate({"mlm": {}})

    def models(self) -> dict[str, str]:
        """The models that the stage starts from, by the field that names them."""
        return {"student.model": self.student.model} if self.student.model else {}


class CoTeacher(Section):
    """A further teacher."""

    model: str
    """`stage:NAME`, a path, `package:...` or hub name; of the teacher's vocabulary."""

    weight: Annotated[float, Field(gt=0.0)] = 1.0
    """Its share of the mean, beside 1 for the teacher."""


class Distill(Section):
    """Training a student on the corpus against a teacher."""

    kind: Literal["distill"]
    """Says that this is `distill`."""

    teacher: str = "teacher"
    """The job's teacher, `stage:NAME`, or a model of its own (path, `package:...`, hub name)."""

    co_teachers: tuple[CoTeacher, ...] = ()
    """Further teachers, whose outputs are averaged with the teacher's; layers are compared with the teacher alone."""

    teacher_precision: Precision | None = None
    """Precision of the teachers' passes, which need no gradients; that of the training when left out. bf16 is about
    twice as fast on CPUs with AVX-512 BF16; the targets are then rounded to 8 bits."""

    averaging: Literal["logits", "probabilities"] = "logits"
    """What is averaged over teachers: logits, or distributions at T = 1, whose logarithm then stands for logits."""

    student: Student
    objective: Objective
    training: Training
    paper_parameters: str | None = None
    """The student's size as its paper gives it; `plan` prints it beside its own count."""

    def models(self) -> dict[str, str]:
        """The models that the stage starts from, by the field that names them."""
        given = {"teacher": self.teacher}
        given |= {f"co_teachers.{number}.model": other.model for number, other in enumerate(self.co_teachers)}
        return given | ({"student.model": self.student.model} if self.student.model else {})


class Finetune(Section):
    """Fine-tuning several models on several tasks, and scoring them on held-out examples."""

    kind: Literal["finetune"]
    """Says that this is `finetune`."""

    models_: Annotated[dict[str, str], Field(alias="models", min_length=1)]
    """Name in the tables: model (`stage:NAME`, `teacher`, path, `package:...`, hub name)."""

    reference: str
    """Which of them the others' scores are divided by (retention)."""

    control: str | None = None
    """Which of them was trained without a teacher; the others are tested against it."""

    tasks: Annotated[dict[str, AnyTask], Field(min_length=1)]
    """Tasks by name, in full or as `benchmark: NAME` with changes; or a list of benchmarks and of their groups."""

    tuning: Annotated[dict[Literal["all"] | TaskGroup, Tuning], BeforeValidator(by_group), Field(min_length=1)]
    """Hyper-parameters for all tasks, or by group: `ner`, `re`, `cls`, `qa`, and `all` for the others."""

    seeds: Annotated[tuple[Seed, ...], Field(min_length=1)] | None = None
    """Every model is fine-tuned on every task once for each; the job's seed alone when left out."""

    summary: Literal["mean", "median"] = "mean"
    """What stands for the seeds of a model on a task (and for its folds)."""

    distillation: dict[str, TaskDistillation] = Field(default_factory=dict)
    """Models, by name, that are fine-tuned against the logits of another model of the stage."""

    measuring: Measuring | None = Measuring()
    """Time and memory of each fine-tuned model; `null` leaves them out."""

    def models(self) -> dict[str, str]:
        """The models that the stage starts from, by the field that names them."""
        return {f"models.{name}": model for name, model in self.models_.items()}

    def tuning_of(self, task: AnyTask) -> Tuning | None:
        """The hyper-parameters for a task; None where nothing is fine-tuned, or where the section has none."""
        group = GROUP_OF[task.kind]
        return None if group is None else self.tuning.get(group, self.tuning.get("all"))


Stage = Annotated[Pretrain | Distill | Finetune, Field(discriminator="kind")]


class Cluster(Section):
    """Where a job runs."""

    address: str | None = None
    """A Ray cluster that this machine is a node of (`auto` or `host:6379`); left out, Ray starts inside the driver, or
    is the cluster that the job was submitted to."""

    num_workers: Positive = 2
    """Ray Train workers of a training stage."""

    min_workers: Positive | None = None
    """Go on with as few workers as this when nodes go away, and with more again when they come back. Left out, the job
    waits for `num_workers`."""

    wait_minutes: Annotated[float, Field(ge=0.0)] = 60.0
    """How long a job waits for workers that have gone away before it ends; it can be resumed then."""

    max_failures: Annotated[int, Field(ge=0)] = 3
    """Failures of machines in a row, without a new checkpoint between them, that are answered with a new start."""

    hang_minutes: Annotated[float, Field(gt=0.0)] = 30.0
    """A worker that finishes no step and no batch of an evaluation for so long is taken for hung, and replaced."""

    cpus_per_worker: Positive = 1
    """CPUs, and torch threads, of a worker."""

    use_gpu: bool = False
    """One GPU a worker, with NCCL between them."""


class CorpusJob(Section):
    """A corpus that is made into a token store, without a training job."""

    name: Annotated[str, Field(pattern=NAME, max_length=60)]
    """Names what is made."""

    online: bool = False
    """Let tokenizers and data sets be downloaded by hub name."""

    corpus: Corpus
    """The text, and the cut into rows; it has to name its tokenizer."""

    cluster: Cluster = Cluster()
    """The Ray cluster that does it; without an address, the cores of this machine."""

    storage: str = "runs"
    """Token stores lie in `stores` below this folder, or this address (s3://BUCKET/PREFIX, gs://BUCKET/PREFIX)."""


class Tracking(Section):
    """Where runs and models are recorded."""

    uri: str | None = None
    """MLflow tracking URI; left out, MLFLOW_TRACKING_URI, and without that a SQLite file under `storage`, or where that
    is an address, in the folder of this machine that goes with it."""

    experiment: str | None = None
    """MLflow experiment; the job's name when left out."""

    register_models: bool = True
    """Put the models that training stages make into the model registry, as `JOB-STAGE`."""


class JobSpec(Section):
    """One spec: a corpus, a teacher, and the stages that turn them into scored models."""

    name: Annotated[str, Field(pattern=NAME, max_length=60)]
    """Names the runs, the experiment and the registered models."""

    seed: Annotated[int, Field(ge=0, lt=2**63)] = 1
    """Order of rows, masks, dropout, new weights, subsets."""

    teacher: str | None = None
    """A path, `package:NAME/inside/path`, or a hub name."""

    online: bool = False
    """Let models and tokenizers be downloaded by hub name; otherwise only what is on this machine is used."""

    corpus: Corpus | None = None
    """The text of the training stages; its token store is built unless it is there."""

    store: str | None = None
    """Instead of `corpus`: the folder of a token store that `compactbio data build` made."""

    stages: Annotated[dict[str, Stage], Field(min_length=1)]
    """What is done, in this order; later stages name the model of an earlier one as `stage:NAME`."""

    scale: dict[str, str] = Field(default_factory=dict)
    """In a file with a `base:`, dotted paths of the base and what stands there instead; in the job, both as text."""

    cluster: Cluster = Cluster()
    tracking: Tracking = Tracking()

    storage: str = "runs"
    """Folder of all runs, token stores and the default MLflow store; or s3://BUCKET/PREFIX or gs://BUCKET/PREFIX, whose
    credentials are in the environment. MLflow's default store then lies on the driver's machine."""

    @field_validator("stages")
    @classmethod
    def _names(cls, stages: dict[str, Stage]) -> dict[str, Stage]:
        for name in stages:
            if not re.match(NAME, name) or name in RESERVED:
                reserved = ", ".join(sorted(RESERVED))
                raise ValueError(f"'{name}' cannot name a stage: use letters, digits, - and _, none of {reserved}")
        return stages

    def tokenizer_source(self) -> tuple[str, str]:
        """Where the tokenizer comes from, and the field that says so."""
        if self.store is not None:
            return f"{self.store}/{STORE_TOKENIZER}", "store"
        if self.corpus is not None and self.corpus.tokenizer is not None:
            return self.corpus.tokenizer, "corpus.tokenizer"
        assert self.teacher is not None
        return self.teacher, "teacher"

    def training_stages(self) -> dict[str, Pretrain | Distill]:
        """The stages that train on the corpus, by name."""
        return {name: stage for name, stage in self.stages.items() if isinstance(stage, Pretrain | Distill)}


def start_field(stage: Pretrain | Distill) -> str:
    """The field that names the model which the stage's student takes weights from."""
    return "student.model" if stage.student.model is not None else "teacher"
