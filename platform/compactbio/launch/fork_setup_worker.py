"""What Ray starts instead of its own `setup_worker.py`: has a fork server start the worker, and stands for it.

It imports nothing of this package and little of Python's (no pathlib), so that it is there in some 50 ms. Its name has to end like
that of Ray's own script: by that the raylet leaves it out where a worker needs no setup.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys

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
        os.execv(sys.executable, [sys.executable, os.path.dirname(arguments[0]) + "/setup_worker.py", *arguments])  # noqa: PTH120
    os.environ.update(variables)
    arguments = [each for each in arguments if not each.startswith((_CONTEXT, _LANGUAGE))]
    server = socket.socket(socket.AF_UNIX)
    try:
        server.connect("\0" + os.environ[ADDRESS])
    except (OSError, KeyError):
        os.execv(sys.executable, [sys.executable, *arguments])
    os._exit(_stand_for(server, arguments))


def _stand_for(server: socket.socket, arguments: list[str]) -> int:
    """Asks for the process, hands signals on to it, and returns its exit code. What ends this process ends that one:
    the server sees its connection close."""
    wanted = {"arguments": arguments, "environment": dict(os.environ), "folder": os.getcwd()}  # noqa: PTH109
    text = json.dumps(wanted).encode()
    socket.send_fds(server, [len(text).to_bytes(8, "big")], [0, 1, 2])
    server.sendall(text)
    pid = int.from_bytes(server.recv(8), "big")
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
