"""Fine-tuning in length-bucketed batches against the plain transformers Trainer: rows a second, and the scores' spread.

    python tests/benchmarks/finetune_speed.py MODEL [--task NCBI-disease] [--rows 2000] [--epochs 2] [--seeds 3]

Both fine-tune the same model on the same rows (made by this project's encoding), with the same batch, optimiser,
schedule and threads, and are scored by the same code. The Trainer runs with its defaults otherwise: rows in random
order, padded to the longest of their batch by DataCollatorForTokenClassification. Its option
`train_sampling_strategy="group_by_length"` is off by default and is not used. The two take turns, seed by seed, in one
process, behind two steps of each that are not timed. What is timed is the training alone: no building, scoring, loading
or saving.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from transformers import (
    DataCollatorForTokenClassification,
    PreTrainedTokenizerBase,
    PrinterCallback,
    Trainer,
    TrainingArguments,
)

from compactbio.data.benchmarks import read_task
from compactbio.data.task_rows import Row, TaskBatches, TaskRows
from compactbio.models.load import load_tokenizer, quiet_transformers
from compactbio.spec.benchmarks import benchmark_tasks
from compactbio.spec.tuning import Tuning
from compactbio.training.engine import LocalEngine
from compactbio.training.learner import no_teacher
from compactbio.training.loop import Span, steps
from compactbio.training.optimiser import build_optimiser, build_schedule
from compactbio.training.task_kinds import TaskKind, task_kind
from compactbio.training.task_model import TaskLearner, TaskModel, answers, learning_rates, load_task_model

_NO_LABEL = -100
_LOG_EVERY = 10


@dataclass(frozen=True)
class Bench:
    """What both have in common."""

    model: str
    kind: TaskKind
    tuning: Tuning
    train: TaskRows
    tokenizer: PreTrainedTokenizerBase
    num_epochs: int

    def load(self, seed: int) -> TaskModel:
        return load_task_model(self.model, "MODEL", self.kind.head, seed=seed, online=False)

    @property
    def pad_id(self) -> int:
        return self.tokenizer.pad_token_id

    @property
    def num_rows(self) -> int:
        return len(self.train.rows) * self.num_epochs


def ours(bench: Bench, loaded: TaskModel, seed: int) -> Callable[[], None]:
    """This project's training, ready to start."""
    rows, tuning = bench.train.rows, bench.tuning
    batches = TaskBatches(rows, tuning.batch, seed, bench.pad_id)
    num_steps = batches.num_steps(bench.num_epochs)
    learner = TaskLearner(loaded.model, bench.kind.head.reading, bench.kind.loss(rows))
    optimiser = build_optimiser(learner, tuning, scales=learning_rates(learner, tuning))
    schedule = build_schedule(tuning, steps=num_steps, warmup_steps=round(tuning.warmup_share * num_steps))
    engine = LocalEngine(learner, optimiser, schedule, max_grad_norm=tuning.max_grad_norm, device=torch.device("cpu"))

    def train() -> None:
        for _ in steps(engine, learner, no_teacher, batches, Span(num_steps), report_every=_LOG_EVERY, seed=seed):
            pass

    return train


def theirs(bench: Bench, loaded: TaskModel, seed: int) -> Callable[[], None]:
    """The Trainer, ready to start."""
    tuning = bench.tuning
    arguments = TrainingArguments(
        output_dir=tempfile.gettempdir(),  # nothing is written there: save_strategy is "no"
        per_device_train_batch_size=tuning.batch,
        num_train_epochs=bench.num_epochs,
        learning_rate=tuning.lr,
        weight_decay=tuning.weight_decay,
        lr_scheduler_type=tuning.schedule,
        warmup_steps=tuning.warmup_share,
        max_grad_norm=tuning.max_grad_norm,
        seed=seed,
        logging_steps=_LOG_EVERY,
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
        use_cpu=True,
    )
    collator = DataCollatorForTokenClassification(bench.tokenizer)
    trainer = Trainer(loaded.model, arguments, train_dataset=_examples(bench.train.rows), data_collator=collator)
    trainer.remove_callback(PrinterCallback)
    return lambda: trainer.train() and None


def _examples(rows: list[Row]) -> list[dict[str, list[int]]]:
    examples = []
    for row in rows:
        labels = [_NO_LABEL] * len(row.ids)
        for position, label in zip(row.positions, row.labels, strict=True):
            labels[position] = int(label)
        examples.append({"input_ids": row.ids, "attention_mask": [1] * len(row.ids), "labels": labels})
    return examples


_WAYS = {"compactbio": ours, "Trainer": theirs}


def warm_up(bench: Bench) -> None:
    """Two steps of each, so that neither pays for what is imported and set up once."""
    few = replace(bench, train=TaskRows(bench.train.rows[: 2 * bench.tuning.batch], 0), num_epochs=1)
    for way in _WAYS.values():
        way(few, few.load(0), 0)()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", help="a folder, or package:NAME/inside/path")
    parser.add_argument("--task", default="NCBI-disease", help="a benchmark of named entity recognition")
    parser.add_argument("--rows", type=int, default=2000, help="training sentences")
    parser.add_argument("--test", type=int, default=500, help="test sentences")
    parser.add_argument("--lr", type=float, default=1e-4)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    quiet_transformers()
    torch.set_num_threads(given.threads)
    [task] = benchmark_tasks([given.task]).values()
    task = task.model_copy(update={"max_train": given.rows, "max_dev": 1, "max_test": given.test})
    tuning = Tuning.model_validate({"preset": "rohanian-ner", "lr": given.lr, "batch": given.batch})
    data = read_task(task)
    tokenizer = load_tokenizer(given.model, "MODEL", online=False)
    kind = task_kind(task, data, tokenizer, tuning, seed=1)
    train, test = kind.encode(data.train, training=True), kind.encode(data.test, training=False)
    bench = Bench(given.model, kind, tuning, train, tokenizer, given.epochs)
    speeds: dict[str, list[float]] = {name: [] for name in _WAYS}
    scores: dict[str, list[float]] = {name: [] for name in _WAYS}
    lengths = sorted(len(row.ids) for row in train.rows)
    middle = lengths[len(lengths) // 2]
    print(f"{given.task}: {len(train.rows)} rows of {lengths[0]} to {lengths[-1]} tokens, median {middle};")
    print(f"batch {given.batch}, {given.epochs} epochs, {given.threads} threads, {tuning.schedule}, lr {tuning.lr:g}")
    warm_up(bench)
    for seed in range(1, given.seeds + 1):
        for name in sorted(_WAYS, reverse=seed % 2 == 0):  # neither is always first
            loaded = bench.load(seed)
            start = _WAYS[name](bench, loaded, seed)
            started = time.perf_counter()
            start()
            speeds[name].append(bench.num_rows / (time.perf_counter() - started))
            loaded.model.eval()
            logits = answers(loaded.model, test.rows, bench.pad_id, kind.head.reading, torch.device("cpu"))
            scores[name].append(kind.judge(data.test, test.rows, logits).score.main_value)
            print(f"seed {seed}  {name:<10}  {speeds[name][-1]:8.1f} rows/s  F1 {scores[name][-1]:.2f}", flush=True)
    summarise(speeds, scores)


def summarise(speeds: dict[str, list[float]], scores: dict[str, list[float]]) -> None:
    """Prints the ratio of the speeds, and the difference of the scores beside their spread over seeds."""
    ratios = [one / other for one, other in zip(speeds["compactbio"], speeds["Trainer"], strict=True)]
    middle, low, high = statistics.median(ratios), min(ratios), max(ratios)
    print(f"rows a second, ours / theirs: median {middle:.2f} ({low:.2f} to {high:.2f})")
    means, ranges = [], []
    for name, found in scores.items():
        means.append(statistics.fmean(found))
        ranges.append(max(found) - min(found))
        print(f"F1 of {name}: {means[-1]:.2f}, {min(found):.2f} to {max(found):.2f}")
    if max(map(len, scores.values())) < 2:
        print("one seed has no spread: the scores cannot be compared")
        return
    within = "within" if abs(means[0] - means[1]) <= max(ranges) else "NOT within"
    print(
        f"difference of the means {means[0] - means[1]:+.2f} points: {within} the range over seeds, {max(ranges):.2f}"
    )


if __name__ == "__main__":
    main()
