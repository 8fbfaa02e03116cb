"""What a worker looks at in every step: is a checkpoint due, is the run to stop, and does anything hang."""

from __future__ import annotations

import faulthandler
import time
from pathlib import Path

from compactbio.spec.training import Checkpoints
from compactbio.training.loop import Wishes


class Watch:
    """One worker's. Worker 0 alone has wishes."""

    def __init__(self, rank: int, section: Checkpoints, stop_file: Path, *, hang_seconds: float, traces: Path) -> None:
        """`stop_file` asks for a stop by being there. A worker that does not call `beat` for `hang_seconds` is ended,
        even where it hangs inside native code; where it stood is written to `traces`."""
        self._leads = rank == 0
        self._section = section
        self._stop_file = stop_file
        self._hang_seconds = hang_seconds
        traces.parent.mkdir(parents=True, exist_ok=True)
        self._traces = traces.open("a")
        self._saved_at = time.monotonic()
        self.beat()

    def beat(self) -> None:
        """There was progress."""
        faulthandler.dump_traceback_later(self._hang_seconds, exit=True, file=self._traces)

    def wishes(self, step: int) -> Wishes:
        """What is to happen behind a step, counted from 1."""
        self.beat()
        if not self._leads:
            return Wishes()
        every, minutes = self._section.every_steps, self._section.every_minutes
        due = every is not None and step % every == 0
        due |= minutes is not None and time.monotonic() - self._saved_at >= 60 * minutes
        if due:
            self._saved_at = time.monotonic()
        return Wishes(due, self._stop_file.exists())

    def close(self) -> None:
        """Nothing is watched any more."""
        faulthandler.cancel_dump_traceback_later()
        self._traces.close()
