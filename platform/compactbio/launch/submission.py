"""Jobs on a cluster that is somewhere else, by Ray's jobs API."""

from __future__ import annotations

import asyncio
import json
import logging
import shlex
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from compactbio.launch.exit_codes import FAILED, STOPPED
from compactbio.launch.failures import JobFailedError
from compactbio.launch.run_folder import GIT_SHA, check_lasts, folder_stem, git_sha
from compactbio.launch.shipping import SPEC_NAME, Shipment, Shipped
from compactbio.spec.base import SpecError
from compactbio.spec.job import CorpusJob, JobSpec
from compactbio.spec.storage import is_url, storage_problem
from compactbio.spec.trials import Sweep

if TYPE_CHECKING:
    from ray.job_submission import JobDetails, JobSubmissionClient

_REACH_SECONDS = 10.0
_POLL_SECONDS = 1.0
_STOP_SECONDS = 600  # Ray gives a job 3 to end in by itself; ours writes a checkpoint first
_DRIVER_BYTES = 1024**3
_ON_THE_HEAD = {"node:__internal_head__": 0.001}
_TASK = "task"
_TALKERS = ("ray", "ray.dashboard.modules.job.sdk", "ray.dashboard.modules.dashboard_sdk")
RUN_COMMANDS = {
    JobSpec: f"run {SPEC_NAME} --name {{job}}",
    CorpusJob: f"data build {SPEC_NAME}",
    Sweep: f"sweep {SPEC_NAME} --name {{job}}",
}
"""The command that does what a spec of each kind describes; a run is called as its job."""


@dataclass(frozen=True)
class Order:
    """One thing for a cluster to do."""

    stem: str
    """What its id begins with."""

    command: str
    """Arguments of `compactbio`; `{job}` in them is the id of the job."""

    metadata: dict[str, str]
    run: str | None
    """The folder of its run on the cluster, with `{job}` in it as above; None where it has none."""


def order_of(spec: Shipped, data: str | None) -> Order:
    """The order to do what a spec describes, with the data root `data` on the cluster.

    Raises SpecError where what it makes would be lost.
    """
    check_lasts(spec.storage)
    options = f" --data {shlex.quote(data)}" if data else ""
    metadata = {"job_name": f"{spec.name}-{spec.digest()}", _TASK: spec.digest()}
    run = None if isinstance(spec, CorpusJob) else f"{spec.storage.rstrip('/')}/{{job}}"
    return Order(folder_stem(spec.name, spec.digest()), RUN_COMMANDS[type(spec)] + options, metadata, run)


def order_to_resume(run: str, data: str | None) -> Order:
    """The order to go on with the run or the sweep in a folder on the cluster, or the run at an address."""
    if (problem := storage_problem(run)) is not None:
        raise SpecError.at("--resume", problem)
    run = run.rstrip("/")
    folder = PurePosixPath(run)
    if not is_url(run) and not folder.is_absolute():
        raise SpecError.at("--resume", f"'{run}': name the run's folder by its whole path on the cluster")
    options = f" --data {shlex.quote(data)}" if data else ""
    stem = f"{folder.name}-resumed-{time.strftime('%Y%m%d-%H%M%S')}"
    metadata = {"job_name": f"{folder.name} resumed", _TASK: run}
    return Order(stem, f"run --resume {shlex.quote(run)}{options}", metadata, run)


def connect(address: str) -> JobSubmissionClient:
    """The jobs of the cluster whose dashboard is at `address`. Raises SpecError where it cannot be used."""
    address = address if "://" in address else f"http://{address}"
    _check_is_ray(address)
    from ray.job_submission import JobSubmissionClient

    for name in _TALKERS:
        logging.getLogger(name).setLevel(logging.WARNING)  # which their import has set lower
    with _refusals(address):
        client = JobSubmissionClient(address)
        client.list_jobs()  # the first answer that a token is needed for
    return client


def submit(client: JobSubmissionClient, order: Order, shipment: Shipment, *, again: bool) -> str:
    """Sends an order. Returns the id of the job.

    Raises SpecError where the same is being done already, unless `again`.
    """
    if not again:
        _refuse_twice(client, order)
    for attempt in range(100):
        job_id = order.stem if attempt == 0 else f"{order.stem}-{attempt}"
        try:
            with _refusals(client.get_address()):
                sent: str = client.submit_job(
                    entrypoint=f"exec python -m compactbio.launch.cli {order.command.replace('{job}', job_id)}",
                    submission_id=job_id,
                    metadata=order.metadata,
                    runtime_env={
                        "working_dir": str(shipment.working_dir),
                        "py_modules": [str(shipment.package)],
                        "env_vars": {"RAY_JOB_STOP_WAIT_TIME_S": str(_STOP_SECONDS), GIT_SHA: git_sha()},
                    },
                    entrypoint_memory=_DRIVER_BYTES,  # so that a full head lets jobs wait
                    entrypoint_resources=_ON_THE_HEAD,
                )
            return sent
        except RuntimeError as error:
            if "already exists" not in str(error):
                raise SpecError.at("--address", f"the cluster did not take the job: {_first_line(error)}") from None
    raise SpecError.at("--again", f"no free name for a job like {order.stem}")


def follow(client: JobSubmissionClient, job_id: str, write: Callable[[str], None]) -> int:
    """Hands on the job's log until it has ended. Returns the exit code that says how.

    Raises JobFailedError where the connection breaks.
    """
    import aiohttp

    async def lines() -> int:
        length = 0
        async for chunk in client.tail_job_logs(job_id):
            write(chunk)
            length += len(chunk)
        return length

    try:
        length = asyncio.run(lines())
        job = until_ended(client, job_id)
        write(client.get_job_logs(job_id)[length:])  # the last lines, which Ray may not have handed on
    except (OSError, RuntimeError, aiohttp.ClientError) as error:
        raise JobFailedError(
            f"the connection to {client.get_address()} broke ({_first_line(error)}); unless its head is gone the job "
            f"goes on: compactbio jobs logs {job_id} --follow"
        ) from None
    return exit_code(job)


def until_ended(client: JobSubmissionClient, job_id: str) -> JobDetails:
    """Waits for the end of a job."""
    while not (job := find(client, job_id)).status.is_terminal():
        time.sleep(_POLL_SECONDS)
    return job


def exit_code(job: JobDetails) -> int:
    """0 for a job that succeeded, that of its driver for one that failed."""
    if job.status == "STOPPED":
        return STOPPED
    return 0 if job.status == "SUCCEEDED" else job.driver_exit_code or FAILED


def find(client: JobSubmissionClient, job_id: str) -> JobDetails:
    """The job of this id. Raises SpecError where there is none."""
    try:
        return client.get_job_info(job_id)
    except RuntimeError as error:
        raise SpecError.at("JOB", f"the cluster knows no job '{job_id}' ({_first_line(error)})") from None


def listed(client: JobSubmissionClient) -> list[JobDetails]:
    """Jobs that were submitted, the newest first."""
    jobs = [job for job in client.list_jobs() if job.submission_id]
    return sorted(jobs, key=lambda job: -(job.start_time or 0))


def _refuse_twice(client: JobSubmissionClient, order: Order) -> None:
    wanted = order.metadata[_TASK]
    for job in listed(client):
        same = (job.metadata or {}).get(_TASK) == wanted or job.submission_id == PurePosixPath(wanted).name
        if same and not job.status.is_terminal():
            raise SpecError.at(
                "--again",
                f"the same is {job.status.lower()} as {job.submission_id}; with this it is done once more beside that",
            )


def _check_is_ray(address: str) -> None:
    """Raises SpecError unless a Ray dashboard answers; Ray's own client would wait for ever."""
    try:
        with urllib.request.urlopen(f"{address.rstrip('/')}/api/version", timeout=_REACH_SECONDS) as answer:
            json.loads(answer.read())["ray_version"]
    except urllib.error.HTTPError as error:
        if error.code not in (401, 403):
            raise _no_ray(address) from None
    except (TypeError, KeyError, ValueError) as error:
        raise _no_ray(address) from error
    except OSError as error:
        reason = getattr(error, "reason", error)
        raise SpecError.at(
            "--address",
            f"nothing answers at {address} ({reason}); is the head up, and its dashboard's port the right one?",
        ) from None
    except HTTPException as error:
        raise _no_ray(address) from error


def _no_ray(address: str) -> SpecError:
    return SpecError.at("--address", f"what answers at {address} is not a Ray dashboard (its port is 8265 unless told)")


@contextmanager
def _refusals(address: str) -> Iterator[None]:
    from ray.exceptions import AuthenticationError

    try:
        yield
    except AuthenticationError:
        raise SpecError.at(
            "--address",
            f"{address} does not take the token; set RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH to "
            "the cluster's",
        ) from None
    except OSError as error:
        raise SpecError.at("--address", f"the connection to {address} broke: {_first_line(error)}") from None


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]


def elapsed(job: JobDetails) -> float | None:
    """Seconds from the start of a job to its end, or to now."""
    if job.start_time is None:
        return None
    return ((job.end_time or time.time() * 1000) - job.start_time) / 1000
