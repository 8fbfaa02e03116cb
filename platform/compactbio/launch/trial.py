"""One trial of a sweep: the stages of its job, by the same functions as a single run, in a thread that reports."""

from __future__ import annotations

import gc
import json
import math
import statistics
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from compactbio.data.whole import sync
from compactbio.launch import stages
from compactbio.launch.failures import causes, is_out_of_memory
from compactbio.launch.preflight import Absent
from compactbio.launch.run_folder import write_spec
from compactbio.launch.stopping import StoppedError, Stopping
from compactbio.models.load import quiet_transformers
from compactbio.reporting.collect import SPEC_FILE
from compactbio.spec.job import Finetune, JobSpec
from compactbio.spec.load import from_raw, load
from compactbio.spec.plan import plan_batch
from compactbio.spec.sweep import HeldOut, Latency, Score, Values, Yardstick
from compactbio.tracking import metrics
from compactbio.tracking.journal import FILE_NAME, Follower, Journal, Status, has_ended, series
from compactbio.training.checkpoint import newest_step

RESULT_FILE = "result.json"
PRUNED_FILE = "pruned"
"""In a trial's folder: it was stopped because others did better."""
_POLL_SECONDS = 0.1
_LONGEST_REASON = 300
_MEASURES = {
    "mlm": f"{metrics.HELD_OUT_PREFIX}{metrics.LOSS_PART_PREFIX}mlm",
    "agreement": f"{metrics.HELD_OUT_PREFIX}agreement",
    "loss": f"{metrics.HELD_OUT_PREFIX}{metrics.LOSS.name}",
}


@dataclass(frozen=True)
class TrialRequest:
    """A trial, as it travels to where it runs."""

    spec: JobSpec
    """What is run, on a token store and models that are there."""

    values: Values
    """What it has in place of the base's values."""

    objectives: tuple[Yardstick, ...]
    folder: Path
    tags: dict[str, str]
    absent: Absent
    until: int | None = None
    """The step behind whose checkpoint it ends, before the end of its stage."""


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
            self._journal.note(outcome.failure)
            self._end("FAILED", {"state": "failed", "reason": outcome.failure})
        else:
            names = [objective.name() for objective in self._request.objectives]
            self._journal.metrics(dict(zip(names, outcome.scores, strict=True)), outcome.step)
            self._journal.end(tags={"state": "finished"})
        return outcome

    def stop(self) -> None:
        """Ends the trial behind the step that it is at, unless it is over."""
        self._halt()
        if (self._folder / PRUNED_FILE).exists():
            self._end("KILLED", {"state": "pruned"})
        gc.collect()

    def _pause(self, report: TrialReport) -> TrialReport:
        """Ends the trial behind a step whose checkpoint another one goes on from."""
        stage = self._folder / self._request.objectives[0].stage
        while newest_step(stage) < report.step and self._thread.is_alive():
            self._thread.join(_POLL_SECONDS)
        _write_scores(self._folder / RESULT_FILE, [report.value])
        self._halt()
        self._end("FINISHED", {"state": f"handed on behind step {report.step}"})
        return replace(report, scores=(report.value,), over=True)

    def _halt(self) -> None:
        while self._thread.is_alive():
            self._stopping.requested = True
            self._stopping.file.touch()  # again, because a new attempt removes it
            self._thread.join(_POLL_SECONDS)
        self._stopping.file.unlink(missing_ok=True)

    def _end(self, status: Status, tags: dict[str, str]) -> None:
        """Ends the trial's journal, and those of its stages that have not come to their end."""
        for path in sorted(self._folder.rglob(FILE_NAME)):
            if path.parent != self._folder:
                Journal(path.parent).end(status)
        self._journal.end(status, tags)

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
                    value = event.get("values", {}).get(_MEASURES[objective.measure])
                    if event["kind"] == "metrics" and value is not None and 0 < event["step"] < training.steps:
                        yield TrialReport(event["step"], event["step"] * training.global_batch, value)
            self._thread.join(_POLL_SECONDS)

    def _work(self) -> None:
        path = self._folder / RESULT_FILE
        try:
            if not path.exists():
                scores = _scores(self._request, _run(self._request, self._stopping, self._journal))
                _write_scores(path, scores)
            steps = max((s.training.steps for s in self._request.spec.training_stages().values()), default=0)
            self._outcome = TrialReport(step=steps, scores=tuple(json.loads(path.read_text())), over=True)
        except StoppedError:
            self._outcome = TrialReport(failure="stopped", over=True)
        except BaseException as error:  # of a trial: the sweep goes on with the others
            self._outcome = TrialReport(failure=_reason(error), over=True)


def _run(request: TrialRequest, stopping: Stopping, journal: Journal) -> dict[str, Any]:
    """Runs the stages of a trial, those with a single worker in this process. Returns what fine-tunings came to."""
    quiet_transformers()
    folder, spec = request.folder, _own_spec(request)
    write_spec(spec, folder)
    made: dict[str, str] = {}
    results: dict[str, Any] = {}
    for names in stages.groups(spec):
        section = spec.stages[names[0]]
        if isinstance(section, Finetune):
            results[names[0]] = stages.run_finetune(
                spec,
                names[0],
                section,
                folder / names[0],
                made,
                request.tags,
                request.absent[names[0]],
                here=spec.cluster.num_workers == 1,
            )
            continue
        while True:
            try:
                made |= _train(spec, names, request, made, stopping, journal)
                break
            except Exception as error:
                smaller = with_less_memory(spec, [name for name in names if not has_ended(folder / name)])
                if not is_out_of_memory(error) or smaller is None:
                    raise
                spec = smaller
            journal.note("out of memory: goes on with half the micro-batch and twice the accumulation")
            gc.collect()
            write_spec(spec, folder)
    return results


def _own_spec(request: TrialRequest) -> JobSpec:
    """The trial's spec, with the micro-batch that it was given when it ran before."""
    path = request.folder / SPEC_FILE
    return load(path) if path.is_file() else request.spec


def _train(
    spec: JobSpec,
    names: list[str],
    request: TrialRequest,
    made: dict[str, str],
    stopping: Stopping,
    journal: Journal,
) -> dict[str, str]:
    assert spec.store is not None
    if spec.cluster.num_workers > 1:
        return stages.run_training(spec, names, request.folder, Path(spec.store), made, request.tags, stopping, journal)
    from compactbio.training.alone import train_alone

    requests, exported = stages.training_requests(spec, names, request.folder, Path(spec.store), made, request.tags)
    train_alone(requests(1))
    if not all(has_ended(request.folder / name) for name in names):
        raise StoppedError
    return exported


def with_less_memory(spec: JobSpec, names: list[str]) -> JobSpec | None:
    """The job with half the micro-batch in the first of these stages, of the same global batch; None where that is a
    single row."""
    for name in names:
        training = spec.training_stages()[name].training
        plan = plan_batch(training, spec.cluster.num_workers)
        rows = plan.micro_batch * plan.accumulation
        if plan.micro_batch == 1:
            return None
        raw: dict[str, Any] = spec.resolved()
        half = max(size for size in range(1, plan.micro_batch // 2 + 1) if rows % size == 0)
        raw["stages"][name]["training"]["micro_batch"] = half
        return from_raw(raw)
    return None


def _scores(request: TrialRequest, fine_tuned: dict[str, Any]) -> list[float]:
    return [_score(request, objective, fine_tuned) for objective in request.objectives]


def _score(request: TrialRequest, objective: Yardstick, fine_tuned: dict[str, Any]) -> float:
    match objective:
        case HeldOut():
            return series(request.folder / objective.stage)[_MEASURES[objective.measure]][-1][1]
        case Score():
            section = request.spec.stages[objective.stage]
            assert isinstance(section, Finetune)
            return task_score(fine_tuned[objective.stage]["cells"], section.summary, objective)
        case Latency():
            return float(fine_tuned[objective.stage]["footprints"][objective.model]["seconds_a_sentence"])


def task_score(cells: list[dict[str, Any]], summary: Literal["mean", "median"], objective: Score) -> float:
    """The main score of a task on the objective's split, its seeds put together as the stage's `summary` says; of
    several tasks the mean."""
    by_task: dict[str, list[float]] = {}
    for cell in cells:
        if cell["model_name"] == objective.model and objective.task in (None, cell["task_name"]):
            score = cell["scores"][cell["main"]] if objective.split == "test" else cell["dev_score"]
            by_task.setdefault(cell["task_name"], []).append(score)
    over_seeds = statistics.median if summary == "median" else statistics.fmean
    return statistics.fmean(map(over_seeds, by_task.values()))


def _write_scores(path: Path, scores: list[float]) -> None:
    """Writes them whole or not at all."""
    part = path.with_suffix(".part")
    part.write_text(json.dumps(scores))
    sync(part)
    part.rename(path)


def _reason(error: BaseException) -> str:
    cause = causes(error)[0]
    line = (str(cause).strip().splitlines() or ["no message"])[-1]
    return f"{type(cause).__name__}: {line}"[:_LONGEST_REASON]
