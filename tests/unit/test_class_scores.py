"""Scores of classes and of sets of labels, against scikit-learn's and against hand calculation."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics

from compactbio.evaluation.documents import by_group, score_abstracts, score_labels
from compactbio.evaluation.relations import score_classes
from compactbio.evaluation.score import value

NAMES = ["false", "effect", "mechanism", "advise", "int"]


def draws(seed: int, classes: int = 5) -> tuple[list[int], list[int]]:
    draw = np.random.default_rng(seed)
    gold = draw.integers(0, classes, 200)
    predicted = np.where(draw.random(200) < 0.6, gold, draw.integers(0, classes, 200))
    return gold.tolist(), predicted.tolist()


def test_classes_are_scikit_learns() -> None:
    gold, predicted = draws(0)
    score = score_classes(gold, predicted, NAMES, main="macro_f1")
    assert score.values["accuracy"] == pytest.approx(100 * metrics.accuracy_score(gold, predicted))
    assert score.values["micro_f1"] == pytest.approx(score.values["accuracy"])
    assert score.values["macro_f1"] == pytest.approx(100 * metrics.f1_score(gold, predicted, average="macro"))
    assert value(score.counts, "macro_f1") == score.main_value


def test_the_negative_class_is_not_scored() -> None:
    gold, predicted = draws(1)
    score = score_classes(gold, predicted, NAMES, main="micro_f1", negative="false")
    assert score.main_value == pytest.approx(
        100 * metrics.f1_score(gold, predicted, labels=[1, 2, 3, 4], average="micro")
    )
    assert set(score.detail) == set(NAMES[1:])


def test_positive_f1_is_that_of_the_last_of_two_classes() -> None:
    gold, predicted = draws(2, classes=2)
    score = score_classes(gold, predicted, ["0", "1"], main="positive_f1")
    assert score.main_value == pytest.approx(100 * metrics.f1_score(gold, predicted))
    assert score.values["recall"] == pytest.approx(100 * metrics.recall_score(gold, predicted))


def test_macro_says_how_it_treats_classes_that_the_test_set_lacks() -> None:
    gold, predicted = [0, 0, 1, 1], [0, 0, 1, 2]  # class 2 only predicted, class 3 nowhere
    values = score_classes(gold, predicted, ["a", "b", "c", "d"], main="macro_f1").values
    assert values["macro_f1_gold"] == pytest.approx(100 * (1 + 2 / 3) / 2)
    assert values["macro_f1"] == pytest.approx(100 * (1 + 2 / 3 + 0) / 3)
    assert values["macro_f1"] == pytest.approx(100 * metrics.f1_score(gold, predicted, average="macro"))
    assert values["macro_f1_all"] == pytest.approx(100 * (1 + 2 / 3 + 0 + 0) / 4)


def test_accuracy_can_be_the_main_score() -> None:
    score = score_classes([0, 1, 2], [0, 1, 1], ["yes", "no", "maybe"], main="accuracy")
    assert score.counts.tolist() == [[1, 1], [1, 1], [0, 1]]
    assert value(score.counts[:2], "accuracy") == 100


def test_classes_that_do_not_exist_are_refused() -> None:
    with pytest.raises(ValueError, match="'none' is none of a, b"):
        score_classes([0], [0], ["a", "b"], main="micro_f1", negative="none")
    with pytest.raises(ValueError, match="classes are 0 to 1"):
        score_classes([0], [2], ["a", "b"], main="micro_f1")
    with pytest.raises(ValueError, match="of two classes, not of 3"):
        score_classes([0], [0], ["a", "b", "c"], main="positive_f1")
    with pytest.raises(ValueError, match="1 gold and 2 predicted"):
        score_classes([0], [0, 1], ["a", "b"], main="micro_f1")


GOLD = [frozenset({1, 2}), frozenset({0}), frozenset[int](), frozenset({2})]
FOUND = [frozenset({1}), frozenset({0, 3}), frozenset({3}), frozenset[int]()]


def test_labels_are_scikit_learns() -> None:
    score = score_labels(GOLD, FOUND, list("abcd"))
    right, found = (np.array([[n in one for n in range(4)] for one in sets]) for sets in (GOLD, FOUND))
    assert score.main_value == pytest.approx(100 * 2 * 2 / (4 + 4))
    assert score.main_value == pytest.approx(100 * metrics.f1_score(right, found, average="micro"))
    assert score.values["macro_f1"] == pytest.approx(100 * metrics.f1_score(right, found, average="macro"))
    assert score.detail["c"] == {"precision": 0, "recall": 0, "f1": 0, "gold": 2}


def test_example_f1_is_that_of_mean_precision_and_mean_recall_over_labelled_texts() -> None:
    score = score_labels(GOLD, FOUND, list("abcd"), main="example_f1")
    precision, recall = (1 + 1 / 2 + 0) / 3, (1 / 2 + 1 + 0) / 3
    assert score.main_value == pytest.approx(100 * 2 * precision * recall / (precision + recall))
    assert value(score.counts, "example_f1") == score.main_value


def test_an_abstract_has_the_labels_of_its_sentences() -> None:
    groups = ["x", "y", "x", "y"]
    assert by_group(GOLD, groups) == [{1, 2}, {0, 2}]
    score = score_abstracts(GOLD, FOUND, groups, list("abcd"))
    assert score.main == "macro_f1"
    assert score.counts.shape == (2, 12)
    assert score.detail["b"]["f1"] == 100  # right in both sentences of x
    assert score.main_value == pytest.approx(100 * (1 + 1 + 0 + 0) / 4)
