"""Sets of labels for each text: Hallmarks of Cancer by sentence and by abstract, branches of an ontology."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from compactbio.evaluation.relations import MACRO
from compactbio.evaluation.score import Counts, Score, class_counts, class_detail, value

Labels = Sequence[frozenset[int]]
Main = Literal["micro_f1", "macro_f1", "example_f1"]


def score_labels(gold: Labels, predicted: Labels, names: Sequence[str], *, main: Main = "micro_f1") -> Score:
    """F1 over the labels of all texts, each label being a class.

    - `micro_f1`: the labels taken together.
    - `macro_f1`, `macro_f1_gold`, `macro_f1_all`: means over labels, as in `relations.score_classes`.
    - `example_f1`: the harmonic mean of mean precision and mean recall over the texts that have a gold label, one
      without predicted labels having precision 0 (BLUE's score of HoC, Peng et al. 2019; its code divides by the
      number of gold labels, and its test set has only abstracts that have some).
    """
    right, answers = _many_hot(gold, len(names)), _many_hot(predicted, len(names))
    if len(right) != len(answers):
        raise ValueError(f"{len(right)} gold and {len(answers)} predicted sets of labels")
    classes = class_counts(right * answers, answers, right)
    examples = _by_example(right, answers)
    values = {name: value(classes, name) for name in ("precision", "recall", "micro_f1", *MACRO)}
    return Score(
        main=main,
        values={**values, "example_f1": value(examples, "example_f1")},
        counts=examples if main == "example_f1" else classes,
        detail=class_detail(classes, list(names)),
    )


def by_group(labels: Labels, groups: Sequence[str]) -> list[frozenset[int]]:
    """The labels of each abstract: the union of those of its sentences. Abstracts in the order of their first
    sentence; so gold and predicted labels of the same sentences match."""
    unions: dict[str, frozenset[int]] = {}
    for found, group in zip(labels, groups, strict=True):
        unions[group] = unions.get(group, frozenset()) | found
    return list(unions.values())


def score_abstracts(gold: Labels, predicted: Labels, groups: Sequence[str], names: Sequence[str]) -> Score:
    """Labels of abstracts from those of their sentences; `groups` is the abstract of each sentence.

    The main score is the macro-F1 over labels, which table 1 of Lewis et al. (2020) names for HoC. Their text says
    that they follow Peng et al. (2019), whose score is `example_f1`: both are in `values`.
    """
    return score_labels(by_group(gold, groups), by_group(predicted, groups), names, main="macro_f1")


def _many_hot(labels: Labels, num_labels: int) -> Counts:
    table = np.zeros((len(labels), num_labels))
    for row, found in enumerate(labels):
        table[row, sorted(found)] = 1
    return table


def _by_example(right: Counts, answers: Counts) -> Counts:
    both = (right * answers).sum(axis=1)
    precision = both / np.maximum(answers.sum(axis=1), 1)
    recall = both / np.maximum(right.sum(axis=1), 1)
    return np.stack([precision, recall, (right.any(axis=1)).astype(np.float64)], axis=1)
