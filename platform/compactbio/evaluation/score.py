"""What a model scored on a test set, and how a score is computed again from counts, for resampled test sets."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Counts = NDArray[np.float64]
"""[N, K]: what each example adds to the sums that a score is made from. K is

- 3 C for F1 over C classes: correct, predicted and gold items of the first class, then of the next;
- 2 for means: the example's own score between 0 and 1, and 1;
- 3 for `example_f1`: the example's own precision and recall, and 1.
"""


@dataclass(frozen=True)
class Score:
    """What a model scored on one test set. All scores in percent."""

    main: str
    """Which of `values` stands for the whole."""

    values: dict[str, float]
    counts: Counts
    """By example, in the form that `value(counts, main)` takes.

    Of the main score alone: intervals and tests of significance are about it. There are none for scores beside it whose
    counts have another form (of questions with `mrr`: strict, lenient, exact match; of classes with F1: accuracy).
    """

    detail: dict[str, dict[str, float]]
    """Scores by entity type, class or label, and `gold`, the number of gold items."""

    @property
    def main_value(self) -> float:
        """The main score in percent."""
        return self.values[self.main]


def value(counts: Counts, name: str) -> float:
    """The score called `name`, in percent, from counts by example [N, K]. Raises ValueError for an unknown name."""
    return float(from_sums(counts.sum(axis=0), name))


def from_sums(sums: Counts, name: str) -> NDArray[np.float64]:
    """Scores in percent [...] from sums of counts over examples [..., K]; one for each resampled test set."""
    if name not in _SCORES:
        raise ValueError(f"there is no score {name!r}; there are {', '.join(sorted(_SCORES))}")
    return 100 * _SCORES[name](np.asarray(sums, dtype=np.float64))


def class_counts(correct: Counts, predicted: Counts, gold: Counts) -> Counts:
    """Counts [N, 3 C] from what each example has of each class, three arrays [N, C]."""
    return np.stack([correct, predicted, gold], axis=-1).reshape(len(correct), -1).astype(np.float64)


def class_detail(counts: Counts, names: list[str]) -> dict[str, dict[str, float]]:
    """Precision, recall, F1 in percent and gold items of each class, from counts [N, 3 C]."""
    by_class = counts.sum(axis=0).reshape(-1, 3)
    return {
        name: {score: float(from_sums(sums, score)) for score in ("precision", "recall", "f1")} | {"gold": sums[2]}
        for name, sums in zip(names, by_class.tolist(), strict=True)
    }


def _ratio(above: NDArray[np.float64], below: NDArray[np.float64]) -> NDArray[np.float64]:
    """0 where there is nothing to divide by, as conlleval and scikit-learn have it."""
    return np.divide(above, below, out=np.zeros_like(above), where=below > 0)


def _by_class(sums: Counts) -> Counts:
    return sums.reshape(*sums.shape[:-1], -1, 3)


def _precision(sums: Counts) -> NDArray[np.float64]:
    total = _by_class(sums).sum(axis=-2)
    return _ratio(total[..., 0], total[..., 1])


def _recall(sums: Counts) -> NDArray[np.float64]:
    total = _by_class(sums).sum(axis=-2)
    return _ratio(total[..., 0], total[..., 2])


def _micro_f1(sums: Counts) -> NDArray[np.float64]:
    """2 correct / (predicted + gold), classes taken together."""
    total = _by_class(sums).sum(axis=-2)
    return _ratio(2 * total[..., 0], total[..., 1] + total[..., 2])


def _macro_f1(is_counted: Callable[[Counts], NDArray[np.bool_]]) -> Callable[[Counts], NDArray[np.float64]]:
    """The mean of the F1 of the classes that count."""

    def macro(sums: Counts) -> NDArray[np.float64]:
        classes = _by_class(sums)
        counted = is_counted(classes)
        f1 = _ratio(2 * classes[..., 0], classes[..., 1] + classes[..., 2])
        return _ratio(np.where(counted, f1, 0.0).sum(axis=-1), counted.sum(axis=-1).astype(np.float64))

    return macro


def _mean(sums: Counts) -> NDArray[np.float64]:
    return _ratio(sums[..., 0], sums[..., 1])


def _example_f1(sums: Counts) -> NDArray[np.float64]:
    """The harmonic mean of mean precision and mean recall (Peng et al. 2019, https://aclanthology.org/W19-5006)."""
    precision, recall = _ratio(sums[..., 0], sums[..., 2]), _ratio(sums[..., 1], sums[..., 2])
    return _ratio(2 * precision * recall, precision + recall)


_SCORES: dict[str, Callable[[Counts], NDArray[np.float64]]] = {
    "precision": _precision,
    "recall": _recall,
    "f1": _micro_f1,
    "micro_f1": _micro_f1,
    "positive_f1": _micro_f1,  # its counts are of the positive class alone
    # A class that neither gold nor predicted examples have does not count: what scikit-learn's f1_score does.
    "macro_f1": _macro_f1(lambda classes: classes[..., 1] + classes[..., 2] > 0),
    # Only classes of the test set count.
    "macro_f1_gold": _macro_f1(lambda classes: classes[..., 2] > 0),
    # Every class counts, and one that the test set lacks has an F1 of 0.
    "macro_f1_all": _macro_f1(lambda classes: np.ones(classes.shape[:-1], dtype=np.bool_)),
    "accuracy": _mean,
    "strict": _mean,
    "lenient": _mean,
    "mrr": _mean,
    "exact_match": _mean,
    "overlap_f1": _mean,
    "example_f1": _example_f1,
}
