"""The data of a task: read, checked against the sizes that it should have, subsets drawn."""

from __future__ import annotations

from compactbio.data.examples import Example, TaskData
from compactbio.data.ontology_tasks import read_branches, read_mentions
from compactbio.data.sets import Sets, fingerprint, subset
from compactbio.spec.base import Problem, SpecError
from compactbio.spec.references import locate_file
from compactbio.spec.tasks import AnyTask, Benchmark, BranchTask, LabelTask, MentionTask


class MissingDataError(SpecError):
    """Files of a task are not on this machine. The message says where to get them and what to put where."""


def require_files(task: AnyTask, field: str = "tasks") -> None:
    """Raises MissingDataError below the dotted path `field` where files of the task are not there."""
    problems = []
    for name, reference in task.files():
        try:
            locate_file(reference, f"{field}.{name}")
        except SpecError as error:
            problems += error.problems
    if problems:
        if isinstance(task, Benchmark) and task.obtain:
            problems.append(Problem(field, f"to get the data: {task.obtain}"))
        raise MissingDataError(problems)


def read_task(task: AnyTask, field: str = "tasks") -> TaskData[Example]:
    """The examples of a task.

    Raises MissingDataError below the dotted path `field` where files are not there, and SpecError with file and line
    where they are not in the task's format.
    """
    require_files(task, field)
    sets = _read(task)
    sizes = {"train": len(sets.train), "dev": len(sets.dev), "test": len(sets.test)}
    wrong = _unexpected(task, sizes)
    by_group = isinstance(task, LabelTask) and task.unit == "abstract"
    used = Sets(
        subset(sets.train, task.max_train, task.subset_seed, by_group=by_group),
        subset(sets.dev, task.max_dev, task.subset_seed, by_group=by_group),
        subset(sets.test, task.max_test, task.subset_seed, by_group=by_group),
        sets.labels,
    )
    return TaskData(
        train=used.train,
        dev=used.dev,
        test=used.test,
        labels=used.labels,
        fingerprint=fingerprint(used),
        sizes=sizes,
        notes=(*sets.notes, *wrong),
        as_expected=not wrong if isinstance(task, Benchmark) and task.sizes is not None else None,
    )


def _read(task: AnyTask) -> Sets[Example]:
    match task:
        case MentionTask():
            return read_mentions(task)
        case BranchTask():
            return read_branches(task)
    raise SpecError.at("tasks", f"there is no reader for {task.kind}")


def _unexpected(task: AnyTask, sizes: dict[str, int]) -> list[str]:
    """What to say of sizes that are not those that the task names."""
    if not isinstance(task, Benchmark) or task.sizes is None:
        return []
    expected = task.sizes.model_dump(exclude_none=True)
    found = {**sizes, "total": sum(sizes.values())}
    return [
        f"{name}: {found[name]:,} examples, {number:,} are expected"
        for name, number in expected.items()
        if found[name] != number
    ]
