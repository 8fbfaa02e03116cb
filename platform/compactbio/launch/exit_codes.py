"""What the command line ends with."""

from __future__ import annotations

import atexit
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import NoReturn

FAILED = 1
BAD_INPUT = 2
STOPPED = 75  # "try again later" in sysexits.h
INTERRUPTED = 130


def run_and_exit(main: Callable[[], object]) -> NoReturn:
    """Runs `main` and ends this process with its code, without taking the libraries down, which takes seconds."""
    code = 0
    try:
        main()
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
        if isinstance(error.code, str):
            sys.stderr.write(f"{error.code}\n")
    except BaseException:
        sys.excepthook(*sys.exc_info())
        code = 1
    with suppress(BaseException):
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)
