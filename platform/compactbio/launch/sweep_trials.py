"""Trials on Ray Tune: actors that run one after the other, fed by whoever knows which come next."""

from __future__ import annotations

import logging
import math
import os
import pickle
import time
import zlib
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Protocol

from ray import tune
from ray.tune.schedulers import FIFOScheduler
from ray.tune.search import Searcher
from ray.tune.stopper import Stopper

from compactbio.launch.stopping import StoppedError, Stopping
from compactbio.launch.trial import PRUNED_FILE, TrialReport, TrialRun
from compactbio.launch.trial_stages import TrialRequest

_REQUEST, _LOST = "request", "its process was lost too often, or never started"
_QUIET = {
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # the journals are the log
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": str(10**9),  # the study is what a resume goes by
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
}


class Later:
    """There is no next trial yet."""


class TrialSource(Protocol):
    """Knows which trials there are, and is told what they came to. Lives in the driver."""

    def next(self) -> TrialRequest | Later | None:
        """The next trial; Later when it depends on those that run, None when there are no more."""

    def reached(self, request: TrialRequest, report: TrialReport) -> bool:
        """A trial reports on its way. Returns whether it is to be stopped."""

    def over(self, request: TrialRequest, report: TrialReport) -> None:
        """A trial has ended by itself."""

    def stopped(self, request: TrialRequest) -> None:
        """A trial was stopped as `reached` asked."""


class TrialActor(tune.Trainable):
    """A process that runs trials one after the other, so that imports are done once."""

    def setup(self, config: dict[str, Any]) -> None:
        """Imports alone: before this process is ready its trial may have gone to another one, which became free."""
        self._stack = ExitStack()
        self._in_group = False
        self._run: TrialRun | None = None
        if _unpacked(config).spec.cluster.num_workers == 1:
            from compactbio.training import alone

            assert alone

    def step(self) -> dict[str, Any]:
        """The trial's next report."""
        if self._run is None:
            self._run = self._begin(_unpacked(self.config))
        report = self._run.next_report()
        return {"report": report, "done": report.over}

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Another trial in the same process."""
        self._leave()
        return True

    def cleanup(self) -> None:
        """No more trials."""
        self._leave()
        self._stack.close()

    def _begin(self, request: TrialRequest) -> TrialRun:
        cluster = request.spec.cluster
        if cluster.num_workers == 1 and not self._in_group:
            from compactbio.training.alone import group_of_one

            self._stack.enter_context(group_of_one("nccl" if cluster.use_gpu else "gloo"))
            self._in_group = True
        return TrialRun(request)

    def _leave(self) -> None:
        if self._run is not None:
            self._run.stop()
            self._run = None


def run_trials(
    source: TrialSource,
    folder: Path,
    resources: dict[str, float],
    *,
    most: int,
    concurrent: int,
    max_failures: int,
    stopping: Stopping,
    actor: type[tune.Trainable] = TrialActor,
) -> None:
    """Runs the trials of a source, so many at once, until there are no more of them.

    Raises StoppedError where that was asked for; those that were running have saved what they had trained.
    """
    os.environ.update({name: os.environ.get(name, value) for name, value in _QUIET.items()})
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
    feeding = _Feeding(source, concurrent, stopping)
    with stopping.by_workers():
        tune.run(
            tune.with_resources(actor, resources),
            name=f"tune-{time.time_ns()}",
            storage_path=str(folder / "ray"),
            num_samples=most,
            search_alg=feeding,
            scheduler=_Reporting(feeding),
            stop=_Asked(stopping),
            reuse_actors=True,
            max_failures=max_failures,
            raise_on_failed_trial=False,
            verbose=0,
        )
    if stopping.requested:
        raise StoppedError


def _packed(request: TrialRequest) -> dict[str, Any]:
    """A trial's config. Packed, because Tune keeps it to the sweep's end: half of what the driver grew by was specs."""
    return {_REQUEST: zlib.compress(pickle.dumps(request))}


def _unpacked(config: dict[str, Any]) -> TrialRequest:
    request: TrialRequest = pickle.loads(zlib.decompress(config[_REQUEST]))
    return request


class _Asked(Stopper):
    """Ends all trials when the driver was asked to stop."""

    def __init__(self, stopping: Stopping) -> None:
        self._stopping = stopping

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        """No trial by itself."""
        return False

    def stop_all(self) -> bool:
        """Whether it was."""
        return self._stopping.requested


class _Feeding(Searcher):
    """Hands the source's trials to Tune, and what became of them back."""

    def __init__(self, source: TrialSource, concurrent: int, stopping: Stopping) -> None:
        super().__init__()
        self.source = source
        self._stopping = stopping
        self.live: dict[str, TrialRequest] = {}
        self._concurrent = concurrent

    def set_search_properties(self, metric: str | None, mode: str | None, config: Any, **spec: Any) -> bool:
        """Tune's own metric and space are not used."""
        return True

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        if len(self.live) >= self._concurrent:
            return None
        request = self.source.next()
        if request is None:
            return Searcher.FINISHED
        if isinstance(request, Later):
            return None
        self.live[trial_id] = request
        return _packed(request)

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        request = self.live.pop(trial_id)
        report: TrialReport | None = (result or {}).get("report")
        if self._stopping.requested and not (report and report.over):
            return  # it goes on when the sweep does
        if error or report is None:
            self.source.over(request, TrialReport(failure=_LOST, over=True))
        elif report.over:
            self.source.over(request, report)
        else:
            self.source.stopped(request)

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the source keeps its own."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing: the source keeps its own."""


class _Reporting(FIFOScheduler):
    """Asks the source whether a trial is to go on."""

    def __init__(self, feeding: _Feeding) -> None:
        super().__init__()
        self._feeding = feeding

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """Tune's decision about a trial behind a report."""
        report: TrialReport = result["report"]
        if report.over or math.isnan(report.value):
            return FIFOScheduler.CONTINUE
        request = self._feeding.live[trial.trial_id]
        if not self._feeding.source.reached(request, report):
            return FIFOScheduler.CONTINUE
        (request.folder / PRUNED_FILE).touch()  # the actor is told no reason when it is stopped
        return FIFOScheduler.STOP
