"""What every Ray Train worker of a training stage runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import ray.train
import ray.train.torch
import torch

from compactbio.models.load import quiet_transformers
from compactbio.tracking import metrics
from compactbio.tracking.journal import Journal
from compactbio.training.export import export_student, model_card
from compactbio.training.loop import evaluate, steps
from compactbio.training.stage import StageTask, TrainingStage, build_stage

MODEL_FOLDER = "model"


def train(config: dict[str, Any]) -> None:
    """Trains one stage and exports its student; `config` holds the StageTask under `task`.

    Rank 0 alone writes the journal and the model.
    """
    task: StageTask = config["task"]
    context = ray.train.get_context()
    rank = context.get_world_rank()
    quiet_transformers()
    torch.set_num_threads(task.spec.cluster.cpus_per_worker)
    stage = build_stage(task, rank=rank, device=ray.train.torch.get_device())
    writer = _Writer(Journal(task.folder) if rank == 0 else None, task.section.training.steps)
    training = task.section.training

    writer.metrics(0, _held_out(stage, training.held_out_rows))
    for report in steps(
        stage.engine, stage.learner, stage.targets, stage.batches,
        num_steps=training.steps, report_every=training.report_every_steps, seed=task.spec.seed,
    ):
        writer.metrics(report.step, report.values)
    held_out = _held_out(stage, training.held_out_rows)
    writer.metrics(training.steps, held_out)

    weights = stage.engine.full_weights(stage.learner.student)
    if rank == 0:
        card = model_card(task.spec, task.stage, stage.batches.store.manifest.fingerprint, held_out)
        export_student(stage.learner.student, weights, stage.tokenizer, task.folder / MODEL_FOLDER, card)
    torch.distributed.barrier()


def _held_out(stage: TrainingStage, max_rows: int) -> dict[str, float]:
    if max_rows == 0 or stage.batches.store.num_rows("held_out") < stage.engine.world_size:
        return {}
    losses = evaluate(stage.engine, stage.learner, stage.targets, stage.batches.held_out(max_rows))
    return {metrics.HELD_OUT_PREFIX + name: value for name, value in losses.items()}


@dataclass(frozen=True)
class _Writer:
    """The journal on rank 0, nothing elsewhere."""

    journal: Journal | None
    num_steps: int

    def metrics(self, step: int, values: dict[str, float]) -> None:
        if self.journal is not None and values:
            self.journal.metrics(values, step, num_steps=self.num_steps)


