"""The data of a task: read, checked against the sizes that it should have, subsets drawn."""

from __future__ import annotations

from compactbio.data.bioasq import read_bioasq
from compactbio.data.conll import read_entities
from compactbio.data.examples import (
    ClassifiedText,
    Example,
    LabelledText,
    PlainText,
    Question,
    TaggedText,
    TaskData,
)
from compactbio.data.hoc import read_labelled
from compactbio.data.nli import read_pairs
from compactbio.data.ontology_tasks import read_branches, read_mentions
from compactbio.data.plain import read_plain
from compactbio.data.pubmedqa import read_choices
from compactbio.data.relations import read_folds, read_holdout, read_relations
from compactbio.data.sets import Sets, fingerprint, num_shared, subset
from compactbio.data.squad import read_squad, read_squad_holdout
from compactbio.spec.base import Problem, SpecError
from compactbio.spec.entity_tasks import EntityTask
from compactbio.spec.ontology_tasks import BranchTask, MentionTask
from compactbio.spec.question_tasks import QuestionHoldoutTask, QuestionTask
from compactbio.spec.references import locate_file, looked_in
from compactbio.spec.relation_tasks import RelationFoldTask, RelationHoldoutTask, RelationTask
from compactbio.spec.task_base import Benchmark
from compactbio.spec.tasks import AnyTask
from compactbio.spec.text_tasks import ChoiceTask, LabelTask, MaskedTextTask, PairTask

_MOST_KEPT = 8
_kept: dict[object, Sets[Example]] = {}


class MissingDataError(SpecError):
    """Files of a task are not on this machine. The message says where to get them and what to put where."""


def require_files(task: AnyTask, field: str = "tasks") -> None:
    """Raises MissingDataError below the dotted path `field` where files of the task are not there."""
    missing: dict[str, list[Problem]] = {}
    for name, reference in task.files():
        try:
            locate_file(reference, f"{field}.{name}")
        except SpecError as error:
            missing[reference] = error.problems
    if missing and isinstance(task, Benchmark) and task.obtain:
        told = f"there are no files {', '.join(missing)} ({looked_in()}). {task.obtain}"
        raise MissingDataError([Problem(field, told)])
    if missing:
        raise MissingDataError([problem for problems in missing.values() for problem in problems])


def read_task(task: AnyTask, field: str = "tasks") -> TaskData[Example]:
    """The examples of a task.

    Raises MissingDataError below the dotted path `field` where files are not there, and SpecError with file and line
    where they are not in the task's format.
    """
    require_files(task, field)
    sets = _read_once(task)
    _require_examples(task, sets, field)
    sizes = {"train": len(sets.train), "dev": len(sets.dev), "test": len(sets.test)}
    wrong = _unexpected(task, sizes, sets.num_counted)
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
        notes=(*sets.notes, *_leaks(sets), *wrong),
        as_expected=not wrong if isinstance(task, Benchmark) and task.sizes is not None else None,
    )


def _require_examples(task: AnyTask, sets: Sets[Example], field: str) -> None:
    """Raises SpecError where there is nothing to train on or to score."""
    needed = {"test": sets.test} if isinstance(task, MaskedTextTask) else {"train": sets.train, "test": sets.test}
    files = [(name, str(locate_file(path, name))) for name, path in task.files()]
    problems = []
    for name in (name for name, some in needed.items() if not some):
        sources = [path for field_name, path in files if field_name == name] or [path for _, path in files]
        problems.append(Problem(field, f"no examples in the {name} set ({', '.join(sources)})"))
    if problems:
        raise SpecError(problems)


def _read_once(task: AnyTask) -> Sets[Example]:
    """As `_read`, kept for the next who asks: a sweep's check asks for the same sets at every value that it tries."""
    stamps = []
    for name, reference in task.files():
        path = locate_file(reference, name)
        status = path.stat()
        stamps.append((path, status.st_mtime_ns, status.st_size))
    key = (type(task), task.model_dump_json(), tuple(stamps))
    if key not in _kept:
        while len(_kept) >= _MOST_KEPT:
            del _kept[next(iter(_kept))]
        _kept[key] = _read(task)
    return _kept[key]


def _read(task: AnyTask) -> Sets[Example]:
    match task:
        case EntityTask():
            return read_entities(task)
        case RelationTask():
            return read_relations(task)
        case RelationFoldTask():
            return read_folds(task)
        case RelationHoldoutTask():
            return read_holdout(task)
        case LabelTask():
            return read_labelled(task)
        case PairTask():
            return read_pairs(task)
        case ChoiceTask():
            return read_choices(task)
        case QuestionTask():
            return read_squad(task) if task.format == "squad" else read_bioasq(task)
        case QuestionHoldoutTask():
            return read_squad_holdout(task)
        case MaskedTextTask():
            return read_plain(task)
        case MentionTask():
            return read_mentions(task)
        case BranchTask():
            return read_branches(task)


def _leaks(sets: Sets[Example]) -> list[str]:
    """What to say of test examples that stand in the training set too."""
    shared = num_shared(map(_content, sets.train), map(_content, sets.test))
    return [f"{shared:,} of {len(sets.test):,} test texts stand in the training set too"] if shared else []


def _content(example: Example) -> tuple[str, ...]:
    """The text that a model sees, without its labels."""
    match example:
        case TaggedText():
            return tuple(example.words)
        case ClassifiedText():
            return (example.text, example.pair or "")
        case Question():
            return (example.question, *(passage.text for passage in example.passages))
        case LabelledText() | PlainText():
            return (example.text,)


def _unexpected(task: AnyTask, sizes: dict[str, int], num_counted: int | None) -> list[str]:
    """What to say of sizes that are not those that the task names."""
    if not isinstance(task, Benchmark) or task.sizes is None:
        return []
    expected = task.sizes.model_dump(exclude_none=True)
    found = {**sizes, "total": sum(sizes.values()) if num_counted is None else num_counted}
    return [
        f"{name}: {found[name]:,} examples, {number:,} are expected"
        for name, number in expected.items()
        if found[name] != number
    ]
