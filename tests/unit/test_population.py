from __future__ import annotations

import json
import math
import random
from pathlib import Path
from typing import Any

import pytest
from sweeps import DISTILL, LR, MLM, make, refused, url

from compactbio.launch.sweep_population import Evolving, Member, bred, explored
from compactbio.launch.sweep_sources import Common
from compactbio.launch.sweep_study import SearchStudy
from compactbio.launch.sweep_trials import Later
from compactbio.launch.trial import TrialReport
from compactbio.launch.trial_stages import TrialRequest
from compactbio.spec.space import LogUniform
from compactbio.spec.sweep import Population
from compactbio.spec.sweep_load import load_sweep

SPACE = {LR: {"kind": "log_uniform", "low": 1e-5, "high": 1e-2}, MLM: {"kind": "log_uniform", "low": 0.1, "high": 10}}
PBT = {"space": SPACE, "budget": {"trials": 4}, "stopping": {"kind": "pbt", "interval": 12}}
WARM_UP = f"{DISTILL}.training.warmup_steps"
ENDS = (12, 24, 32)


def evolving(folder: Path) -> Evolving:
    sweep = load_sweep(make(folder, **PBT))
    study = SearchStudy(sweep, "s", url(folder))
    common = Common(str(folder), {"stage:adapt": "/made/adapt"}, {"finetune": {}})
    return Evolving(sweep, study, folder, common, {}, lambda text: None)


def a_generation(source: Evolving, ends: int | None, scores: dict[int, float]) -> list[TrialRequest]:
    """Runs what is handed out, and leaves a checkpoint as a trial does."""
    requests = []
    for _ in range(4):
        request = source.next()
        assert isinstance(request, TrialRequest) and request.until == ends
        requests.append(request)
    assert isinstance(source.next(), Later)
    for request in requests:
        if ends is not None:
            checkpoint = request.folder / "distill" / "checkpoints" / f"step-{ends}"
            checkpoint.mkdir(parents=True)
            (checkpoint / "of").write_text(request.folder.name)
        source.over(request, TrialReport(step=32, scores=(scores[number(request)],), over=True))
    return requests


def number(request: TrialRequest) -> int:
    return int(request.folder.name.split("-")[1])


def start_of(request: TrialRequest, step: int) -> str:
    return (request.folder / "distill" / "checkpoints" / f"step-{step}" / "of").read_text()


def test_the_worst_go_on_from_the_best_and_a_resume_goes_on_where_it_was(tmp_path: Path) -> None:
    source = evolving(tmp_path)
    assert source.num_runs == 12
    first = a_generation(source, 12, {0: 3.0, 1: 2.0, 2: 5.0, 3: 4.0})
    assert first[0].values == {LR: 5e-4, MLM: 1.0}
    again = evolving(tmp_path)  # another driver
    second = a_generation(again, 24, {0: 3.0, 1: 2.5, 2: 2.0, 3: 4.0})
    assert [start_of(request, 12) for request in second] == [f"trial-{n:04d}-00" for n in (0, 1, 1, 3)]
    assert second[1].values == first[1].values and second[2].values != first[1].values
    checkpoints = second[0].spec.training_stages()["distill"].training.checkpoints
    assert checkpoints.every_steps == 12 and checkpoints.every_minutes is None
    third = a_generation(again, None, {0: 1.0, 1: 2.5, 2: 2.0, 3: 4.0})
    assert [start_of(request, 24) for request in third] == [f"trial-{n:04d}-01" for n in (0, 1, 2, 2)]
    assert again.next() is None
    study = SearchStudy(load_sweep(make(tmp_path, **PBT)), "s", url(tmp_path))
    outcomes = study.outcomes()
    assert [outcome.state for outcome in outcomes] == ["finished"] * 4
    assert study.best()[0].number == 0 and outcomes[3].values == third[3].values
    assert list(outcomes[2].curve) == list(ENDS)


def test_a_driver_that_was_killed_before_it_told_the_study_tells_it_later(tmp_path: Path) -> None:
    source = evolving(tmp_path)
    for ends in (12, 24):
        a_generation(source, ends, {0: 3.0, 1: 2.0, 2: 5.0, 3: 4.0})
    assert source.next()  # the last generation is on its way
    file = tmp_path / "population.json"
    written = json.loads(file.read_text())
    for member in written[-1]:
        member["score"] = float(member["number"])
    file.write_text(json.dumps(written))
    again = evolving(tmp_path)
    assert again.next() is None
    outcomes = SearchStudy(load_sweep(make(tmp_path, **PBT)), "s", url(tmp_path)).outcomes()
    assert [(outcome.state, outcome.scores) for outcome in outcomes] == [
        ("finished", (float(number),)) for number in range(4)
    ]


def test_a_member_that_fails_is_replaced(tmp_path: Path) -> None:
    sweep = load_sweep(make(tmp_path, **PBT))
    assert isinstance(sweep.spec.stopping, Population)
    before = [Member(0, {LR: 1e-3}, 0, math.nan, "no number")]
    before += [Member(n, {LR: 1e-3}, n, float(n)) for n in (1, 2, 3)]
    after = bred(before, sweep, sweep.spec.stopping, random.Random(1))
    assert [member.parent for member in after] == [1, 1, 2, 3]


def test_values_stay_in_their_space() -> None:
    draw, space = random.Random(1), LogUniform(kind="log_uniform", low=1e-4, high=1e-2)
    near = {explored(1e-3, space, 0.0, draw) for _ in range(50)}
    assert sorted(near) == pytest.approx([0.8e-3, 1.2e-3])
    assert explored(1e-2, space, 0.0, random.Random(2)) <= 1e-2
    drawn = [explored(1e-3, space, 1.0, draw) for _ in range(200)]
    assert all(1e-4 <= value <= 1e-2 for value in drawn) and 70 < sum(value < 1e-3 for value in drawn) < 130


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"stopping": {"kind": "pbt", "interval": 10}}, "is no multiple of evaluate_every_steps (4) below 32"),
        ({"stopping": {"kind": "pbt", "interval": 32}}, "is no multiple of evaluate_every_steps (4) below 32"),
        (
            {"space": {f"{DISTILL}.training.warmup_steps": {"kind": "integer", "low": 0, "high": 8}}},
            "changes values on",
        ),
        ({"space": {"stages.adapt.training.lr": SPACE[LR]}}, "of the training or objective of 'distill'"),
    ],
)
def test_what_cannot_change_on_the_way_is_refused(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    assert words in refused(tmp_path, **{**PBT, **changes})
