"""Jobs on a cluster that was started with the scripts of `cluster/`, submitted from other processes."""

from __future__ import annotations

import json
import select
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml
from cluster_head import Head
from conftest import ROOT
from faults import REPORT, job
from mlflow import MlflowClient

from compactbio.tracking.journal import has_ended

SWEPT = 400  # steps of a trial
STEPS = 1200  # enough for what happens to the job before it ends


@pytest.fixture(scope="module")
def head(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Head]:
    started = Head(tmp_path_factory.mktemp("head"))
    try:
        started.start()
        yield started
    finally:
        started.close()


@pytest.fixture(scope="module")
def distillation(head: Head, tiny_model: Path, tiny_corpus: Path) -> Path:
    spec = {**job(tiny_model, tiny_corpus, steps=STEPS), "storage": str(head.folder / "runs")}
    path = head.folder / "job.yaml"
    path.write_text(yaml.safe_dump(spec, sort_keys=False))
    return path


def _until(condition: Callable[[], Any], what: str, seconds: float = 300.0) -> None:
    give_up = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < give_up, f"no {what} in {seconds} s"
        time.sleep(0.2)


def _newest(run: Path) -> int:
    return max((int(path.name.removeprefix("step-")) for path in run.glob("distill/checkpoints/step-*")), default=0)


def _submitted(done: subprocess.CompletedProcess[str]) -> dict[str, str]:
    """What `submit` prints: the id of the job, and the folder of its run."""
    assert done.returncode == 0, done.stderr
    return dict(line.split() for line in done.stdout.splitlines())


def test_the_start_scripts_are_clean() -> None:
    shellcheck = shutil.which("shellcheck")
    if shellcheck is None:
        pytest.skip("shellcheck is not installed")
    scripts = sorted(str(path) for path in (ROOT / "cluster").glob("*.sh"))
    assert len(scripts) >= 4
    done = subprocess.run([shellcheck, "-x", *scripts], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_a_head_listens_on_loopback_alone(head: Head) -> None:
    parent = int((head.folder / ".compactbio" / "node" / "pid").read_text())
    processes = [psutil.Process(parent), *psutil.Process(parent).children(recursive=True)]
    listening = [at for each in processes for at in each.net_connections() if at.status == psutil.CONN_LISTEN]
    assert head.dashboard_port in {at.laddr.port for at in listening}
    assert {at.laddr.ip for at in listening} <= {"127.0.0.1", "::ffff:127.0.0.1", "::1"}


def test_a_job_joins_a_cluster(head: Head, tiny_model: Path, tiny_corpus: Path) -> None:
    training = {"steps": 2, "global_batch": 8, "lr": 1e-3, "report_every_steps": 1}
    spec = {
        "name": "joined",
        "teacher": str(tiny_model),
        "corpus": {"sources": [{"format": "lines", "files": str(tiny_corpus)}], "max_tokens": 32, "held_out": 0.1},
        "cluster": {"address": f"127.0.0.1:{head.port}"},
        "storage": "joined runs",
        "stages": {
            "adapt": {"kind": "pretrain", "student": {"start": "checkpoint", "model": "teacher"}, "training": training}
        },
    }
    (head.folder / "joined.yaml").write_text(yaml.safe_dump(spec))
    loopback = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}  # else Ray looks for the head at the machine's own address
    done = head.compactbio("run", "joined.yaml", **loopback)
    assert done.returncode == 0, done.stderr
    [run] = (head.folder / "joined runs").glob("joined-*")
    assert (run / "adapt" / "model" / "model.safetensors").exists()
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", head.port)) == 0, "the job took the cluster down with it"


def test_what_cannot_be_submitted_is_one_message(head: Head, distillation: Path, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        deaf = f"http://127.0.0.1:{silent.getsockname()[1]}"
        cases: list[tuple[list[str], dict[str, str], str]] = [
            ([], {"RAY_AUTH_TOKEN": "0" * 64}, "does not take the token"),
            ([], {"RAY_AUTH_MODE": "disabled"}, "does not take the token"),
            (["--address", "http://127.0.0.1:9"], {}, "nothing answers at"),
            (["--address", deaf], {}, "nothing answers at"),
            (["--address", "http://no-such-host.invalid:8265"], {}, "nothing answers at"),
            (["--address", f"http://127.0.0.1:{head.port}"], {}, "is not a Ray dashboard"),
            (["--set", "storage=runs"], {}, "storage: 'runs' would lie in a folder that Ray deletes"),
            (["--set", "sede=3"], {}, "did you mean 'seed'?"),
        ]
        for arguments, environment, words in cases:
            done = head.compactbio("submit", str(distillation), *arguments, **environment)
            assert done.returncode == 2, (arguments, done.stderr)
            assert words in done.stderr
            assert "Traceback" not in done.stderr
            assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert head.compactbio("jobs", "list").stdout == ""
    assert head.compactbio("jobs", "logs", "gone").returncode == 2


def test_corpora_are_submitted_with_the_files_that_they_name(head: Head, tiny_model: Path, tiny_corpus: Path) -> None:
    sent = head.folder / "mine"
    (sent / "runs").mkdir(parents=True)
    (sent / "runs" / "large").write_text("stays here")
    shutil.copy(tiny_corpus, sent / "corpus.txt")
    corpus = {
        "sources": [{"format": "lines", "files": "corpus.txt"}],
        "tokenizer": str(tiny_model),
        "max_tokens": 32,
        "held_out": 0.1,
    }
    spec = {"name": "words", "corpus": corpus, "storage": str(head.folder / "stores of others")}
    (head.folder / "corpus.yaml").write_text(yaml.safe_dump(spec))
    done = head.compactbio("submit", "corpus.yaml", "--working-dir", str(sent), "--follow")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "sends" in done.stderr
    assert "without runs" in done.stderr
    assert "documents    200 read" in done.stdout
    [manifest] = (head.folder / "stores of others").glob("stores/*/manifest.json")
    assert manifest.is_file()


@pytest.mark.faults
def test_a_sweep_is_submitted_stopped_and_goes_on(head: Head, tiny_model: Path, tiny_corpus: Path) -> None:
    place, trials = head.folder / "swept", 4
    place.mkdir()
    (place / "base.yaml").write_text(yaml.safe_dump(job(tiny_model, tiny_corpus, evaluate_every_steps=SWEPT // 4)))
    changes = {"stages.distill.training.steps": SWEPT, "cluster.num_workers": 1, "storage": str(head.folder / "sweeps")}
    sweep = {
        "name": "lr",
        "base": "base.yaml",
        "scale": changes,
        "space": {"stages.distill.training.lr": {"kind": "log_uniform", "low": 1e-4, "high": 1e-2}},
        "objectives": [{"kind": "held_out", "stage": "distill"}],
        "search": {"sampler": "random"},
        "budget": {"trials": trials, "concurrent": 1},
    }
    (place / "sweep.yaml").write_text(yaml.safe_dump(sweep, sort_keys=False))
    first = _submitted(head.compactbio("submit", str(place / "sweep.yaml")))
    folder = Path(first["run"])
    _until(lambda: has_ended(folder / "trial-0000") and _newest(folder / "trial-0001") >= 20, "checkpoint of a trial")
    stopped = head.compactbio("jobs", "stop", first["job"])
    assert f"{first['job']} is stopped" in stopped.stdout
    finished = (folder / "trial-0000" / "journal.jsonl").read_bytes()
    assert not has_ended(folder / "trial-0001")
    said = head.compactbio("jobs", "logs", first["job"]).stdout
    assert "stopped as asked" in said and "Traceback" not in said, said

    second = head.compactbio("submit", "--resume", str(folder), "--follow")
    assert second.returncode == 0, second.stdout + second.stderr
    assert f"compactbio run {folder / 'best.yaml'}" in second.stdout
    found = json.loads((folder / "trials.json").read_text())["trials"]
    assert [(trial["number"], trial["state"]) for trial in found] == [(number, "finished") for number in range(trials)]
    assert (folder / "trial-0000" / "journal.jsonl").read_bytes() == finished
    assert "goes on from the checkpoint of step" in (folder / "trial-0001" / "distill" / "journal.jsonl").read_text()


@pytest.mark.faults
def test_rays_own_command_runs_a_job_on_its_cluster(head: Head, distillation: Path) -> None:
    ray = str(Path(sys.executable).parent / "ray")
    run = "python -m compactbio.launch.cli run job.yaml --set stages.distill.training.steps=2 --set"
    command = [ray, "job", "submit", "--working-dir", str(distillation.parent), "--", *run.split()]
    where = str(head.folder / "by ray")
    lost = head.run([*command, "storage=runs"])
    assert "storage: 'runs' would lie in a folder that Ray deletes" in lost.stdout
    done = head.run([*command, f"storage='{where}'"])
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(list(Path(where).glob("faulty-*/distill/model/model.safetensors"))) == 1


@pytest.mark.faults
def test_secrets_of_the_environment_are_nowhere_to_be_read(head: Head, distillation: Path) -> None:
    planted = "planted-0f3a9c"
    secrets = {
        "HF_TOKEN": f"{planted}-token",
        "MLFLOW_TRACKING_URI": f"http://somebody:{planted}-password@127.0.0.1:9",  # nothing answers: errors name it
    }
    head.stop()
    head.start(**secrets)
    refused = head.compactbio("submit", str(distillation), "--set", f"tracking.uri={secrets['MLFLOW_TRACKING_URI']}")
    assert refused.returncode == 2
    assert "an address with a password" in refused.stderr
    storage = head.folder / "runs with secrets"
    overrides = ["stages.distill.training.steps=2", f"storage={storage}"]
    options = [part for override in overrides for part in ("--set", override)]
    done = head.compactbio("submit", str(distillation), *options, "--follow", **secrets)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "MLflow does not take the metrics" in done.stdout
    assert "tracking  http://***@127.0.0.1:9" in done.stdout
    said = [text for each in (refused, done) for text in (each.stdout, each.stderr)]
    said += [head.ask(path) for path in ("/api/jobs/", "/api/cluster_status", "/api/v0/actors", "/nodes?view=summary")]
    assert not any(planted in text for text in said)
    files = [path for path in [*head.session_files(), *storage.rglob("*")] if path.is_file()]
    assert len(files) > 50
    assert [str(path) for path in files if planted.encode() in path.read_bytes()] == []
    head.stop()
    head.start()


@pytest.mark.faults
def test_a_job_outlives_its_terminal_and_its_head(head: Head, distillation: Path) -> None:
    first = _submitted(head.compactbio("submit", str(distillation)))
    run = Path(first["run"])
    terminal = head.follow("jobs", "logs", first["job"], "--follow")
    _until(lambda: _newest(run) >= 20, "checkpoint")
    terminal.kill()
    refused = head.compactbio("submit", str(distillation))
    assert refused.returncode == 2
    assert f"the same is running as {first['job']}" in refused.stderr
    refused = head.compactbio("submit", "--resume", str(run))
    assert f"the same is running as {first['job']}" in refused.stderr

    terminal = head.follow("jobs", "logs", first["job"], "--follow")
    assert select.select([terminal.stdout], [], [], 60)[0], "the log is not followed"
    head.stop()
    said, _ = terminal.communicate(timeout=60)
    assert terminal.returncode == 1
    assert "the connection to" in said and "Traceback" not in said, said
    before = _newest(run)
    head.start()
    assert first["job"] not in head.compactbio("jobs", "list").stdout
    second = _submitted(head.compactbio("submit", "--resume", str(run)))
    assert second["run"] == str(run)
    terminal = head.follow("jobs", "logs", second["job"], "--follow")
    _until(lambda: _newest(run) > before + 40, "checkpoint behind the one that was resumed")
    stopped = head.compactbio("jobs", "stop", second["job"])
    assert f"{second['job']} is stopped" in stopped.stdout
    said, _ = terminal.communicate(timeout=60)
    assert terminal.returncode == 75, said
    assert "stopped as asked" in said, said

    third = head.compactbio("submit", "--resume", str(run), "--follow")
    assert third.returncode == 0, third.stdout + third.stderr
    assert (run / "distill" / "model" / "model.safetensors").is_file()
    assert "SUCCEEDED" in head.compactbio("jobs", "list").stdout.splitlines()[0]
    client = MlflowClient(f"sqlite:///{head.folder / 'runs' / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("faulty")
    assert experiment is not None
    [stage] = client.search_runs([experiment.experiment_id], "tags.stage = 'distill'")
    assert [point.step for point in client.get_metric_history(stage.info.run_id, "loss")] == [
        1,
        *range(REPORT, STEPS + 1, REPORT),
    ]
