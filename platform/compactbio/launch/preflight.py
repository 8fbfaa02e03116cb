"""What can be known to fail is found before anything starts."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from transformers import PreTrainedConfig, PreTrainedTokenizerBase

from compactbio.data.benchmarks import MissingDataError, read_task
from compactbio.data.corpus import require_text
from compactbio.data.store import read_manifest
from compactbio.data.tokens import fingerprint
from compactbio.launch.environment import cluster_address
from compactbio.models.load import load_config, load_shape, load_tokenizer
from compactbio.models.passes import why_not_compile
from compactbio.models.student import check_fit, student_config
from compactbio.spec.base import Problem, SpecError
from compactbio.spec.job import STAGE_PREFIX, Cluster, Distill, Finetune, JobSpec, Pretrain, start_field
from compactbio.spec.references import locate
from compactbio.spec.students import FromShape
from compactbio.spec.tasks import AnyTask

Absent = Mapping[str, Mapping[str, str]]
"""Of every fine-tuning stage the tasks that have no data here, and what to do about it."""


@dataclass(frozen=True)
class TaskSizes:
    """How many examples a task has in each set, and what readers of its results should know of them."""

    train: int
    dev: int
    test: int
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Preflight:
    """What the checks found out: the job's tokenizer, and the configuration of every stage's student and teacher."""

    tokenizer: PreTrainedTokenizerBase | None
    students: Mapping[str, PreTrainedConfig]
    teachers: Mapping[str, PreTrainedConfig]
    missing: tuple[Problem, ...]
    """Why it could not be run here, where that is not an error."""

    tasks: Mapping[str, Mapping[str, TaskSizes]]
    """Of every fine-tuning stage the tasks that have data here."""

    absent: Absent


def check(spec: JobSpec, *, planning: bool = False) -> Preflight:
    """Looks at files, models, fit and cores. Raises SpecError.

    For a plan, what is not on this machine is no error: it is listed, published models are known by name, and nothing
    is downloaded.
    """
    if planning:
        spec = spec.model_copy(update={"online": False})
    missing: list[Problem] = []

    @contextmanager
    def needed() -> Iterator[None]:
        try:
            yield
        except SpecError as error:
            if not planning:
                raise
            missing.extend(error.problems)

    if cluster_address(spec.cluster) is None:
        with needed():
            check_cores(spec.cluster, len(os.sched_getaffinity(0)), "this machine has")
    for name, training_stage in spec.training_stages().items():
        if training_stage.training.compile and not spec.cluster.use_gpu and (obstacle := why_not_compile()):
            with needed():
                raise SpecError.at(f"stages.{name}.training.compile", obstacle)
    if spec.store is not None:
        read_manifest(Path(spec.store).expanduser())
    if spec.corpus is not None:
        with needed():
            require_text(spec.corpus, online=spec.online)
    tokenizer = None
    if spec.training_stages():
        with needed():
            tokenizer = load_tokenizer(*spec.tokenizer_source(), online=spec.online)
    students: dict[str, PreTrainedConfig] = {}
    teachers: dict[str, PreTrainedConfig] = {}
    tasks: dict[str, dict[str, TaskSizes]] = {}
    absent: dict[str, dict[str, str]] = {}
    for name, stage in spec.stages.items():
        place = f"stages.{name}"
        if isinstance(stage, Finetune):
            for field, model in stage.models().items():
                with needed():
                    _config(spec, model, f"{place}.{field}", students, shape_alone=planning)
            tasks[name], absent[name] = _tasks(stage, f"{place}.tasks")
            if not tasks[name]:
                with needed():
                    raise SpecError([Problem("", message) for message in absent[name].values()])
            with needed():
                _check_teachers(spec, stage, place)
            continue
        configs = {
            field: _config(
                spec, model, f"{place}.{field}", students, shape_alone=planning or field not in _weights(stage)
            )
            for field, model in stage.models().items()
        }
        students[name] = _fitting_student(spec, name, stage, configs, tokenizer)
        if isinstance(stage, Distill):
            teachers[name] = configs["teacher"]
    return Preflight(tokenizer, students, teachers, tuple(missing), tasks, absent)


def _tasks(stage: Finetune, place: str) -> tuple[dict[str, TaskSizes], dict[str, str]]:
    """The tasks whose data are here, which are read and so checked, and of the others why they are not."""
    found: dict[str, TaskSizes] = {}
    absent: dict[str, str] = {}
    bad: list[SpecError] = []
    for name, task in stage.tasks.items():
        try:
            found[name] = _task_sizes(stage, task, f"{place}.{name}")
        except MissingDataError as error:
            absent[name] = str(error)
        except SpecError as error:
            bad.append(error)
    if len(bad) > 1:
        raise SpecError([Problem("", str(error)) for error in bad])  # each names its own file
    if bad:
        raise bad[0]
    return found, absent


def _task_sizes(stage: Finetune, task: AnyTask, place: str) -> TaskSizes:
    data = read_task(task, place)
    tuning = stage.tuning_of(task)
    if tuning is not None and tuning.looks_at_dev and not data.dev:
        raise SpecError.at(
            place,
            "has no development set, by which `keep: best` and `patience` choose; leave the task out, or `keep: last`",
        )
    return TaskSizes(len(data.train), len(data.dev), len(data.test), data.notes)


def _check_teachers(spec: JobSpec, stage: Finetune, place: str) -> None:
    """Raises SpecError where a student reads other tokens than its teacher."""
    for name, section in stage.distillation.items():
        pair = [_tokenizer(spec, stage.models_[model], f"{place}.models.{model}") for model in (name, section.teacher)]
        if fingerprint(pair[0]) != fingerprint(pair[1]):
            raise SpecError.at(
                f"{place}.distillation.{name}.teacher",
                f"'{section.teacher}' has another vocabulary than '{name}'; logits are compared token by token",
            )


def _tokenizer(spec: JobSpec, model: str, field: str) -> PreTrainedTokenizerBase:
    if model.startswith(STAGE_PREFIX):
        return load_tokenizer(*spec.tokenizer_source(), online=spec.online)
    if model == "teacher" and spec.teacher is not None:
        model, field = spec.teacher, "teacher"
    return load_tokenizer(model, field, online=spec.online)


def _fitting_student(
    spec: JobSpec,
    name: str,
    stage: Pretrain | Distill,
    configs: Mapping[str, PreTrainedConfig],
    tokenizer: PreTrainedTokenizerBase | None,
) -> PreTrainedConfig:
    """The configuration of a stage's student. Raises SpecError where it fits neither its teacher nor the tokens."""
    place = f"stages.{name}"
    vocabulary_size = len(tokenizer) if tokenizer is not None else None
    student = student_config(stage, configs[start_field(stage)], place, vocabulary_size)
    if isinstance(stage, Distill):
        check_fit(stage, student, configs["teacher"], place)
        for field, config in configs.items():
            if field.startswith("co_teachers") and config.vocab_size != student.vocab_size:
                raise SpecError.at(
                    f"{place}.{field}",
                    f"its vocabulary has {config.vocab_size} entries, the student's {student.vocab_size}; "
                    "teachers and student need the same tokenizer",
                )
    if tokenizer is None:
        return student
    for field, model in _weights(stage).items():
        _check_same_tokens(spec, tokenizer, model, f"{place}.{field}")
    if student.vocab_size < len(tokenizer):
        raise SpecError.at(
            f"{place}.student",
            f"its vocabulary has {student.vocab_size} entries, the tokenizer {len(tokenizer)}; "
            "name the tokenizer that belongs to the model under corpus.tokenizer",
        )
    return student


def _weights(stage: Pretrain | Distill) -> dict[str, str]:
    """The models whose weights the stage takes, by field; a student with random ones takes on the corpus' tokens."""
    models = stage.models()
    if isinstance(stage.student, FromShape):
        models.pop("student.model", None)
    return models


def _check_same_tokens(spec: JobSpec, tokenizer: PreTrainedTokenizerBase, model: str, field: str) -> None:
    """Raises SpecError where a model comes with a tokenizer whose ids mean other tokens than those of the rows."""
    if model.startswith(STAGE_PREFIX):
        return
    reference = spec.teacher if model == "teacher" else model
    assert reference is not None
    try:
        own = load_tokenizer(reference, field, online=spec.online)
    except SpecError:
        return  # a model without a tokenizer: its vocabulary's size is all that can be compared
    if fingerprint(own) != fingerprint(tokenizer):
        source, where = spec.tokenizer_source()
        raise SpecError.at(
            field,
            f"'{reference}' has another vocabulary than the tokenizer of the rows ({where}: '{source}'); build a "
            "token store with the model's own tokenizer",
        )


def check_cores(cluster: Cluster, num_cpus: float, whose: str) -> None:
    """Raises SpecError where the workers ask for more CPUs than there are."""
    wanted = cluster.num_workers * cluster.cpus_per_worker
    if wanted > num_cpus:
        raise SpecError.at(
            "cluster.num_workers",
            f"{cluster.num_workers} workers x {cluster.cpus_per_worker} CPUs (cluster.cpus_per_worker) "
            f"need {wanted} CPUs, {whose} {num_cpus:g}; ask for fewer, or name a cluster under cluster.address",
        )


def resolve_model(spec: JobSpec, model: str, field: str, made: Mapping[str, str]) -> str:
    """Where a model that a stage names lies; `made` has the folders of the stages that are done."""
    if model.startswith(STAGE_PREFIX):
        return made[model.removeprefix(STAGE_PREFIX)]
    if model == "teacher":
        assert spec.teacher is not None
        return locate(spec.teacher, "teacher")
    return locate(model, field)


def _config(
    spec: JobSpec, model: str, field: str, made: Mapping[str, PreTrainedConfig], *, shape_alone: bool
) -> PreTrainedConfig:
    if model.startswith(STAGE_PREFIX):
        return made[model.removeprefix(STAGE_PREFIX)]
    if model == "teacher":
        assert spec.teacher is not None
        model, field = spec.teacher, "teacher"
    return (load_shape if shape_alone else load_config)(model, field, online=spec.online)
