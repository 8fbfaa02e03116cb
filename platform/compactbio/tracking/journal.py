"""The journal: what happened in a run, as JSON lines on disk. MLflow is filled from it, never waited for.

Each tracked run (the job, a stage, a fine-tuning) has a journal of its own, with one writer at a time.
"""

from __future__ import annotations

import errno
import json
import os
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

Kind = Literal["start", "tags", "params", "metrics", "artifact", "model", "note", "end"]
Status = Literal["FINISHED", "FAILED", "KILLED"]
FILE_NAME = "journal.jsonl"
_FULL = (errno.ENOSPC, errno.EDQUOT)


class Journal:
    """Appends events to one journal: a new one, or one of a run that was stopped and goes on.

    Then what it says already is not said twice: the steps that are done again are in it once, as they were the first
    time. While the disk is full, events wait in memory.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self._path = folder / FILE_NAME
        self._lock = threading.Lock()
        self._waiting: list[str] = []
        events, length = _read(self._path, 0)
        if self._path.exists() and self._path.stat().st_size > length:
            os.truncate(self._path, length)  # without the half line of a writer that was killed
        self._kinds = {event["kind"] for event in events}
        self._last: dict[str, int] = {}
        for event in events:
            if event["kind"] == "metrics":
                self._last.update(dict.fromkeys(event["values"], event["step"]))
        self._ended = "end" in self._kinds

    def start(self, name: str, tags: Mapping[str, str]) -> None:
        """The run begins, or goes on."""
        if "start" not in self._kinds:
            self._append("start", {"name": name, "tags": dict(tags)})

    def tags(self, values: Mapping[str, str]) -> None:
        """What the run is found by, as far as it was not known when it began."""
        self._append("tags", {"values": dict(values)})

    def params(self, values: Mapping[str, Any]) -> None:
        """Values that hold for the whole run."""
        if "params" not in self._kinds:
            self._append("params", {"values": dict(values)})

    def metrics(self, values: Mapping[str, float], step: int = 0, *, num_steps: int | None = None) -> None:
        """Values of metrics at one step, those left out that the journal has of this step or a later one; `num_steps`
        is how many there will be."""
        new = {name: value for name, value in values.items() if step > self._last.get(name, -1)}
        if new:
            self._append("metrics", {"step": step, "num_steps": num_steps, "values": new})
            self._last.update(dict.fromkeys(new, step))

    def count(self, name: str) -> None:
        """One more of what the metric `name` counts; the count is its step too."""
        number = self._last.get(name, 0) + 1
        self.metrics({name: float(number)}, number)

    def note(self, text: str) -> None:
        """Something that a person should read."""
        self._append("note", {"text": text})

    def artifact(self, path: Path) -> None:
        """A file, or a folder with its files, that belongs to the run."""
        self._append("artifact", {"path": self._relative(path)})

    def model(self, path: Path, name: str, tags: Mapping[str, str]) -> None:
        """An exported masked language model that is to be registered under `name`."""
        if "model" not in self._kinds:
            self._append("model", {"path": self._relative(path), "name": name, "tags": dict(tags)})

    def end(self, status: Status = "FINISHED", tags: Mapping[str, str] | None = None) -> None:
        """The run is over, and known by further tags."""
        if not self._ended:
            self._append("end", {"status": status, "tags": dict(tags or {})})
            self._ended = True

    def sync(self) -> bool:
        """Waits until everything is on disk. Returns whether it is: a full disk has no room for it."""
        with self._lock:
            try:
                self._flush()
            except OSError as error:
                if error.errno not in _FULL:
                    raise
                return False
            handle = os.open(self._path, os.O_RDONLY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)
        return True

    def _relative(self, path: Path) -> str:
        """A path beside the run as seen from the journal, so that it holds wherever the two are brought."""
        folder = self._path.parent.absolute()
        near = path.absolute().is_relative_to(folder.parents[1])
        return os.path.relpath(path, folder) if near else str(path)

    def _append(self, kind: Kind, content: dict[str, Any]) -> None:
        line = json.dumps({"kind": kind, "time": time.time(), **content})
        with self._lock:
            self._kinds.add(kind)
            self._waiting.append(line + "\n")
            try:
                self._flush()
            except OSError as error:
                if error.errno not in _FULL:
                    raise

    def _flush(self) -> None:
        """Writes what waits behind the last whole line."""
        data = "".join(self._waiting).encode()
        handle = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            before = os.fstat(handle).st_size
            if os.write(handle, data) < len(data):
                os.ftruncate(handle, before)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self._path))
        finally:
            os.close(handle)
        self._waiting.clear()


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


def has_ended(folder: Path) -> bool:
    """Whether the run of this journal has come to its end."""
    return any(event["kind"] == "end" for event in _read(folder / FILE_NAME, 0)[0])


def end_tags(folder: Path) -> dict[str, str]:
    """What the run of this journal was found by at its end; nothing while it has not come to that."""
    ends = (event for event in _read(folder / FILE_NAME, 0)[0] if event["kind"] == "end")
    return next((event["tags"] for event in ends), {})


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
