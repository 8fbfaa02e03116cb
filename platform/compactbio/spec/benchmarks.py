"""The catalogue of named benchmarks, and how names in a spec become tasks."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from functools import cache
from importlib.resources import files
from typing import Any

import yaml
from pydantic import TypeAdapter

from compactbio.spec.base import Section, SpecError
from compactbio.spec.tasks import AnyTask

CATALOGUE = "benchmarks.yaml"
BENCHMARK = "benchmark"
"""In a task's section: the benchmark that it is, with other keys to change."""

_FOLD = "-fold"


class Entry(Section):
    """A benchmark of the catalogue."""

    groups: tuple[str, ...]
    """The names under which it is asked for together with others."""

    folds: tuple[int, ...] = ()
    """It becomes one task for each of these folds, `NAME-foldK`; results of the folds stand together."""

    task: dict[str, Any]
    """The task's section, without its fold."""


@cache
def catalogue() -> dict[str, Entry]:
    """All benchmarks by name."""
    text = files("compactbio.spec").joinpath(CATALOGUE).read_text(encoding="utf-8")
    adapter = TypeAdapter(dict[str, Entry])
    return adapter.validate_python(yaml.safe_load(text), strict=False)


def groups() -> dict[str, list[str]]:
    """The benchmarks of each group, in the catalogue's order."""
    found: dict[str, list[str]] = {}
    for name, entry in catalogue().items():
        for group in entry.groups:
            found.setdefault(group, []).append(name)
    return found


def expand_tasks(given: object, path: str) -> object:
    """The plain values of a `tasks` section with benchmarks in place of their names; tasks in full stay as they are.

    A list names benchmarks and groups. A mapping has tasks by name, and one with `benchmark: NAME` is that benchmark
    with the section's other keys in place of its own. Raises SpecError below the dotted path `path` for unknown names.
    """
    if isinstance(given, list) and all(isinstance(name, str) for name in given):
        return named_tasks(given, path)
    if not isinstance(given, dict):
        return given
    expanded: dict[str, Any] = {}
    for name, section in given.items():
        if isinstance(section, dict) and isinstance(section.get(BENCHMARK), str):
            changes = {key: value for key, value in section.items() if key != BENCHMARK}
            expanded |= _tasks(name, section[BENCHMARK], changes, f"{path}.{name}.{BENCHMARK}")
        else:
            expanded[name] = section
    return expanded


def named_tasks(names: Iterable[str], path: str) -> dict[str, Any]:
    """The plain values of the tasks that benchmarks and groups stand for, each once."""
    chosen: dict[str, None] = {}
    for name in names:
        chosen |= dict.fromkeys(groups().get(name, [name]))
    found: dict[str, Any] = {}
    for name in chosen:
        found |= _tasks(name, name, {}, path)
    return found


def benchmark_tasks(names: Iterable[str], path: str = "tasks") -> dict[str, AnyTask]:
    """As `named_tasks`, as checked sections."""
    adapter: TypeAdapter[AnyTask] = TypeAdapter(AnyTask)
    return {name: adapter.validate_python(task, strict=False) for name, task in named_tasks(names, path).items()}


def column_name(task_name: str) -> str:
    """The name under which a task's results stand: for all folds of a benchmark the same."""
    column, fold, number = task_name.rpartition(_FOLD)
    return column if fold and number.isdigit() else task_name


def _tasks(name: str, benchmark: str, changes: dict[str, Any], path: str) -> dict[str, Any]:
    entry = catalogue().get(benchmark)
    if entry is None:
        raise SpecError.at(path, f"there is no benchmark '{benchmark}'{_near(benchmark)}")
    task = {**entry.task, **changes}
    if not entry.folds or "fold" in changes:
        return {name: task}
    return {f"{name}{_FOLD}{fold}": {**task, "fold": fold} for fold in entry.folds}


def _near(name: str) -> str:
    known = [*groups(), *catalogue()]
    lowered = {other.lower(): other for other in known}
    near = [lowered[other] for other in difflib.get_close_matches(name.lower(), lowered, n=3)]
    if near:
        return f"; did you mean {' or '.join(repr(other) for other in near)}?"
    return f"; known: {', '.join(known)}"
