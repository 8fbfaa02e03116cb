"""What is started instead of the interpreter: asks a fork server for a process, and stands for it until it ends.

It runs under `python -I -S` and imports nothing of this package: so it is there in some 15 ms.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys


def main() -> None:
    """Takes the server's address, the interpreter, and what the interpreter would have been given."""
    address, executable, *arguments = sys.argv[1:]
    server = socket.socket(socket.AF_UNIX)
    try:
        server.connect("\0" + address)
    except OSError:
        os.execv(executable, [executable, *arguments])
    wanted = {"arguments": arguments, "environment": dict(os.environ), "folder": os.getcwd()}
    text = json.dumps(wanted).encode()
    socket.send_fds(server, [len(text).to_bytes(8, "big")], [0, 1, 2])
    server.sendall(text)
    pid = int.from_bytes(server.recv(8), "big")
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda received, _: os.kill(pid, received))
    answer = server.recv(8)
    status = int.from_bytes(answer, "big") if answer else 1 << 8
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        if number != signal.SIGKILL:
            signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
    os._exit(os.waitstatus_to_exitcode(status))


if __name__ == "__main__":
    main()
