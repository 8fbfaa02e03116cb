"""What trials came to: those of a sweep, and those of earlier sweeps that it learns from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from compactbio.launch.sweep_folder import read_results
from compactbio.spec.base import SpecError
from compactbio.spec.sweep import Values
from compactbio.spec.trials import Sweep


@dataclass(frozen=True)
class Outcome:
    """What is known of a trial."""

    number: int
    state: Literal["finished", "pruned", "failed", "running"]
    values: Values
    scores: tuple[float, ...]
    """Of each objective; of a pruned one the last that was reported, of a failed one none."""

    curve: dict[int, float]
    """Steps (or rows) to the objective, where trials are compared on the way."""

    reason: str = ""
    seconds: float = 0.0


def dominates(first: tuple[float, ...], second: tuple[float, ...]) -> bool:
    """Whether the first is nowhere worse, and somewhere better; lower is better."""
    return first != second and all(a <= b for a, b in zip(first, second, strict=True))


def earlier_outcomes(sweep: Sweep) -> list[Outcome]:
    """Finished trials of earlier sweeps that lie in this one's space.

    Raises SpecError where an earlier sweep is not there, or measured something else.
    """
    found = []
    names = [objective.name() for objective in sweep.spec.objectives]
    for place, folder in enumerate(sweep.spec.search.earlier):
        results = read_results(folder, f"search.earlier.{place}")
        if results["objectives"] != names:
            raise SpecError.at(
                f"search.earlier.{place}", f"'{folder}' measured {results['objectives']}, and this sweep {names}"
            )
        for trial in results["trials"]:
            inside = {path: value for path, value in trial["values"].items() if path in sweep.spec.space}
            fits = all(sweep.spec.space[path].contains(value) for path, value in inside.items())
            if trial["state"] == "finished" and fits and set(inside) == set(sweep.spec.space):
                found.append(Outcome(trial["number"], "finished", inside, tuple(trial["scores"]), {}))
    return found
