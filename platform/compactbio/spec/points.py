"""The points of a sweep that are known before it starts: the base's own, those to warm up with, a grid's."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from math import prod

from pydantic import JsonValue

from compactbio.spec.space import Choice, Distribution, Integer
from compactbio.spec.sweep import Values
from compactbio.spec.trials import Sweep


def points(sweep: Sweep) -> list[Values]:
    """The points that are tried first, the base's own before all: all of them for a grid."""
    base, spec = sweep.base_values(), sweep.spec
    known = [base, *({**base, **point} for point in spec.search.warm_start)]
    if spec.search.sampler == "grid":
        every = product(*(_every(of) for of in spec.space.values()))
        known += [dict(zip(spec.space, values, strict=True)) for values in every]
    return [point for number, point in enumerate(known) if point not in known[:number]]


def num_trials(sweep: Sweep) -> int:
    """How many trials there are."""
    asked = sweep.spec.budget.trials
    if sweep.spec.search.sampler != "grid":
        assert asked is not None
        return asked
    return min(asked or grid_size(sweep), grid_size(sweep))


def grid_size(sweep: Sweep) -> int:
    """How many combinations the space has, choices and integers alone."""
    return prod(len(_every(of)) for of in sweep.spec.space.values())


def _every(distribution: Distribution) -> Sequence[JsonValue]:
    """All values of a choice or of an integer."""
    if isinstance(distribution, Choice):
        return distribution.values
    assert isinstance(distribution, Integer)
    return range(distribution.low, distribution.high + 1, distribution.step)
