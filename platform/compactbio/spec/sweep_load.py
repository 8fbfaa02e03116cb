"""From the file of a sweep to a checked one, on its base."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from compactbio.spec.base import Problem, SpecError
from compactbio.spec.load import BASE, SCALE, load, read, validate
from compactbio.spec.sweep import SweepSpec
from compactbio.spec.sweep_check import problems
from compactbio.spec.trials import Sweep


def load_sweep(path: str | Path, overrides: list[str] | None = None) -> Sweep:
    """The sweep that the file at `path` describes, with the job that it stands on.

    Raises SpecError, which names file, line and dotted path of every problem.
    """

    def build(raw: dict[str, Any], lines: dict[str, int]) -> Sweep:
        spec = validate(SweepSpec, raw, lines, lambda spec: [])
        try:
            sweep = _on_base(spec, Path(path).parent)
            if found := list(problems(sweep)):
                raise SpecError(found)
        except SpecError as error:
            raise SpecError([Problem(p.path, p.message, _line(p.path, lines)) for p in error.problems]) from None
        return sweep

    return read(path, overrides, build, on_base=False)


def is_sweep(path: str | Path) -> bool:
    """Whether the file describes a sweep, rather than a job."""
    return bool(read(path, None, lambda raw, lines: "space" in raw, on_base=False))


def _on_base(spec: SweepSpec, folder: Path) -> Sweep:
    changes = [f"{path}={json.dumps(value)}" for path, value in spec.scale.items()]
    try:
        return Sweep(spec, load(folder / spec.base, changes))
    except SpecError as error:
        raise SpecError([_of_base(problem, spec) for problem in error.problems]) from None


def _of_base(problem: Problem, spec: SweepSpec) -> Problem:
    """A problem of the base as one of the sweep: that of the change that brought it, where one did."""
    for path in spec.scale:
        if f"{problem.path}.".startswith(f"{path}.") or f"{path}.".startswith(f"{problem.path}."):
            return Problem(f"{SCALE}.{path}", f"{problem.path}: {problem.message}")
    line = f", line {problem.line}" if problem.line else ""
    return Problem(BASE, f"in '{spec.base}'{line}: {problem.path}: {problem.message}".replace(": : ", ": "))


def _line(path: str, lines: dict[str, int]) -> int | None:
    """The line of a path or of the nearest section that it lies in."""
    while path and path not in lines:
        path = path.rpartition(".")[0]
    return lines.get(path)
