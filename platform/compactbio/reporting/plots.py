"""Plots as SVG text, to be set into the page."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from compactbio.reporting.collect import Comparison
from compactbio.reporting.costs import Cost, TaskScore, pareto_front
from compactbio.tracking import metrics

Series = list[tuple[int, float]]
_PLOTS_A_ROW = 3
_MARKERS = {"torch": "o", "onnx": "s", "onnx-int8": "^"}


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
    tasks = comparison.tasks
    figure, panels = _panels(len(tasks))
    for axes, task in zip(panels, tasks, strict=True):
        for index, model in enumerate(comparison.section.models_):
            score = comparison.score(model, task)
            cost = comparison.footprints[model][figure_name] * scale
            spread = [[score.value - score.low], [score.high - score.value]]
            axes.errorbar([cost], [score.value], yerr=spread, fmt="os^Dv"[index % 5], capsize=3, label=model)
        axes.set(xlabel=label, ylabel=f"{score.metric}, percent", title=task)
        axes.margins(x=0.25)
        axes.set_xlim(left=0)
        axes.grid(alpha=0.3)
    _shared_legend(figure, panels)
    return svg(figure)


@dataclass(frozen=True)
class Quantity:
    """Something that a model costs."""

    label: str
    of: Callable[[Cost], float | None]


QUANTITIES = (
    Quantity("milliseconds a batch", lambda cost: 1000 * cost.seconds),
    Quantity("peak memory of the process, MiB", lambda cost: cost.peak_mib),
)


def score_fronts(costs: Sequence[Cost], scores: Sequence[TaskScore], quantity: Quantity) -> str:
    """The score of every model under every runtime that has one against what it costs, a plot a task, with the Pareto
    front; on batches of the first shape."""
    shape = (costs[0].batch, costs[0].length)
    names = list(dict.fromkeys(cost.model for cost in costs))
    tasks = list(dict.fromkeys(score.task for score in scores))
    figure, panels = _panels(len(tasks))
    for axes, task in zip(panels, tasks, strict=True):
        points = []
        for cost, score in _scored(costs, scores, task, shape):
            place = quantity.of(cost)
            if place is not None:
                points.append((place, score))
                color = f"C{names.index(cost.model) % 10}"
                axes.plot(*points[-1], _MARKERS[cost.runtime], color=color, label=f"{cost.model}, {cost.runtime}")
        if points:
            front = pareto_front(points)
            axes.step(*zip(*front, strict=True), "k--", where="post", linewidth=1, label="Pareto front")
        axes.set(xlabel=f"{quantity.label}, {shape[0]} x {shape[1]} tokens", ylabel="score, percent", title=task)
        axes.margins(x=0.25, y=0.15)
        axes.grid(alpha=0.3)
    _shared_legend(figure, panels)
    return svg(figure)


def _panels(number: int) -> tuple[Figure, list[Axes]]:
    """A figure of so many plots, in rows that a page is wide enough for."""
    num_columns = min(number, _PLOTS_A_ROW)
    num_rows = -(-number // num_columns)
    figure = Figure(figsize=(4.2 * num_columns, 3.2 * num_rows + 0.5), layout="constrained")
    panels = figure.subplots(num_rows, num_columns, squeeze=False).ravel().tolist()
    for empty in panels[number:]:
        figure.delaxes(empty)
    return figure, panels[:number]


def _shared_legend(figure: Figure, panels: Sequence[Axes]) -> None:
    """One legend below the plots, with everything that any of them shows."""
    shown: dict[str, Artist] = {}
    for axes in panels:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            shown.setdefault(label, handle)
    figure.legend(list(shown.values()), list(shown), loc="outside lower left", ncols=4, fontsize="small")


def _scored(
    costs: Sequence[Cost], scores: Sequence[TaskScore], task: str, shape: tuple[int, int]
) -> Iterator[tuple[Cost, float]]:
    for cost in costs:
        for score in scores:
            fits = score.model == cost.model and score.task == task and cost.runtime in score.runtimes
            if fits and (cost.batch, cost.length) == shape:
                yield cost, score.value


def svg(figure: Figure) -> str:
    """The figure as an `svg` element, to be set into a page."""
    out = io.StringIO()
    figure.savefig(out, format="svg", metadata={"Date": None})
    text = out.getvalue()
    return text[text.index("<svg") :]
