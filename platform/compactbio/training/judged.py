"""What became of a model's answers: their score, and they beside the gold ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from compactbio.evaluation.score import Score


@dataclass(frozen=True)
class Judged:
    """The score of a model's answers, and these beside the gold ones as the lines of a table."""

    score: Score
    header: tuple[str, ...] = ()
    """None where there is no table."""

    lines: Sequence[tuple[str, ...]] = ()
    """An empty one parts sentences."""

    files: dict[str, Callable[[Path], object]] = field(default_factory=dict)
    """What writes further files, by their name."""


def tab_separated(header: tuple[str, ...], lines: Sequence[tuple[str, ...]]) -> str:
    """The table as text."""
    return "".join("\t".join(columns) + "\n" for columns in (header, *lines))
