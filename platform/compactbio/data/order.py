"""Which rows make up global batch k: a function of (seed, k) that needs no memory for the corpus."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from compactbio.data import counter

Rows = NDArray[np.int64]

_ROUNDS = 4


def permute(index: NDArray[np.uint64], num_rows: int, key: int) -> NDArray[np.uint64]:
    """Where a permutation of range(num_rows), chosen by `key`, sends each index.

    A Feistel network over the smallest even number of bits that holds num_rows, walked until it lands inside
    (Black and Rogaway 2002, "Ciphers with arbitrary finite domains").
    """
    half = max(1, ((num_rows - 1).bit_length() + 1) // 2)
    low = np.uint64((1 << half) - 1)
    shift = np.uint64(half)
    out = index.astype(np.uint64)
    outside = np.ones(out.shape, dtype=bool)
    while outside.any():
        left, right = out[outside] >> shift, out[outside] & low
        for turn in range(_ROUNDS):
            left, right = right, left ^ (counter.at(key, turn, right) & low)
        out[outside] = (left << shift) | right
        outside = out >= num_rows
    return out


def batch_rows(seed: int, step: int, global_batch: int, num_rows: int) -> tuple[Rows, Rows]:
    """The rows of global batch `step`, and for each the pass over the corpus (epoch) that it belongs to.

    Every row comes up once an epoch; a batch may reach over the end of one.
    """
    position = np.arange(step * global_batch, (step + 1) * global_batch, dtype=np.uint64)
    epochs = position // np.uint64(num_rows)
    rows = np.empty(global_batch, dtype=np.uint64)
    for epoch in np.unique(epochs):
        here = epochs == epoch
        key = int(counter.at(seed, int(epoch), 0x6F72646572))
        rows[here] = permute(position[here] % np.uint64(num_rows), num_rows, key)
    return rows.astype(np.int64), epochs.astype(np.int64)


def deal(lengths: NDArray[np.int64], micro_batch: int, num_workers: int, rank: int) -> list[Rows]:
    """The micro-batches of worker `rank`, as positions in the global batch.

    Rows are sorted by length before they are cut, and the micro-batches dealt in turn, there and back again, so that
    there is little padding and every worker gets about the same work.
    """
    ordered = np.argsort(lengths, kind="stable")
    rounds = ordered.reshape(-1, num_workers, micro_batch)
    return [dealt[rank if turn % 2 == 0 else num_workers - 1 - rank] for turn, dealt in enumerate(rounds)]
