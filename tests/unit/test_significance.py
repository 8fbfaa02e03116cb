"""Tests of a difference: known answers, and how often they are wrong where there is no difference."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import pytest

from compactbio.evaluation import significance
from compactbio.evaluation.score import Counts, value
from compactbio.evaluation.significance import Difference, approximate_randomisation, interval, paired_bootstrap

Test = Callable[[Counts, Counts, str, int], Difference]
TESTS = [paired_bootstrap, approximate_randomisation]


def tagged(draw: np.random.Generator, share: float, examples: int = 400) -> Counts:
    """Three gold entities an example, each found with probability `share`."""
    three = np.full(examples, 3.0)
    return np.stack([draw.binomial(3, share, examples), three, three], axis=1)


def accuracies(right: list[int]) -> Counts:
    return np.stack([np.array(right, dtype=np.float64), np.ones(len(right))], axis=1)


@pytest.mark.parametrize("test", TESTS)
def test_a_better_model_is_told_from_a_worse_one(test: Test) -> None:
    draw = np.random.default_rng(0)
    good, bad = tagged(draw, 0.9), tagged(draw, 0.6)
    found = test(good, bad, "f1", 1)
    assert found.points == pytest.approx(value(good, "f1") - value(bad, "f1"))
    assert 20 < found.interval.low < found.points < found.interval.high
    assert found.p_value == pytest.approx(1 / (1 + significance.RESAMPLES))
    back = test(bad, good, "f1", 1)
    assert back.points == -found.points
    assert back.interval.high == pytest.approx(-found.interval.low)


@pytest.mark.parametrize("test", TESTS)
def test_a_model_is_not_better_than_itself(test: Test) -> None:
    counts = tagged(np.random.default_rng(0), 0.9)
    assert test(counts, counts, "f1", 1) == Difference(0, significance.Interval(0, 0), 1.0)


def test_randomisation_is_the_exact_test_where_all_exchanges_can_be_counted() -> None:
    """Of 10 examples the first model alone is right on 7, the second alone on 1."""
    first, second = accuracies([1] * 7 + [0, 1, 0]), accuracies([0] * 7 + [1, 1, 0])
    exchanges = itertools.product([1, -1], repeat=8)
    exact = np.mean([abs(sum(signs)) >= 6 for signs in exchanges])
    assert exact == pytest.approx(18 / 256)  # the sign test
    found = approximate_randomisation(first, second, "accuracy", 1)
    assert found.points == pytest.approx(60)
    assert found.p_value == pytest.approx(exact, abs=0.02)


def test_the_bootstrap_of_a_mean_is_the_normal_approximation() -> None:
    """60 of 1,000 examples right only by the first model, 30 only by the second: sd of the difference 0.00944."""
    first, second = accuracies([1] * 60 + [0] * 30 + [1] * 910), accuracies([0] * 60 + [1] * 30 + [1] * 910)
    sd = 100 * np.sqrt((90 / 1000 - 0.03**2) / 1000)
    found = paired_bootstrap(first, second, "accuracy", 1)
    assert found.interval.low == pytest.approx(3 - 1.96 * sd, abs=0.15)
    assert found.interval.high == pytest.approx(3 + 1.96 * sd, abs=0.15)
    assert found.p_value == pytest.approx(0.0015, abs=0.002)  # z = 3.18


@pytest.mark.parametrize("test", TESTS)
def test_equal_models_are_told_apart_as_seldom_as_the_level_says(test: Test, monkeypatch: pytest.MonkeyPatch) -> None:
    """400 pairs of models that find entities equally well, on test sets of 120 examples: about 20 have p < 0.05."""
    monkeypatch.setattr(significance, "RESAMPLES", 300)
    draw = np.random.default_rng(4)
    false = sum(test(tagged(draw, 0.8, 120), tagged(draw, 0.8, 120), "f1", seed).p_value < 0.05 for seed in range(400))
    assert 8 <= false <= 36  # 20 in the mean, standard deviation 4.4


def test_intervals_cover_the_score_and_are_repeatable() -> None:
    counts = tagged(np.random.default_rng(0), 0.9)
    bounds = interval(counts, "f1", seed=1)
    assert bounds.low < value(counts, "f1") < bounds.high
    assert interval(counts, "f1", seed=1) == bounds != interval(counts, "f1", seed=2)


@pytest.mark.parametrize("test", TESTS)
def test_models_of_different_test_sets_are_refused(test: Test) -> None:
    counts = tagged(np.random.default_rng(0), 0.9)
    with pytest.raises(ValueError, match="different test sets"):
        test(counts, counts[:-1], "f1", 1)
    with pytest.raises(ValueError, match="no score 'f2'; there are"):
        test(counts, counts, "f2", 1)
    with pytest.raises(ValueError, match="no test examples"):
        interval(counts[:0], "f1", 1)
