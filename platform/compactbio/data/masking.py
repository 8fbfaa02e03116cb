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
    inner_ids: tuple[int, ...] = ()
    """Tokens that go on with the word of the token before them."""

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
    the code of Devlin et al. 2019. Rows without an ordinary token have none. Under `whole_words` the last word
    that is chosen is scored to its end, so there may be a few more.
    """
    length = tokens.shape[1]
    ordinary = ~vocabulary.is_special()[tokens]
    positions = np.arange(length, dtype=np.uint64)[None, :]
    row = coordinates[:, None]
    words = (
        _word_starts(tokens, ordinary, vocabulary) if masking.whole_words else np.broadcast_to(positions, tokens.shape)
    )
    draw = np.where(ordinary, counter.uniform(counter.at(row, _CHOOSE, words)), 2.0)
    num_ordinary = ordinary.sum(axis=1)
    num_scored = np.where(num_ordinary > 0, np.maximum(1, np.rint(masking.share * num_ordinary)), 0)
    rank = np.empty_like(tokens)
    np.put_along_axis(rank, np.argsort(draw, axis=1, kind="stable"), np.arange(length)[None, :], axis=1)
    word_rank = np.take_along_axis(rank, words.astype(np.int64), axis=1)
    scored = ordinary & (word_rank < num_scored[:, None])

    fate = counter.uniform(counter.at(row, _FATE, positions))
    pool = vocabulary.ordinary_ids()
    replacement = pool[(counter.at(row, _REPLACE, positions) % np.uint64(len(pool))).astype(np.int64)]
    seen = np.where(scored & (fate < masking.mask), vocabulary.mask_id, tokens)
    randomised = scored & (fate >= masking.mask) & (fate < masking.mask + masking.random)
    return np.where(randomised, replacement, seen), scored


def _word_starts(tokens: NDArray[np.int64], ordinary: NDArray[np.bool_], vocabulary: Vocabulary) -> NDArray[np.uint64]:
    """For each position the position at which its word begins [B, T]."""
    inner = np.zeros(vocabulary.size, dtype=bool)
    inner[list(vocabulary.inner_ids)] = True
    goes_on = inner[tokens]
    goes_on[:, 1:] &= ordinary[:, :-1]
    goes_on[:, 0] = False
    positions = np.arange(tokens.shape[1], dtype=np.uint64)[None, :]
    return np.maximum.accumulate(np.where(goes_on, np.uint64(0), positions), axis=1)
