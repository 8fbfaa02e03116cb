"""What the trials of a sweep came to, as rows for tables and plots."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from compactbio.spec.base import SpecError

SWEEP_RESULTS_FILE = "trials.json"


@dataclass(frozen=True)
class SweepResults:
    """Everything that a sweep's report is made from, as its driver wrote it."""

    folder: Path
    raw: dict[str, Any]

    @property
    def objectives(self) -> list[str]:
        """Their names."""
        return list(self.raw["objectives"])

    @property
    def paths(self) -> list[str]:
        """What was searched."""
        return list(self.raw["space"])

    @property
    def finished(self) -> list[dict[str, Any]]:
        """The trials that came to their end."""
        return [trial for trial in self.raw["trials"] if trial["state"] == "finished"]

    @property
    def best(self) -> list[dict[str, Any]]:
        """The best trial, or the Pareto front."""
        return [trial for trial in self.raw["trials"] if trial["number"] in self.raw["best"]]

    def value(self, trial: dict[str, Any], path: str) -> Any:
        """What a trial had at a path; the base's value where it did not search it."""
        return trial["values"].get(path, self.raw["base"][path])

    def is_logarithmic(self, path: str) -> bool:
        """Whether the path is searched by factors."""
        return bool(self.raw["space"][path]["kind"] == "log_uniform")


def read_sweep(folder: Path) -> SweepResults:
    """Reads a finished sweep. Raises SpecError where there is none."""
    path = folder / SWEEP_RESULTS_FILE
    if not path.is_file():
        raise SpecError.at("", f"{folder} is not the folder of a finished sweep: it has no {SWEEP_RESULTS_FILE}")
    return SweepResults(folder, json.loads(path.read_text()))


def short_names(paths: list[str]) -> dict[str, str]:
    """Each path by its last words, as few as tell it from the others."""
    names = {}
    for path in paths:
        parts = path.split(".")
        for length in range(1, len(parts) + 1):
            end = parts[-length:]
            if sum(other.split(".")[-length:] == end for other in paths) == 1:
                break
        names[path] = ".".join(end)
    return names
