"""The command line, as a person types it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import commands
import pytest
from click.testing import CliRunner, Result

from compactbio.launch.environment import DASHBOARD

Compactbio = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def hermetic_environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """This environment with a home of its own, and without a token, a cluster or a tracking server of the user's."""
    home = tmp_path_factory.mktemp("home")
    environment = {**os.environ, "HOME": str(home), "RAY_AUTH_MODE": "disabled", DASHBOARD: "0"}
    for name in ("MLFLOW_TRACKING_URI", "RAY_ADDRESS"):
        environment.pop(name, None)
    return environment


@pytest.fixture(scope="session")
def compactbio(hermetic_environment: dict[str, str]) -> Compactbio:
    """`compactbio(folder, *arguments)` runs the command in `folder`."""

    def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
        return commands.run(arguments, folder, hermetic_environment)

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
