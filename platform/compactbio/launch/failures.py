"""What Ray raises for a failed worker, as what the worker raised, said in one line."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from compactbio.spec.base import SpecError

ERROR_FILE = "error.txt"
_NO_MEMORY = ("can't allocate memory", "not enough memory", "CUDA out of memory")


class JobFailedError(RuntimeError):
    """Something failed while it ran; the message says what and why, and where the whole error is."""


@contextmanager
def failures(what: str, folder: Path | None) -> Iterator[None]:
    """Turns the errors of workers into SpecError, where they raised one, and else into JobFailedError.

    The whole error goes to `error.txt` in `folder`, if there is one.
    """
    from ray.exceptions import RayError
    from ray.train import TrainingFailedError

    try:
        yield
    except (RayError, TrainingFailedError, OSError) as error:
        cause = _first_of_its_own(causes(error))
        if isinstance(cause, SpecError):
            raise cause from None
        message = f"{what} failed: {_reason(cause)}"
        if folder is not None:
            (folder / ERROR_FILE).write_text(str(error), encoding="utf-8")
            message += f"\nthe whole error is in {folder / ERROR_FILE}"
        raise JobFailedError(message) from error


def _reason(cause: BaseException) -> str:
    last = (str(cause).strip().splitlines() or ["no message"])[-1]
    if isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return f"no space left for what it writes ({last}). What is finished is kept: make room and start it again"
    return f"{type(cause).__name__}: {last}"


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a worker had too little memory, on a GPU or a CPU, or was ended by Ray for that."""
    for cause in causes(error):
        lacks = isinstance(cause, MemoryError) or type(cause).__name__ == "OutOfMemoryError"
        if lacks or (isinstance(cause, RuntimeError) and any(mark in str(cause) for mark in _NO_MEMORY)):
            return True
    return False


def _first_of_its_own(found: list[BaseException]) -> BaseException:
    """The cause that says most: a worker's own error rather than that its peer is gone."""
    return next((cause for cause in found if isinstance(cause, SpecError)), found[0])


def causes(error: BaseException) -> list[BaseException]:
    """What the workers raised, under what Ray wrapped it in."""
    from ray.exceptions import RayTaskError
    from ray.train import ControllerError, WorkerGroupError

    if isinstance(error, RayTaskError):
        return causes(error.cause) if isinstance(error.cause, BaseException) else [error]
    if isinstance(error, WorkerGroupError):
        return [cause for failure in error.worker_failures.values() for cause in causes(failure)]
    if isinstance(error, ControllerError):
        return causes(error.controller_failure)
    raised = getattr(error, "_base_exc", None)  # in what Ray Train wraps a worker's exception in
    return causes(raised) if isinstance(raised, BaseException) else [error]
