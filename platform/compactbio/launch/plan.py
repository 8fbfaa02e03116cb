"""What a job comes to, as text: batches, tokens, layer maps, parameters, memory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from transformers import PreTrainedConfig

from compactbio.data.store import read_manifest
from compactbio.launch import preflight, stages
from compactbio.models.count import encoder_parameters, parameters
from compactbio.spec.job import Cluster, Distill, Finetune, JobSpec, Pretrain
from compactbio.spec.plan import plan_batch, plan_memory, plan_precision
from compactbio.spec.training import Checkpoints, Training
from compactbio.spec.tuning import Tuning

_GIB = 1024**3


def describe(spec: JobSpec) -> str:
    """The resolved plan, and what a run would lack on this machine. Raises SpecError for what can run nowhere."""
    checked = preflight.check(spec, planning=True)
    lines = [f"job {spec.name}, spec {spec.digest()}, seed {spec.seed}"]
    lines += [f"scaled {path}: {change}" for path, change in spec.scale.items()]
    if spec.corpus is not None:
        sources = ", ".join(source.reference() for source in spec.corpus.sources)
        lines.append(f"corpus {sources}, {spec.corpus.segmentation}, rows of at most {spec.corpus.max_tokens} tokens")
    if spec.store is not None:
        lines.append(f"store {spec.store}, rows of at most {_max_tokens(spec)} tokens")
    cluster = spec.cluster
    where = cluster.address or "Ray inside the driver"
    lines.append(
        f"{cluster.num_workers} workers x {cluster.cpus_per_worker} CPUs on {where}, {_starts(spec)} Ray Train starts"
    )
    for name, stage in spec.stages.items():
        lines.append(f"\n{name}: {stage.kind}")
        if isinstance(stage, Finetune):
            lines += _finetune(spec, name, stage, checked)
        else:
            lines += _training(spec, stage, checked.students[name], checked.teachers.get(name))
    if checked.missing:
        lines += ["\nnot ready to run here:", *(f"  {problem.path}: {problem.message}" for problem in checked.missing)]
    return "\n".join(lines)


def _starts(spec: JobSpec) -> int:
    return sum(names[0] in spec.training_stages() for names in stages.groups(spec))


def _max_tokens(spec: JobSpec) -> int:
    if spec.corpus is not None:
        return spec.corpus.max_tokens
    assert spec.store is not None
    return read_manifest(Path(spec.store).expanduser()).max_tokens


def _training(
    spec: JobSpec, stage: Pretrain | Distill, student: PreTrainedConfig, teacher: PreTrainedConfig | None
) -> Iterator[str]:
    training = stage.training
    batch = plan_batch(training, spec.cluster.num_workers)
    yield (
        f"  batch      {batch.global_batch} rows = {batch.num_workers} workers x {batch.accumulation} micro-batches "
        f"x {batch.micro_batch} rows"
    )
    most = training.steps * training.global_batch * _max_tokens(spec)
    yield f"  length     {training.steps:,} steps, at most {most:,} tokens"
    yield (
        f"  schedule   {training.schedule}, warm-up {training.warmup_steps} steps, peak lr {training.lr:g}, "
        f"weight decay {training.weight_decay:g}, {plan_precision(training, spec.cluster)}"
    )
    yield f"  saved      {_saved(training.checkpoints)}"
    for term, section in stage.objective.terms().items():
        options = ", ".join(f"{key} {value}" for key, value in section.flat().items())
        yield f"  term       {term}: {options}"
    for term, layers in stage.objective.layer_terms().items():
        pairs = ", ".join(f"{s} <- {t}" for s, t in enumerate(layers.layer_map))
        yield f"  layer map  {term}: student <- teacher: {pairs}"
    paper = f" (paper: {stage.paper_parameters})" if stage.paper_parameters else ""
    yield f"  student    {_size(student)}{paper}"
    if teacher is not None:
        yield f"  teacher    {_size(teacher)}"
    yield from _memory(training, spec.cluster, student, teacher)


def _saved(section: Checkpoints) -> str:
    when = [f"every {section.every_steps:,} steps"] if section.every_steps else []
    when += [f"every {section.every_minutes:g} minutes"] if section.every_minutes else []
    if not when:
        return "never: a run that is killed starts over"
    return f"{' and '.join(when)}; the last {section.keep_last} stay" + (", and the best" if section.keep_best else "")


def _size(config: PreTrainedConfig) -> str:
    return (
        f"{config.model_type}, {config.num_hidden_layers} layers x {config.hidden_size}, "
        f"{encoder_parameters(config) / 1e6:.2f} M parameters without pooler and head"
    )


def _memory(
    training: Training, cluster: Cluster, student: PreTrainedConfig, teacher: PreTrainedConfig | None
) -> Iterator[str]:
    total = parameters(student)
    trained = total if training.trainable == "all" else total - encoder_parameters(student)
    memory = plan_memory(
        student_params=total,
        trained_params=trained,
        teacher_params=parameters(teacher) if teacher is not None else 0,
        training=training,
        cluster=cluster,
    )
    yield (
        f"  memory     {memory.total / _GIB:.2f} GiB a worker under ZeRO {training.zero_stage} "
        f"(student {memory.student / _GIB:.2f}, "
        f"gradients {memory.gradients / _GIB:.2f}, optimiser {memory.optimiser / _GIB:.2f}, "
        f"teacher {memory.teacher / _GIB:.2f}); activations and libraries come on top"
    )


def _finetune(spec: JobSpec, name: str, stage: Finetune, checked: preflight.Preflight) -> Iterator[str]:
    yield f"  models     {', '.join(f'{model_name} ({model})' for model_name, model in stage.models_.items())}"
    for model_name, section in stage.distillation.items():
        options = ", ".join(f"{key} {value}" for key, value in section.flat().items())
        yield f"  distilled  {model_name}: {options}"
    seeds = stage.seeds or (spec.seed,)
    num_examples = num_scored = 0
    for task_name, sizes in checked.tasks[name].items():
        task, tuning = stage.tasks[task_name], stage.tuning_of(stage.tasks[task_name])
        yield f"  task       {task_name}: {task.setting}; {sizes.train:,} / {sizes.dev:,} / {sizes.test:,} examples"
        yield from (f"             note: {note}" for note in sizes.notes)
        num_examples += sizes.train * (tuning.epochs if tuning is not None else 0)
        num_scored += sizes.test
    for task_name in checked.absent[name]:
        yield f"  task       {task_name}: left out, its data are not here"
    for group, tuning in stage.tuning.items():
        yield f"  tuning     {group}: {_tuning(tuning)}"
    each, num_tasks = len(stage.models_) * len(seeds), len(checked.tasks[name])
    yield (
        f"  cells      {each * num_tasks}: {len(stage.models_)} models x {num_tasks} tasks "
        f"x {len(seeds)} seeds ({', '.join(map(str, seeds))}), one Ray task each"
    )
    yield f"  rows       {each * num_examples:,} to train on, all epochs of all cells, {each * num_scored:,} to score"


def _tuning(tuning: Tuning) -> str:
    every = f"{tuning.evaluate_every_steps} steps" if tuning.evaluate_every_steps else "epoch"
    parts = {
        f"{tuning.preset}": tuning.preset,
        f"{tuning.epochs} epochs of batch {tuning.batch}, lr {tuning.lr:g}": True,
        f"the last layer's {tuning.head_lr or 0.0:g}": tuning.head_lr,
        f"times {tuning.layer_decay:g} for each layer down": tuning.layer_decay < 1.0,
        f"{tuning.schedule}": True,
        f"the lowest {tuning.freeze_layers} layers frozen": tuning.freeze_layers,
        "embeddings frozen": tuning.freeze_embeddings,
        f"{tuning.class_weights} class weights": tuning.class_weights,
        f"at most {tuning.max_tokens} tokens, the {tuning.keep} weights": True,
        f"scored on dev every {every}": tuning.looks_at_dev,
        f"stopped after {tuning.patience} without gain": tuning.patience,
    }
    return ", ".join(words for words, said in parts.items() if said)
