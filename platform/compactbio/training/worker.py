"""What every Ray Train worker runs. Ray's controller imports this module too, so it is light by itself."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from compactbio.tracking import metrics
from compactbio.tracking.journal import Journal
from compactbio.training.requests import MODEL_FOLDER, StageRequest

if TYPE_CHECKING:
    from compactbio.spec.training import Training
    from compactbio.training.stage import TrainingStage

_MLM = f"{metrics.LOSS_PART_PREFIX}mlm"


def train(config: dict[str, Any]) -> None:
    """Runs the training stages in `config["stages"]`, a list of StageRequest, one after the other.

    They share one start of workers, which costs more than a short stage. Rank 0 alone writes journals and models.
    """
    import ray.train
    import ray.train.torch
    import torch

    from compactbio.models.load import quiet_transformers

    quiet_transformers()
    rank = ray.train.get_context().get_world_rank()
    device = ray.train.torch.get_device()
    for request in config["stages"]:
        torch.set_num_threads(request.spec.cluster.cpus_per_worker)
        _run_stage(request, rank, device)
        torch.distributed.barrier()  # the next stage may read the model that rank 0 has just written


def _run_stage(request: StageRequest, rank: int, device: Any) -> None:
    from compactbio.training.loop import steps
    from compactbio.training.stage import build_stage

    spec, training = request.spec, request.section.training
    writer = _Writer(Journal(request.folder) if rank == 0 else None, training.steps)
    writer.start(request)
    stage = build_stage(request, rank=rank, device=device)
    writer.metrics(0, _held_out(stage, training, 0))
    evaluations = {*range(0, training.steps, training.evaluate_every_steps or training.steps), training.steps} - {0}
    exports = {training.steps, *training.export_at_steps}
    for report in steps(
        stage.engine,
        stage.learner,
        stage.targets,
        stage.batches,
        num_steps=training.steps,
        report_every=training.report_every_steps,
        report_at=evaluations | exports,
        seed=spec.seed,
    ):
        writer.metrics(report.step, report.values)
        held_out: dict[str, float] = {}
        if report.step in evaluations:
            held_out = _held_out(stage, training, report.step)
            writer.metrics(report.step, held_out)
        if report.step in exports:
            _export(request, stage, rank, report.step, held_out)
    stage.engine.close()
    writer.end(request)


def _export(request: StageRequest, stage: TrainingStage, rank: int, step: int, held_out: dict[str, float]) -> None:
    """Writes the student as it is behind a step. Every worker has to call it."""
    from compactbio.training.export import export_student, model_card

    weights = stage.engine.full_weights(stage.learner.student)
    if rank == 0:
        last = step == request.section.training.steps
        folder = request.folder / (MODEL_FOLDER if last else f"{MODEL_FOLDER}-step-{step}")
        card = model_card(request.spec, request.stage, stage.batches.store.manifest, step, held_out)
        export_student(stage.learner.student, weights, stage.tokenizer, folder, card)


def _held_out(stage: TrainingStage, training: Training, step: int) -> dict[str, float]:
    """Losses and measures on held-out rows behind so many steps; nothing where there are none."""
    from compactbio.training.loop import evaluate

    max_rows = training.held_out_rows
    if max_rows == 0 or stage.batches.store.num_rows("held_out") < stage.engine.world_size:
        return {}
    batches = stage.batches.held_out(max_rows)
    losses = evaluate(stage.engine, stage.learner, stage.targets, batches, max(0, step - 1))
    values = {metrics.HELD_OUT_PREFIX + name: value for name, value in losses.items()}
    if _MLM in losses:
        values[metrics.HELD_OUT_PERPLEXITY.name] = math.exp(min(losses[_MLM], 700.0))  # beyond, a float overflows
    return values


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

    def end(self, request: StageRequest) -> None:
        if self.journal is None:
            return
        if request.spec.tracking.register_models:
            name = f"{request.spec.name}-{request.stage}"
            self.journal.model(request.folder / MODEL_FOLDER, name, {**request.tags, "stage": request.stage})
        self.journal.end()
