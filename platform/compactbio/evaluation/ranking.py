"""Models compared over many data sets by their ranks: Friedman's test and Conover's test of every pair."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scikit_posthocs
from numpy.typing import NDArray
from scipy import stats


@dataclass(frozen=True)
class Ranking:
    """Models compared over data sets by their ranks on each."""

    models: tuple[str, ...]
    average_ranks: tuple[float, ...]
    """1 is best; tied models share the mean of their ranks."""

    statistic: float
    """Friedman's chi-squared, corrected for ties."""

    p_value: float
    """Of Friedman's test: that all models are equally good."""

    pairwise: NDArray[np.float64]
    """[models, models] p values of Conover's test, 1 on the diagonal; not adjusted for the number of pairs."""

    num_data_sets: int

    def better(self, p: float) -> list[tuple[str, str]]:
        """Pairs (better, worse) of models whose pairwise p value is below `p`, best models first."""
        order = sorted(range(len(self.models)), key=lambda index: self.average_ranks[index])
        return [
            (self.models[first], self.models[second])
            for place, first in enumerate(order)
            for second in order[place + 1 :]
            if self.pairwise[first, second] < p
        ]


def rank_models(models: Sequence[str], scores: NDArray[np.float64]) -> Ranking:
    """Friedman's test over data sets and Conover's test of every pair, from scores [data sets, models].

    Friedman 1937; Conover 1999, Practical Nonparametric Statistics. Raises ValueError for fewer than three models, two
    data sets, and scores that are missing.
    """
    if scores.ndim != 2 or scores.shape[1] != len(models):
        raise ValueError(
            f"scores of shape {scores.shape} for {len(models)} models: one column a model, one row a data set"
        )
    if len(models) < 3 or len(scores) < 2:
        raise ValueError(
            f"{len(models)} models on {len(scores)} data sets: ranks need at least 3 models and 2 data sets"
        )
    if np.isnan(scores).any():
        raise ValueError("every model needs a score on every data set")
    ranks = stats.rankdata(-scores, axis=1)
    if (ranks == ranks[0, 0]).all():
        raise ValueError("all models have the same score on every data set: there is nothing to rank")
    friedman = stats.friedmanchisquare(*scores.T)
    return Ranking(
        models=tuple(models),
        average_ranks=tuple(float(rank) for rank in ranks.mean(axis=0)),
        statistic=float(friedman.statistic),
        p_value=float(friedman.pvalue),
        pairwise=_conover(scores),
        num_data_sets=len(scores),
    )


def _conover(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """[models, models]. Where all data sets agree on one order nothing is left to chance, and its t is infinite."""
    with np.errstate(divide="ignore", invalid="ignore"):
        table = scikit_posthocs.posthoc_conover_friedman(scores).to_numpy(dtype=np.float64)
    return np.where(np.isnan(table), 1.0, table)  # 0 / 0: the same rank everywhere
