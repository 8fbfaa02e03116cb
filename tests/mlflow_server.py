"""A real MLflow server on a real PostgreSQL, both on free ports of this machine, in folders of their own."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from faults import clean_environment, end

_USERS = ("postgres", "nobody")
PASSWORD = "a-password-of-the-database"


def postgres_programs() -> Path | None:
    """The folder of Debian's newest PostgreSQL, or the one of the search path."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    anywhere = shutil.which("initdb")
    return found[-1].parent if found else Path(anywhere).parent if anywhere else None


@contextmanager
def postgres(programs: Path) -> Iterator[str]:
    """The URI of an empty database. It refuses to run as root: then it runs as a user without rights."""
    user = next(name for name in _USERS if name in _known_users()) if os.geteuid() == 0 else None
    folder = Path(tempfile.mkdtemp(prefix="postgres-"))
    secret = folder / "secret"
    secret.write_text(PASSWORD)
    if user is not None:
        for path in (folder, secret):
            shutil.chown(path, user)
    data, port = folder / "data", _free_port()
    # in the folder: the one that tests run in may be closed to that user
    made = [str(programs / "initdb"), "-D", str(data), "-U", "mlflow", "-A", "scram-sha-256", f"--pwfile={secret}"]
    subprocess.run([*made, "--no-sync"], user=user, cwd=folder, check=True, stdout=subprocess.DEVNULL)
    options = ["-D", str(data), "-p", str(port), "-k", str(folder), "-c", "listen_addresses=127.0.0.1"]
    with (folder / "log").open("w") as log:
        server = subprocess.Popen([str(programs / "postgres"), *options], user=user, cwd=folder, stdout=log, stderr=log)
    try:
        _until_open(port, server, folder / "log")
        yield f"postgresql://mlflow:{PASSWORD}@127.0.0.1:{port}/postgres"
    finally:
        server.send_signal(signal.SIGINT)  # its fast shutdown
        server.wait(60)
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def mlflow_server(folder: Path, database: str) -> Iterator[str]:
    """The address of a tracking server that keeps artifacts in the folder, and hands them out itself."""
    port = _free_port()
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", database, "--port", str(port)]
    command += ["--workers", "1", "--serve-artifacts", "--artifacts-destination", str(folder / "artifacts")]
    environment = {**clean_environment(), "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with (folder / "server.log").open("w") as log:
        server = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    try:
        address = f"http://127.0.0.1:{port}"
        _until_healthy(address, server, folder / "server.log")
        yield address
    finally:
        if server.poll() is None:
            end(server)


def _known_users() -> set[str]:
    return {entry.pw_name for entry in pwd.getpwall()}


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


def _until_open(port: int, server: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(240):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        assert server.poll() is None, log.read_text()
        time.sleep(0.25)
    raise AssertionError("PostgreSQL did not come up")


def _until_healthy(address: str, server: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(480):
        with suppress(OSError), urllib.request.urlopen(f"{address}/health", timeout=5):
            return
        assert server.poll() is None, log.read_text()
        time.sleep(0.25)
    raise AssertionError(f"the MLflow server did not come up: {log.read_text()}")
