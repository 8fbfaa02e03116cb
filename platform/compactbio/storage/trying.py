"""Copies that may fail while a run goes on."""

from __future__ import annotations

import threading
from collections.abc import Callable

from compactbio.storage.filesystem import reason


class Trying:
    """Copies one thing at a time to a store that may be away, which stops nothing: it is said once, and when it is
    over."""

    def __init__(self, place: str, say: Callable[[str], None]) -> None:
        self._place = place
        self._say = say
        self._copying = threading.Lock()  # of two copies of a journal the newer one has to be the last
        self.away = False
        """Whether the last copy failed."""

    def __call__(self, copy: Callable[[], None], lost: str = "") -> None:
        """Copies; where that fails, `lost` is what has to be said every time."""
        try:
            with self._copying:
                copy()
        except OSError as error:
            if lost or not self.away:
                self._say(
                    f"CANNOT COPY to {self._place} ({reason(error)}); {lost}the run goes on, and it is tried again"
                )
            self.away = True
        else:
            if self.away:
                self._say(f"copies to {self._place} work again")
            self.away = False
