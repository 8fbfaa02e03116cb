"""What a training stage leaves, copied to where its run is kept while the steps go on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from compactbio.storage.copies import Storage
from compactbio.storage.repeating import Repeating
from compactbio.storage.trying import Trying
from compactbio.tracking.journal import FILE_NAME

_JOURNAL_EVERY_SECONDS = 5.0


class Uploads:
    """Of the one worker that writes a stage. A store that is away stops nothing: it is said, and tried again."""

    def __init__(self, storage: Storage, folder: Path, note: Callable[[str], None]) -> None:
        self._storage = storage
        self._folder = folder
        self._tried = Trying(storage.address(folder), note)
        self._repeating: Repeating | None = None

    def start(self) -> None:
        """From now on the journal is copied every few seconds."""
        if self._storage.url is not None:
            journal = self._folder / FILE_NAME
            self._repeating = Repeating(
                lambda: self._tried(lambda: self._storage.push_journal(journal)), _JOURNAL_EVERY_SECONDS
            )

    def checkpoints(self, kept: list[Path]) -> None:
        """Copies the checkpoints that are not stored, and deletes those that need not be kept. Models and the journal
        go first: what lies before a checkpoint is not done again."""

        def copied() -> None:
            self._storage.push(self._folder)
            self._storage.match(kept)

        self._tried(copied, f"the checkpoint {kept[0].name} is on this machine alone, ")

    def all(self) -> None:
        """Copies models, and the journal behind them."""
        self._tried(lambda: self._storage.push(self._folder))

    def close(self) -> None:
        """Copies the journal a last time."""
        if self._repeating is not None:
            self._repeating.close()
