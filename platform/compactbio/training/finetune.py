"""Fine-tuning one model on one task, and scoring it: one cell of the matrix of models, tasks and seeds."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor
from transformers import PreTrainedModel

from compactbio.data.benchmarks import read_task
from compactbio.data.examples import Example, PlainText, TaskData
from compactbio.data.task_rows import TaskBatches, TaskRows
from compactbio.data.whole import save_array, whole_folder
from compactbio.evaluation.score import Score
from compactbio.models.architecture import longest_input
from compactbio.models.load import load_masked_lm, load_tokenizer, quiet_transformers
from compactbio.objectives.tasks import TeacherLoss
from compactbio.spec.base import SpecError
from compactbio.spec.tuning import Tuning
from compactbio.tracking import metrics
from compactbio.tracking.cell_files import COUNTS_FILE, PREDICTIONS_FILE, RESULT_FILE
from compactbio.tracking.journal import Journal
from compactbio.training.engine import LocalEngine
from compactbio.training.judged import Judged, tab_separated
from compactbio.training.learner import no_teacher
from compactbio.training.loop import Span, Targets, steps
from compactbio.training.masked_text import score_masked_text
from compactbio.training.optimiser import build_optimiser, build_schedule
from compactbio.training.requests import MODEL_FOLDER, Cell, CellResult
from compactbio.training.task_kinds import TaskKind, task_kind
from compactbio.training.task_model import (
    TaskLearner,
    TaskModel,
    TaskTeacher,
    answers,
    fit_tokenizer,
    freeze,
    learning_rates,
    load_task_model,
    weights_digest,
)

_REPORT_EVERY_STEPS = 10


@dataclass(frozen=True)
class _Tuned:
    """How a fine-tuning ended: the model holds the weights that are kept."""

    num_steps: int
    kept_step: int
    dev_score: float | None


@dataclass(frozen=True)
class _Outcome:
    """What a cell did, before it is written down."""

    judged: Judged
    tuned: _Tuned
    digest: str
    num_cut: int


def run_cell(cell: Cell) -> CellResult:
    """Fine-tunes and scores, and leaves the result, what it was computed from and the model in the cell's folder."""
    started = time.monotonic()
    quiet_transformers()
    torch.set_num_threads(cell.threads)
    device = torch.device("cuda" if cell.use_gpu else "cpu")
    data = read_task(cell.task, f"tasks.{cell.task_name}")
    journal = Journal(cell.folder)
    outcome = (_fill_in if cell.tuning is None else _fine_tune)(cell, data, journal, device)
    result = _result(cell, data, outcome, time.monotonic() - started)
    scores = {metrics.SCORE_PREFIX + name: score for name, score in result.scores.items()}
    journal.metrics(scores, outcome.tuned.num_steps)
    _write(outcome.judged, cell.folder)
    (cell.folder / RESULT_FILE).write_text(json.dumps(asdict(result), indent=1), encoding="utf-8")
    for file in (RESULT_FILE, PREDICTIONS_FILE, *outcome.judged.files):
        if (cell.folder / file).exists():
            journal.artifact(cell.folder / file)
    return result


def _fine_tune(cell: Cell, data: TaskData[Example], journal: Journal, device: torch.device) -> _Outcome:
    assert cell.tuning is not None
    tokenizer = load_tokenizer(cell.model, cell.field, online=cell.online)
    kind = task_kind(cell.task, data, tokenizer, cell.tuning, cell.seed)
    loaded = load_task_model(cell.model, cell.field, kind.head, seed=cell.seed, online=cell.online)
    fit_tokenizer(tokenizer, loaded.model)
    if cell.tuning.max_tokens > longest_input(loaded.model.config):
        most = longest_input(loaded.model.config)
        raise SpecError.at(cell.field, f"it reads {most} tokens at most, tuning.max_tokens is {cell.tuning.max_tokens}")
    freeze(loaded.model, cell.tuning, cell.field)
    scored = _Scored(kind, tokenizer.pad_token_id, device)
    tuned = _tune(cell, cell.tuning, loaded, data, scored, journal)
    test = kind.encode(data.test, training=False)
    judged = scored(loaded.model, data.test, test)
    with whole_folder(cell.folder / MODEL_FOLDER) as making:
        loaded.model.save_pretrained(making)
        tokenizer.save_pretrained(making)
    return _Outcome(judged, tuned, loaded.digest, test.num_cut)


def _fill_in(cell: Cell, data: TaskData[Example], journal: Journal, device: torch.device) -> _Outcome:
    """Scores a masked language model as it is."""
    tokenizer = load_tokenizer(cell.model, cell.field, online=cell.online)
    model = load_masked_lm(cell.model, cell.field, online=cell.online, seed=cell.seed).to(device)
    texts = [example for example in data.test if isinstance(example, PlainText)]
    score = score_masked_text(model, tokenizer, texts, seed=cell.seed, field=cell.field, device=device)
    return _Outcome(Judged(score), _Tuned(0, 0, None), weights_digest(model), num_cut=0)


@dataclass(frozen=True)
class _Scored:
    """Scores a model on examples with dropout off."""

    kind: TaskKind
    pad_id: int
    device: torch.device

    def __call__(self, model: PreTrainedModel, examples: Sequence[Example], rows: TaskRows) -> Judged:
        model.eval()
        logits = answers(model, rows.rows, self.pad_id, self.kind.head.reading, self.device)
        return self.kind.judge(examples, rows.rows, logits)


def _tune(
    cell: Cell, tuning: Tuning, loaded: TaskModel, data: TaskData[Example], scored: _Scored, journal: Journal
) -> _Tuned:
    """Trains the model, and leaves in it the weights of the last step or those that were best on the dev set."""
    kind = scored.kind
    rows = kind.encode(data.train, training=True).rows
    batches = TaskBatches(rows, tuning.batch, cell.seed, scored.pad_id)
    num_steps = batches.num_steps(tuning.epochs)
    targets, taught = _teaching(cell, kind, scored.device)
    learner = TaskLearner(loaded.model, kind.head.reading, kind.loss(rows), taught)
    engine = LocalEngine(
        learner,
        build_optimiser(learner, tuning, scales=learning_rates(learner, tuning)),
        build_schedule(tuning, steps=num_steps, warmup_steps=round(tuning.warmup_share * num_steps)),
        max_grad_norm=tuning.max_grad_norm,
        device=scored.device,
    )
    every = tuning.evaluate_every_steps or batches.num_steps(1)
    looks = data.dev and (tuning.looks_at_dev or tuning.evaluate_every_steps is not None)
    due = {*range(every, num_steps + 1, every), num_steps} if looks else set()
    due |= {num_steps} if data.dev and tuning.score_dev else set()
    dev_rows = kind.encode(data.dev, training=False) if due else None
    best = _Best(loaded.model, tuning)
    done = 0
    for report in steps(
        engine,
        learner,
        targets,
        batches,
        Span(num_steps),
        report_every=_REPORT_EVERY_STEPS,
        seed=cell.seed,
        report_at=due,
    ):
        done = report.step
        journal.metrics(report.values, done, num_steps=num_steps)
        if done in due and dev_rows is not None:
            score = scored(loaded.model, data.dev, dev_rows).score
            journal.metrics({metrics.DEV_PREFIX + score.main: score.main_value}, done)
            engine.train(True)
            if best.is_enough(done, score):
                break
    return best.restore(done)


def _teaching(cell: Cell, kind: TaskKind, device: torch.device) -> tuple[Targets, tuple[TeacherLoss, float] | None]:
    if cell.distillation is None:
        return no_teacher, None
    assert cell.teacher is not None
    head, section = kind.head, cell.distillation
    loss = TeacherLoss(section.loss, section.temperature, head.reading, len(head.names), head.multi_label)
    return TaskTeacher(cell.teacher / MODEL_FOLDER, head.reading, device), (loss, section.alpha)


class _Best:
    """Remembers the best weights so far, and when it is time to stop."""

    def __init__(self, model: PreTrainedModel, tuning: Tuning) -> None:
        self._model = model
        self._tuning = tuning
        self._weights: dict[str, Tensor] | None = None
        self._step = 0
        self._value: float | None = None
        self._last: float | None = None
        self._num_worse = 0

    def is_enough(self, step: int, score: Score) -> bool:
        """Takes note of a score on the development set. Returns whether to stop."""
        self._last = score.main_value
        if self._value is None or self._last > self._value:
            self._value, self._step, self._num_worse = self._last, step, 0
            if self._tuning.keep == "best":
                self._weights = {name: value.detach().clone() for name, value in self._model.state_dict().items()}
        else:
            self._num_worse += 1
        return self._tuning.patience is not None and self._num_worse >= self._tuning.patience

    def restore(self, num_steps: int) -> _Tuned:
        """Puts the weights that are kept into the model."""
        if self._weights is None:
            return _Tuned(num_steps, num_steps, self._last)
        self._model.load_state_dict(self._weights)
        return _Tuned(num_steps, self._step, self._value)


def _write(judged: Judged, folder: Path) -> None:
    save_array(folder / COUNTS_FILE, judged.score.counts)
    if judged.header:
        (folder / PREDICTIONS_FILE).write_text(tab_separated(judged.header, judged.lines), encoding="utf-8")
    for name, write in judged.files.items():
        write(folder / name)


def _result(cell: Cell, data: TaskData[Example], outcome: _Outcome, seconds: float) -> CellResult:
    score, tuned = outcome.judged.score, outcome.tuned
    return CellResult(
        model_name=cell.model_name,
        task_name=cell.task_name,
        seed=cell.seed,
        setting=cell.task.setting,
        protocol=cell.task.protocol_name,
        split=cell.task.split,
        data_fingerprint=data.fingerprint,
        model_digest=outcome.digest,
        main=score.main,
        scores=score.values,
        detail=score.detail,
        sizes={"train": len(data.train), "dev": len(data.dev), "test": len(data.test)},
        num_cut=outcome.num_cut,
        num_steps=tuned.num_steps,
        kept_step=tuned.kept_step,
        dev_score=tuned.dev_score,
        seconds=seconds,
        notes=data.notes,
    )
