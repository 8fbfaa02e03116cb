"""Pairs of values that cannot go together: found before anything starts, all of them at once."""

from __future__ import annotations

from collections.abc import Iterator

from compactbio.spec.base import Problem
from compactbio.spec.corpus import Corpus
from compactbio.spec.entity_tasks import EntityTask
from compactbio.spec.job import STAGE_PREFIX, CorpusJob, Distill, Finetune, JobSpec, Pretrain
from compactbio.spec.secrets import without_password
from compactbio.spec.storage import is_url, storage_problem
from compactbio.spec.students import FromShape, FromTeacherLayers
from compactbio.spec.tasks import AnyTask
from compactbio.spec.tuning import GROUP_OF

_OF_THE_OUTPUT = {"output", "soft_labels", "logits"}
_OF_THE_ENCODER = {"align", "compact", "layer", "embed", "hidden", "attention"}


def problems(spec: JobSpec) -> list[Problem]:
    """Everything about the spec that its fields alone cannot show."""
    found = [*_storage(spec.storage), *_references(spec)]
    for name, stage in spec.stages.items():
        place = f"stages.{name}"
        if isinstance(stage, Finetune):
            found += _finetune(stage, place)
        else:
            found += _training(spec, stage, place)
    if spec.cluster.min_workers is not None and spec.cluster.min_workers > spec.cluster.num_workers:
        found.append(
            Problem(
                "cluster.min_workers",
                f"{spec.cluster.min_workers} is more than num_workers {spec.cluster.num_workers}",
            )
        )
    if spec.training_stages() and spec.corpus is None and spec.store is None:
        found.append(Problem("corpus", "missing: training stages need text; say where it is under corpus.sources"))
    found += _cut(spec.corpus) if spec.corpus is not None else []
    if spec.store is not None and is_url(spec.store):
        found.append(
            Problem("store", "is an address; name a folder, or `corpus`, whose store is then taken from `storage`")
        )
    if spec.corpus is not None and spec.store is not None:
        found.append(Problem("store", "stands beside `corpus`; name one of them"))
    if spec.corpus is not None and spec.corpus.tokenizer is None and spec.teacher is None:
        found.append(
            Problem("corpus.tokenizer", "missing: name a tokenizer here, or a teacher whose tokenizer is used")
        )
    return found


def corpus_problems(spec: CorpusJob) -> list[Problem]:
    """The same for a job that only builds a token store."""
    found = [*_storage(spec.storage), *_cut(spec.corpus)]
    if spec.corpus.tokenizer is None:
        found.append(Problem("corpus.tokenizer", "missing: name the tokenizer of the models that will read the store"))
    return found


def _storage(storage: str) -> Iterator[Problem]:
    if without_password(storage) != storage:
        return  # which is refused in every field
    if (problem := storage_problem(storage)) is not None:
        yield Problem("storage", problem)


def _cut(corpus: Corpus) -> Iterator[Problem]:
    if corpus.min_tokens > corpus.max_tokens:
        yield Problem("corpus.min_tokens", f"{corpus.min_tokens} is more than max_tokens {corpus.max_tokens}")


def _references(spec: JobSpec) -> Iterator[Problem]:
    """Models that stages name must exist by the time that the stage starts."""
    made: list[str] = []
    for name, stage in spec.stages.items():
        for field, model in stage.models().items():
            path = f"stages.{name}.{field}"
            if model == "teacher" and spec.teacher is None:
                yield Problem(path, "there is no teacher: set the job's `teacher` or name another model")
            if model.startswith(STAGE_PREFIX) and model.removeprefix(STAGE_PREFIX) not in made:
                known = ", ".join(STAGE_PREFIX + other for other in made) or "none"
                yield Problem(path, f"'{model}' is not an earlier training stage (there: {known})")
        if not isinstance(stage, Finetune):
            made.append(name)


def _training(spec: JobSpec, stage: Pretrain | Distill, place: str) -> Iterator[Problem]:
    training, workers = stage.training, spec.cluster.num_workers
    if training.global_batch % workers:
        yield Problem(
            f"{place}.training.global_batch",
            f"{training.global_batch} rows cannot be dealt evenly to {workers} workers (cluster.num_workers)",
        )
    elif training.micro_batch and training.global_batch % (training.micro_batch * workers):
        yield Problem(
            f"{place}.training.micro_batch",
            f"global_batch {training.global_batch} is no multiple of {training.micro_batch} rows x {workers} workers",
        )
    if training.warmup_steps > training.steps:
        yield Problem(
            f"{place}.training.warmup_steps",
            f"{training.warmup_steps} is more than the stage's {training.steps} steps",
        )
    beyond = [step for step in training.export_at_steps if step > training.steps]
    if beyond:
        yield Problem(f"{place}.training.export_at_steps", f"{beyond} lie beyond the stage's {training.steps} steps")
    yield from _sharding(spec, stage, f"{place}.training")
    if training.masking.mask + training.masking.random > 1.0:
        yield Problem(f"{place}.training.masking", "mask and random add up to more than 1")
    yield from _objective(stage, place)


def _sharding(spec: JobSpec, stage: Pretrain | Distill, place: str) -> Iterator[Problem]:
    training, cluster = stage.training, spec.cluster
    precisions = {f"{place}.precision": training.precision}
    if isinstance(stage, Distill):
        precisions[f"{place.removesuffix('.training')}.teacher_precision"] = stage.teacher_precision
    for field, precision in precisions.items():
        if precision == "fp16" and not cluster.use_gpu:
            yield Problem(field, "fp16 runs on GPUs only (cluster.use_gpu); on CPUs use fp32 or bf16")
    if training.precision in ("bf16", "fp16") and training.zero_stage == 0:
        yield Problem(f"{place}.zero_stage", f"{training.precision} needs ZeRO 1 at least, which keeps fp32 weights")
    observed = sorted({"compact", "layer", "attention"} & set(stage.objective.terms()))
    if training.compile and observed:
        yield Problem(f"{place}.compile", f"compiled layers hide their attention, which {observed[0]} compares")
    if training.offload_optimiser and training.zero_stage == 0:
        yield Problem(f"{place}.offload_optimiser", "needs ZeRO 1 at least")
    if 1 < (cluster.min_workers or 1) <= cluster.num_workers and training.global_batch % (cluster.min_workers or 1):
        yield Problem(
            f"{place}.global_batch",
            f"{training.global_batch} rows cannot be dealt evenly to {cluster.min_workers} workers "
            "(cluster.min_workers)",
        )


def _objective(stage: Pretrain | Distill, place: str) -> Iterator[Problem]:
    if isinstance(stage, Pretrain):
        if stage.student.model is None:
            yield Problem(f"{place}.student.model", "missing: a pretrain stage has no teacher; name the model here")
        return
    terms = stage.objective.terms()
    if not set(terms) - {"mlm"}:
        yield Problem(
            f"{place}.objective", "no term uses the teacher; add output or compact, or make this a pretrain stage"
        )
    scored = [term for name, term in terms.items() if name in _OF_THE_OUTPUT]
    if stage.co_teachers and not scored:
        yield Problem(f"{place}.co_teachers", f"no term uses them; add {', '.join(sorted(_OF_THE_OUTPUT))}")
    inner = sorted(set(terms) & _OF_THE_ENCODER)
    if stage.training.trainable == "head" and inner:
        yield Problem(
            f"{place}.training.trainable",
            f"`head` freezes the encoder, and {', '.join(inner)} would train nothing else",
        )
    attention = stage.objective.attention
    if attention is not None and attention.loss == "kl" and attention.on == "scores":
        yield Problem(f"{place}.objective.attention.on", "scores are no distribution; `kl` compares probabilities")
    for name, term in stage.objective.layer_terms().items():
        yield from _layers(term.layer_map, term.layer_lambdas, _depth(stage), f"{place}.objective.{name}")


def _layers(
    layer_map: tuple[int, ...], lambdas: tuple[float, ...] | None, depth: int | None, place: str
) -> Iterator[Problem]:
    if depth is not None and len(layer_map) != depth:
        yield Problem(
            f"{place}.layer_map",
            f"has {len(layer_map)} entries for {depth} student layers; give one teacher layer for each",
        )
    if lambdas is not None and len(lambdas) != len(layer_map):
        yield Problem(f"{place}.layer_lambdas", f"has {len(lambdas)} entries, the layer map {len(layer_map)}")


def _depth(stage: Distill) -> int | None:
    """The student's layers, where the spec alone says how many."""
    match stage.student:
        case FromTeacherLayers():
            return len(stage.student.layers)
        case FromShape():
            return stage.student.num_hidden_layers
        case _:
            return None


def _finetune(stage: Finetune, place: str) -> Iterator[Problem]:
    known = f"is not one of its models ({', '.join(stage.models_)})"
    for field in ("reference", "control"):
        value = getattr(stage, field)
        if value is not None and value not in stage.models_:
            yield Problem(f"{place}.{field}", f"'{value}' {known}")
    for name, section in stage.distillation.items():
        here = f"{place}.distillation.{name}"
        if name not in stage.models_:
            yield Problem(here, f"'{name}' {known}")
        if section.teacher not in stage.models_:
            yield Problem(f"{here}.teacher", f"'{section.teacher}' {known}")
        if section.teacher in stage.distillation:
            yield Problem(f"{here}.teacher", f"'{section.teacher}' is fine-tuned against a teacher itself")
    for name, task in stage.tasks.items():
        yield from _tuning(stage, name, task, place)


def _tuning(stage: Finetune, name: str, task: AnyTask, place: str) -> Iterator[Problem]:
    group, tuning = GROUP_OF[task.kind], stage.tuning_of(task)
    if group is None:
        return
    if tuning is None:
        yield Problem(f"{place}.tuning", f"has nothing for task '{name}'; add `{group}` or `all`")
    elif tuning.class_weights is not None and group == "qa":
        yield Problem(f"{place}.tuning.class_weights", f"task '{name}' has no classes; answers are spans")
    elif tuning.looks_at_dev and isinstance(task, EntityTask) and task.training == "train+dev":
        yield Problem(
            f"{place}.tuning.keep", f"task '{name}' trains on its development set, so nothing can choose a checkpoint"
        )
