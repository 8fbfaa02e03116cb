"""Plots as SVG text, to be set into the page."""

from __future__ import annotations

import io

from matplotlib.figure import Figure

from compactbio.reporting.collect import Comparison
from compactbio.tracking import metrics

Series = list[tuple[int, float]]


def loss_curves(curves: dict[str, Series]) -> str:
    """The loss of a stage and of each part of its objective over the steps; logarithmic."""
    figure = Figure(figsize=(7, 3.4), layout="constrained")
    axes = figure.subplots()
    for name, points in curves.items():
        steps, values = zip(*points, strict=True)
        if name.startswith(metrics.LOSS_PART_PREFIX):
            axes.plot(
                steps, values, marker=".", markersize=3, linewidth=1, label=name.removeprefix(metrics.LOSS_PART_PREFIX)
            )
        elif name == metrics.HELD_OUT_PREFIX + metrics.LOSS_PART_PREFIX + "mlm":
            axes.plot(steps, values, "o", color="black", markersize=5, label="mlm, held out")
    axes.set(xlabel="step", ylabel="loss by term (unweighted)", yscale="log")
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small", loc="upper left", bbox_to_anchor=(1, 1))
    return svg(figure)


def score_against_cost(comparison: Comparison, figure_name: str, label: str, scale: float) -> str:
    """The score of every model on every task, with its interval, against one of the footprint's figures."""
    tasks = list(comparison.section.tasks)
    figure = Figure(figsize=(4.2 * len(tasks), 3.2), layout="constrained")
    for axes, task in zip(figure.subplots(1, len(tasks), squeeze=False)[0], tasks, strict=True):
        for index, model in enumerate(comparison.section.models_):
            score = comparison.score(model, task)
            cost = comparison.footprints[model][figure_name] * scale
            spread = [[100 * (score.value - score.low)], [100 * (score.high - score.value)]]
            axes.errorbar([cost], [100 * score.value], yerr=spread, fmt="os^Dv"[index % 5], capsize=3, label=model)
        axes.set(xlabel=label, ylabel="F1, percent", title=task)
        axes.margins(x=0.25)
        axes.set_xlim(left=0)
        axes.grid(alpha=0.3)
    axes.legend(fontsize="small")
    return svg(figure)


def svg(figure: Figure) -> str:
    """The figure as it stands in a page."""
    out = io.StringIO()
    figure.savefig(out, format="svg", metadata={"Date": None})
    text = out.getvalue()
    return text[text.index("<svg") :]
