"""Fine-tuning one model on one task, and scoring it: one cell of the matrix of models and tasks."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import (
    AutoModelForTokenClassification,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    set_seed,
)

from compactbio.data.batches import Batch
from compactbio.data.ontology_tasks import read_branches, read_mentions
from compactbio.data.task_rows import Row, TaskBatches, TaskRows, collate, encode_labelled, encode_tagged
from compactbio.evaluation.documents import score_labels
from compactbio.evaluation.entities import score_entities
from compactbio.evaluation.score import Score
from compactbio.evaluation.significance import interval
from compactbio.models.architecture import layer_of
from compactbio.models.forward import Outputs
from compactbio.models.load import load_tokenizer, quiet_transformers
from compactbio.objectives.tasks import MultiLabelLoss, TagLoss, TaskLoss
from compactbio.spec.evaluation import MentionTask, Tuning
from compactbio.spec.references import locate
from compactbio.tracking import metrics
from compactbio.tracking.journal import Journal
from compactbio.training.engine import LocalEngine
from compactbio.training.learner import no_teacher
from compactbio.training.loop import Span, steps
from compactbio.training.optimiser import build_optimiser, build_schedule
from compactbio.training.requests import RESULT_FILE, Cell, CellResult

_ROWS_A_PREDICTION = 32


class TaskLearner(nn.Module):
    """A model with a task head, under the loss of the task."""

    def __init__(self, model: PreTrainedModel, loss: TaskLoss) -> None:
        super().__init__()
        self.model = model
        self._loss = loss
        self._by_token = isinstance(loss, TagLoss)
        self.parts = (loss.part,)
        self.measures: tuple[str, ...] = ()

    def logits(self, batch: Batch) -> Tensor:
        """[M, C]: one row for each labelled position, or for each text the mean of the rows of its tokens."""
        logits: Tensor = self.model(input_ids=batch.input_ids, attention_mask=batch.real.long()).logits
        if self._by_token:
            return logits[batch.scored]
        real = batch.real[..., None].to(logits.dtype)
        return (logits * real).sum(1) / real.sum(1)

    def forward(self, batch: Batch, targets: Outputs) -> Tensor:
        """The loss's total [1]; there is no teacher, so `targets` is empty."""
        return self._loss.total(self.logits(batch), batch)[None]

    def count(self, batch: Batch) -> Tensor:
        """The loss's denominator [1]."""
        return self._loss.count(batch)[None]

    def loss(self, totals: Tensor, counts: Tensor, step: int) -> Tensor:
        """The mean."""
        return torch.sum(totals / counts.clamp_min(1.0))


@dataclass(frozen=True)
class _Task:
    """A task as rows, and how the model's answers are scored."""

    names: list[str]
    train: TaskRows
    test: TaskRows
    gold: list[Any]
    protocol: str

    def score(self, answers: list[Tensor]) -> Score:
        """From the logits of each test row."""
        if self.protocol.startswith("word"):
            tags: list[list[str]] = [[] for _ in self.gold]
            for row, logits in zip(self.test.rows, answers, strict=True):
                tags[row.example] += [self.names[index] for index in logits.argmax(-1).tolist()]
            return score_entities(self.gold, tags)
        found = [frozenset(torch.nonzero(logits[0] > 0.0).flatten().tolist()) for logits in answers]
        return score_labels(self.gold, found, self.names)


def run_cell(cell: Cell) -> CellResult:
    """Fine-tunes, scores, and leaves model, result and journal in the cell's folder."""
    quiet_transformers()
    torch.set_num_threads(cell.threads)
    journal = Journal(cell.folder)
    tokenizer = load_tokenizer(cell.model, f"models.{cell.model_name}", online=cell.online)
    task = _read_task(cell, tokenizer)
    learner, new = _build_learner(cell, task.names)
    batches = TaskBatches(task.train.rows, cell.tuning.batch, cell.seed, tokenizer.pad_token_id)
    num_steps = batches.num_steps(cell.tuning.epochs)
    optimiser = build_optimiser(learner, cell.tuning, scales=learning_rates(learner, cell.tuning, new))
    warmup_steps = round(cell.tuning.warmup_share * num_steps)
    schedule = build_schedule(cell.tuning, steps=num_steps, warmup_steps=warmup_steps)
    engine = LocalEngine(
        learner, optimiser, schedule, max_grad_norm=cell.tuning.max_grad_norm, device=torch.device("cpu")
    )
    span = Span(num_steps)
    for report in steps(engine, learner, no_teacher, batches, span, report_every=10, seed=cell.seed):
        journal.metrics(report.values, report.step, num_steps=num_steps)
    engine.train(False)
    score = task.score(list(_answers(learner, task.test.rows, tokenizer.pad_token_id)))
    result = _result(cell, task, score)
    journal.metrics({metrics.SCORE_PREFIX + cell.task_name: result.score}, num_steps)
    learner.model.save_pretrained(cell.folder / "model")
    tokenizer.save_pretrained(cell.folder / "model")
    (cell.folder / RESULT_FILE).write_text(json.dumps(asdict(result)))
    return result


def _read_task(cell: Cell, tokenizer: PreTrainedTokenizerBase) -> _Task:
    length = cell.tuning.max_tokens
    if isinstance(cell.task, MentionTask):
        train, test, names = read_mentions(cell.task, cell.seed)
        return _Task(
            names,
            encode_tagged(train, names, tokenizer, length),
            encode_tagged(test, names, tokenizer, length),
            gold=[example.tags for example in test],
            protocol="word, entity F1, distant labels",
        )
    texts, test_texts, names = read_branches(cell.task, cell.seed)
    return _Task(
        names,
        encode_labelled(texts, len(names), tokenizer, length),
        encode_labelled(test_texts, len(names), tokenizer, length),
        gold=[example.labels for example in test_texts],
        protocol="multi-label, micro F1, mean of token logits, threshold 0.5",
    )


def _build_learner(cell: Cell, names: list[str]) -> tuple[TaskLearner, frozenset[str]]:
    """The learner, and the names of its parameters that the pretrained model does not have."""
    path = locate(cell.model, f"models.{cell.model_name}")
    set_seed(cell.seed)
    model, info = AutoModelForTokenClassification.from_pretrained(
        path,
        output_loading_info=True,
        local_files_only=not cell.online,
        dtype="float32",
        id2label=dict(enumerate(names)),
        label2id={name: index for index, name in enumerate(names)},
    )
    learner = TaskLearner(model, TagLoss() if isinstance(cell.task, MentionTask) else MultiLabelLoss())
    return learner, frozenset(f"model.{name}" for name in info["missing_keys"])


def learning_rates(learner: TaskLearner, tuning: Tuning, new: frozenset[str]) -> dict[str, float]:
    """Each parameter's share of the learning rate: more for new weights, less for each layer below the head."""
    depth = learner.model.config.num_hidden_layers
    rates = {}
    for name, _ in learner.named_parameters():
        layer = layer_of(name)
        below = depth - layer if layer is not None else (depth + 1 if "embeddings" in name else 0)
        rates[name] = tuning.layer_decay**below
        if name in new and tuning.new_lr is not None:
            rates[name] = tuning.new_lr / tuning.lr
    return rates


@torch.inference_mode()
def _answers(learner: TaskLearner, rows: list[Row], pad_id: int) -> Iterator[Tensor]:
    """The logits of each row [positions, C], in the rows' order; computed in batches of similar length."""
    order = sorted(range(len(rows)), key=lambda index: len(rows[index].ids))
    answers: dict[int, Tensor] = {}
    for start in range(0, len(order), _ROWS_A_PREDICTION):
        some = order[start : start + _ROWS_A_PREDICTION]
        logits = learner.logits(collate([rows[index] for index in some], pad_id))
        pieces = logits.split([len(rows[index].positions) for index in some])
        answers.update(zip(some, pieces, strict=True))
    for index in range(len(rows)):
        yield answers[index]


def _result(cell: Cell, task: _Task, score: Score) -> CellResult:
    bounds = interval(score.counts, score.main, cell.seed)
    return CellResult(
        model_name=cell.model_name,
        task_name=cell.task_name,
        protocol=task.protocol,
        metric=score.main,
        score=score.main_value,
        low=bounds.low,
        high=bounds.high,
        num_train=len({row.example for row in task.train.rows}),
        num_test=len(task.gold),
        num_cut=task.test.num_cut,
        counts=score.counts.tolist(),
    )
