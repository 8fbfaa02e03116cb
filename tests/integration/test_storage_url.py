"""Runs that are kept in a bucket of a real S3 server, and that go on from there when nothing else is left of them."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
import yaml
from faults import Command, job
from object_store import BUCKET, ObjectStore, object_store
from task_files import make_ner

URL = f"s3://{BUCKET}/some/runs"
RUN = re.compile(r"run folder (\S+)")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectStore]:
    pytest.importorskip("moto", reason="moto is not installed (pip install 'moto[server]')")
    with object_store(tmp_path_factory.mktemp("s3")) as started:
        yield started


@pytest.fixture
def new_command(
    tmp_path: Path, hermetic_environment: dict[str, str], store: ObjectStore, tiny_model: Path, tiny_corpus: Path
) -> Iterator[Callable[..., Command]]:
    made = []

    def make(score: bool = False, **training: Any) -> Command:
        """A folder of its own, with a job in it, for a machine of its own."""
        folder = tmp_path / f"machine-{len(made)}"
        scratch = {"COMPACTBIO_SCRATCH": str(folder / "scratch")}
        made.append(Command(folder, hermetic_environment | store.environment | scratch))
        spec = job(tiny_model, tiny_corpus, **training)
        if score:
            spec["stages"]["score"] = {
                "kind": "finetune",
                "models": {"student": "stage:distill"},
                "reference": "student",
                "tasks": {"parts": make_ner(tmp_path / "parts")},
                "tuning": {"lr": 1e-3, "epochs": 1, "batch": 8, "max_tokens": 32},
                "measuring": None,
            }
        (folder / "job.yaml").write_text(yaml.safe_dump(spec, sort_keys=False))
        return made[-1]

    yield make
    for each in made:
        each.close()


def parts(store: ObjectStore, run: str) -> set[str]:
    """What lies in the bucket of a run."""
    prefix = run.removeprefix(f"s3://{BUCKET}/")
    return {key.removeprefix(f"{prefix}/") for key in store.names(f"{prefix}/")}


def weights(store: ObjectStore, run: str) -> dict[str, torch.Tensor]:
    key = f"{run.removeprefix(f's3://{BUCKET}/')}/distill/model/model.safetensors"
    return safetensors.torch.load(store.read(key))


@pytest.mark.faults
def test_a_killed_run_goes_on_from_the_bucket_alone(store: ObjectStore, new_command: Callable[..., Command]) -> None:
    calm = new_command()
    calm.start("run", "job.yaml", "--set", f"storage={URL}")
    calm.wait()
    [undisturbed] = set(RUN.findall(calm.log))

    broken = new_command()
    broken.start("run", "job.yaml", "--set", f"storage={URL}")
    broken.until(lambda: RUN.search(broken.log), "run folder")
    [run] = set(RUN.findall(broken.log))

    def newest() -> int:
        steps = re.findall(r"distill/checkpoints/step-(\d+)/manifest.json", "\n".join(parts(store, run)))
        return max(map(int, steps), default=0)

    broken.until(lambda: newest() >= 30, "checkpoint of step 30")
    broken.kill_driver()
    stopped_at = newest()
    shutil.rmtree(broken.folder / "scratch")

    elsewhere = new_command()
    elsewhere.start("run", "--resume", run)
    elsewhere.wait()
    assert f"goes on from the checkpoint of step {stopped_at}" in elsewhere.log
    ours, theirs = weights(store, run), weights(store, undisturbed)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert parts(store, run) >= {"report/index.html", "results.json", "distill/checkpoints/step-100/manifest.json"}


@pytest.mark.faults
def test_a_run_outlasts_its_bucket(store: ObjectStore, new_command: Callable[..., Command]) -> None:
    broken = new_command()
    broken.start("run", "job.yaml", "--set", f"storage={URL}")
    broken.until(lambda: RUN.search(broken.log), "run folder")
    [run] = set(RUN.findall(broken.log))
    checkpoint = f"{run.removeprefix(f's3://{BUCKET}/')}/distill/checkpoints/step-20/manifest.json"
    broken.until(lambda: checkpoint in store.names(), "checkpoint of step 20")
    store.freeze(True)
    broken.until(lambda: "is on this machine alone" in broken.log, "checkpoint that is not stored")
    store.freeze(False)
    broken.wait()
    assert "work again" in broken.log
    steps = {name.split("/")[2] for name in parts(store, run) if name.startswith("distill/checkpoints/")}
    assert len(steps) in (3, 4) and "step-100" in steps  # the last three, and the best


@pytest.mark.faults
def test_a_run_is_kept_in_a_bucket(store: ObjectStore, new_command: Callable[..., Command]) -> None:
    training = {"steps": 8, "checkpoints": {"every_steps": 2, "keep_last": 2}, "export_at_steps": [4]}
    first = new_command(score=True, **training)
    first.start("run", "job.yaml", "--set", f"storage={URL}")
    first.wait()
    [run] = set(RUN.findall(first.log))
    assert run.startswith(f"{URL}/faulty-")
    assert "SQLite cannot lie in a bucket" in first.log
    found = parts(store, run)
    steps = {name.split("/")[2] for name in found if name.startswith("distill/checkpoints/")}
    assert steps == {"step-6", "step-8"}
    assert {
        *("spec.yaml", "journal.jsonl", "results.json", "report/index.html", "corpus/journal.jsonl"),
        *("distill/journal.jsonl", "distill/model/model.safetensors", "distill/model/config.json"),
        *("distill/model-step-4/model.safetensors", "distill/checkpoints/step-8/manifest.json"),
        *("score/journal.jsonl", "score/student-parts-s1/result.json", "score/student-parts-s1/model/config.json"),
    } <= found
    assert not {name for name in found if name.split("/")[-1] in ("lock", "lease.json", "writer", "stop")}
    stores = {key.split("/")[3] for key in store.names("some/runs/stores/")}
    assert len(stores) == 1
    files = [path for path in first.folder.rglob("*") if path.is_file()]
    assert not any(b"planted-secret-5d1c" in path.read_bytes() for path in files)
    assert not any(b"planted-secret-5d1c" in store.read(key) for key in store.names())

    shutil.rmtree(first.folder / "scratch")
    first.start("report", run)
    first.wait()
    assert f"stored    {run}/report" in first.log and first.log.count("| student") == 2
    first.start("track", run)
    first.wait()
    assert f"has everything of {run}" in first.log
    again = new_command(score=True, **training)
    again.start("run", "--resume", run)
    again.wait()
    assert "goes on from" not in again.log  # all of it is done
    assert parts(store, run) == found

    second = new_command(**training)
    second.start("run", "job.yaml", "--set", f"storage={URL}", "--set", "seed=2")
    second.wait()
    [other] = set(RUN.findall(second.log))
    corpus = store.read(f"{other.removeprefix(f's3://{BUCKET}/')}/corpus/journal.jsonl")
    assert b'"pieces"' not in corpus  # the token store was brought from the bucket


def test_what_cannot_be_used_is_one_message(store: ObjectStore, new_command: Callable[..., Command]) -> None:
    command = new_command()
    lost = {"AWS_ENDPOINT_URL": "http://127.0.0.1:9"}
    cases: list[tuple[list[str], dict[str, str], str]] = [
        ([f"storage={URL}"], lost, "nothing answers at http://127.0.0.1:9"),
        (["storage=s3://no-such-bucket/runs"], {}, "there is no bucket 'no-such-bucket' at"),
        (["storage=s3://a-key:planted@bucket/runs"], {}, "an address with a password in it"),
    ]
    environment = command.environment
    for number, (overrides, changes, words) in enumerate(cases):
        command.environment = environment | changes
        options = [part for override in overrides for part in ("--set", override)]
        check_refused(command, ["run", "job.yaml", *options], words, number)
    command.environment = environment | lost
    check_refused(command, ["run", "--resume", f"{URL}/gone"], "nothing answers at", len(cases))
    command.environment = environment
    check_refused(command, ["run", "--resume", f"{URL}/gone"], "is not the folder of a run", len(cases))
    check_refused(command, ["runs", "list", "--storage", URL], "is an address", len(cases))
    store.freeze(True)
    try:
        check_refused(command, ["run", "job.yaml", "--set", f"storage={URL}"], "the credentials are not taken", 9)
    finally:
        store.freeze(False)
    assert not (command.folder / "scratch").exists()
    assert "planted" not in command.log


def check_refused(command: Command, arguments: list[str], words: str, number: int) -> None:
    before = command.log if number else ""
    command.start(*arguments)
    command.wait(2)
    said = command.log[len(before) :].strip()
    assert words in said, said
    assert len(said.splitlines()) == 1, said
