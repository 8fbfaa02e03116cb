"""What a sweep needs that its spec cannot show, looked at before anything is written."""

from __future__ import annotations

import json

from compactbio.launch import preflight
from compactbio.launch.preflight import Absent, Preflight
from compactbio.launch.sweep_outcomes import earlier_outcomes
from compactbio.spec.base import SpecError
from compactbio.spec.job import Finetune
from compactbio.spec.sweep import Score
from compactbio.spec.trials import Sweep


def check_sweep(sweep: Sweep) -> Absent:
    """Looks at the base as before a run of its own, at every student that the space can make of it, and at what the
    search reads and writes. Returns the tasks that have no data here."""
    from compactbio.launch.sweep_study import check_database

    checked = preflight.check(sweep.base)
    absent = checked.absent
    for number, objective in enumerate(sweep.spec.objectives):
        if isinstance(objective, Score):
            _check_score(sweep, objective, f"objectives.{number}", checked)
    earlier_outcomes(sweep)
    if sweep.spec.search.study is not None:
        check_database(sweep.spec.search.study)
    for path, distribution in sweep.spec.space.items():
        if ".training." in path or ".tuning." in path:
            continue
        for value in distribution.probes():
            try:
                preflight.check(sweep.without_normalising().job({path: value}))
            except SpecError as error:
                raise SpecError.at(f"space.{path}", f"{json.dumps(value)}: {error}") from None
    return absent


def _check_score(sweep: Sweep, objective: Score, place: str, checked: Preflight) -> None:
    """Raises SpecError where a task that is scored has no data here, or no development set to choose by."""
    absent, sizes = checked.absent[objective.stage], checked.tasks[objective.stage]
    if objective.task and objective.task in absent:
        raise SpecError.at(f"{place}.task", absent[objective.task])
    stage = sweep.base.stages[objective.stage]
    assert isinstance(stage, Finetune)
    for name in [objective.task] if objective.task else sizes:
        if objective.split == "dev" and (not sizes[name].dev or stage.tuning_of(stage.tasks[name]) is None):
            raise SpecError.at(
                f"{place}.split",
                f"task '{name}' has no development set to choose by; give it one, or say `split: test` and score "
                "what is found on another test set",
            )
