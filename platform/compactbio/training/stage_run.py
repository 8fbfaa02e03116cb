"""A training stage from its first step, or its newest checkpoint, to its exported model."""

from __future__ import annotations

import fcntl
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import torch

from compactbio.data.batches import Batch
from compactbio.data.store import read_manifest
from compactbio.spec.base import SpecError
from compactbio.spec.lineage import registered_name, stage_tags
from compactbio.storage.copies import IN_PLACE
from compactbio.storage.filesystem import reason
from compactbio.tracking import metrics
from compactbio.tracking.journal import Journal
from compactbio.training.checkpoint import CHECKPOINTS_FOLDER, CheckpointFolder, Position
from compactbio.training.export import export_student, model_card
from compactbio.training.loop import Report, Span, evaluate, steps
from compactbio.training.operations import ideal_seconds
from compactbio.training.requests import MODEL_FOLDER, STOP_FILE, StageRequest
from compactbio.training.stage import TrainingStage, build_stage
from compactbio.training.uploads import Uploads
from compactbio.training.watch import Watch

_MLM = f"{metrics.HELD_OUT_PREFIX}{metrics.LOSS_PART_PREFIX}mlm"
_LOSS = f"{metrics.HELD_OUT_PREFIX}{metrics.LOSS.name}"


class StageRun:
    """One worker's part in a stage. Worker 0 alone writes journal, checkpoints and models."""

    def __init__(self, request: StageRequest, rank: int, device: torch.device) -> None:
        training = request.section.training
        self._request = request
        self._training = training
        self._rank = rank
        self._device = device
        self._writing = _sole_writer(request.folder) if rank == 0 else None
        _bring(request, everything=rank == 0)
        self._writer = _Writer(Journal(request.folder) if rank == 0 else None, training.steps)
        self._uploads = Uploads(request.storage if rank == 0 else IN_PLACE, request.folder, self._writer.note)
        self._checkpoints = CheckpointFolder(
            request.folder / CHECKPOINTS_FOLDER,
            training.checkpoints,
            self._writer.note,
            self._writer.saved,
            self._uploads.checkpoints,
        )
        self._watch = Watch(
            rank,
            training.checkpoints,
            request.folder.parent / STOP_FILE,
            hang_seconds=60 * request.spec.cluster.hang_minutes,
            traces=request.folder / "traces" / f"worker-{rank}.txt",
        )
        self._evaluations = {*range(0, training.steps, training.evaluate_every_steps or training.steps), training.steps}
        self._exports = {training.steps, *training.export_at_steps}
        self._best = math.inf

    def __enter__(self) -> StageRun:
        return self

    def __exit__(self, *exception: object) -> None:
        self._checkpoints.wait()
        self._uploads.close()
        self._watch.close()
        if self._writing is not None:
            self._writing.close()

    def train(self) -> bool:
        """Trains to the end and exports, or to where the run is asked to stop. Returns whether it is finished."""
        self._writer.start(self._request)
        self._uploads.start()
        start = self._agree_on_start()
        if start.stop:
            return False
        position, self._best = start.position, start.best
        fingerprint = read_manifest(self._request.store).fingerprint
        if position is not None and position.data_fingerprint != fingerprint:
            raise SpecError.at(
                "--resume",
                f"the text is not what the checkpoint of step {position.step} was trained on (token store "
                f"{position.data_fingerprint}, now {fingerprint}); bring the old text back, or start a new run",
            )
        if position is not None:
            self._request.storage.fetch(self._checkpoints.path(position.step))
        state = self._checkpoints.tensors(position) if position is not None else None
        stage = build_stage(self._request, rank=self._rank, device=self._device, state=state, position=position)
        del state
        try:
            return self._train(stage, position, fingerprint)
        finally:
            stage.engine.close()

    def _train(self, stage: TrainingStage, position: Position | None, fingerprint: str) -> bool:
        if position is None:
            position = Position(0, 0, self._request.spec.digest(), fingerprint)
            self._held_out(stage, 0)
        else:
            self._writer.note(f"goes on from the checkpoint of step {position.step:,}")
        finished = position.step >= self._training.steps or self._steps(stage, position)
        if finished:
            self._export(stage, self._training.steps, self._held_out(stage, self._training.steps))
            self._checkpoints.wait()
            self._writer.end(self._request)
            self._uploads.all()
        return finished

    def _agree_on_start(self) -> _Start:
        """Worker 0 looks for the newest whole checkpoint and for a wish to stop, and all take what it found."""
        found: list[_Start | None] = [None]
        if self._rank == 0:
            position = self._checkpoints.newest_whole()
            found = [_Start(position, self._checkpoints.best_score(), self._watch.wishes(0).stop)]
        if self._request.num_workers > 1:
            torch.distributed.broadcast_object_list(found, src=0, device=self._device)
        [start] = found
        assert start is not None
        return start

    def _steps(self, stage: TrainingStage, position: Position) -> bool:
        """The steps behind a position. Returns whether the last one is done."""
        training = self._training
        span = Span(training.steps, position.step, position.num_skipped, training.max_skipped_steps)
        reports = steps(
            stage.engine,
            stage.learner,
            stage.targets,
            stage.batches,
            span,
            report_every=training.report_every_steps,
            report_at=self._evaluations | self._exports,
            seed=self._request.spec.seed,
            ask=self._watch.wishes,
            ideal_seconds=ideal_seconds(stage),
        )
        for report in reports:
            if report.values or report.skipped:
                skipped = {metrics.SKIPPED_STEPS.name: float(report.num_skipped)}
                self._writer.metrics(report.step, report.values | skipped)
            if report.skipped:
                rows = stage.batches.rows(report.step - 1)
                self._writer.note(f"step {report.step:,} is not finite and was skipped; its rows: {rows}")
            last, diverged = report.step == training.steps, report.num_skipped > training.max_skipped_steps
            if diverged and report.skipped:
                continue
            held_out = self._held_out(stage, report.step) if report.step in self._evaluations and not last else {}
            if report.step in self._exports and not last:
                self._export(stage, report.step, held_out)
            if report.wishes.save or report.wishes.stop or self._is_best(held_out) or (last and self._is_long()):
                self._save(stage, report, held_out)
            if report.wishes.stop and not last:
                saved = self._checkpoints.wait()
                self._writer.note(f"stopped behind step {report.step:,}; the newest checkpoint is of step {saved:,}")
                return False
        return True

    def _is_long(self) -> bool:
        """Whether the last evaluation and the export are worth a checkpoint before them."""
        every = self._training.checkpoints.every_steps
        return every is not None and every < self._training.steps

    def _is_best(self, held_out: dict[str, float]) -> bool:
        """Whether no held-out loss before was lower; every worker has the same ones."""
        score = _score(held_out)
        if not self._training.checkpoints.keep_best or score is None or score >= self._best:
            return False
        self._best = score
        return True

    def _save(self, stage: TrainingStage, report: Report, held_out: dict[str, float]) -> None:
        """Takes a copy of the state, and lets it be written while the steps go on. Every worker has to call it."""
        state = stage.engine.state(keep=self._rank == 0)
        if self._rank == 0 and not self._writer.sync():  # what lies before a checkpoint is never reported again
            self._writer.note(f"the disk is full: no checkpoint of step {report.step:,}; the run goes on")
        elif self._rank == 0:
            position = Position(
                report.step,
                report.num_skipped,
                self._request.spec.digest(),
                stage.batches.store.manifest.fingerprint,
                _score(held_out),
                stage.engine.loss_scale(),
            )
            self._checkpoints.save(position, state)
        self._watch.beat()

    def _export(self, stage: TrainingStage, step: int, held_out: dict[str, float]) -> None:
        """Writes the student as it is behind a step. Every worker has to call it."""
        weights = stage.engine.full_weights(stage.learner.student)
        if self._rank == 0:
            last = step == self._training.steps
            folder = self._request.folder / (MODEL_FOLDER if last else f"{MODEL_FOLDER}-step-{step}")
            card = model_card(self._request.spec, self._request.stage, stage.batches.store.manifest, step, held_out)
            try:
                export_student(stage.learner.student, weights, stage.tokenizer, folder, card)
            except OSError as error:
                if last:
                    raise
                self._writer.note(f"the student of step {step:,} cannot be exported ({error}); the run goes on")
        self._watch.beat()

    def _held_out(self, stage: TrainingStage, step: int) -> dict[str, float]:
        """Losses and measures on held-out rows behind so many steps, reported; nothing where there are none."""
        max_rows = self._training.held_out_rows
        if max_rows == 0 or stage.batches.store.num_rows("held_out") < stage.engine.world_size:
            return {}
        batches = self._beating(stage.batches.held_out(max_rows))
        losses = evaluate(stage.engine, stage.learner, stage.targets, batches, max(0, step - 1))
        values = {metrics.HELD_OUT_PREFIX + name: value for name, value in losses.items()}
        if _MLM in values:
            # beyond 700 a float overflows
            values[metrics.HELD_OUT_PERPLEXITY.name] = math.exp(min(values[_MLM], 700.0))
        self._writer.metrics(step, values)
        return values

    def _beating(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        for batch in batches:
            self._watch.beat()
            yield batch


@dataclass(frozen=True)
class _Start:
    """Where all workers start from."""

    position: Position | None
    best: float
    stop: bool


def _score(held_out: dict[str, float]) -> float | None:
    score = held_out.get(_MLM, held_out.get(_LOSS))
    return score if score is not None and math.isfinite(score) else None


def _bring(request: StageRequest, *, everything: bool) -> None:
    """Brings to this machine what the stage reads, and with `everything` what was stored of the stage itself.

    Raises ConnectionError where the store is away: then it is tried again, as when a machine is away.
    """
    storage = request.storage
    try:
        if everything:
            storage.pull(request.folder, checkpoints=True)
        for path in (request.store, *map(Path, request.models.values())):
            storage.fetch(path.absolute())
    except OSError as error:
        raise ConnectionError(f"Connection to {storage.url} lost: {reason(error)}") from error


def _sole_writer(folder: Path) -> IO[str]:
    """Waits until no other process writes to the stage's folder: a worker of an earlier attempt may still be dying."""
    folder.mkdir(parents=True, exist_ok=True)
    file = (folder / "writer").open("w")
    fcntl.flock(file, fcntl.LOCK_EX)
    return file


@dataclass(frozen=True)
class _Writer:
    """The journal on rank 0, nothing elsewhere."""

    journal: Journal | None
    num_steps: int

    def start(self, request: StageRequest) -> None:
        if self.journal is not None:
            self.journal.start(request.stage, {**request.tags, **stage_tags(request.spec, request.stage)})
            self.journal.params(request.section.flat())

    def metrics(self, step: int, values: dict[str, float]) -> None:
        if self.journal is not None and values:
            self.journal.metrics(values, step, num_steps=self.num_steps)

    def saved(self, step: int) -> None:
        if self.journal is not None:
            self.journal.metrics({metrics.CHECKPOINT_TIME.name: time.time()}, step)

    def note(self, text: str) -> None:
        if self.journal is not None:
            self.journal.note(text)

    def sync(self) -> bool:
        return self.journal is None or self.journal.sync()

    def end(self, request: StageRequest) -> None:
        if self.journal is None:
            return
        if request.spec.tracking.register_models:
            name, tags = registered_name(request.spec, request.stage), stage_tags(request.spec, request.stage)
            self.journal.model(request.folder / MODEL_FOLDER, name, {**request.tags, **tags})
        self.journal.end()
