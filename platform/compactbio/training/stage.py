"""A training stage as objects: what the spec's section becomes before the first step."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from compactbio.data.batches import MlmBatches
from compactbio.data.store import TokenStore
from compactbio.models.load import load_masked_lm, load_shape, load_tokenizer, vocabulary
from compactbio.models.passes import checkpoint_activations, compile_encoder
from compactbio.models.student import build_student, check_fit, random_student, student_config
from compactbio.objectives.objective import Objective
from compactbio.spec.job import STORE_TOKENIZER, Distill, start_field
from compactbio.spec.plan import plan_batch, plan_precision
from compactbio.spec.students import FromShape
from compactbio.training.checkpoint import Position
from compactbio.training.learner import Ensemble, StudentLearner, Teacher, no_teacher
from compactbio.training.loop import Targets
from compactbio.training.requests import StageRequest
from compactbio.training.sharded import DeepSpeedEngine

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class TrainingStage:
    """Everything that takes part in the steps of a stage on one worker."""

    learner: StudentLearner
    targets: Targets
    batches: MlmBatches
    engine: DeepSpeedEngine
    tokenizer: PreTrainedTokenizerBase
    teachers: tuple[PreTrainedModel, ...] = ()


def build_stage(
    request: StageRequest,
    *,
    rank: int,
    device: torch.device,
    state: Mapping[str, Tensor] | None = None,
    position: Position | None = None,
) -> TrainingStage:
    """Builds data, teacher, student, objective, learner and engine, in this order: as they are before the first step,
    or at the position of a checkpoint with its state."""
    spec, section = request.spec, request.section
    store = TokenStore(request.store)
    tokenizer = load_tokenizer(str(request.store / STORE_TOKENIZER), "store", online=False)
    plan = plan_batch(section.training, request.num_workers)
    precision = plan_precision(section.training, spec.cluster)
    batches = MlmBatches(store, vocabulary(tokenizer), section.training.masking, spec.seed, plan, rank)

    def load(reference: str) -> PreTrainedModel:
        return load_masked_lm(
            reference,
            f"stages.{request.stage}",
            online=spec.online,
            seed=spec.seed,
            token_counts=lambda: store.token_counts(len(tokenizer)),
        )

    place = f"stages.{request.stage}"
    teacher = load(request.models["teacher"]) if isinstance(section, Distill) else None
    student = _student(request, teacher, load, len(tokenizer))
    if section.training.trainable == "head":
        student.base_model.requires_grad_(False)
    torch.manual_seed(spec.seed)  # its projections start alike on every worker, whatever was drawn before
    objective = Objective(section.objective, student.config, teacher.config if teacher is not None else None)
    targets: Targets = no_teacher
    teachers: tuple[PreTrainedModel, ...] = ()
    if isinstance(section, Distill):
        assert teacher is not None
        check_fit(section, student.config, teacher.config, place)
        dtype = _DTYPES[section.teacher_precision or precision]
        targets = Teacher(teacher.to(device, dtype), objective)
        teachers = (teacher,)
        if section.co_teachers:
            models = [load(request.models[f"co_teachers.{at}.model"]) for at in range(len(section.co_teachers))]
            weights = [other.weight for other in section.co_teachers]
            others = [(model.to(device, dtype), weight) for model, weight in zip(models, weights, strict=True)]
            targets = Ensemble(targets, others, section.averaging)
            teachers += tuple(models)
    learner = StudentLearner(student, objective).to(device)
    if section.training.activation_checkpointing:
        checkpoint_activations(student, kept=objective.student_needs.attention)
    if section.training.compile:
        for model in (student, *teachers):
            compile_encoder(model)
    start = position.step if position is not None else 0
    engine = DeepSpeedEngine(learner, section.training, plan, device, precision, state, start)
    if position is not None:
        engine.restore_loss_scale(position.loss_scale)
    return TrainingStage(learner, targets, batches, engine, tokenizer, teachers)


def _student(
    request: StageRequest,
    teacher: PreTrainedModel | None,
    load: Callable[[str], PreTrainedModel],
    vocabulary_size: int,
) -> PreTrainedModel:
    section, seed = request.section, request.spec.seed
    reference = request.models[start_field(section)]
    if isinstance(section.student, FromShape):
        shape = load_shape(reference, request.stage, online=request.spec.online)
        return random_student(student_config(section, shape, request.stage, vocabulary_size), seed=seed)
    if teacher is not None and reference == request.models["teacher"]:
        return build_student(section, teacher, seed=seed)
    return build_student(section, load(reference), seed=seed)
