"""SIGTERM, as pre-emption and Slurm send it: a running stage is saved first, anything else stops where it is."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from compactbio.training.requests import STOP_FILE


class StoppedError(BaseException):
    """The job was asked to stop, and can be resumed. No library that catches exceptions may catch it."""


class Stopping:
    """Whether somebody asked this process to stop the job in a folder."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / STOP_FILE
        self.requested = False
        self._workers_stop = False
        self.file.unlink(missing_ok=True)

    @contextmanager
    def by_workers(self) -> Iterator[None]:
        """Inside, the workers are asked to save and to stop; a second signal does not wait for them."""
        self._workers_stop = True
        try:
            yield
        finally:
            self._workers_stop = False

    def ask(self) -> None:
        """What a signal does. Raises StoppedError where no worker can be asked."""
        again, self.requested = self.requested, True
        if again or not self._workers_stop:
            raise StoppedError
        self.file.touch()


@contextmanager
def stopping(folder: Path) -> Iterator[Stopping]:
    """Listens for SIGTERM during the block."""
    asked = Stopping(folder)
    before = signal.signal(signal.SIGTERM, lambda number, frame: asked.ask())
    try:
        yield asked
    except SystemError as error:  # what compiled code makes of an exception that a signal raised in it
        if asked.requested:
            raise StoppedError from error
        raise
    finally:
        signal.signal(signal.SIGTERM, before)
        asked.file.unlink(missing_ok=True)
