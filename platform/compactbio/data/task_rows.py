"""Task examples as rows of tokens: windows, the positions that carry a label, and batches of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from compactbio.data import counter
from compactbio.data.batches import Batch
from compactbio.data.examples import LabelledText, TaggedText
from compactbio.data.order import batch_rows

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_BATCHES_A_POOL = 16


@dataclass(frozen=True)
class Row:
    """One window of an example.

    positions: where the model's answer is read. labels: one tag id a position, or the 0/1 vector of a text.
    """

    example: int
    ids: list[int]
    positions: list[int]
    labels: list[int] | list[float]


@dataclass(frozen=True)
class TaskRows:
    """The rows of a set of examples, and how many texts were longer than a row."""

    rows: list[Row]
    num_cut: int


def encode_tagged(
    examples: Sequence[TaggedText], tags: list[str], tokenizer: PreTrainedTokenizerBase, max_tokens: int
) -> TaskRows:
    """Protocol `word`: the first sub-word carries the word's tag. Long texts become several windows of whole words.

    A word that the tokenizer has no piece for is seen as the unknown token, so that every word has a position.
    """
    tag_ids = {tag: index for index, tag in enumerate(tags)}
    rows = []
    for index, example in enumerate(examples):
        pieces = tokenizer(example.words, add_special_tokens=False, verbose=False)["input_ids"]
        window: list[int] = []
        positions: list[int] = []
        labels: list[int] = []
        for word_pieces, tag in zip(pieces, example.tags, strict=True):
            word_pieces = (word_pieces or [tokenizer.unk_token_id])[: max_tokens - 2]
            if len(window) + len(word_pieces) > max_tokens - 2:
                rows.append(Row(index, _enclosed(tokenizer, window), positions, labels))
                window, positions, labels = [], [], []
            positions.append(len(window) + 1)
            labels.append(tag_ids[tag])
            window += word_pieces
        rows.append(Row(index, _enclosed(tokenizer, window), positions, labels))
    return TaskRows(rows, num_cut=0)


def encode_labelled(
    examples: Sequence[LabelledText], num_labels: int, tokenizer: PreTrainedTokenizerBase, max_tokens: int
) -> TaskRows:
    """One label vector a text. Longer texts are cut, and counted."""
    encoded = tokenizer([example.text for example in examples], add_special_tokens=False, verbose=False)["input_ids"]
    rows = [
        Row(
            index,
            _enclosed(tokenizer, ids[: max_tokens - 2]),
            [0],
            [float(label in example.labels) for label in range(num_labels)],
        )
        for index, (example, ids) in enumerate(zip(examples, encoded, strict=True))
    ]
    return TaskRows(rows, num_cut=sum(len(ids) > max_tokens - 2 for ids in encoded))


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
    real = np.zeros((len(rows), width), dtype=bool)
    scored = np.zeros((len(rows), width), dtype=bool)
    for line, row in enumerate(rows):
        ids[line, : len(row.ids)] = row.ids
        real[line, : len(row.ids)] = True
        scored[line, row.positions] = True
    if isinstance(rows[0].labels[0], float):
        labels = torch.tensor([row.labels for row in rows])
    else:
        labels = torch.tensor([label for row in rows for label in row.labels])
    return Batch(torch.from_numpy(ids), torch.from_numpy(real), torch.from_numpy(scored), labels)


def _enclosed(tokenizer: PreTrainedTokenizerBase, ids: list[int]) -> list[int]:
    return [tokenizer.cls_token_id, *ids, tokenizer.sep_token_id]
