"""`compactbio evaluate`: a study as a spec, from what stands on the command line."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from compactbio.spec.base import Problem, SpecError
from compactbio.spec.benchmarks import catalogue, groups
from compactbio.spec.tuning import PAPERS, PRESETS

STAGE = "finetune"


def study(
    *,
    models: Sequence[str],
    tasks: Sequence[str],
    seeds: int,
    preset: str,
    reference: str | None,
    name: str = "evaluation",
) -> dict[str, Any]:
    """The plain values of a job that fine-tunes every model on every task for seeds 1 to `seeds`.

    `models` are NAME=PATH, or PATH alone, whose last folder then names the model. Raises SpecError for what cannot be
    read that way.
    """
    named = _named(models)
    _check_tasks(tasks)
    return {
        "name": name,
        "online": False,
        "stages": {
            STAGE: {
                "kind": "finetune",
                "models": named,
                "reference": reference or next(iter(named)),
                "tasks": list(tasks),
                "tuning": _tuning(preset),
                "seeds": list(range(1, seeds + 1)),
                "measuring": None,
            }
        },
        "cluster": {"num_workers": max(1, len(os.sched_getaffinity(0))), "cpus_per_worker": 1},
    }


def _named(models: Sequence[str]) -> dict[str, str]:
    named: dict[str, str] = {}
    for model in models:
        name, equals, path = model.partition("=")
        if not equals:
            name, path = Path(model).name, model
        if not name or not path:
            raise SpecError.at("--models", f"'{model}' is not of the form NAME=PATH")
        if name in named:
            raise SpecError.at("--models", f"'{name}' stands twice; give each model a name of its own (NAME=PATH)")
        named[name] = path
    return named


def _check_tasks(tasks: Sequence[str]) -> None:
    known = {*groups(), *catalogue()}
    unknown = [task for task in tasks if task not in known]
    if unknown:
        raise SpecError(
            [Problem("--tasks", f"'{task}' is no benchmark and no group of them") for task in unknown]
            + [Problem("--tasks", f"groups: {', '.join(groups())}; benchmarks: {', '.join(catalogue())}")]
        )


def _tuning(preset: str) -> dict[str, Any]:
    if preset in PAPERS:
        return {group: {"preset": name} for group, name in PAPERS[preset].items()}
    if preset not in PRESETS:
        raise SpecError.at("--preset", f"'{preset}' is not known; known: {', '.join([*PAPERS, *PRESETS])}")
    return {"preset": preset}
