"""Random numbers that are a function of their coordinates: no state, no order of drawing.

Everything random about the data (order of rows, masks, splits) comes from here, so that it does not depend
on the number of workers, the micro-batch, or what ran before.
"""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

Words = NDArray[np.uint64]

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_TO_UNIT = 2.0**-53


def mix(words: Words) -> Words:
    """The finaliser of SplitMix64 (Steele, Lea and Flood 2014): a bijection of 64-bit words that scatters them."""
    with np.errstate(over="ignore"):
        words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return words ^ (words >> np.uint64(31))


def at(*coordinates: int | Words) -> Words:
    """A 64-bit word for each point of the broadcast coordinates."""
    state = np.asarray(0, dtype=np.uint64)
    with np.errstate(over="ignore"):
        for coordinate in coordinates:
            state = mix((state + _GOLDEN) ^ mix(np.asarray(coordinate, dtype=np.uint64) + _GOLDEN))
    return state


def uniform(words: Words) -> NDArray[np.float64]:
    """Numbers in [0, 1) from 64-bit words."""
    return (words >> np.uint64(11)).astype(np.float64) * _TO_UNIT


def bucket(identity: str) -> float:
    """A number in [0, 1) that depends on the text alone: the same document falls into the same share for ever."""
    return int.from_bytes(hashlib.sha256(identity.encode()).digest()[:8], "big") / 2.0**64


def is_held_out(identity: str, share: float) -> bool:
    """Whether a document or concept belongs to the held-out share: a function of its identity alone."""
    return bucket(identity) < share
