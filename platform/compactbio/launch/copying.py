"""What the driver writes of a run, copied to where the run is kept while it goes on."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager

from compactbio.launch.run_folder import StoredRun, locked
from compactbio.spec.base import SpecError
from compactbio.storage.filesystem import reason
from compactbio.storage.lease import Lease
from compactbio.storage.repeating import Repeating
from compactbio.storage.trying import Trying

_EVERY_SECONDS = 5.0


@contextmanager
def sole_driver(run: StoredRun, say: Callable[[str], None]) -> Iterator[Lease]:
    """Keeps every other process from running a run: on this machine by a lock, elsewhere by a lease.

    Raises SpecError where one does, or where nothing can be written.
    """
    with locked(run.folder):
        lease = Lease(run.storage, run.folder)
        try:
            lease.take(say)
        except OSError as error:
            raise SpecError.at("storage", f"cannot write to {run.address}: {reason(error)}") from None
        try:
            yield lease
        finally:
            lease.give_up()


class Copying:
    """Until the end of the block copies the driver's own files, and brings here what other machines have stored of the
    run; at the end copies everything. Where runs are kept in a folder it does nothing."""

    def __init__(self, run: StoredRun, lease: Lease, own: Collection[str], say: Callable[[str], None]) -> None:
        """`own` are the folders of the run that the driver writes."""
        self._run = run
        self._lease = lease
        self._folders = [run.folder, *(run.folder / name for name in own)]
        self._say = say
        self._tried = Trying(run.address, say)
        self._taken = False

    def __enter__(self) -> Copying:
        self._repeating = None
        if self._run.storage.url is not None:
            self._repeating = Repeating(lambda: self._tried(self._copy), _EVERY_SECONDS)
        return self

    def __exit__(self, *error: object) -> None:
        if self._repeating is None:
            return
        self._repeating.close()
        if self._taken:
            return
        self._tried(lambda: self._run.storage.push(self._run.folder))
        if self._tried.away:
            self._say(
                f"NOT ALL of the run is stored at {self._run.address}; it is in {self._run.folder}. When the store is "
                f"back: compactbio run --resume {self._run.address} on this machine"
            )

    def _copy(self) -> None:
        if not self._lease.renew():
            if not self._taken:
                self._say(f"another driver has taken {self._run.address}; this one stops")
                os.kill(os.getpid(), signal.SIGTERM)
            self._taken = True
            return
        for folder in self._folders:
            self._run.storage.push_files(folder)
        self._run.storage.catch_up(self._run.folder)
