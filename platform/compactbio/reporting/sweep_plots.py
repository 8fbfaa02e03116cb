"""Plots of a sweep as SVG text: history, importance, parallel coordinates, slices, Pareto front."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from compactbio.reporting.plots import svg
from compactbio.reporting.sweep_results import SweepResults, short_names

_COLOURS = "viridis"
_EDGE = 0.96
_WORST_QUANTILE = 0.9  # beyond it colours say no more: a trial that diverged would make all others alike


def history(results: SweepResults, objective: int) -> str:
    """The objective of every trial in their order, and the best up to each."""
    figure = Figure(figsize=(7, 3), layout="constrained")
    axes = figure.subplots()
    finished = [(trial["number"], trial["scores"][objective]) for trial in results.finished]
    axes.plot(*zip(*finished, strict=True), "o", markersize=4, label="finished")
    better = np.minimum if results.raw["directions"][objective] == "minimize" else np.maximum
    best = better.accumulate([score for _, score in finished])
    axes.step([number for number, _ in finished], best, where="post", color="black", linewidth=1, label="best so far")
    for state, label, colour in (("pruned", "stopped early", "grey"), ("failed", "failed", "tab:red")):
        numbers = [trial["number"] for trial in results.raw["trials"] if trial["state"] == state]
        if numbers:  # along the edge: what they had reached does not compare with scores at the end
            heights = [_EDGE] * len(numbers)
            axes.plot(numbers, heights, "x", transform=axes.get_xaxis_transform(), color=colour, label=label)
    axes.set(xlabel="trial", ylabel=results.objectives[objective])
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    _finish(axes)
    return svg(figure)


def importance(results: SweepResults, objective: int) -> str:
    """The share of the objective's variance that each path explains."""
    shares = results.raw["importances"][objective]
    names = short_names(results.paths)
    figure = Figure(figsize=(7, 0.6 + 0.35 * len(shares)), layout="constrained")
    axes = figure.subplots()
    ordered = sorted(shares.items(), key=lambda item: item[1])
    axes.barh([names[path] for path, _ in ordered], [share for _, share in ordered])
    axes.set(xlabel="share of variance (fANOVA)", xlim=(0, 1))
    axes.grid(alpha=0.3, axis="x")
    return svg(figure)


def slices(results: SweepResults, objective: int) -> str:
    """The objective against each path by itself."""
    names, columns = short_names(results.paths), min(3, len(results.paths))
    rows = -(-len(results.paths) // columns)
    figure = Figure(figsize=(3.4 * columns, 2.7 * rows), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False, sharey=True).flatten()
    for axes, path in zip(grid, results.paths, strict=False):
        x = [_place(results, path, results.value(trial, path)) for trial in results.finished]
        y = [trial["scores"][objective] for trial in results.finished]
        colours = axes.scatter(x, y, c=[trial["number"] for trial in results.finished], cmap="Blues", edgecolors="grey")
        axes.set(xlabel=names[path], xscale="log" if results.is_logarithmic(path) else "linear")
        _choices(results, path, axes)
        axes.grid(alpha=0.3)
    for axes in grid[len(results.paths) :]:
        axes.remove()
    figure.supylabel(results.objectives[objective], fontsize="medium")
    figure.colorbar(colours, ax=list(grid[: len(results.paths)]), label="trial", ticks=MaxNLocator(integer=True))
    return svg(figure)


def parallel(results: SweepResults, objective: int) -> str:
    """A line for each trial through its values and its objective; the best are dark."""
    names = short_names(results.paths)
    scores = np.array([trial["scores"][objective] for trial in results.finished])
    sign = 1 if results.raw["directions"][objective] == "minimize" else -1
    costs = sign * scores
    shade = Normalize(costs.min(), max(np.quantile(costs, _WORST_QUANTILE), costs.min() + 1e-12))
    colours = ScalarMappable(shade, _COLOURS)
    figure = Figure(figsize=(1.6 * (len(names) + 1) + 1, 3.4), layout="constrained")
    axes = figure.subplots()
    scales = [_scaled(results, path) for path in results.paths]
    ends = (scores.min(), scores.max())
    heights = (scores - ends[0]) / ((ends[1] - ends[0]) or 1.0)
    for row in np.argsort(-costs):
        line = [values[row] for values, _, _ in scales]
        axes.plot(range(len(line) + 1), [*line, heights[row]], color=colours.to_rgba(costs[row]), linewidth=1)
    limits = [*((low, high) for _, low, high in scales), (f"{ends[0]:.3g}", f"{ends[1]:.3g}")]
    for at, (low, high) in enumerate(limits):
        axes.axvline(at, color="black", linewidth=0.6)
        axes.text(at, -0.03, low, ha="center", va="top", fontsize="x-small")
        axes.text(at, 1.03, high, ha="center", va="bottom", fontsize="x-small")
    axes.set_xticks(range(len(limits)), [*names.values(), results.objectives[objective]], fontsize="small", rotation=12)
    axes.set(ylim=(-0.12, 1.12), yticks=[])
    for side in axes.spines.values():
        side.set_visible(False)
    return svg(figure)


def front(results: SweepResults) -> str:
    """The first two objectives against each other, and those trials that no other one beats in both."""
    figure = Figure(figsize=(6, 3.8), layout="constrained")
    axes = figure.subplots()
    axes.plot(*zip(*(trial["scores"][:2] for trial in results.finished), strict=True), "o", color="grey", markersize=4)
    best = sorted(results.best, key=lambda trial: trial["scores"][0])
    axes.step(*zip(*(trial["scores"][:2] for trial in best), strict=True), "o-", where="post", label="Pareto front")
    for trial in best:
        axes.annotate(str(trial["number"]), trial["scores"][:2], textcoords="offset points", xytext=(4, 4))
    axes.set(xlabel=results.objectives[0], ylabel=results.objectives[1])
    _finish(axes)
    return svg(figure)


def _finish(axes: Axes) -> None:
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small", loc="upper left", bbox_to_anchor=(1, 1))


def _place(results: SweepResults, path: str, value: Any) -> Any:
    """Where a value lies on an axis: a number by itself, a choice by its place in the list."""
    section = results.raw["space"][path]
    return section["values"].index(value) if section["kind"] == "choice" else value


def _choices(results: SweepResults, path: str, axes: Axes) -> None:
    section = results.raw["space"][path]
    if section["kind"] == "choice":
        axes.set_xticks(range(len(section["values"])), [_word(value) for value in section["values"]])


def _scaled(results: SweepResults, path: str) -> tuple[list[float], str, str]:
    """Each trial's value between 0 and 1, and the words for the two ends."""
    section = results.raw["space"][path]
    if section["kind"] == "choice":
        low, high = 0.0, float(len(section["values"]) - 1)
        ends = _word(section["values"][0]), _word(section["values"][-1])
    else:
        low, high = section["low"], section["high"]
        ends = f"{low:g}", f"{high:g}"
    values = np.array([_place(results, path, results.value(trial, path)) for trial in results.finished], float)
    if results.is_logarithmic(path):
        values, low, high = np.log(values), np.log(low), np.log(high)
    return list((values - low) / (high - low)), *ends


def _word(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 14 else f"{text[:13]}…"
