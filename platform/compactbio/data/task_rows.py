"""Rows of task examples, and batches of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from compactbio.data import counter
from compactbio.data.batches import Batch
from compactbio.data.order import batch_rows

_BATCHES_A_POOL = 16


@dataclass(frozen=True)
class Row:
    """One window of an example.

    positions: where the model's answer is read, in order. labels: one class a position, the class or the 0/1 vector of
    a text, or the first and last position of an answer. segments: 0 and 1 for the first and second text of a pair.
    offsets: for each position the characters of the text that its token stands for, where somebody needs them.
    """

    example: int
    ids: list[int]
    positions: list[int]
    labels: list[int] | list[float]
    segments: list[int] | None = None
    offsets: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True)
class TaskRows:
    """The rows of a set of examples, in their order, and how many texts were longer than a row and were cut."""

    rows: list[Row]
    num_cut: int


@dataclass(frozen=True)
class TaskBatches:
    """The batches of a fine-tuning: batch k is a function of (seed, k)."""

    rows: list[Row]
    batch: int
    seed: int
    pad_id: int

    def __call__(self, step: int) -> list[Batch]:
        """The one micro-batch of step `step`, counted from 0.

        Rows are drawn in pools of several batches and sorted by length inside a pool, whose batches then come in
        random order: there is little padding, and every row still comes up once an epoch.
        """
        pool, turn = divmod(step, _BATCHES_A_POOL)
        picked, _ = batch_rows(self.seed, pool, self.batch * _BATCHES_A_POOL, len(self.rows))
        by_length = sorted(picked.tolist(), key=lambda index: len(self.rows[index].ids))
        shuffled = np.argsort(counter.at(self.seed, pool, np.arange(_BATCHES_A_POOL, dtype=np.uint64)))
        start = int(shuffled[turn]) * self.batch
        return [collate([self.rows[index] for index in by_length[start : start + self.batch]], self.pad_id)]

    def num_steps(self, epochs: int) -> int:
        """Steps that see every row `epochs` times."""
        return -(-len(self.rows) * epochs // self.batch)


def collate(rows: Sequence[Row], pad_id: int) -> Batch:
    """Rows padded to the longest of them."""
    width = max(len(row.ids) for row in rows)
    ids = np.full((len(rows), width), pad_id, dtype=np.int64)
    segments = np.zeros((len(rows), width), dtype=np.int64)
    real = np.zeros((len(rows), width), dtype=bool)
    scored = np.zeros((len(rows), width), dtype=bool)
    for line, row in enumerate(rows):
        ids[line, : len(row.ids)] = row.ids
        segments[line, : len(row.ids)] = row.segments or 0
        real[line, : len(row.ids)] = True
        scored[line, row.positions] = True
    if rows[0].labels and isinstance(rows[0].labels[0], float):
        labels = torch.tensor([row.labels for row in rows])
    else:
        labels = torch.tensor([label for row in rows for label in row.labels])
    return Batch(
        torch.from_numpy(ids),
        torch.from_numpy(real),
        torch.from_numpy(scored),
        labels,
        torch.from_numpy(segments) if rows[0].segments is not None else None,
    )
