from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from sweeps import BATCH, COMPACT, DISTILL, JOBS, LR, MLM, make, refused

from compactbio.launch.sweep_plan import describe_sweep
from compactbio.spec.sweep_load import is_sweep, load_sweep


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
        ({"scale": {"storage": "s3://bucket/runs"}}, "scale.storage: 's3://bucket/runs' is an address, which sweeps"),
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
