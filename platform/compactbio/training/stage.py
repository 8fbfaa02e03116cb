"""A training stage as objects: what the spec's section becomes before the first step."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from compactbio.data.batches import MlmBatches
from compactbio.data.build import tokenizer_fingerprint
from compactbio.data.store import TokenStore
from compactbio.models.load import Tokenizer, load_masked_lm, load_tokenizer, vocabulary
from compactbio.models.student import build_student, check_fit
from compactbio.objectives.objective import Objective
from compactbio.spec.base import SpecError
from compactbio.spec.job import Distill, JobSpec, Pretrain, start_field
from compactbio.spec.plan import plan_batch
from compactbio.training.engine import DeepSpeedEngine
from compactbio.training.learner import StudentLearner, Teacher, no_teacher
from compactbio.training.loop import Targets


@dataclass(frozen=True)
class StageTask:
    """What a worker is told: the job, which stage of it, and where things are."""

    spec: JobSpec
    stage: str
    models: dict[str, str]
    """For each field of the stage that names a model, where that model is."""

    store: Path
    folder: Path
    """The stage's own folder, on storage that every worker sees."""

    @property
    def section(self) -> Pretrain | Distill:
        """The stage's section of the spec."""
        return self.spec.training_stages()[self.stage]


@dataclass(frozen=True)
class TrainingStage:
    """Everything that takes part in the steps of a stage on one worker."""

    learner: StudentLearner
    targets: Targets
    batches: MlmBatches
    engine: DeepSpeedEngine
    tokenizer: Tokenizer


def build_stage(task: StageTask, *, rank: int, device: torch.device) -> TrainingStage:
    """Builds data, teacher, student, objective, learner and engine, in this order."""
    spec, section = task.spec, task.section
    tokenizer_source = spec.corpus.tokenizer if spec.corpus and spec.corpus.tokenizer else spec.teacher
    assert tokenizer_source is not None
    tokenizer = load_tokenizer(tokenizer_source, "corpus.tokenizer", online=spec.online)
    store = TokenStore(task.store)
    if store.manifest.tokenizer_fingerprint != tokenizer_fingerprint(tokenizer):
        raise SpecError.at("corpus.tokenizer", f"the token store {task.store} was made with another tokenizer")
    plan = plan_batch(section.training, spec.cluster)
    batches = MlmBatches(store, vocabulary(tokenizer), section.training.masking, spec.seed, plan, rank)

    models = {
        path: load_masked_lm(path, f"stages.{task.stage}", online=spec.online, seed=spec.seed)
        for path in dict.fromkeys(task.models.values())
    }
    student = build_student(section, models[task.models[start_field(section)]], seed=spec.seed)
    if section.training.trainable == "head":
        student.base_model.requires_grad_(False)
    objective = Objective(section.objective, student.config)
    targets: Targets = no_teacher
    if isinstance(section, Distill):
        teacher = models[task.models["teacher"]]
        check_fit(section, student.config, teacher.config, f"stages.{task.stage}")
        dtype = torch.bfloat16 if section.training.precision == "bf16" else torch.float32
        targets = Teacher(teacher.to(device, dtype), objective)
    del models
    learner = StudentLearner(student.to(device), objective)
    return TrainingStage(learner, targets, batches, DeepSpeedEngine(learner, section.training, plan, device), tokenizer)
