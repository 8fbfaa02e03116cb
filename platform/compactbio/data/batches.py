"""Micro-batches: what one forward pass sees."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from compactbio.data import counter
from compactbio.data.masking import Vocabulary, mask_tokens
from compactbio.data.order import Rows, batch_rows, deal
from compactbio.data.store import TokenStore
from compactbio.spec.corpus import Masking
from compactbio.spec.plan import BatchPlan

_HELD_OUT_EPOCH = 2**40  # its masks never coincide with those of training


@dataclass(frozen=True)
class Batch:
    """Rows of tokens, padded on the right.

    input_ids [B, T]: what the model sees. real [B, T]: true where there is no padding.
    scored [B, T]: true at the positions that have a label. labels [M]: their labels, in row-major order.
    """

    input_ids: Tensor
    real: Tensor
    scored: Tensor
    labels: Tensor

    def to(self, device: torch.device) -> Batch:
        """The same batch on a device."""
        if device.type == "cuda":  # copied while earlier work is computed
            pinned = {name: tensor.pin_memory() for name, tensor in vars(self).items()}
            return replace(self, **{name: tensor.to(device, non_blocking=True) for name, tensor in pinned.items()})
        return replace(self, **{name: tensor.to(device) for name, tensor in vars(self).items()})

    @property
    def num_real(self) -> int:
        """Tokens that are not padding."""
        return int(self.real.sum())


@dataclass(frozen=True)
class MlmBatches:
    """The masked batches of a run: batch k is a function of (seed, k)."""

    store: TokenStore
    vocabulary: Vocabulary
    masking: Masking
    seed: int
    plan: BatchPlan
    rank: int

    def __call__(self, step: int) -> list[Batch]:
        """The micro-batches of this worker in global batch `step`, counted from 0."""
        rows, epochs = batch_rows(self.seed, step, self.plan.global_batch, self.store.num_rows())
        lengths = self.store.lengths(rows)
        dealt = deal(lengths, self.plan.micro_batch, self.plan.num_workers, self.rank)
        return [self._batch(rows[picked], epochs[picked], "train") for picked in dealt]

    def rows(self, step: int) -> list[int]:
        """The numbers of the rows of global batch `step`, counted from 0."""
        return batch_rows(self.seed, step, self.plan.global_batch, self.store.num_rows())[0].tolist()

    def held_out(self, max_rows: int) -> Iterator[Batch]:
        """This worker's part of the first `max_rows` held-out rows, always under the same masks.

        Whole global batches where there is at least one, so that every worker has as many micro-batches.
        """
        num_rows = min(max_rows, self.store.num_rows("held_out"))
        unit = self.plan.global_batch if num_rows >= self.plan.global_batch else self.plan.num_workers
        num_rows -= num_rows % unit
        rows = np.arange(num_rows)[self.rank :: self.plan.num_workers]
        rows = rows[np.argsort(self.store.lengths(rows, "held_out"), kind="stable")]
        for start in range(0, len(rows), self.plan.micro_batch):
            some = rows[start : start + self.plan.micro_batch]
            yield self._batch(some, np.full(len(some), _HELD_OUT_EPOCH), "held_out")

    def _batch(self, rows: Rows, epochs: NDArray[np.int64], split: str) -> Batch:
        tokens = self.store.padded(rows, self.vocabulary.pad_id, split)
        coordinates = counter.at(self.seed, epochs.astype(np.uint64), rows.astype(np.uint64))
        seen, scored = mask_tokens(tokens, coordinates, self.masking, self.vocabulary)
        real = np.arange(tokens.shape[1])[None, :] < self.store.lengths(rows, split)[:, None]
        return Batch(
            input_ids=torch.from_numpy(seen),
            real=torch.from_numpy(real),
            scored=torch.from_numpy(scored),
            labels=torch.from_numpy(tokens[scored]),
        )
