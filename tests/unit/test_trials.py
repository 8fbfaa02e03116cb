from __future__ import annotations

from pathlib import Path

import pytest
import torch
from sweeps import BATCH, DISTILL, MLM, OUTPUT, make

from compactbio.launch.failures import is_out_of_memory
from compactbio.launch.trial_scores import task_score
from compactbio.launch.trial_stages import with_less_memory
from compactbio.spec.job import Finetune
from compactbio.spec.plan import plan_batch
from compactbio.spec.sweep import Score
from compactbio.spec.sweep_load import load_sweep


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


@pytest.mark.parametrize("split", ["dev", "test"])
def test_trials_score_the_development_set_where_it_chooses(tmp_path: Path, split: str) -> None:
    objectives = [{"kind": "score", "stage": "finetune", "model": "student", "split": split}]
    sweep = load_sweep(make(tmp_path, objectives=objectives))
    made = {"stage:adapt": "/made/adapt"}
    section = sweep.trial(sweep.job({}), str(tmp_path), made).stages["finetune"]
    assert isinstance(section, Finetune) and section.tuning["all"].score_dev == (split == "dev")


def test_lambdas_are_scaled_to_a_sum_those_of_the_base_too(tmp_path: Path) -> None:
    sweep = load_sweep(make(tmp_path, normalise_lambdas_to=1.0))
    for values, expected in (({}, (1 / 6, 5 / 6)), ({MLM: 5.0, OUTPUT: 15.0, BATCH: 16}, (0.25, 0.75))):
        terms = sweep.job(values).training_stages()["distill"].objective.terms()
        assert [terms["mlm"].weight, terms["output"].weight] == pytest.approx(expected)
        assert terms["compact"].weight == 3.0  # not searched


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
