"""What Ray starts instead of its own `setup_worker.py`: has a fork server start the worker, and stands for it.

It imports nothing of this package and little of Python's (no pathlib), so that it is there in some 50 ms. Its name
has to end like that of Ray's script: by that the raylet leaves it out where a worker needs no setup.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
from collections.abc import Mapping, Sequence

ADDRESS = "COMPACTBIO_FORK_SERVER"
"""The environment variable with the address of the server that this process may ask."""
_CONTEXT, _LANGUAGE = "--serialized-runtime-env-context=", "--language="


def main(arguments: list[str]) -> None:
    """Runs `SCRIPT ...` or `-m MODULE ...` as the interpreter would, in a process that a fork server has forked; where
    there is none, or the worker needs more than environment variables, it is started as ever."""
    context = json.loads(next((each[len(_CONTEXT) :] for each in arguments if each.startswith(_CONTEXT)), "{}"))
    variables = context.pop("env_vars", {})
    usual = not context.get("command_prefix") and context.get("py_executable", "").strip("'") in ("", sys.executable)
    if not usual or any("$" in value for value in variables.values()):
        rays = os.path.dirname(arguments[0]) + "/setup_worker.py"  # noqa: PTH120
        os.execv(sys.executable, [sys.executable, rays, *arguments])
    os.environ.update(variables)
    arguments = [each for each in arguments if not each.startswith((_CONTEXT, _LANGUAGE))]
    try:
        server = connect(os.environ[ADDRESS])
    except (OSError, KeyError):
        os.execv(sys.executable, [sys.executable, *arguments])
    os._exit(_stand_for(server, ask(server, arguments, os.environ, os.getcwd(), [0, 1, 2])))  # noqa: PTH109


def connect(address: str) -> socket.socket:
    """A connection to the server; it is over when the process ends, and the process when it is closed."""
    server = socket.socket(socket.AF_UNIX)
    try:
        server.connect("\0" + address)
    except OSError:
        server.close()
        raise
    return server


def ask(
    server: socket.socket, arguments: Sequence[str], environment: Mapping[str, str], folder: str, streams: Sequence[int]
) -> int:
    """The id of a process that the server forks for these arguments, environment, folder and standard streams. When it
    has ended, the server sends its status as `waitpid` gives it, in 8 bytes."""
    text = json.dumps({"arguments": list(arguments), "environment": dict(environment), "folder": folder}).encode()
    socket.send_fds(server, [len(text).to_bytes(8, "big")], streams)
    server.sendall(text)
    return int.from_bytes(server.recv(8), "big")


def _stand_for(server: socket.socket, pid: int) -> int:
    """Hands signals on to the process and returns its exit code, or ends of the signal that it ended of."""
    with open("/proc/self/comm", "w") as name:  # noqa: PTH123
        name.write(f"fork {pid}")
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda received, _: os.kill(pid, received))
    answer = server.recv(8)
    if not answer:
        return 1  # the server is gone, and the process with it
    code = os.waitstatus_to_exitcode(int.from_bytes(answer, "big"))
    if code < 0:
        if -code != signal.SIGKILL:
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    return code


if __name__ == "__main__":
    main(sys.argv[1:])
