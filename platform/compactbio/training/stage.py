"""A training stage as objects: what the spec's section becomes before the first step."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from transformers import PreTrainedTokenizerBase

from compactbio.data.batches import MlmBatches
from compactbio.data.store import TokenStore
from compactbio.models.load import load_masked_lm, load_tokenizer, vocabulary
from compactbio.models.student import build_student, check_fit
from compactbio.objectives.objective import Objective
from compactbio.spec.job import STORE_TOKENIZER, Distill, start_field
from compactbio.spec.plan import plan_batch
from compactbio.training.engine import DeepSpeedEngine
from compactbio.training.learner import StudentLearner, Teacher, no_teacher
from compactbio.training.loop import Targets
from compactbio.training.requests import StageRequest


@dataclass(frozen=True)
class TrainingStage:
    """Everything that takes part in the steps of a stage on one worker."""

    learner: StudentLearner
    targets: Targets
    batches: MlmBatches
    engine: DeepSpeedEngine
    tokenizer: PreTrainedTokenizerBase


def build_stage(request: StageRequest, *, rank: int, device: torch.device) -> TrainingStage:
    """Builds data, teacher, student, objective, learner and engine, in this order."""
    spec, section = request.spec, request.section
    store = TokenStore(request.store)
    tokenizer = load_tokenizer(str(request.store / STORE_TOKENIZER), "store", online=False)
    plan = plan_batch(section.training, spec.cluster)
    batches = MlmBatches(store, vocabulary(tokenizer), section.training.masking, spec.seed, plan, rank)

    models = {
        path: load_masked_lm(
            path,
            f"stages.{request.stage}",
            online=spec.online,
            seed=spec.seed,
            token_counts=lambda: store.token_counts(len(tokenizer)),
        )
        for path in dict.fromkeys(request.models.values())
    }
    student = build_student(section, models[request.models[start_field(section)]], seed=spec.seed)
    if section.training.trainable == "head":
        student.base_model.requires_grad_(False)
    objective = Objective(section.objective, student.config)
    targets: Targets = no_teacher
    if isinstance(section, Distill):
        teacher = models[request.models["teacher"]]
        check_fit(section, student.config, teacher.config, f"stages.{request.stage}")
        dtype = torch.bfloat16 if section.training.precision == "bf16" else torch.float32
        targets = Teacher(teacher.to(device, dtype), objective)
    del models
    learner = StudentLearner(student.to(device), objective)
    return TrainingStage(learner, targets, batches, DeepSpeedEngine(learner, section.training, plan, device), tokenizer)
