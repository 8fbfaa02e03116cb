from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from sweeps import BATCH, DISTILL, make, url

from compactbio.launch.sweep_fit import fit_trials
from compactbio.launch.sweep_plan import asha_share, describe_sweep
from compactbio.launch.sweep_preflight import check_sweep
from compactbio.launch.sweep_sources import Common, Searching
from compactbio.launch.sweep_study import SearchStudy
from compactbio.launch.trial import TrialReport
from compactbio.spec.base import SpecError
from compactbio.spec.job import Cluster
from compactbio.spec.sweep import Asha
from compactbio.spec.sweep_load import load_sweep
from compactbio.tracking.journal import Journal


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


def test_a_task_without_a_development_set_cannot_choose(tmp_path: Path) -> None:
    objectives = [{"kind": "score", "stage": "finetune", "model": "student"}]
    with pytest.raises(SpecError, match=r"objectives\.0\.split: task 'mentions' has no development set"):
        check_sweep(load_sweep(make(tmp_path, objectives=objectives)))
    objectives[0]["split"] = "test"
    check_sweep(load_sweep(make(tmp_path, objectives=objectives)))


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
