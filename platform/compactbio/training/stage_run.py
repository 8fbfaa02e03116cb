"""A training stage from its first step, or its newest checkpoint, to its exported model."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch

from compactbio.data.batches import Batch
from compactbio.tracking import metrics
from compactbio.tracking.journal import Journal
from compactbio.training.checkpoint import CHECKPOINTS_FOLDER, CheckpointFolder, Position
from compactbio.training.export import export_student, model_card
from compactbio.training.loop import Report, Span, evaluate, steps
from compactbio.training.requests import MODEL_FOLDER, STOP_FILE, StageRequest
from compactbio.training.stage import TrainingStage, build_stage
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
        self._writer = _Writer(Journal(request.folder) if rank == 0 else None, training.steps)
        self._checkpoints = CheckpointFolder(
            request.folder / CHECKPOINTS_FOLDER, training.checkpoints, self._writer.note
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

    def __enter__(self) -> StageRun:
        return self

    def __exit__(self, *exception: object) -> None:
        self._checkpoints.wait()
        self._watch.close()

    def train(self) -> bool:
        """Trains to the end and exports, or to where the run is asked to stop. Returns whether it is finished."""
        self._writer.start(self._request)
        position = self._agree_on_start()
        state = self._checkpoints.tensors(position) if position is not None else None
        stage = build_stage(self._request, rank=self._rank, device=self._device, state=state, position=position)
        del state
        if position is None:
            position = Position(0, 0, self._request.spec.digest())
            self._held_out(stage, 0)
        elif self._rank == 0:
            self._writer.note(f"goes on from the checkpoint of step {position.step:,}")
        finished = position.step >= self._training.steps or self._steps(stage, position)
        if finished:
            self._export(stage, self._training.steps, self._held_out(stage, self._training.steps))
            self._checkpoints.wait()
            self._writer.end(self._request)
        stage.engine.close()
        return finished

    def _agree_on_start(self) -> Position | None:
        """Worker 0 looks for the newest whole checkpoint, and all take that one."""
        found = [self._checkpoints.newest_whole() if self._rank == 0 else None]
        if self._request.num_workers > 1:
            torch.distributed.broadcast_object_list(found, src=0, device=self._device)
        return found[0]

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
        )
        for report in reports:
            self._writer.metrics(report.step, report.values)
            if report.skipped:
                rows = stage.batches.rows(report.step - 1)
                self._writer.note(f"step {report.step:,} is not finite and was skipped; its rows: {rows}")
            if report.step == training.steps:
                continue
            held_out = self._held_out(stage, report.step) if report.step in self._evaluations else {}
            if report.step in self._exports:
                self._export(stage, report.step, held_out)
            if report.wishes.save or report.wishes.stop:
                self._save(stage, report, held_out)
            if report.wishes.stop:
                self._checkpoints.wait()
                self._writer.note(f"stopped behind step {report.step:,}, which is saved")
                return False
        return True

    def _save(self, stage: TrainingStage, report: Report, held_out: dict[str, float]) -> None:
        """Takes a copy of the state, and lets it be written while the steps go on. Every worker has to call it."""
        state = stage.engine.state(keep=self._rank == 0)
        if self._rank == 0:
            self._writer.sync()  # what is behind the checkpoint is never reported again
            position = Position(
                report.step,
                report.num_skipped,
                self._request.spec.digest(),
                held_out.get(_MLM, held_out.get(_LOSS)),
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
            export_student(stage.learner.student, weights, stage.tokenizer, folder, card)
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
class _Writer:
    """The journal on rank 0, nothing elsewhere."""

    journal: Journal | None
    num_steps: int

    def start(self, request: StageRequest) -> None:
        if self.journal is not None:
            self.journal.start(request.stage, {**request.tags, "stage": request.stage})
            self.journal.params(request.section.flat())

    def metrics(self, step: int, values: dict[str, float]) -> None:
        if self.journal is not None and values:
            self.journal.metrics(values, step, num_steps=self.num_steps)

    def note(self, text: str) -> None:
        if self.journal is not None:
            self.journal.note(text)

    def sync(self) -> None:
        if self.journal is not None:
            self.journal.sync()

    def end(self, request: StageRequest) -> None:
        if self.journal is None:
            return
        if request.spec.tracking.register_models:
            name = f"{request.spec.name}-{request.stage}"
            self.journal.model(request.folder / MODEL_FOLDER, name, {**request.tags, "stage": request.stage})
        self.journal.end()
