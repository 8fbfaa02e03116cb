"""Who runs a run that is kept in an object store.

A store has no locks. A lease is a file that its owner writes anew every so often; whoever finds one that is not renewed
may take it. Two who take it in the same moment find that out from what is there a little later: this keeps people from
starting a run twice, it does not prove that nobody can.
"""

from __future__ import annotations

import json
import os
import socket
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from compactbio.spec.base import SpecError
from compactbio.storage.copies import Storage

LEASE_FILE = "lease.json"
_LASTS_SECONDS = 60.0
_RENEW_SECONDS = 10.0
_SETTLE_SECONDS = 2.0


class Lease:
    """One driver's lease of a run, or of nothing where runs are kept in a folder, which has a lock."""

    def __init__(self, storage: Storage, run: Path) -> None:
        self._storage = storage
        self._file = run / LEASE_FILE
        self._run = storage.address(run)
        self._owner = {"host": socket.gethostname(), "process": os.getpid(), "token": uuid.uuid4().hex}
        self._renewed = 0.0

    def take(self, say: Callable[[str], None]) -> None:
        """Raises SpecError where another driver has it, which may take a minute to tell."""
        if self._storage.url is None:
            return
        found = self._read()
        if found and not _is_over(found):
            say(f"{found['host']} may still run {self._run}: waiting {_LASTS_SECONDS:.0f} s to see")
            time.sleep(_LASTS_SECONDS)
            if self._read() == found:
                say("it does not")
            else:
                raise self._taken()
        self.renew()
        if found:
            time.sleep(_SETTLE_SECONDS)
            if not self._is_ours():
                raise self._taken()

    def renew(self) -> bool:
        """Renews it when that is due. Returns False where another driver has taken it meanwhile."""
        if self._storage.url is None or time.monotonic() - self._renewed < _RENEW_SECONDS:
            return True
        if self._renewed and not self._is_ours():
            return False
        self._storage.write(self._file, json.dumps({**self._owner, "time": time.time()}).encode())
        self._renewed = time.monotonic()
        return True

    def give_up(self) -> None:
        """Lets others have it at once; where the store is away, after a minute."""
        if self._storage.url is not None:
            with suppress(OSError):
                if self._is_ours():
                    self._storage.delete(self._file)

    def _is_ours(self) -> bool:
        return self._read().get("token") == self._owner["token"]

    def _read(self) -> dict[str, Any]:
        data = self._storage.read(self._file)
        try:
            return dict(json.loads(data or b"{}"))
        except ValueError:
            return {}

    def _taken(self) -> SpecError:
        owner = self._read()
        who = f"process {owner.get('process')} on {owner.get('host')}"
        return SpecError.at("--resume", f"another driver runs {self._run} ({who})")


def _is_over(lease: dict[str, Any]) -> bool:
    """Whether its owner has not renewed it for long, or was a process of this machine that is gone."""
    if time.time() - lease["time"] > _LASTS_SECONDS:
        return True
    return lease["host"] == socket.gethostname() and not Path(f"/proc/{lease['process']}").exists()
