"""Training that goes on when machines go away: as many attempts with Ray Train as it takes."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import ray

from compactbio.launch.failures import JobFailedError, causes, is_out_of_memory
from compactbio.launch.stopping import StoppedError, Stopping
from compactbio.spec.base import SpecError
from compactbio.spec.job import Cluster, JobSpec
from compactbio.spec.plan import plan_workers
from compactbio.storage.filesystem import reason
from compactbio.tracking import metrics
from compactbio.tracking.journal import FILE_NAME, Journal, has_ended, series
from compactbio.training.requests import StageRequest
from compactbio.training.worker import train

_POLL_SECONDS = 2.0
_LONGEST_REASON = 150
_LOST_PEER = ("gloo", "NCCL", "Connection", "connection")


def train_to_the_end(
    spec: JobSpec,
    requests: Callable[[int], list[StageRequest]],
    storage: Path,
    stopping: Stopping,
    journal: Journal,
) -> None:
    """Runs the stages, whose requests depend on the number of workers, until the last one has ended.

    An attempt that fails because a machine, a process or a connection was lost is followed by another one, which
    goes on from the newest checkpoint. Raises StoppedError when asked to stop, JobFailedError when there are too many
    failures without progress or too few workers for too long, and what a worker raised for any other reason.
    """
    cluster, note = spec.cluster, journal.note
    trainings = [request.section.training for request in requests(cluster.num_workers)]
    folders = [request.folder for request in requests(cluster.num_workers)]
    num_failures, reached = 0, _progress(folders)
    give_up = None
    while not all(has_ended(folder) for folder in folders):
        num_workers = _wait_for_workers(cluster, lambda free: plan_workers(free, trainings, cluster), note)
        stopping.file.unlink(missing_ok=True)
        if num_workers < cluster.num_workers:
            note(f"goes on with {num_workers} of {cluster.num_workers} workers")
        try:
            asked = [request for request in requests(num_workers) if not has_ended(request.folder)]
            with stopping.by_workers(), _growing(cluster, num_workers, stopping, note), _copied(asked, note):
                _fit(asked, num_workers, cluster, storage)
        except Exception as error:
            if stopping.requested:
                raise StoppedError from error
            if not _of_machines(error):
                raise
            if _no_room(error):
                give_up = give_up or _deadline(cluster)
                _wait_a_little(give_up, cluster)
                continue
            give_up = None
            num_failures = 1 if _progress(folders) > reached else num_failures + 1
            reached = _progress(folders)
            if num_failures > cluster.max_failures:
                raise
            note(f"workers were lost ({_what(error)}); failure {num_failures} without progress, starting again")
            journal.count(metrics.RESTARTS.name)
        if stopping.requested and not all(has_ended(folder) for folder in folders):
            raise StoppedError


def _fit(requests: list[StageRequest], num_workers: int, cluster: Cluster, storage: Path) -> None:
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig

    from compactbio.launch.trainer import Trainer

    Trainer(
        train,
        torch_config=TorchConfig(timeout_s=max(1800, round(120 * cluster.hang_minutes))),
        train_loop_config={"stages": requests},
        scaling_config=ScalingConfig(
            num_workers=num_workers,
            use_gpu=cluster.use_gpu,
            resources_per_worker={"CPU": cluster.cpus_per_worker} | ({"GPU": 1} if cluster.use_gpu else {}),
        ),
        run_config=RunConfig(
            name=f"ray-{time.time_ns()}",
            storage_path=str(storage),
            failure_config=FailureConfig(max_failures=0, controller_failure_limit=0),
        ),
    ).fit()


@contextmanager
def _copied(requests: list[StageRequest], note: Callable[[str], None]) -> Iterator[None]:
    """Before the block stores the journals that workers left here when they were killed, and behind it brings here what
    workers on other machines have stored."""
    storage, run = requests[0].storage, requests[0].folder.parent
    try:
        for request in requests:
            storage.push_journal(request.folder / FILE_NAME)
    except OSError as error:
        note(f"cannot copy journals to {storage.address(run)} ({reason(error)}); tried again later")
    try:
        yield
    finally:
        try:
            storage.catch_up(run)
        except OSError as error:
            note(f"cannot read {storage.address(run)} ({reason(error)}); tried again later")


def _wait_for_workers(cluster: Cluster, fitting: Callable[[int], int | None], note: Callable[[str], None]) -> int:
    """How many workers there is room for, as soon as there is room for enough."""
    give_up = _deadline(cluster)
    waiting = False
    while (num_workers := fitting(_room(cluster))) is None:
        if not waiting:
            note(f"waiting for nodes: there is room for {_room(cluster)} of {cluster.num_workers} workers")
            waiting = True
        _wait_a_little(give_up, cluster)
    return num_workers


def _deadline(cluster: Cluster) -> float:
    return time.monotonic() + 60 * cluster.wait_minutes


def _wait_a_little(give_up: float, cluster: Cluster) -> None:
    if time.monotonic() > give_up:
        raise JobFailedError(
            f"no room for enough workers in {cluster.wait_minutes:g} minutes (cluster.wait_minutes); "
            "what is done is saved"
        )
    time.sleep(_POLL_SECONDS)


def _room(cluster: Cluster) -> int:
    """How many workers the nodes that are alive could hold."""
    total = 0
    for node in ray.nodes():
        if node["Alive"]:
            resources = node["Resources"]
            fitting = resources.get("CPU", 0.0) // cluster.cpus_per_worker
            total += int(min(fitting, resources.get("GPU", 0.0)) if cluster.use_gpu else fitting)
    return total


@contextmanager
def _growing(cluster: Cluster, num_workers: int, stopping: Stopping, note: Callable[[str], None]) -> Iterator[None]:
    """During the block, workers that are fewer than wanted are asked to save and stop once there is room for all."""
    if num_workers == cluster.num_workers:
        yield
        return
    over = threading.Event()

    def watch() -> None:
        while not over.wait(_POLL_SECONDS):
            if _room(cluster) >= cluster.num_workers:
                note(f"there is room for {cluster.num_workers} workers again")
                stopping.file.touch()
                return

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _of_machines(error: Exception) -> bool:
    """Whether an attempt failed because something went away, and not because of what was computed."""
    found = causes(error)
    computed = any(isinstance(cause, SpecError) or (is_out_of_memory(cause) and not _of_ray(cause)) for cause in found)
    return not computed and any(map(_is_loss, found))


def _no_room(error: Exception) -> bool:
    """Whether Ray found no place for the workers: other jobs have it, or a dead node is still counted."""
    return any(type(cause).__name__ == "WorkerGroupStartupTimeoutError" for cause in causes(error))


def _is_loss(cause: BaseException) -> bool:
    return _of_ray(cause) or (
        isinstance(cause, RuntimeError | ConnectionError) and any(mark in str(cause) for mark in _LOST_PEER)
    )


def _of_ray(cause: BaseException) -> bool:
    return type(cause).__module__.startswith("ray.")


def _progress(folders: list[Path]) -> tuple[int, int]:
    """Stages that have ended, and the newest checkpoint of the others."""
    ended = sum(has_ended(folder) for folder in folders)
    return ended, max((_newest_step(folder) for folder in folders if not has_ended(folder)), default=0)


def _newest_step(folder: Path) -> int:
    """The step of a stage's newest checkpoint, as its journal says: the checkpoint may lie on another machine."""
    return max((step for step, _ in series(folder).get(metrics.CHECKPOINT_TIME.name, [])), default=0)


def _what(error: Exception) -> str:
    """The cause in a few words, and rather what Ray says than that a peer's connection is gone."""
    cause = max(causes(error), key=_of_ray)
    line = (str(cause).strip().splitlines() or [""])[0]
    return f"{type(cause).__name__}: {line[:_LONGEST_REASON]}"
