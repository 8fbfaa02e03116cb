from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from compactbio.launch.fork_server import Server, interpreter
from compactbio.launch.fork_setup_worker import ADDRESS

SCRIPT = """
import os, signal, sys, time
print(sys.argv[1:], os.getcwd(), os.environ["SOME"], "yaml" in sys.modules, flush=True)
print("and errors", file=sys.stderr)
if sys.argv[1] == "wait":
    time.sleep(60)
if sys.argv[1] == "signal":
    os.kill(os.getpid(), signal.SIGSEGV)
sys.exit(int(sys.argv[2]))
"""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[subprocess.Popen[bytes]]:
    """A server of the product's, but with one light import."""
    address = f"compactbio-test-{os.getpid()}-{time.monotonic_ns()}"
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("\0" + address)
        listening.listen()
        code = f"import socket, yaml; from {Server.__module__} import Server; "
        code += f"Server(socket.socket(fileno={listening.fileno()})).serve()"
        process = subprocess.Popen(
            [sys.executable, "-c", code], pass_fds=[listening.fileno()], stdin=subprocess.PIPE, start_new_session=True
        )
    monkeypatch.setenv(ADDRESS, address)
    yield process
    process.kill()
    process.wait()


@pytest.fixture
def command(tmp_path: Path) -> list[str]:
    (tmp_path / "a script.py").write_text(SCRIPT)
    return [str(tmp_path / "a script.py")]


def test_a_forked_process_is_the_command(server: subprocess.Popen[bytes], command: list[str], tmp_path: Path) -> None:
    environment = {**os.environ, "SOME": "a value"}
    for arguments, code in ((["run", "0"], 0), (["run", "7"], 7), (["signal", "0"], -signal.SIGSEGV)):
        whole = [*interpreter(), *command, *arguments]
        done = subprocess.run(whole, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60)
        assert done.returncode == code
        assert done.stdout == f"{arguments} {tmp_path} a value True\n"
        assert done.stderr == "and errors\n"
    module = [*interpreter(), "-m", "json.tool", "--no-ensure-ascii"]
    done = subprocess.run(module, env=environment, input='{"a": 1}', capture_output=True, text=True, timeout=60)
    assert done.stdout == '{\n    "a": 1\n}\n'


@pytest.mark.parametrize("what", ["terminated", "killed", "server killed", "starter gone"])
def test_a_process_ends_with_its_command_and_with_the_server(
    server: subprocess.Popen[bytes], command: list[str], what: str
) -> None:
    environment = {**os.environ, "SOME": "a value"}
    whole = [*interpreter(), *command, "wait", "0"]
    started = subprocess.Popen(whole, env=environment, stdout=subprocess.PIPE, text=True)
    assert started.stdout is not None and started.stdout.readline()
    forked = psutil.Process(int(psutil.Process(started.pid).name().removeprefix("fork ")))
    assert forked.ppid() == server.pid
    match what:
        case "terminated":
            started.terminate()
        case "killed":
            started.kill()
        case "server killed":
            server.kill()
        case _:
            assert server.stdin is not None
            server.stdin.close()
    code = started.wait(30)
    assert code == {"terminated": -signal.SIGTERM, "killed": -signal.SIGKILL}.get(what, 1)
    _, alive = psutil.wait_procs([forked], timeout=30)
    assert not alive or forked.status() == psutil.STATUS_ZOMBIE


def test_without_a_server_the_interpreter_is_started(command: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ADDRESS, "compactbio-nobody")
    environment = {**os.environ, "SOME": "a value"}
    whole = [*interpreter(), *command, "run", "3"]
    done = subprocess.run(whole, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 3
    assert done.stdout.startswith("['run', '3']") and "False" in done.stdout
    monkeypatch.delenv(ADDRESS)
    assert interpreter() == [sys.executable]
