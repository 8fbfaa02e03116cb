"""How sure a score, and the difference of two models on one test set, are: resampled test examples."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from compactbio.evaluation.score import Counts, from_sums, value

RESAMPLES = 2000
CONFIDENCE = 0.95
_RESAMPLES_AT_ONCE = 100  # bounds the memory of the draws: 100 x N


@dataclass(frozen=True)
class Interval:
    """A percentile bootstrap interval, in points."""

    low: float
    high: float


@dataclass(frozen=True)
class Difference:
    """Score(first) - score(second) on the same test examples, in points."""

    points: float
    interval: Interval
    p_value: float
    """Two-sided, of the hypothesis that the two are equally good."""


def interval(counts: Counts, name: str, seed: int) -> Interval:
    """Of the score called `name` when examples of the test set are drawn anew (Efron's percentile bootstrap)."""
    return _percentiles(_bootstrap([counts], name, seed)[0])


def paired_bootstrap(first: Counts, second: Counts, name: str, seed: int) -> Difference:
    """Both models scored on the same resampled examples.

    The interval is the percentile bootstrap's. The p value is the share of resamples whose difference lies farther
    from the observed difference than that lies from 0 (Efron and Tibshirani 1993, chapter 16, shifted to the null;
    two-sided form of Berg-Kirkpatrick et al. 2012, https://aclanthology.org/D12-1091). Raises ValueError for models
    that were scored on different test sets.
    """
    observed = _observed(first, second, name)
    one, other = _bootstrap([first, second], name, seed)
    return Difference(observed, _percentiles(one - other), _p_value(one - other - observed, observed))


def approximate_randomisation(first: Counts, second: Counts, name: str, seed: int) -> Difference:
    """The p value is the share of random exchanges of the two models' answers, each example's with probability 1/2,
    whose difference is at least the observed one (Noreen 1989; Yeh 2000, https://aclanthology.org/C00-2137).

    The interval is that of `paired_bootstrap`. Raises ValueError for models that were scored on different test sets.
    """
    observed = _observed(first, second, name)
    one, other = _bootstrap([first, second], name, seed)
    draw = np.random.default_rng(seed)
    total, gap = first.sum(axis=0) + second.sum(axis=0), second - first
    differences = []
    for size in _sizes():
        exchanged = first.sum(axis=0) + draw.integers(0, 2, (size, len(first))).astype(np.float64) @ gap
        differences.append(from_sums(exchanged, name) - from_sums(total - exchanged, name))
    return Difference(observed, _percentiles(one - other), _p_value(np.concatenate(differences), observed))


def _observed(first: Counts, second: Counts, name: str) -> float:
    if len(first) != len(second):
        raise ValueError(f"{len(first)} and {len(second)} examples: the models were scored on different test sets")
    return value(first, name) - value(second, name)


def _bootstrap(models: list[Counts], name: str, seed: int) -> NDArray[np.float64]:
    """Scores of each model over resampled test sets [models, RESAMPLES]; the same examples for the same seed."""
    num = len(models[0])
    if num == 0:
        raise ValueError("there are no test examples to resample")
    draw = np.random.default_rng(seed)
    shares = np.full(num, 1 / num)
    draws = (draw.multinomial(num, shares, size).astype(np.float64) for size in _sizes())
    scores = [[from_sums(drawn @ counts, name) for counts in models] for drawn in draws]
    return np.concatenate(scores, axis=1)


def _sizes() -> Iterator[int]:
    """Resamples in pieces, so that the draws of a large test set need not fit in memory at once."""
    return (min(_RESAMPLES_AT_ONCE, RESAMPLES - start) for start in range(0, RESAMPLES, _RESAMPLES_AT_ONCE))


def _p_value(differences: NDArray[np.float64], observed: float) -> float:
    """The share that is at least as far from 0 as the observed one, which itself counts as one of them."""
    far = np.abs(differences) >= abs(observed) - 1e-9  # sums in another order differ in the last bits
    return float((1 + far.sum()) / (1 + len(differences)))


def _percentiles(values: NDArray[np.float64]) -> Interval:
    tail = 50 * (1 - CONFIDENCE)
    low, high = np.percentile(values, [tail, 100 - tail])
    return Interval(float(low), float(high))
