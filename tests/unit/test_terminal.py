from __future__ import annotations

from compactbio.reporting.terminal import plot


def test_a_falling_curve_falls() -> None:
    lines = plot({"loss": [(0, 4.0), (50, 2.0), (100, 0.0)], "other": [(100, 4.0)]}, width=11, height=5)
    assert [line[12:] for line in lines[:5]] == ["o         x", "", "     o", "", "          o"]
    assert lines[0].split("|")[0].strip() == "4"
    assert lines[4].split("|")[0].strip() == "0"
    assert lines[6].split() == ["step", "0", "100"]
    assert lines[7].split() == ["o", "loss", "x", "other"]


def test_values_that_are_not_finite_and_flat_curves_are_no_error() -> None:
    assert plot({"loss": [(1, float("nan"))]}) == ["nothing to plot"]
    assert sum("o" in line for line in plot({"x": [(1, 2.0), (2, float("inf")), (3, 2.0)]})[:10]) == 1
