"""Which tokens of a row are scored, and what the model sees in their place."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from compactbio.data import counter
from compactbio.spec.corpus import Masking

_CHOOSE, _FATE, _REPLACE = 1, 2, 3


@dataclass(frozen=True)
class Vocabulary:
    """What masking has to know of a tokenizer."""

    size: int
    mask_id: int
    pad_id: int
    special_ids: tuple[int, ...]

    def is_special(self) -> NDArray[np.bool_]:
        """For each id, whether it is a special token."""
        special = np.zeros(self.size, dtype=bool)
        special[list(self.special_ids)] = True
        return special

    def ordinary_ids(self) -> NDArray[np.int64]:
        """The ids that may replace a token at random."""
        return np.flatnonzero(~self.is_special())


def mask_tokens(
    tokens: NDArray[np.int64], coordinates: NDArray[np.uint64], masking: Masking, vocabulary: Vocabulary
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """What the model sees, and which positions are scored, for padded rows.

    tokens: [B, T]. coordinates: [B], one word a row that stands for seed, epoch and row. In each row
    round(share x ordinary tokens), at least one, are scored: the count depends on the row's length alone, as in
    the code of Devlin et al. 2019. Rows without an ordinary token have none.
    """
    length = tokens.shape[1]
    ordinary = ~vocabulary.is_special()[tokens]
    positions = np.arange(length, dtype=np.uint64)[None, :]
    row = coordinates[:, None]
    draw = np.where(ordinary, counter.uniform(counter.at(row, _CHOOSE, positions)), 2.0)
    num_ordinary = ordinary.sum(axis=1)
    num_scored = np.where(num_ordinary > 0, np.maximum(1, np.rint(masking.share * num_ordinary)), 0)
    rank = np.empty_like(tokens)
    np.put_along_axis(rank, np.argsort(draw, axis=1, kind="stable"), np.arange(length)[None, :], axis=1)
    scored = rank < num_scored[:, None]

    fate = counter.uniform(counter.at(row, _FATE, positions))
    pool = vocabulary.ordinary_ids()
    replacement = pool[(counter.at(row, _REPLACE, positions) % np.uint64(len(pool))).astype(np.int64)]
    seen = np.where(scored & (fate < masking.mask), vocabulary.mask_id, tokens)
    randomised = scored & (fate >= masking.mask) & (fate < masking.mask + masking.random)
    return np.where(randomised, replacement, seen), scored
