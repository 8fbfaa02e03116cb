"""Friedman's and Conover's tests against textbook formulas."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from compactbio.evaluation.ranking import rank_models

SCORES = np.array(
    [[31, 27, 24], [31, 28, 31], [45, 29, 46], [21, 18, 48], [42, 36, 46], [32, 17, 40]], dtype=np.float64
)


def test_friedman_and_conover_by_the_formulas() -> None:
    """Conover 1999, section 5.8: F distributed statistic, and the t of two rank sums."""
    num, models = SCORES.shape
    ranks = stats.rankdata(SCORES, axis=1)
    sums = ranks.sum(axis=0)
    spread, centre = (ranks**2).sum(), num * models * (models + 1) ** 2 / 4
    chi2 = (models - 1) * ((sums**2).sum() - num * centre) / (spread - centre)
    degrees = (num - 1) * (models - 1)
    t = abs(sums[:, None] - sums) / np.sqrt(2 * (num * spread - (sums**2).sum()) / degrees)

    found = rank_models(["a", "b", "c"], SCORES)
    assert found.statistic == pytest.approx(chi2)
    assert found.p_value == pytest.approx(stats.chi2.sf(chi2, models - 1))
    assert found.pairwise == pytest.approx(2 * stats.t.sf(t, degrees))
    assert found.average_ranks == pytest.approx(models + 1 - ranks.mean(axis=0))
    assert found.average_ranks == pytest.approx((10.5 / 6, 17 / 6, 8.5 / 6))
    assert found.better(0.01) == [("c", "b")]


def test_where_all_data_sets_agree_every_pair_differs() -> None:
    found = rank_models(["worst", "best", "middle"], np.array([[1.0, 3.0, 2.0], [5.0, 9.0, 7.0]]))
    assert found.average_ranks == (3, 1, 2)
    assert found.better(0.001) == [("best", "middle"), ("best", "worst"), ("middle", "worst")]


def test_models_that_always_tie_do_not_differ() -> None:
    found = rank_models(["a", "b", "c"], np.array([[2.0, 2.0, 1.0], [3.0, 3.0, 1.0], [5.0, 5.0, 2.0]]))
    assert found.average_ranks == (1.5, 1.5, 3)
    assert found.better(0.001) == [("a", "c"), ("b", "c")]


@pytest.mark.parametrize(
    ("scores", "words"),
    [
        (np.ones((3, 2)), "one column a model"),
        (np.arange(3.0)[None], "at least 3 models and 2 data sets"),
        (np.array([[1, 2, np.nan], [1, 2, 3]]), "a score on every data set"),
        (np.ones((4, 3)), "nothing to rank"),
    ],
)
def test_scores_that_cannot_be_ranked_are_refused(scores: np.ndarray, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        rank_models(["a", "b", "c"], scores)
