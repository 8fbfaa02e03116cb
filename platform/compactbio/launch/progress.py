"""What a person sees while a job runs: progress bars on a terminal, one line a stage elsewhere."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from compactbio.tracking import metrics
from compactbio.tracking.journal import Follower


def say(console: Console, text: str) -> None:
    """Prints a line as it is: neither coloured nor broken nor read as markup."""
    console.print(text, highlight=False, markup=False, soft_wrap=True)


def say_absent(console: Console, absent: Mapping[str, Mapping[str, str]]) -> None:
    """Prints, by stage, which tasks are left out and what to do about it."""
    for stage, tasks in absent.items():
        for task, message in tasks.items():
            say(console, f"{stage}: task {task} is left out, its data are not here\n{message}")


class Display:
    """Shows the events of a run's journals."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = console.is_terminal
        self._started: dict[Path, float] = {}
        self._names: dict[Path, str] = {}
        self._tasks: dict[Path, TaskID] = {}
        self._progress = Progress(
            TextColumn("{task.description:<22}"),
            BarColumn(bar_width=20),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}"),
            TimeRemainingColumn(),
            console=console,
            disable=not self._live,
        )

    def __enter__(self) -> Display:
        self._progress.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._progress.stop()

    def catch_up(self, follower: Follower) -> None:
        """Shows what is new."""
        for folder, events in follower.new_events():
            for event in events:
                match event["kind"]:
                    case "start":
                        self._start(folder, event)
                    case "metrics" if event["num_steps"]:
                        self._metrics(folder, event)
                    case "note":
                        say(self._console, f"{_clock(event)}  {self._names[folder]}: {event['text']}")
                    case "end":
                        self._end(folder, event)

    def _start(self, folder: Path, event: dict[str, Any]) -> None:
        self._started[folder] = event["time"]
        self._names[folder] = event["name"]
        if not self._live:
            say(self._console, f"{_clock(event)}  {event['name']}: started")

    def _metrics(self, folder: Path, event: dict[str, Any]) -> None:
        if folder not in self._tasks:
            name = self._names.get(folder, folder.name)
            self._tasks[folder] = self._progress.add_task(name, total=event["num_steps"], note="")
        values = event["values"]
        self._progress.update(self._tasks[folder], completed=event["step"])
        if {metrics.LOSS.name, metrics.TOKENS_PER_SECOND.name} <= values.keys():
            speed = values[metrics.TOKENS_PER_SECOND.name]
            note = f"loss {values[metrics.LOSS.name]:8.4f}  {speed:8,.0f} tokens/s"
            self._progress.update(self._tasks[folder], note=note)

    def _end(self, folder: Path, event: dict[str, Any]) -> None:
        seconds = event["time"] - self._started[folder]
        task = self._tasks.pop(folder, None)
        if task is not None:
            self._progress.remove_task(task)
        say(self._console, f"{_clock(event)}  {self._names[folder]}: {event['status'].lower()} in {seconds:.0f} s")


def _clock(event: dict[str, Any]) -> str:
    return time.strftime("%H:%M:%S", time.localtime(event["time"]))
