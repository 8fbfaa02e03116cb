"""The command line, as a person types it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import pytest
from click.testing import CliRunner, Result

Compactbio = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def hermetic_environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """This environment with a home of its own, and without a token, a cluster or a tracking server of the user's."""
    home = tmp_path_factory.mktemp("home")
    environment = {**os.environ, "HOME": str(home), "RAY_AUTH_MODE": "disabled"}
    for name in ("MLFLOW_TRACKING_URI", "RAY_ADDRESS"):
        environment.pop(name, None)
    return environment


@pytest.fixture(scope="session")
def compactbio(hermetic_environment: dict[str, str]) -> Compactbio:
    """`compactbio(folder, *arguments)` runs the command in `folder`."""

    def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "compactbio.launch.cli", *arguments]
        return subprocess.run(
            command, cwd=folder, env=hermetic_environment, capture_output=True, text=True, timeout=400
        )

    return run


@pytest.fixture
def refused(hermetic_environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """`refused(folder, *arguments)`: what the command says of bad input, which it has to refuse. It runs in this
    process, where the imports are done."""

    def run(folder: Path, *arguments: str) -> str:
        from compactbio.launch.cli import main

        monkeypatch.chdir(folder)
        with mock.patch.dict(os.environ, hermetic_environment, clear=True):
            done: Result = CliRunner().invoke(main, arguments)
        assert done.exit_code == 2, (done.output, done.exception)
        assert "Traceback" not in done.stderr
        return done.stderr

    return run
