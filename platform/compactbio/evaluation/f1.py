"""Micro-averaged F1 from counts by example, and what resampling the test set says of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from seqeval.scheme import IOB2, Entities

Counts = NDArray[np.int64]
"""[N, 3]: for each example correct, predicted and gold items."""

RESAMPLES = 2000
CONFIDENCE = 0.95


def count_entities(gold: Sequence[Sequence[str]], predicted: Sequence[Sequence[str]]) -> Counts:
    """Entities by example from IOB2 tags, strict as seqeval has it: type and both ends have to be right."""
    pairs = zip(_entities(gold), _entities(predicted), strict=True)
    return np.array([(len(right & found), len(found), len(right)) for right, found in pairs], dtype=np.int64)


def count_labels(gold: Sequence[frozenset[int]], predicted: Sequence[frozenset[int]]) -> Counts:
    """Labels by example."""
    pairs = zip(gold, predicted, strict=True)
    return np.array([(len(right & found), len(found), len(right)) for right, found in pairs], dtype=np.int64)


def micro_f1(counts: Counts) -> float:
    """2 correct / (predicted + gold), 0 where nothing is predicted and nothing is gold."""
    return float(_f1(counts.sum(axis=0)))


@dataclass(frozen=True)
class Interval:
    """A percentile bootstrap interval."""

    low: float
    high: float


def interval(counts: Counts, seed: int) -> Interval:
    """The interval of the F1 when examples of the test set are drawn anew (Efron's percentile bootstrap)."""
    return _percentiles(_f1(_resampled(counts, seed)))


def difference(first: Counts, second: Counts, seed: int) -> Interval:
    """The interval of F1(first) - F1(second), both models scored on the same resampled examples."""
    if len(first) != len(second):
        raise ValueError(f"{len(first)} and {len(second)} examples: the models were scored on different test sets")
    return _percentiles(_f1(_resampled(first, seed)) - _f1(_resampled(second, seed)))


def _resampled(counts: Counts, seed: int) -> Counts:
    """Sums over resampled test sets [RESAMPLES, 3]; the same examples for the same seed."""
    draws = np.random.default_rng(seed).multinomial(len(counts), np.full(len(counts), 1 / len(counts)), RESAMPLES)
    return np.asarray(draws @ counts)


def _percentiles(values: NDArray[np.float64]) -> Interval:
    tail = 50 * (1 - CONFIDENCE)
    low, high = np.percentile(values, [tail, 100 - tail])
    return Interval(float(low), float(high))


def _f1(sums: Counts) -> NDArray[np.float64]:
    correct, predicted, gold = np.moveaxis(sums, -1, 0)
    return 2 * correct / np.maximum(predicted + gold, 1)


def _entities(tags: Sequence[Sequence[str]]) -> list[set[tuple[str, int, int]]]:
    return [
        {(entity.tag, entity.start, entity.end) for entity in found}
        for found in Entities([list(line) for line in tags], IOB2).entities
    ]
