"""`compactbio` commands in processes of their own, which are forked with their imports done."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

import psutil

from compactbio.launch import fork_server
from compactbio.launch.fork_setup_worker import ADDRESS, ask, connect

CLI = ("-m", "compactbio.launch.cli")
_DRIVERS = (
    "alembic",
    "click",
    "compactbio.launch.preflight",
    "compactbio.reporting.page",
    "compactbio.reporting.sweep_page",
    "compactbio.tracking.mlflow_store",
    "datasets",
    "lxml.etree",
    "mlflow.store.tracking.sqlalchemy_store",
    "optuna",
)


def start_fork_server() -> None:
    """Starts the server, unless it is there, of which the commands of all tests, and their Ray workers, are forked."""
    fork_server.start(_DRIVERS)


class Forked:
    """A process forked from the server, with what tests use of `subprocess.Popen`."""

    def __init__(
        self, arguments: Sequence[str], folder: Path, environment: dict[str, str], stdout: int, stderr: int
    ) -> None:
        self.args = arguments
        self.returncode: int | None = None
        self._server = connect(os.environ[ADDRESS])
        with Path(os.devnull).open() as nothing:
            streams = [nothing.fileno(), stdout, stderr]
            self.pid = ask(self._server, arguments, environment, str(folder), streams)
        self.parent = psutil.Process(self.pid).ppid()

    def poll(self) -> int | None:
        """The exit code, negative for a signal; None while it runs."""
        return self._ended(0.0)

    def wait(self, timeout: float | None = None) -> int:
        """The exit code, when it has ended. Raises TimeoutExpired."""
        code = self._ended(timeout)
        if code is None:
            raise subprocess.TimeoutExpired(self.args, timeout or 0.0)
        return code

    def send_signal(self, number: int) -> None:
        """Unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def _ended(self, timeout: float | None) -> int | None:
        if self.returncode is None:
            self._server.settimeout(timeout)
            try:
                answer = self._server.recv(8)
            except (BlockingIOError, TimeoutError):
                return None
            self._server.close()
            self.returncode = os.waitstatus_to_exitcode(int.from_bytes(answer, "big")) if answer else -signal.SIGKILL
        return self.returncode


def start(arguments: Sequence[str], folder: Path, environment: dict[str, str], output: IO[Any]) -> Forked:
    """`compactbio` with these arguments; what it says goes to the file."""
    start_fork_server()
    shared = environment | {ADDRESS: os.environ[ADDRESS]}
    return Forked([*CLI, *arguments], folder, shared, output.fileno(), output.fileno())


def run(
    arguments: Sequence[str], folder: Path, environment: dict[str, str], timeout: float = 400.0
) -> subprocess.CompletedProcess[str]:
    """What `compactbio` with these arguments comes to."""
    start_fork_server()
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        shared = environment | {ADDRESS: os.environ[ADDRESS]}
        process = Forked([*CLI, *arguments], folder, shared, out.fileno(), err.fileno())
        try:
            process.wait(timeout)
        finally:
            process.kill()
        out.seek(0)
        err.seek(0)
        assert process.returncode is not None
        return subprocess.CompletedProcess([*CLI, *arguments], process.returncode, out.read(), err.read())


def as_typed(arguments: Sequence[str], folder: Path, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """As `run`, in an interpreter of its own that does its imports itself."""
    command = [sys.executable, *CLI, *arguments]
    alone = {name: value for name, value in environment.items() if name != ADDRESS}
    return subprocess.run(command, cwd=folder, env=alone, capture_output=True, text=True, timeout=400)


def family(pid: int) -> list[psutil.Process]:
    """The processes below a command, those included that were forked for it elsewhere."""
    found = []
    for child in psutil.Process(pid).children(recursive=True):
        found.append(child)
        try:
            forked, _, of = child.name().partition(" ")
            if forked == "fork":
                worker = psutil.Process(int(of))
                found += [worker, *worker.children(recursive=True)]
        except psutil.NoSuchProcess:
            continue
    return found


def until(condition: Any, what: str, seconds: float = 240.0, *, alive: Any = None) -> None:
    """Waits for the condition. Fails when it does not come in time, or when `alive`, a process, has ended."""
    give_up = time.monotonic() + seconds
    while not condition():
        if alive is not None:
            assert alive.poll() is None, f"ended with {alive.returncode} before {what}"
        assert time.monotonic() < give_up, f"no {what} in {seconds} s"
        time.sleep(0.05)
