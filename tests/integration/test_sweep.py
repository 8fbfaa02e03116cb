"""A sweep whose driver is killed on its way is the sweep that was not: real Ray Tune, Optuna, MLflow."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import commands
import optuna
import pytest
import yaml
from faults import Command
from mlflow import MlflowClient

from compactbio.launch.sweep_folder import resumed_sweep
from compactbio.spec.load import load
from compactbio.tracking.journal import has_ended, series
from compactbio.training.checkpoint import newest_step

LR, LAMBDA = "stages.distill.training.lr", "stages.distill.objective.mlm.lambda"
TRIALS, STEPS, SAVE = 8, 200, 20
INFINITE = 1e39


@pytest.fixture(scope="module")
def folder(
    tmp_path_factory: pytest.TempPathFactory, hermetic_environment: dict[str, str], tiny_model: Path, tiny_corpus: Path
) -> Path:
    """A finished sweep, whose driver was killed when one trial had finished and another had a checkpoint."""
    place = tmp_path_factory.mktemp("sweep")
    training = {"steps": 5, "global_batch": 8, "lr": 1e-3}
    job = {
        "name": "small",
        "teacher": str(tiny_model),
        "corpus": {"sources": [{"format": "lines", "files": str(tiny_corpus)}], "max_tokens": 32, "held_out": 0.1},
        "stages": {
            "adapt": {
                "kind": "pretrain",
                "student": {"start": "checkpoint", "model": "teacher"},
                "training": training,
            },
            "distill": {
                "kind": "distill",
                "teacher": "stage:adapt",
                "student": {"start": "teacher_layers", "layers": [1, 3]},
                "objective": {"mlm": {}, "output": {"lambda": 2.0}},
                "training": {
                    **training,
                    "steps": STEPS,
                    "evaluate_every_steps": SAVE,
                    "held_out_rows": 16,
                    "checkpoints": {"every_steps": SAVE},
                },
            },
            "control": {
                "kind": "pretrain",
                "student": {"start": "teacher_layers", "model": "stage:adapt", "layers": [1, 3]},
                "training": training,
            },
        },
    }
    sweep = {
        "name": "lambdas",
        "base": "job.yaml",
        "scale": {"cluster.num_workers": 1},
        "space": {
            LR: {"kind": "log_uniform", "low": 1e-4, "high": 1e-1},
            LAMBDA: {"kind": "choice", "values": [0.5, 1.0, INFINITE]},
        },
        "objectives": [{"kind": "held_out", "stage": "distill"}],
        "search": {"warm_start": [{LAMBDA: INFINITE}, {LR: 3e-3}, {LR: 6e-3}]},
        "budget": {"trials": TRIALS},
        "stopping": {"kind": "asha", "first_rung": SAVE, "reduction": 2},
        "confirm_seeds": 1,
    }
    (place / "job.yaml").write_text(yaml.safe_dump(job, sort_keys=False))
    (place / "sweep.yaml").write_text(yaml.safe_dump(sweep, sort_keys=False))
    killed = Command(place, hermetic_environment)
    killed.start("sweep", "sweep.yaml")
    going: list[str] = []
    before: dict[Path, bytes] = {}
    while not (going and before):  # a trial on its way may end between the look at it and the kill
        killed.until(lambda: states(place)["finished"] and saved(place), "a finished trial beside one that is saved")
        killed.kill_driver()
        before = {path: path.read_bytes() for path in ended(place)}
        going = [path.name for path in saved(place)]
        killed.start("sweep", "--resume", "lambdas")
    (place / "going.json").write_text(json.dumps(going))
    killed.wait()
    for path, journal in before.items():
        assert path.read_bytes() == journal
    [found] = (place / "runs").glob("lambdas-*")
    return found


def ended(place: Path) -> list[Path]:
    return [path for path in place.glob("runs/lambdas-*/trial-*/journal.jsonl") if has_ended(path.parent)]


def saved(place: Path) -> list[Path]:
    """Trials on their way that have a checkpoint, and some of the way before them."""
    going = [
        path for path in place.glob("runs/lambdas-*/trial-*") if not (has_ended(path) or (path / "pruned").exists())
    ]
    return [path for path in going if SAVE <= newest_step(path / "distill") < STEPS - 2 * SAVE]


def study(folder: Path) -> optuna.Study:
    return optuna.load_study(study_name=folder.name, storage=f"sqlite:///{folder / 'study.db'}")


def states(place: Path) -> dict[str, int]:
    tags = [json.loads(path.read_text().splitlines()[-1]).get("tags", {}) for path in ended(place)]
    return {state: sum(tag["state"] == state for tag in tags) for state in ("finished", "failed", "pruned")}


def results(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "trials.json").read_text())


def test_no_trial_is_lost_or_counted_twice(folder: Path) -> None:
    trials = study(folder).trials
    assert [trial.number for trial in trials] == list(range(TRIALS))
    assert all(trial.state.is_finished() for trial in trials)
    assert sorted(path.name for path in folder.glob("trial-*")) == [f"trial-{number:04d}" for number in range(TRIALS)]
    found = results(folder)
    assert [trial["number"] for trial in found["trials"]] == list(range(TRIALS))


def test_a_trial_that_was_running_goes_on_from_its_checkpoint(folder: Path) -> None:
    for name in json.loads((folder.parents[1] / "going.json").read_text()):
        assert "goes on from the checkpoint of step" in (folder / name / "distill" / "journal.jsonl").read_text()
    for trial in study(folder).trials:
        curve = series(folder / f"trial-{trial.number:04d}").get("distill/held_out/mlm", [])
        steps = [step for step, _ in curve]
        assert steps == sorted(set(steps))


def test_the_first_trial_is_the_base_and_stages_that_stay_the_same_run_once(folder: Path) -> None:
    first = study(folder).trials[0]
    assert first.params == {LR: 1e-3, LAMBDA: 1.0}
    assert has_ended(folder / "shared" / "adapt")
    assert not list(folder.glob("trial-*/adapt")) and not list(folder.glob("trial-*/control"))


def test_a_trial_that_fails_is_recorded_with_its_reason(folder: Path) -> None:
    failed = results(folder)["trials"][1]
    assert failed["state"] == "failed" and failed["values"][LAMBDA] == INFINITE
    assert "is not finite, and max_skipped_steps is 0" in failed["reason"]


def test_mlflow_has_each_trial_once_below_the_sweep(folder: Path) -> None:
    client = MlflowClient(tracking_uri=f"sqlite:///{folder.parent / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("lambdas")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id], max_results=1000)
    [parent] = [run for run in runs if run.info.run_name == folder.name]
    children = {run.info.run_name: run for run in runs if run.data.tags.get("mlflow.parentRunId") == parent.info.run_id}
    trials = {name: run for name, run in children.items() if name.startswith("trial-")}
    assert len(trials) == TRIALS
    states = {"finished": "FINISHED", "failed": "FAILED", "pruned": "KILLED"}
    for trial in results(folder)["trials"]:
        run = trials[f"trial-{trial['number']:04d}"]
        assert run.info.status == states[trial["state"]] and run.data.tags["state"] == trial["state"]
        assert float(run.data.params[LR]) == pytest.approx(trial["values"][LR])
        history = client.get_metric_history(run.info.run_id, "distill/held_out/mlm")
        assert [point.step for point in history] == sorted({point.step for point in history})
        if trial["state"] == "finished":
            assert history[-1].step == STEPS and history[-1].value == pytest.approx(trial["scores"][0])
    assert {run.info.status for run in runs} <= set(states.values())


def test_the_best_trial_is_a_job_with_all_stages_and_is_confirmed_on_a_fresh_seed(folder: Path) -> None:
    found = results(folder)
    finished = [trial for trial in found["trials"] if trial["state"] == "finished"]
    [best] = found["best"]
    assert found["trials"][best]["scores"] == min(trial["scores"] for trial in finished)
    job = load(folder / "best.yaml")
    assert list(job.stages) == ["adapt", "distill", "control"]
    assert job.training_stages()["distill"].training.lr == found["trials"][best]["values"][LR]
    assert load(folder / "confirm-best-2" / "spec.yaml").seed == 2
    assert all(len(scores) == 1 for scores in found["confirmed"].values())
    page = (folder / "report" / "index.html").read_text()
    assert "Parallel coordinates" in page and "not finite" in page and "fresh seeds" in page


def test_what_cannot_be_resumed_is_refused(folder: Path, hermetic_environment: dict[str, str]) -> None:
    done = commands.run(["sweep", "--resume", "another"], folder, hermetic_environment)
    assert done.returncode == 2 and "there is no sweep 'another'" in done.stderr
    sweep, same = resumed_sweep(Path("lambdas"), folder.parent)
    assert same == folder and sweep.spec.scale == {} and sweep.base.cluster.num_workers == 1
