from __future__ import annotations

import json
import math
import statistics
from pathlib import Path
from typing import Any

import optuna
import pytest
from sweeps import BATCH, DISTILL, MLM, OUTPUT, make, url

from compactbio.launch.sweep_study import SearchStudy
from compactbio.spec.base import SpecError
from compactbio.spec.sweep_load import load_sweep
from compactbio.spec.trials import Sweep


def test_the_study_alone_says_what_is_left_to_do(tmp_path: Path) -> None:
    sweep = load_sweep(make(tmp_path, search={"warm_start": [{MLM: 3.0}]}))
    study = SearchStudy(sweep, "s", url(tmp_path))
    first, second, third = (study.next() for _ in range(3))
    assert first is not None and second is not None and third is not None
    assert first.values == {MLM: 1.0, OUTPUT: 5.0, BATCH: 32}  # the base's own
    assert second.values == {MLM: 3.0, OUTPUT: 5.0, BATCH: 32}
    study.finish(0, (4.0,))
    study.fail(1, "no memory")

    again = SearchStudy(sweep, "s", url(tmp_path))  # another driver, after this one was killed
    suggestions = [again.next() for _ in range(5)]
    assert [s.number if s else None for s in suggestions] == [2, 3, 4, 5, None]
    assert suggestions[0] == third
    again.finish(2, (float("nan"),))
    states = {outcome.number: outcome.state for outcome in again.outcomes()}
    assert states == {0: "finished", 1: "failed", 2: "failed", 3: "running", 4: "running", 5: "running"}
    assert again.outcomes()[1].reason == "no memory" and again.best()[0].number == 0


def run_all(sweep: Sweep, folder: Path, score: Any) -> SearchStudy:
    study = SearchStudy(sweep, "s", url(folder))
    while (suggestion := study.next()) is not None:
        stopped = False
        for step in range(4, 32, 4):
            stopped = study.report(suggestion.number, step, score(suggestion.values) + 1 / step)
            if stopped:
                study.prune(suggestion.number)
                break
        if not stopped:
            study.finish(suggestion.number, (score(suggestion.values),))
    return study


def test_halving_stops_trials_that_do_worse_and_the_sampler_finds_what_matters(tmp_path: Path) -> None:
    stopping = {"kind": "asha", "first_rung": 4, "reduction": 2}
    sweep = load_sweep(make(tmp_path, budget={"trials": 40}, stopping=stopping))
    study = run_all(sweep, tmp_path, lambda values: abs(values[MLM] - 0.3))
    outcomes = study.outcomes()
    pruned = [outcome for outcome in outcomes if outcome.state == "pruned"]
    assert len(pruned) > 15 and {max(outcome.curve) for outcome in pruned} <= {4, 8, 16}
    [best] = study.best()
    assert abs(best.values[MLM] - 0.3) < 0.1
    [shares] = study.importances()
    assert shares[MLM] > 0.6


def test_a_grid_is_every_combination_once_the_base_first(tmp_path: Path) -> None:
    space = {
        BATCH: {"kind": "choice", "values": [16, 32, 64]},
        f"{DISTILL}.training.warmup_steps": {"kind": "integer", "low": 0, "high": 8, "step": 4},
    }
    sweep = load_sweep(make(tmp_path, space=space, search={"sampler": "grid"}, budget={}))
    study = SearchStudy(sweep, "s", url(tmp_path))
    points = []
    while (suggestion := study.next()) is not None:
        points.append(tuple(suggestion.values.values()))
    assert points[0] == (32, 4) and sorted(points) == sorted((b, w) for b in (16, 32, 64) for w in (0, 4, 8))


def test_a_driver_that_was_killed_while_it_noted_the_first_points_loses_none(tmp_path: Path) -> None:
    before = tmp_path / "before"
    before.mkdir()
    trials = [
        {"state": "finished", "number": number, "values": {MLM: 0.3, BATCH: 16}, "scores": [number]}
        for number in (0, 1)
    ]
    (before / "trials.json").write_text(json.dumps({"objectives": ["distill/held_out/mlm"], "trials": trials}))
    space = {MLM: {"kind": "choice", "values": [0.3, 1.0]}, BATCH: {"kind": "choice", "values": [16, 32]}}
    search = {"sampler": "grid", "earlier": [str(before)]}
    sweep = load_sweep(make(tmp_path, space=space, search=search, budget={}))
    begun = optuna.create_study(storage=url(tmp_path), study_name="s", direction="minimize")
    begun.enqueue_trial({MLM: 1.0, BATCH: 32})
    begun.enqueue_trial({MLM: 0.3, BATCH: 16})
    study = SearchStudy(sweep, "s", url(tmp_path))
    points = []
    while (suggestion := study.next()) is not None:
        points.append(tuple(suggestion.values.values()))
    assert points[0] == (1.0, 32) and sorted(points) == [(m, b) for m in (0.3, 1.0) for b in (16, 32)]
    again = SearchStudy(sweep, "s", url(tmp_path))
    assert len(optuna.load_study(study_name="s", storage=url(tmp_path)).trials) == len(again.outcomes()) + 2


def test_evolution_has_generations_in_a_small_sweep(tmp_path: Path) -> None:
    objectives = [{"kind": "score", "stage": "finetune", "model": "student"}]
    objectives += [{"kind": "latency", "stage": "finetune", "model": "student"}]
    search, budget = {"sampler": "nsga2"}, {"trials": 60}
    study = SearchStudy(
        load_sweep(make(tmp_path, objectives=objectives, search=search, budget=budget)), "s", url(tmp_path)
    )
    distances = []
    while (suggestion := study.next()) is not None:
        values = suggestion.values
        distances.append(abs(math.log10(values[MLM] / 0.3)))
        study.finish(suggestion.number, (-distances[-1], distances[-1] + values[OUTPUT] / 100))
    assert statistics.mean(distances[-20:]) < 0.75 * statistics.mean(distances[:20])


def test_conditional_paths_are_searched_where_they_matter(tmp_path: Path) -> None:
    schedule, power = f"{DISTILL}.training.schedule", f"{DISTILL}.training.power"
    space = {
        power: {"kind": "uniform", "low": 1, "high": 4},
        schedule: {"kind": "choice", "values": ["linear", "polynomial"]},
    }
    conditions = {power: {schedule: ["polynomial"]}}
    sweep = load_sweep(make(tmp_path, space=space, conditions=conditions, budget={"trials": 30}))
    study = SearchStudy(sweep, "s", url(tmp_path))
    while (suggestion := study.next()) is not None:
        assert (power in suggestion.values) == (suggestion.values[schedule] == "polynomial")
        study.finish(suggestion.number, (suggestion.number,))
    assert {outcome.values[schedule] for outcome in study.outcomes()} == {"linear", "polynomial"}


@pytest.mark.parametrize("sampler", ["tpe", "nsga2", "gp", "random"])
def test_several_objectives_have_a_front(tmp_path: Path, sampler: str) -> None:
    objectives = [{"kind": "score", "stage": "finetune", "model": "student"}]
    objectives += [{"kind": "latency", "stage": "finetune", "model": "student"}]
    sweep = load_sweep(make(tmp_path, objectives=objectives, search={"sampler": sampler}, budget={"trials": 12}))
    study = SearchStudy(sweep, "s", url(tmp_path))
    for number, scores in enumerate([(0.5, 3.0), (0.6, 4.0), (0.4, 5.0), (0.7, 9.0)] + [(0.1, 10.0)] * 8):
        suggestion = study.next()
        assert suggestion is not None and suggestion.number == number
        study.finish(number, scores)
    assert [outcome.number for outcome in study.best()] == [0, 1, 3]


def test_an_earlier_sweep_teaches_the_sampler_and_is_not_counted(tmp_path: Path) -> None:
    before = tmp_path / "before"
    before.mkdir()
    trial = {"state": "finished", "number": 0, "values": {MLM: 0.3, OUTPUT: 1.0, BATCH: 16}, "scores": [1.0]}
    outside = {**trial, "number": 1, "values": {MLM: 99.0, OUTPUT: 1.0, BATCH: 16}}
    results = {"objectives": ["distill/held_out/mlm"], "trials": [trial, outside, {**trial, "state": "failed"}]}
    (before / "trials.json").write_text(json.dumps(results))
    sweep = load_sweep(make(tmp_path, search={"earlier": [str(before)]}))
    study = SearchStudy(sweep, "s", url(tmp_path))
    numbers = []
    while (suggestion := study.next()) is not None:
        numbers.append(suggestion.number)
        study.finish(suggestion.number, (2.0,))
    assert len(numbers) == len(study.outcomes()) == 6
    assert study.best()[0].number in numbers
    results["objectives"] = ["distill/held_out/agreement"]
    (before / "trials.json").write_text(json.dumps(results))
    with pytest.raises(SpecError, match="measured"):
        SearchStudy(sweep, "other", url(tmp_path))


def test_a_database_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"search\.study: the database sqlite:////nowhere"):
        SearchStudy(load_sweep(make(tmp_path)), "s", "sqlite:////nowhere/study.db")
