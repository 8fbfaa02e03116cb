from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest

from compactbio.tracking.journal import Follower, Journal, has_ended, series


def kinds(folder: Path) -> list[str]:
    return [json.loads(line)["kind"] for line in (folder / "journal.jsonl").read_text().splitlines()]


def test_a_run_that_goes_on_says_nothing_twice(tmp_path: Path) -> None:
    for last in (4, 6):
        journal = Journal(tmp_path)
        journal.start("run", {})
        journal.params({"lr": 1})
        journal.metrics({"held_out": 9.0})
        for step in range(1, last + 1):
            journal.metrics({"loss": step + last / 10}, step)
    journal.metrics({"loss": 0.0, "new": 1.0}, 6)
    assert [step for step, _ in series(tmp_path)["loss"]] == [1, 2, 3, 4, 5, 6]
    assert series(tmp_path)["loss"][3] == (4, 4.4)  # as it was the first time
    assert series(tmp_path)["held_out"] == [(0, 9.0)] and series(tmp_path)["new"] == [(6, 1.0)]
    assert kinds(tmp_path).count("start") == kinds(tmp_path).count("params") == 1
    assert not has_ended(tmp_path)
    for _ in range(2):
        again = Journal(tmp_path)
        again.model(tmp_path, "model", {})
        again.end()
    assert has_ended(tmp_path) and kinds(tmp_path).count("end") == kinds(tmp_path).count("model") == 1


def test_half_a_line_of_a_killed_writer_is_dropped(tmp_path: Path) -> None:
    Journal(tmp_path).metrics({"loss": 1.0}, 1)
    with (tmp_path / "journal.jsonl").open("a") as file:
        file.write('{"kind": "metrics", "step": 2, "val')
    journal = Journal(tmp_path)
    journal.metrics({"loss": 2.0}, 2)
    assert series(tmp_path)["loss"] == [(1, 1.0), (2, 2.0)]


def test_events_wait_while_the_disk_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = Journal(tmp_path)
    journal.metrics({"loss": 1.0}, 1)
    write = os.write
    full = True

    def half(handle: int, data: bytes) -> int:
        if not full:
            return write(handle, data)
        if len(data) < 200:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(handle, data[: len(data) // 2])  # as the kernel does where some fits

    monkeypatch.setattr(os, "write", half)
    follower = Follower(tmp_path)
    for step in (2, 3, 4, 5):
        journal.metrics({"loss": float(step)}, step)
    assert [len(events) for _, events in follower.new_events()] == [1]
    full = False
    journal.note("there is room")
    assert [step for step, _ in series(tmp_path)["loss"]] == [1, 2, 3, 4, 5]
    [(_, events)] = follower.new_events()
    assert [event["kind"] for event in events] == ["metrics"] * 4 + ["note"]


def test_another_error_of_the_disk_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = Journal(tmp_path)

    def broken(handle: int, data: bytes) -> int:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "write", broken)
    with pytest.raises(OSError, match="Input/output"):
        journal.note("a")
