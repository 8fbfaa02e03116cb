"""One trial of a sweep: the stages of its job, by the same functions as a single run, in a thread that reports."""

from __future__ import annotations

import gc
import json
import math
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from compactbio.data.whole import sync
from compactbio.launch.failures import causes
from compactbio.launch.stopping import StoppedError, Stopping
from compactbio.launch.trial_scores import MEASURES, scores
from compactbio.launch.trial_stages import TrialRequest, run_stages
from compactbio.spec.job import Finetune
from compactbio.spec.sweep import HeldOut, Values
from compactbio.tracking.journal import FILE_NAME, Follower, Journal, Status, end_tags, has_ended
from compactbio.training.checkpoint import newest_step

RESULT_FILE = "result.json"
PRUNED_FILE = "pruned"
"""In a trial's folder: it was stopped because others did better."""
_POLL_SECONDS = 0.1
_LONGEST_REASON = 300


@dataclass(frozen=True)
class TrialReport:
    """What a trial has reached, or what it came to."""

    step: int = 0
    rows: int = 0
    value: float = math.nan
    """Of the objective at that step, on the way."""

    scores: tuple[float, ...] = ()
    """Of all objectives, at the end."""

    failure: str = ""
    over: bool = False


class TrialRun:
    """A trial that runs in a thread of its own. What it reports comes from its journals, so that a trial that goes on
    reports again what it had reached."""

    def __init__(self, request: TrialRequest) -> None:
        self._request = request
        self._folder = request.folder
        self._folder.mkdir(parents=True, exist_ok=True)
        self._stopping = Stopping(self._folder)
        self._journal = Journal(self._folder)
        self._journal.start(self._folder.name, request.tags)
        self._journal.params(request.values)
        self._reports = self._on_the_way()
        self._outcome: TrialReport | None = None
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def next_report(self) -> TrialReport:
        """Waits for the next one. The last one is over."""
        for report in self._reports:
            self._journal.metrics({self._request.objectives[0].name(): report.value}, report.step)
            if report.step == self._request.until:
                return self._pause(report)
            return report
        assert self._outcome is not None
        outcome = self._outcome
        if outcome.failure:
            fail_trial(self._folder, self._request.tags, self._request.values, outcome.failure)
        else:
            names = [objective.name() for objective in self._request.objectives]
            self._journal.metrics(dict(zip(names, outcome.scores, strict=True)), outcome.step)
            self._journal.end(tags={"state": "finished"})
        return outcome

    def stop(self) -> None:
        """Ends the trial behind the step that it is at, unless it is over."""
        self._halt()
        if (self._folder / PRUNED_FILE).exists():
            _end_all(self._folder, "KILLED", {"state": "pruned"})
        gc.collect()

    def _pause(self, report: TrialReport) -> TrialReport:
        """Ends the trial behind a step whose checkpoint another one goes on from."""
        stage = self._folder / self._request.objectives[0].stage
        while newest_step(stage) < report.step and self._thread.is_alive():
            self._thread.join(_POLL_SECONDS)
        _write_scores(self._folder / RESULT_FILE, [report.value])
        self._halt()
        _end_all(self._folder, "FINISHED", {"state": f"handed on behind step {report.step}"})
        return replace(report, scores=(report.value,), over=True)

    def _halt(self) -> None:
        while self._thread.is_alive() and not self._fine_tunes():
            self._stopping.requested = True
            self._stopping.file.touch()  # again, because a new attempt removes it
            self._thread.join(_POLL_SECONDS)
        self._stopping.file.unlink(missing_ok=True)

    def _fine_tunes(self) -> bool:
        """Whether it has come to a stage that cannot be asked to stop: the end of the process ends that."""
        stages = self._request.spec.stages.items()
        return any(isinstance(stage, Finetune) and (self._folder / name).exists() for name, stage in stages)

    def _on_the_way(self) -> Iterator[TrialReport]:
        """What the first objective has reached on held-out rows, as the journal of its stage says."""
        objective = self._request.objectives[0]
        if len(self._request.objectives) > 1 or not isinstance(objective, HeldOut):
            self._thread.join()
            return
        training = self._request.spec.training_stages()[objective.stage].training
        follower = Follower(self._folder / objective.stage)
        alive = True
        while alive:
            alive = self._thread.is_alive()  # before the journal is read: what is written last is read too
            for _, events in follower.new_events():
                for event in events:
                    value = event.get("values", {}).get(MEASURES[objective.measure])
                    if event["kind"] == "metrics" and value is not None and 0 < event["step"] < training.steps:
                        yield TrialReport(event["step"], event["step"] * training.global_batch, value)
            self._thread.join(_POLL_SECONDS)

    def _work(self) -> None:
        path, ended = self._folder / RESULT_FILE, end_tags(self._folder)
        if ended.get("state") == "failed":  # the driver was killed before it could note that
            self._outcome = TrialReport(failure=ended["reason"], over=True)
            return
        try:
            if not path.exists():
                made = run_stages(self._request, self._stopping, self._journal)
                _write_scores(path, scores(self._request, made))
            steps = max((s.training.steps for s in self._request.spec.training_stages().values()), default=0)
            self._outcome = TrialReport(step=steps, scores=tuple(json.loads(path.read_text())), over=True)
        except StoppedError:
            self._outcome = TrialReport(failure="stopped", over=True)
        except BaseException as error:  # of a trial: the sweep goes on with the others
            self._outcome = TrialReport(failure=_reason(error), over=True)


def fail_trial(folder: Path, tags: Mapping[str, str], values: Values, reason: str) -> None:
    """Notes in a trial's journal that it has failed, unless that stands there."""
    if has_ended(folder):
        return
    journal = Journal(folder)
    journal.start(folder.name, tags)
    journal.params(values)
    journal.note(reason)
    _end_all(folder, "FAILED", {"state": "failed", "reason": reason})


def _end_all(folder: Path, status: Status, tags: dict[str, str]) -> None:
    """Ends the trial's journal, and those of its stages that have not come to their end."""
    Journal(folder).end(status, tags)  # first: a stage whose journal has ended is taken for finished
    for path in sorted(folder.rglob(FILE_NAME)):
        if path.parent != folder:
            Journal(path.parent).end(status)


def _write_scores(path: Path, values: list[float]) -> None:
    """Writes them whole or not at all."""
    part = path.with_suffix(".part")
    part.write_text(json.dumps(values))
    sync(part)
    part.rename(path)


def _reason(error: BaseException) -> str:
    cause = causes(error)[0]
    line = (str(cause).strip().splitlines() or ["no message"])[-1]
    return f"{type(cause).__name__}: {line}"[:_LONGEST_REASON]
