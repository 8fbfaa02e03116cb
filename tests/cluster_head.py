"""A cluster of one node, started and stopped with the scripts of `cluster/`, on ports and in folders of its own."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

import commands
from conftest import ROOT

COMMAND = [sys.executable, "-m", "compactbio.launch.cli"]


class Head:
    """A head node with two cores and token authentication, and what a person types to use it."""

    def __init__(self, folder: Path, *ray_options: str) -> None:
        self.folder = folder
        self._short = Path(tempfile.mkdtemp(prefix="ray-"))  # Ray's sockets lie in it: their paths have to be short
        self.port, self.dashboard_port, client, agent = _free_ports(4)
        self.url = f"http://127.0.0.1:{self.dashboard_port}"
        self._options = [
            *("--num-cpus=2", f"--temp-dir={self._short}", "--object-store-memory=200000000"),
            *(f"--ray-client-server-port={client}", f"--dashboard-agent-listen-port={agent}", *ray_options),
        ]
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "RAY_"))},
            "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
            "HOME": str(folder),
            "PYTHON": sys.executable,
            "RAY_AUTH_MODE": "token",
            "RAY_API_SERVER_ADDRESS": self.url,
        }

    def start(self, **environment: str) -> str:
        """Starts the node, with further environment variables. Returns what the script said."""
        ports = ["--port", str(self.port), "--dashboard-port", str(self.dashboard_port)]
        command = ["bash", str(ROOT / "cluster" / "start-head.sh"), *ports, "--", *self._options]
        return self._script(command, self.environment | environment)

    def stop(self) -> None:
        """Stops the node as it was started, with every job on it."""
        self._script(["bash", str(ROOT / "cluster" / "stop.sh")], self.environment)

    def close(self) -> None:
        """Stops the node if it runs, and removes Ray's folder."""
        if (self.folder / ".compactbio" / "node" / "pid").exists():
            self.stop()
        shutil.rmtree(self._short, ignore_errors=True)

    def session_files(self) -> list[Path]:
        """What Ray wrote: logs, metadata, what was shipped."""
        return [path for path in self._short.rglob("*") if path.is_file() and not path.is_symlink()]

    def ask(self, path: str) -> str:
        """What the dashboard answers to somebody who has the token, and patience while it is busy."""
        token = (self.folder / ".ray" / "auth_token").read_text()
        request = urllib.request.Request(self.url + path, headers={"Authorization": f"Bearer {token}"})
        for _ in range(30):
            try:
                with urllib.request.urlopen(request, timeout=60) as answer:
                    text: str = answer.read().decode()
                return text
            except urllib.error.HTTPError as error:
                if error.code < 500:
                    raise
                time.sleep(2)
        raise AssertionError(f"the dashboard does not answer {path}")

    def compactbio(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Runs the command in the head's folder, with further environment variables."""
        return commands.run(arguments, self.folder, self.environment | environment)

    def run(self, command: list[str], **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command,
            cwd=self.folder,
            env=self.environment | environment,
            capture_output=True,
            text=True,
            timeout=400,
        )

    def follow(self, *arguments: str) -> subprocess.Popen[str]:
        """Starts the command, whose output can be read."""
        return subprocess.Popen(
            [*COMMAND, *arguments],
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def _script(self, command: list[str], environment: dict[str, str]) -> str:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=400)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


def _free_ports(number: int) -> list[int]:
    sockets = [socket.socket() for _ in range(number)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports: list[int] = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports
