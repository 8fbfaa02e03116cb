"""A fork server: a process that has done its imports once, and from which others are forked with them.

Starting a worker costs seconds, nearly all of them imports, which each worker would pay again on the same cores.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import json
import os
import random
import runpy
import selectors
import signal
import socket
import struct
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, NoReturn
from unittest import mock

from compactbio.launch import fork_setup_worker
from compactbio.launch.exit_codes import run_and_exit
from compactbio.launch.fork_setup_worker import ADDRESS

_PR_SET_PDEATHSIG = 1
_servers: list[subprocess.Popen[bytes]] = []  # it ends when this process does: that closes its standard input
_MODULES = (
    "pandas",  # which Ray's own libraries import
    "pyarrow.fs",
    "transformers.models.bert.modeling_bert",
    "compactbio.training.finetune",
    "compactbio.training.stage_run",
)


def start(modules: Sequence[str] = ()) -> None:
    """Starts a server, unless there is one, that lives no longer than this process; see `interpreter`. It has the
    imports of Ray's workers, and `modules`. Returns at once: who asks the server waits for its imports."""
    if ADDRESS in os.environ:
        return
    address = f"compactbio-{uuid.uuid4().hex}"
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("\0" + address)  # an abstract name: no file is left, whatever happens
        listening.listen(128)
        command = [sys.executable, "-m", __name__, str(listening.fileno()), *modules]
        _servers.append(
            subprocess.Popen(command, pass_fds=[listening.fileno()], stdin=subprocess.PIPE, start_new_session=True)
        )
    os.environ[ADDRESS] = address


def interpreter() -> list[str]:
    """What stands for this interpreter: with a script or `-m MODULE` after it, a process is forked from the server.

    The process has the environment, folder and standard streams of the command, and ends with it and with the server.
    Where there is no server, or no more, it is the interpreter itself.
    """
    return [sys.executable, fork_setup_worker.__file__] if ADDRESS in os.environ else [sys.executable]


@contextmanager
def starting_rays_workers() -> Iterator[dict[str, Any]]:
    """While a Ray is started inside the block, has it start its workers through the server. Yields the runtime
    environment by which the raylet knows that a worker is to be set up; nothing where there is no server."""
    if ADDRESS not in os.environ:
        yield {}
        return
    from ray._private import ray_constants

    with mock.patch.object(ray_constants, "SETUP_WORKER_FILENAME", fork_setup_worker.__file__):
        yield {"env_vars": {ADDRESS: os.environ[ADDRESS]}}


def _preload(modules: Sequence[str]) -> None:
    """What Ray's workers import, Ray excepted: it reads once, when it is imported, whose worker it is.

    Nothing here may compute: threads do not outlast a fork.
    """
    from compactbio.training.sharded import import_deepspeed

    for module in (*_MODULES, *modules):
        importlib.import_module(module)
    import_deepspeed()
    assert "ray" not in sys.modules


def _fork(main: Callable[[], None]) -> int:
    """The id of a process that runs `main`, ends as an interpreter does, and dies with this one."""
    parent = os.getpid()
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid == 0:
        try:
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != parent:
                os._exit(1)  # it died before that
            run_and_exit(main)
        finally:
            os._exit(1)
    return pid


class Server:
    """Forks what it is asked for, and tells who asked how that ended."""

    def __init__(self, listening: socket.socket) -> None:
        self._listening = listening
        self._selector = selectors.DefaultSelector()

    def serve(self) -> NoReturn:
        """Until standard input is closed, which is when the process that started this one ends."""
        gc.collect()
        gc.freeze()  # or the first collection in a child would copy all pages
        self._selector.register(self._listening, selectors.EVENT_READ, self._accept)
        self._selector.register(0, selectors.EVENT_READ, partial(os._exit, 0))
        while True:
            for key, _ in self._selector.select():
                key.data()

    def _accept(self) -> None:
        client, _ = self._listening.accept()
        _, user, _ = struct.unpack("3i", client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        if user != os.getuid():  # an abstract name is open to everybody on the machine
            client.close()
            return
        try:
            size, streams, _, _ = socket.recv_fds(client, 8, 3)
            text = client.recv(int.from_bytes(size, "big"), socket.MSG_WAITALL)
            wanted = json.loads(text)
        except (OSError, ValueError):
            client.close()  # it was killed while it asked
            return
        pid = _fork(partial(self._become, wanted, streams))
        for stream in streams:
            os.close(stream)
        ended = os.pidfd_open(pid)
        self._selector.register(ended, selectors.EVENT_READ, partial(self._ended, pid, ended, client))
        self._selector.register(client, selectors.EVENT_READ, partial(self._left, pid, client))
        with suppress(OSError):
            client.send(pid.to_bytes(8, "big"))

    def _ended(self, pid: int, ended: int, client: socket.socket) -> None:
        _, status = os.waitpid(pid, 0)
        self._selector.unregister(ended)
        os.close(ended)
        with suppress(KeyError, ValueError):
            self._selector.unregister(client)
        with suppress(OSError):
            client.send(status.to_bytes(8, "big"))
        client.close()

    def _left(self, pid: int, client: socket.socket) -> None:
        """Who asked was killed, and meant the process."""
        self._selector.unregister(client)
        os.kill(pid, signal.SIGKILL)

    def _become(self, wanted: dict[str, Any], streams: list[int]) -> None:
        """Makes this process what `wanted` says, and runs it."""
        os.setsid()
        self._selector.close()
        self._listening.close()
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
            os.close(stream)
        os.environ.clear()
        os.environ.update(wanted["environment"])
        os.chdir(wanted["folder"])
        random.seed()
        if numpy := sys.modules.get("numpy"):
            numpy.random.seed()
        first, *arguments = wanted["arguments"]
        if first == "-m":
            module, *arguments = arguments
            sys.argv = [module, *arguments]
            sys.modules.pop(module, None)  # as in an interpreter that has just started
            sys.path.insert(0, str(Path.cwd()))
            runpy.run_module(module, run_name="__main__", alter_sys=True)
        else:
            sys.argv = [first, *arguments]
            sys.path.insert(0, str(Path(first).parent))
            runpy.run_path(first, run_name="__main__")


if __name__ == "__main__":
    _preload(sys.argv[2:])
    Server(socket.socket(fileno=int(sys.argv[1]))).serve()
