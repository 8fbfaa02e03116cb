"""The rank chart of Mehmood et al. (2020, figure 3): models by rank, arrows where one is better than another."""

from __future__ import annotations

from matplotlib.figure import Figure

from compactbio.evaluation.ranking import Ranking
from compactbio.reporting.grid import Grid
from compactbio.reporting.plots import svg

SIGNIFICANT = 0.001
"""Arrows stand for pairwise p values below this, as in the paper."""


def rank_chart(ranking: Ranking) -> str:
    """SVG: models from the best average rank on the left; an arrow goes from a model to each that it is significantly
    better than, by Conover's test."""
    order = sorted(range(len(ranking.models)), key=lambda index: ranking.average_ranks[index])
    place = {ranking.models[index]: position for position, index in enumerate(order)}
    pairs = ranking.better(SIGNIFICANT)
    height = 1.6 + 0.35 * len(order) if pairs else 1.2
    figure = Figure(figsize=(max(4.0, 1.5 * len(order)), height), layout="constrained")
    axes = figure.subplots()
    for index in order:
        name = ranking.models[index]
        label = f"{name}\n{ranking.average_ranks[index]:.2f}"
        axes.text(place[name], 0, label, ha="center", va="top", fontsize="small", bbox={"boxstyle": "round", "fc": "w"})
    for better, worse in pairs:
        colour = f"C{place[better]}"
        arrow = {"arrowstyle": "-|>", "connectionstyle": "arc3,rad=-0.4", "lw": 0.9, "color": colour}
        found = axes.annotate("", (place[worse], 0.05), (place[better], 0.05), arrowprops=arrow)
        assert found.arrow_patch is not None
        found.arrow_patch.set_gid(f"{better} better than {worse}")
    axes.set(xlim=(-0.7, len(order) - 0.3), ylim=(-0.25, 1 if pairs else 0.05))
    axes.axis("off")
    axes.set_title(_title(ranking, len(pairs)), fontsize="small")
    return svg(figure)


def rank_table(ranking: Ranking) -> Grid:
    """Average ranks, and the p values of Conover's test of every pair."""
    order = sorted(range(len(ranking.models)), key=lambda index: ranking.average_ranks[index])
    rows = []
    for index in order:
        p_values = ("-" if index == other else f"{ranking.pairwise[index, other]:.4f}" for other in order)
        rows.append((ranking.models[index], f"{ranking.average_ranks[index]:.2f}", *p_values))
    return Grid(
        ("model", "average rank", *(f"p, {ranking.models[index]}" for index in order)),
        tuple(rows),
        caption=f"Average ranks over {ranking.num_data_sets} data sets",
        notes=(
            f"Friedman's test that all models are equally good: chi-squared {ranking.statistic:.2f}, p "
            f"{ranking.p_value:.2g}. The columns of p values are of Conover's test of each pair, not adjusted for the "
            "number of pairs.",
        ),
    )


def _title(ranking: Ranking, num_pairs: int) -> str:
    arrows = f"arrow: p < {SIGNIFICANT}" if num_pairs else f"no pair has p < {SIGNIFICANT}"
    return (
        f"Average rank over {ranking.num_data_sets} data sets, best on the left\n"
        f"Friedman p = {ranking.p_value:.2g}; Conover, {arrows}"
    )
