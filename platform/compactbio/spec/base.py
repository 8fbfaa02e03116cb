"""What every section of a spec has in common, and the error that a bad spec raises."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """A part of a spec: immutable, strict about types, and without room for unknown keys.

    The docstring under a field is its description in the JSON schema.
    """

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        use_attribute_docstrings=True,
        allow_inf_nan=False,
    )

    def flat(self) -> dict[str, object]:
        """Values by dotted path, under their names in YAML."""
        return dict(_walk(self.resolved(), ""))

    def resolved(self) -> dict[str, object]:
        """All values, the defaults too, as plain ones under their YAML names."""
        return self.model_dump(mode="json", by_alias=True)

    def canonical(self) -> str:
        """All values, the defaults too, as JSON with sorted keys."""
        return json.dumps(self.resolved(), sort_keys=True)

    def digest(self) -> str:
        """Twelve hex digits that change with any value."""
        return hashlib.sha256(self.canonical().encode()).hexdigest()[:12]


def _walk(value: object, path: str) -> Iterator[tuple[str, object]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _walk(inner, f"{path}.{key}" if path else key)
    else:
        yield path, value


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with a spec: where (a dotted path), and what to do about it."""

    path: str
    message: str
    line: int | None = None


class SpecError(ValueError):
    """A spec, or an input that a spec names, cannot be used. Carries every problem that was found."""

    def __init__(self, problems: list[Problem], source: str | None = None) -> None:
        self.problems = problems
        self.source = source
        super().__init__("\n".join(self._line(problem) for problem in problems))

    @classmethod
    def at(cls, path: str, message: str) -> SpecError:
        """A single problem at the dotted path `path`."""
        return cls([Problem(path, message)])

    def _line(self, problem: Problem) -> str:
        place = f"{self.source}:{problem.line}: " if self.source and problem.line else ""
        place = place or (f"{self.source}: " if self.source else "")
        return f"{place}{problem.path}: {problem.message}" if problem.path else f"{place}{problem.message}"

    def __reduce__(self) -> tuple[type[SpecError], tuple[list[Problem], str | None]]:
        return (type(self), (self.problems, self.source))  # survives the trip from a Ray worker
