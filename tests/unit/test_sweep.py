from __future__ import annotations

import json
import math
import statistics
from pathlib import Path
from typing import Any

import optuna
import pytest
import torch
from sweeps import BATCH, COMPACT, DISTILL, JOBS, LR, MLM, OUTPUT, make, refused, url

from compactbio.launch.failures import is_out_of_memory
from compactbio.launch.sweep_fit import fit_trials
from compactbio.launch.sweep_plan import asha_share, describe_sweep
from compactbio.launch.sweep_preflight import check_sweep
from compactbio.launch.sweep_sources import Common, Searching
from compactbio.launch.sweep_study import SearchStudy
from compactbio.launch.trial import TrialReport
from compactbio.launch.trial_scores import task_score
from compactbio.launch.trial_stages import with_less_memory
from compactbio.reporting.sweep_page import write_sweep_report
from compactbio.spec.base import SpecError
from compactbio.spec.job import Cluster, Finetune
from compactbio.spec.plan import plan_batch
from compactbio.spec.sweep import Asha, Score
from compactbio.spec.sweep_load import is_sweep, load_sweep
from compactbio.spec.trials import Sweep
from compactbio.tracking.journal import Journal


@pytest.mark.parametrize("path", sorted(JOBS.glob("sweeps/*.yaml")), ids=lambda path: path.stem)
def test_every_shipped_sweep_loads_and_plans(path: Path) -> None:
    assert is_sweep(path)
    sweep = load_sweep(path)
    planned = describe_sweep(sweep)
    assert f"trials     {sweep.spec.budget.trials}" in planned
    assert sweep.job({}).digest() == sweep.base.digest()


def test_a_job_is_no_sweep() -> None:
    assert not is_sweep(JOBS / "quickstart.yaml")


@pytest.mark.parametrize(
    ("path", "distribution", "words"),
    [
        (f"{DISTILL}.training.lrr", {"kind": "uniform", "low": 0.1, "high": 0.2}, "unknown key; did you mean 'lr'?"),
        (LR, {"kind": "uniform", "low": 1e-4, "high": 3}, "the base refuses 3.0: Input should be less than"),
        (LR, {"kind": "uniform", "low": 1e-2, "high": 0.1}, "the base's own value 0.0005 is not in it"),
        (LR, {"kind": "uniform", "low": 0.1, "high": 0.01}, "low 0.1 is not less than high 0.01"),
        (f"{DISTILL}.training.max_tokens", {"kind": "integer", "low": 1, "high": 2}, "the base refuses 1: unknown key"),
        (
            f"{DISTILL}.training.warmup_steps",
            {"kind": "integer", "low": 0, "high": 40},
            "33 is more than the stage's 32",
        ),
        (f"{DISTILL}.training.power", {"kind": "uniform", "low": 2, "high": 4}, None),
        (f"{DISTILL}.training.evaluate_every_steps", {"kind": "integer", "low": 1, "high": 9}, None),
        (
            f"{DISTILL}.training.precision",
            {"kind": "choice", "values": ["fp32", "bf16"]},
            "the base has no value there",
        ),
        ("corpus.max_tokens", {"kind": "integer", "low": 16, "high": 96}, "only values of the base's stages"),
        ("stages.other.training.lr", {"kind": "uniform", "low": 0.1, "high": 0.2}, "only values of the base's stages"),
        ("stages.control.training.lr", {"kind": "uniform", "low": 1e-4, "high": 0.2}, "no objective depends on stage"),
        (
            "stages.finetune.tuning.lr",
            {"kind": "uniform", "low": 1e-4, "high": 0.2},
            "no objective depends on stage",
        ),
        (COMPACT, {"kind": "uniform", "low": 0.1, "high": 9}, "a lambda is searched by factors"),
        (f"{DISTILL}.objective.output.positions", {"kind": "choice", "values": ["masked", "none"]}, 'refuses "none"'),
    ],
)
def test_the_base_says_what_can_be_searched(
    tmp_path: Path, path: str, distribution: dict[str, Any], words: str | None
) -> None:
    space = {path: distribution}
    if words is None:
        assert load_sweep(make(tmp_path, space=space)).base_value(path) is not None
        return
    found = refused(tmp_path, space=space)
    assert f"sweep.yaml:7: space.{path}" in found and words in found


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"objectives": [{"kind": "held_out", "stage": "distill", "measure": "loss"}]},
            f"contains what is searched ({MLM}",
        ),
        ({"objectives": [{"kind": "held_out", "stage": "finetune"}]}, "'finetune' is not a training stage"),
        ({"objectives": [{"kind": "held_out", "stage": "adapt"}]}, "no objective depends on stage 'distill'"),
        (
            {"objectives": [{"kind": "held_out", "stage": s} for s in ("adapt", "distill")]},
            "objectives.0: nothing that is searched changes stage 'adapt'",
        ),
        (
            {"objectives": [{"kind": "score", "stage": "finetune", "model": "pupil"}]},
            "'pupil' is not one of its models",
        ),
        (
            {"objectives": [{"kind": "score", "stage": "finetune", "model": "student", "task": "qa"}]},
            "'qa' is not one of its tasks",
        ),
        ({"objectives": [{"kind": "training_loss"}]}, "kind"),
        (
            {
                "objectives": [{"kind": "score", "stage": "finetune", "model": "student"}],
                "space": {"stages.finetune.tuning.lr": {"kind": "uniform", "low": 1e-4, "high": 0.2}},
            },
            "hyper-parameters stand by group of tasks; the base has stages.finetune.tuning.all",
        ),
        ({"budget": {}}, "budget.trials: missing"),
        ({"budget": {"trails": 3}}, "did you mean 'trials'"),
        ({"stopping": {"kind": "asha", "first_rung": 32}}, "32 is not before a trial's end (32)"),
        ({"stopping": {"kind": "median"}, "scale": {}}, "nothing to go by before a trial's end"),
        ({"search": {"sampler": "grid"}}, "a grid takes choices and integers alone"),
        ({"search": {"warm_start": [{MLM: 70}]}}, f"70 is not in the space of '{MLM}'"),
        ({"search": {"warm_start": [{LR: 1e-4}]}}, f"'{LR}' is not a path of the space"),
        ({"conditions": {MLM: {BATCH: [8]}}}, f"'{BATCH}' is never 8"),
        ({"conditions": {MLM: {LR: [8]}}}, f"'{LR}' is not a path of the space that is always searched"),
        ({"scale": {"stages.distill.training.stpes": 4}}, "sweep.yaml:4: scale.stages.distill.training.stpes"),
        ({"base": "nowhere.yaml"}, "sweep.yaml:2: base: in 'nowhere.yaml': cannot read"),
        (
            {"normalise_lambdas_to": 1.0, "space": {MLM: {"kind": "log_uniform", "low": 0.1, "high": 10}}},
            "needs two lambdas",
        ),
    ],
)
def test_what_cannot_go_well_is_refused(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    assert words in refused(tmp_path, **changes)


def test_a_weighted_loss_is_a_yardstick_where_no_weight_is_searched(tmp_path: Path) -> None:
    space = {LR: {"kind": "log_uniform", "low": 1e-5, "high": 1e-2}}
    objectives = [{"kind": "held_out", "stage": "distill", "measure": "loss"}]
    assert load_sweep(make(tmp_path, space=space, objectives=objectives)).needed() == ["adapt", "distill"]


def test_a_trial_is_the_base_with_its_values_through_the_loader(tmp_path: Path) -> None:
    sweep = load_sweep(make(tmp_path))
    job = sweep.job({MLM: 0.25, BATCH: 64})
    stage = job.training_stages()["distill"]
    assert stage.objective.terms()["mlm"].weight == 0.25 and stage.training.global_batch == 64
    assert job.training_stages()["adapt"] == sweep.base.training_stages()["adapt"]
    assert list(job.stages) == ["adapt", "distill", "control", "finetune"]


def test_fresh_seeds_are_those_that_no_trial_had(tmp_path: Path) -> None:
    scale = {"cluster.num_workers": 1, "stages.finetune.seeds": [1, 3]}
    sweep = load_sweep(make(tmp_path, scale=scale))
    seeds = [sweep.job({}, seed=seed).stages["finetune"] for seed in (2, 3)]
    assert [section.seeds for section in seeds if isinstance(section, Finetune)] == [(4, 6), (7, 9)]
    assert sweep.job({}, seed=2).seed == 2


def ended_as(folder: Path) -> tuple[str, dict[str, str]]:
    end = json.loads((folder / "journal.jsonl").read_text().splitlines()[-1])
    return end["status"], end["tags"]


def test_values_that_the_base_does_not_take_together_are_a_trial_that_failed(tmp_path: Path) -> None:
    micro = f"{DISTILL}.training.micro_batch"
    space = {
        BATCH: {"kind": "choice", "values": [12, 32]},
        micro: {"kind": "choice", "values": [4, 8]},
    }
    scale = {"cluster.num_workers": 1, micro: 4}
    sweep = load_sweep(make(tmp_path, space=space, scale=scale, search={"sampler": "grid"}, budget={}))
    study = SearchStudy(sweep, "s", url(tmp_path))
    common = Common(str(tmp_path), {"stage:adapt": "/made/adapt"}, {"finetune": {}})
    source = Searching(sweep, study, tmp_path, common, {}, lambda text: None)
    while source.next() is not None:
        pass
    [failed] = [outcome for outcome in study.outcomes() if outcome.state == "failed"]
    assert failed.values == {BATCH: 12, micro: 8} and "global_batch 12 is no multiple of 8" in failed.reason
    status, tags = ended_as(tmp_path / f"trial-{failed.number:04d}")
    assert status == "FAILED" and tags["state"] == "failed" and "no multiple" in tags["reason"]


def test_a_trial_whose_process_was_lost_has_its_reason_in_its_journal(tmp_path: Path) -> None:
    sweep = load_sweep(make(tmp_path))
    study = SearchStudy(sweep, "s", url(tmp_path))
    common = Common(str(tmp_path), {"stage:adapt": "/made/adapt"}, {"finetune": {}})
    source = Searching(sweep, study, tmp_path, common, {}, lambda text: None)
    request = source.next()
    assert request is not None
    places = [request.folder, request.folder / "distill"]
    Journal(places[1]).start("distill", {})
    source.over(request, TrialReport(failure="its process was lost", over=True))
    assert ended_as(places[0]) == ("FAILED", {"state": "failed", "reason": "its process was lost"})
    assert ended_as(places[1])[0] == "FAILED"
    assert study.outcomes()[0].reason == "its process was lost"


def test_only_what_the_objectives_need_runs_and_what_stays_the_same_runs_once(tmp_path: Path) -> None:
    sweep = load_sweep(make(tmp_path))
    assert sweep.needed() == ["adapt", "distill"] and sweep.shared() == ["adapt"]
    trial = sweep.trial(sweep.job({MLM: 0.5}), str(tmp_path), {"stage:adapt": "/made/adapt", "teacher": "/a/teacher"})
    assert list(trial.stages) == ["distill"] and trial.corpus is None and trial.store == str(tmp_path)
    assert trial.stages["distill"].models() == {"teacher": "/made/adapt"}
    score = load_sweep(make(tmp_path, objectives=[{"kind": "score", "stage": "finetune", "model": "student"}]))
    assert score.needed() == ["adapt", "distill", "finetune"]
    trial = score.trial(score.job({}), str(tmp_path), {"stage:adapt": "/made/adapt"})
    assert trial.stages["finetune"].models() == {"models.student": "stage:distill"}


def test_a_model_that_is_fine_tuned_against_another_brings_it_along(tmp_path: Path) -> None:
    space = {"stages.finetune.tuning.all.lr": {"kind": "log_uniform", "low": 1e-5, "high": 1e-2}}
    taught = {"student": {"teacher": "teacher", "alpha": 0.5, "loss": "mse"}, "control": {"teacher": "teacher"}}
    scale = {"cluster.num_workers": 1, "stages.finetune.distillation": taught, "stages.finetune.seeds": [1, 2]}
    objectives = [{"kind": "score", "stage": "finetune", "model": "student"}]
    sweep = load_sweep(make(tmp_path, space=space, scale=scale, objectives=objectives))
    assert sweep.needed() == ["adapt", "distill", "finetune"] and sweep.shared() == ["adapt", "distill"]
    made = {"stage:adapt": "/made/adapt", "stage:distill": "/made/distill"}
    section = sweep.trial(sweep.job({}), None, made).stages["finetune"]
    assert section.models() == {"models.student": "/made/distill", "models.teacher": "/made/adapt"}
    assert isinstance(section, Finetune) and list(section.distillation) == ["student"] and section.seeds == (1, 2)


def test_a_score_is_the_mean_over_tasks_of_what_stands_for_the_seeds() -> None:
    cells = [
        {
            "model_name": model,
            "task_name": task,
            "main": main,
            "scores": {main: score + 1, "accuracy": 100.0},
            "dev_score": score,
        }
        for model, task, main, score in [
            ("student", "ner", "micro_f1", 60.0),
            ("student", "ner", "micro_f1", 61.0),
            ("student", "ner", "micro_f1", 80.0),
            ("student", "qa", "mrr", 30.0),
            ("teacher", "ner", "micro_f1", 99.0),
        ]
    ]
    student = Score(kind="score", stage="finetune", model="student")
    assert task_score(cells, "mean", student) == pytest.approx((67 + 30) / 2)
    assert task_score(cells, "median", student) == pytest.approx((61 + 30) / 2)
    assert task_score(cells, "mean", student.model_copy(update={"task": "qa"})) == 30.0
    assert task_score(cells, "mean", student.model_copy(update={"task": "qa", "split": "test"})) == 31.0


@pytest.mark.parametrize("split", ["dev", "test"])
def test_trials_score_the_development_set_where_it_chooses(tmp_path: Path, split: str) -> None:
    objectives = [{"kind": "score", "stage": "finetune", "model": "student", "split": split}]
    sweep = load_sweep(make(tmp_path, objectives=objectives))
    made = {"stage:adapt": "/made/adapt"}
    section = sweep.trial(sweep.job({}), str(tmp_path), made).stages["finetune"]
    assert isinstance(section, Finetune) and section.tuning["all"].score_dev == (split == "dev")


def test_a_task_without_a_development_set_cannot_choose(tmp_path: Path) -> None:
    objectives = [{"kind": "score", "stage": "finetune", "model": "student"}]
    with pytest.raises(SpecError, match=r"objectives\.0\.split: task 'mentions' has no development set"):
        check_sweep(load_sweep(make(tmp_path, objectives=objectives)))
    objectives[0]["split"] = "test"
    check_sweep(load_sweep(make(tmp_path, objectives=objectives)))


def test_lambdas_are_scaled_to_a_sum_those_of_the_base_too(tmp_path: Path) -> None:
    sweep = load_sweep(make(tmp_path, normalise_lambdas_to=1.0))
    for values, expected in (({}, (1 / 6, 5 / 6)), ({MLM: 5.0, OUTPUT: 15.0, BATCH: 16}, (0.25, 0.75))):
        terms = sweep.job(values).training_stages()["distill"].objective.terms()
        assert [terms["mlm"].weight, terms["output"].weight] == pytest.approx(expected)
        assert terms["compact"].weight == 3.0  # not searched


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


def test_trials_are_fitted_to_the_cluster_before_the_start() -> None:
    def fit(asked: int | None, workers: int, cpus: int = 1, num_cpus: float = 2) -> Any:
        cluster = Cluster(num_workers=workers, cpus_per_worker=cpus)
        return fit_trials(cluster, asked, 20, num_cpus=num_cpus, num_gpus=0)

    assert (fit(None, 1).concurrent, fit(None, 1).resources) == (2, {"CPU": 1})
    assert (fit(None, 2).concurrent, fit(None, 2).resources) == (1, {"memory": 1})  # Ray Train reserves the workers
    assert fit(None, 2, 2, 17).concurrent == 4
    with pytest.raises(SpecError, match="3 trials at once x 1 workers x 1 CPUs = 3 CPUs, the cluster has 2 CPUs"):
        fit(3, 1)
    with pytest.raises(SpecError, match="1 trials at once x 4 workers x 1 CPUs = 4 CPUs"):
        fit(None, 4)
    with pytest.raises(SpecError, match="and 2 GPUs = 2 CPUs, the cluster has 8 CPUs and 1 GPUs: room for 0"):
        fit_trials(Cluster(num_workers=2, use_gpu=True), 1, 20, num_cpus=8, num_gpus=1)


def test_out_of_memory_halves_the_micro_batch_and_keeps_the_global_one(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60)
    assert is_out_of_memory(caught.value) and is_out_of_memory(MemoryError())
    assert not is_out_of_memory(RuntimeError("the loss is not finite"))
    job = load_sweep(make(tmp_path)).job({f"{DISTILL}.training.micro_batch": 4})
    sizes = []
    while job is not None:
        plan = plan_batch(job.training_stages()["distill"].training, 1)
        assert plan.micro_batch * plan.accumulation == plan.global_batch == 32
        sizes.append(plan.micro_batch)
        job = with_less_memory(job, ["distill"])
    assert sizes == [4, 2, 1]


def test_the_plan_says_what_stopping_early_saves(tmp_path: Path) -> None:
    stopping = {"kind": "asha", "first_rung": 4, "reduction": 2}
    sweep = load_sweep(make(tmp_path, budget={"trials": 8}, stopping=stopping, confirm_seeds=2))
    assert isinstance(sweep.spec.stopping, Asha)
    # 8 x 4, then 4 to 8, 2 to 16, 1 to 32
    assert asha_share(sweep, sweep.spec.stopping, 8) == pytest.approx((8 * 4 + 4 * 4 + 2 * 8 + 1 * 16) / (8 * 32))
    planned = describe_sweep(sweep)
    assert (
        "at most 8 x 32 steps = 256, 8 x 1,024 rows at the base's batch = 8,192" in planned
        and "with ASHA about 31% of it (80 steps)" in planned
    )
    assert "run once   adapt" in planned and "left out   control, finetune" in planned
    assert "4 runs of the same length to confirm" in planned


def test_the_plan_counts_fine_tunings(tmp_path: Path) -> None:
    space = {"stages.finetune.tuning.all.lr": {"kind": "log_uniform", "low": 1e-5, "high": 1e-2}}
    scale = {"cluster.num_workers": 1, "stages.finetune.seeds": [1, 2, 3]}
    objectives = [{"kind": "score", "stage": "finetune", "model": "student"}]
    planned = describe_sweep(load_sweep(make(tmp_path, space=space, scale=scale, objectives=objectives)))
    assert "compute    at most 6 x 6 fine-tunings = 36\n" in planned  # one model, two tasks, three seeds


def test_the_report_shows_every_kind_of_trial(tmp_path: Path) -> None:
    space = {MLM: {"kind": "log_uniform", "low": 0.1, "high": 10}, BATCH: {"kind": "choice", "values": [16, 32]}}
    trials = [
        {
            "number": number,
            "state": "finished",
            "values": {MLM: 0.1 * (number + 1), BATCH: 16 if number % 2 else 32},
            "scores": [4.0 - 0.1 * number, 1.0 + number],
            "reason": "",
        }
        for number in range(6)
    ]
    curve = {"4": 7.5, "12": 6.25}
    trials += [
        {"number": 6, "state": "pruned", "values": {MLM: 9.0, BATCH: 16}, "scores": [], "reason": "", "curve": curve}
    ]
    trials += [{"number": 7, "state": "failed", "values": {MLM: 8.0, BATCH: 16}, "scores": [], "reason": "<nan>"}]
    results = {
        "name": "small",
        "digest": "abc",
        "objectives": ["a loss", "a time"],
        "directions": ["minimize", "minimize"],
        "space": space,
        "base": {MLM: 1.0, BATCH: 32},
        "trials": trials,
        "best": [0, 5],
        "importances": [{MLM: 0.9, BATCH: 0.1}, {}],
        "confirmed": {"base": [[4.0, 1.0], [4.2, 1.0]], "best": [[3.5, 1.0], [3.6, 1.0]]},
    }
    (tmp_path / "trials.json").write_text(json.dumps(results))
    table = write_sweep_report(tmp_path)
    assert table.splitlines()[2].startswith("| 5 (front) | 3.5")
    assert "8 trials: 6 finished, 1 pruned, 1 failed\n- Pareto front: trials 0, 5" in table
    assert "a loss on fresh seeds: base 4.1 ± 0.14 (2 seeds), best 3.55 ± 0.071 (2 seeds)" in table
    page = (tmp_path / "report" / "index.html").read_text()
    assert "<td>12</td><td>6.25</td>" in page.replace(' class="number"', "")
    assert page.count("<svg") == 8 and "trial 7 failed: &lt;nan&gt;" in page
    with pytest.raises(SpecError, match="not the folder of a finished sweep"):
        write_sweep_report(tmp_path / "report")
