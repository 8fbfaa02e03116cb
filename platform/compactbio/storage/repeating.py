"""Something that is done every so often beside everything else."""

from __future__ import annotations

import threading
from collections.abc import Callable


class Repeating:
    """Calls an action from a thread of its own every so often, and once more at the end."""

    def __init__(self, action: Callable[[], None], every_seconds: float) -> None:
        self._action = action
        self._every_seconds = every_seconds
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._loop, daemon=True)
        self._thread.start()

    def close(self, patience: float | None = None) -> None:
        """Ends it behind a last call; waits no longer than `patience` seconds for that."""
        self._over.set()
        self._thread.join(patience)

    def _loop(self) -> None:
        while not self._over.wait(self._every_seconds):
            self._action()
        self._action()
