"""The journal: what happened in a run, as JSON lines on disk. MLflow is filled from it, never waited for.

Each tracked run (the job, a stage, a fine-tuning) has a journal of its own, with one writer at a time.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

Kind = Literal["start", "params", "metrics", "artifact", "model", "end"]
FILE_NAME = "journal.jsonl"


class Journal:
    """Appends events to one journal."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._path = folder / FILE_NAME

    def start(self, name: str, tags: Mapping[str, str]) -> None:
        """The run begins."""
        self._append("start", {"name": name, "tags": dict(tags)})

    def params(self, values: Mapping[str, Any]) -> None:
        """Values that hold for the whole run."""
        self._append("params", {"values": dict(values)})

    def metrics(self, values: Mapping[str, float], step: int = 0, *, num_steps: int | None = None) -> None:
        """Values of metrics at one step; `num_steps` is how many there will be."""
        self._append("metrics", {"step": step, "num_steps": num_steps, "values": dict(values)})

    def artifact(self, path: Path) -> None:
        """A file, or a folder with its files, that belongs to the run."""
        self._append("artifact", {"path": str(path)})

    def model(self, path: Path, name: str, tags: Mapping[str, str]) -> None:
        """An exported masked language model that is to be registered under `name`."""
        self._append("model", {"path": str(path), "name": name, "tags": dict(tags)})

    def end(self, *, failed: bool = False) -> None:
        """The run is over."""
        self._append("end", {"status": "FAILED" if failed else "FINISHED"})

    def _append(self, kind: Kind, content: dict[str, Any]) -> None:
        line = json.dumps({"kind": kind, "time": time.time(), **content})
        with self._path.open("a", encoding="utf-8") as file:
            file.write(line + "\n")


class Follower:
    """Reads every journal at and below a folder as it grows, each event once."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._offsets: dict[Path, int] = {}

    def new_events(self) -> Iterator[tuple[Path, list[dict[str, Any]]]]:
        """The events since the last call, by the folder of their journal, outer folders first."""
        for path in sorted(self._folder.rglob(FILE_NAME), key=lambda path: (len(path.parts), str(path))):
            events, offset = _read(path, self._offsets.get(path, 0))
            if events:
                yield path.parent, events
            self._offsets[path] = offset  # behind the yield: what could not be handled comes again


def series(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """The metrics of the run at `folder`: name to (step, value), in order."""
    points: dict[str, list[tuple[int, float]]] = {}
    for event in _read(folder / FILE_NAME, 0)[0]:
        if event["kind"] == "metrics":
            for name, value in event["values"].items():
                points.setdefault(name, []).append((event["step"], value))
    return points


def _read(path: Path, offset: int) -> tuple[list[dict[str, Any]], int]:
    """The whole events of a journal from byte `offset` on, and the offset behind them."""
    if not path.exists():
        return [], offset
    with path.open("rb") as file:
        file.seek(offset)
        data = file.read()
    whole = data[: data.rfind(b"\n") + 1]
    return [json.loads(line) for line in whole.splitlines()], offset + len(whole)
