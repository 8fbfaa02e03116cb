"""Curves as text, small enough for a terminal."""

from __future__ import annotations

import math

Series = list[tuple[int, float]]
MARKS = "ox+*#@%&"


def plot(curves: dict[str, Series], *, width: int = 64, height: int = 10) -> list[str]:
    """Lines of text that show the curves over a common axis of steps, each with a mark of its own.

    Where several fall on one place the first one's mark is seen. Values that are not finite are left out.
    """
    finite = {name: [point for point in points if math.isfinite(point[1])] for name, points in curves.items()}
    points = [point for series in finite.values() for point in series]
    if not points:
        return ["nothing to plot"]
    steps, values = [step for step, _ in points], [value for _, value in points]
    first, last, lowest, highest = min(steps), max(steps), min(values), max(values)
    grid = [[" "] * width for _ in range(height)]
    for mark, series in reversed(list(zip(_marks(len(finite)), finite.values(), strict=True))):
        for step, value in series:
            column = _place(step, first, last, width)
            row = height - 1 - _place(value, lowest, highest, height)
            grid[row][column] = mark
    labels = [f"{highest:.4g}", *[""] * (height - 2), f"{lowest:.4g}"]
    lines = [f"{label:>10} |{''.join(row).rstrip()}" for label, row in zip(labels, grid, strict=True)]
    lines.append(f"{'':>10} +{'-' * width}")
    lines.append(f"{'step':>10}  {first:<{width // 2},}{last:>{width - width // 2},}")
    legend = "  ".join(f"{mark} {name}" for mark, name in zip(_marks(len(finite)), finite, strict=True))
    return [*lines, f"{'':>12}{legend}"]


def _marks(number: int) -> list[str]:
    return [MARKS[index % len(MARKS)] for index in range(number)]


def _place(value: float, low: float, high: float, number: int) -> int:
    """Which of `number` places between low and high a value falls on."""
    return round((value - low) / (high - low) * (number - 1)) if high > low else 0
