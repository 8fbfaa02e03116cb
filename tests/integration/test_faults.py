"""What machines do to a run that takes days: after each fault the run is the one that was not disturbed.

These take minutes: `make test-faults` runs them.
"""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import commands
import faults
import numpy as np
import pytest
import torch
import yaml
from door import Door
from faults import EVALUATE, REPORTED, SAVE, STEPS, Job, job, said, same_weights
from mlflow_server import mlflow_server

pytestmark = pytest.mark.faults

NewJob = Callable[..., Job]


@pytest.fixture
def new_job(
    tmp_path: Path, hermetic_environment: dict[str, str], tiny_model: Path, tiny_corpus: Path
) -> Iterator[NewJob]:
    made = []

    def make(storage: Path | None = None, cluster: dict[str, Any] | None = None, **changes: Any) -> Job:
        spec = job(tiny_model, tiny_corpus, **changes)
        spec["cluster"] = cluster or {}
        made.append(Job(storage or tmp_path / f"job-{len(made)}", hermetic_environment, spec))
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.fixture(scope="module")
def undisturbed(
    tmp_path_factory: pytest.TempPathFactory, hermetic_environment: dict[str, str], tiny_model: Path, tiny_corpus: Path
) -> Job:
    calm = Job(tmp_path_factory.mktemp("undisturbed"), hermetic_environment, job(tiny_model, tiny_corpus))
    calm.start()
    calm.wait()
    return calm


def check(disturbed: Job, undisturbed: Job, uri: str | None = None) -> None:
    """The same weights to the last bit, and every metric of every step in MLflow once, in order."""
    assert same_weights(disturbed, undisturbed)
    for metric in ("loss", "loss/output", "learning_rate", "tokens"):
        found = disturbed.history(metric, uri)
        assert [step for step, _ in found] == REPORTED
        assert found == undisturbed.history(metric)
    assert [step for step, _ in disturbed.history("held_out/loss", uri)] == [*range(0, STEPS + 1, EVALUATE)]


def test_a_worker_the_driver_checkpoints_and_mlflow_are_lost(new_job: NewJob, undisturbed: Job, mlflow: int) -> None:
    """A worker is killed; then the driver, with two damaged checkpoints and half a line in the journal, while MLflow
    is away."""
    door = Door()
    door.open(mlflow)
    broken = new_job()
    broken.start("job.yaml", "--set", f"tracking.uri={door.address}")
    broken.until_saved(20)
    broken.workers()[-1].kill()
    broken.until(lambda: said(broken, "workers were lost .* starting again"), "word of the lost worker")
    broken.until(lambda: said(broken, "goes on from the checkpoint of step"), "a new start")

    broken.until_saved(50)
    broken.kill_driver()
    door.close()
    steps = sorted(int(path.name[5:]) for path in broken.run.glob("distill/checkpoints/step-*"))
    first, middle, last = (broken.run / "distill" / "checkpoints" / f"step-{step}" for step in steps[-3:])
    tensors = last / "state.safetensors"
    data = bytearray(tensors.read_bytes())
    data[len(data) // 2] ^= 1
    tensors.write_bytes(data)
    (middle / "state.safetensors").unlink()
    (broken.run / "distill" / "journal.jsonl").open("a").write(
        '{"kind": "metrics", "st'
    )  # as a killed writer leaves it
    broken.resume()
    broken.until(lambda: said(broken, "MLflow does not take the metrics"), "word of MLflow")
    door.open(mlflow)
    broken.wait()
    assert said(broken, f"checkpoint of step {steps[-1]} is damaged .*is not what was written")
    assert said(broken, f"checkpoint of step {steps[-2]} is damaged")
    assert said(broken, f"goes on from the checkpoint of step {first.name[5:]}")
    assert said(broken, "MLflow takes the metrics again")
    check(broken, undisturbed, door.address)


def test_a_run_is_stopped_hangs_and_has_no_room_while_mlflow_is_silent(
    new_job: NewJob, undisturbed: Job, tmp_path: Path, mlflow: int
) -> None:
    """SIGTERM, a resume that is refused, a worker that hangs, a full disk; MLflow never answers, and gets everything
    afterwards."""
    door = Door()
    door.silence()
    with small_disk(tmp_path / "disk") as disk:
        broken = new_job(storage=disk / "job")
        broken.environment = {**broken.environment, "MLFLOW_HTTP_REQUEST_TIMEOUT": "5"}  # 30 unless told
        broken.start("job.yaml", "--set", f"tracking.uri={door.address}")
        broken.until(lambda: '"step": 20,' in journal(broken), "step 20")
        asked = time.monotonic()
        broken.signal(signal.SIGTERM)
        broken.wait(75)
        assert time.monotonic() - asked < 30  # the notice that Slurm and clouds give
        stopped = re.search(r"stopped behind step (\d+); the newest checkpoint is of step \1", broken.log)
        assert stopped is not None and said(broken, "compactbio run --resume")
        stopped_at = broken.newest
        assert stopped_at == int(stopped[1]) >= 20

        broken.resume("--set", "stages.distill.training.lr=0.5")
        broken.wait(2)
        assert said(broken, "stages.distill.training.lr: 0.5 instead of 0.001") and said(broken, "--allow-changes")

        broken.resume("--allow-changes", "--set", "cluster.hang_minutes=0.25")
        broken.until(lambda: said(broken, f"goes on from the checkpoint of step {stopped_at}"), "going on")
        assert said(broken, "what was finished keeps its results: cluster.hang_minutes 0.25 instead of")
        broken.until_saved(stopped_at + SAVE)
        broken.workers()[-1].suspend()
        broken.until(lambda: said(broken, "workers were lost"), "word of the worker that hangs")
        traces = [path.read_text() for path in broken.run.glob("distill/traces/*.txt")]
        assert any("Timeout (" in trace and "loop.py" in trace for trace in traces)  # where the other one stood

        broken.until(lambda: broken.log.count("goes on from the checkpoint of step") == 2, "going on again")
        ballast = disk / "ballast"
        with ballast.open("wb", buffering=0) as file:
            with suppress(OSError):
                while True:
                    file.write(bytes(4096))
            file.truncate(file.tell() - 2**17)  # room for a journal, not for a checkpoint
        broken.until(lambda: said(broken, "cannot be written"), "word of the full disk")
        ballast.unlink()
        broken.wait()
        assert said(broken, "cannot be written .*the newest whole one is that of step")
        assert said(broken, "MLflow does not take the metrics") and said(broken, "compactbio track")
        assert same_weights(broken, undisturbed)

        door.open(mlflow)
        for _ in range(2):  # the second time there is nothing left to send
            done = commands.run(["track", str(broken.run)], broken.folder, broken.environment)
            assert done.returncode == 0, done.stderr
        check(broken, undisturbed, door.address)


def journal(job: Job) -> str:
    """That of the stage, as far as it is written."""
    return "".join(path.read_text() for path in job.folder.glob("runs/*/distill/journal.jsonl"))


@contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    folder.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", folder], capture_output=True, text=True)
    if made.returncode:
        pytest.skip(f"no file system of its own can be mounted here: {made.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


@pytest.fixture
def poisoned(tiny_model: Path, tiny_corpus: Path, tmp_path: Path) -> tuple[Path, Path]:
    """A teacher that knows no number for the token `z`, and a corpus with one document that holds it."""
    from transformers import AutoTokenizer, BertConfig, BertForMaskedLM

    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    config = BertConfig.from_pretrained(tiny_model, tie_word_embeddings=False)
    model = BertForMaskedLM(config)
    model.bert.embeddings.word_embeddings.weight.data[tokenizer.convert_tokens_to_ids("z")] = float("inf")
    model.save_pretrained(tmp_path / "poisoned")
    tokenizer.save_pretrained(tmp_path / "poisoned")
    corpus = tmp_path / "corpus.txt"
    corpus.write_text(tiny_corpus.read_text() + "z z z z z z z z\n")
    return tmp_path / "poisoned", corpus


def test_losses_that_are_no_numbers_are_skipped_and_their_rows_named(
    new_job: NewJob, poisoned: tuple[Path, Path], tmp_path: Path
) -> None:
    from transformers import AutoTokenizer

    from compactbio.data.store import TokenStore

    model, corpus = poisoned
    broken = new_job(max_skipped_steps=50, masking={"random": 0.0})  # else a `z` could come up in any row
    spec = yaml.safe_load((broken.folder / "job.yaml").read_text())
    spec["teacher"], spec["corpus"]["sources"][0]["files"] = str(model), str(corpus)
    spec["stages"]["distill"]["student"] = {"start": "random", "num_hidden_layers": 2}
    (broken.folder / "job.yaml").write_text(yaml.safe_dump(spec))
    broken.start()
    broken.wait()
    skipped = re.findall(r"step (\d+) is not finite and was skipped; its rows: (\[.*\])", broken.log)
    [store] = (broken.folder / "runs" / "stores").iterdir()
    z = AutoTokenizer.from_pretrained(model).convert_tokens_to_ids("z")
    rows = TokenStore(store)
    [at] = [row for row in range(rows.num_rows()) if z in rows.padded(np.array([row]), 0)[0]]
    assert 2 < len(skipped) < 8  # once an epoch
    assert all(at in json.loads(numbers) for _, numbers in skipped)
    assert all(torch.isfinite(tensor).all() for tensor in broken.weights().values())
    steps = [step for step, _ in broken.history("loss")]
    assert steps == [step for step in REPORTED if str(step) not in dict(skipped)]

    strict = new_job()
    (strict.folder / "job.yaml").write_text(yaml.safe_dump(spec))
    strict.start("job.yaml", "--set", "stages.distill.training.max_skipped_steps=0")
    strict.wait(1)
    assert said(strict, "the loss or the gradient of step .* is not finite, and max_skipped_steps is 0")
    assert not said(strict, "workers were lost")


@pytest.mark.parametrize("waits", [True, False], ids=["waits for the node", "goes on with what is left"])
def test_a_node_goes_away(new_job: NewJob, undisturbed: Job, nodes: Nodes, waits: bool) -> None:
    broken = new_job(cluster={"address": nodes.address} | ({} if waits else {"min_workers": 1}))
    broken.start()
    broken.until_saved(20)
    nodes.tell("kill")
    broken.until(lambda: said(broken, "workers were lost"), "word of the loss")
    if waits:
        broken.until(lambda: said(broken, "waiting for nodes: there is room for 1 of 2"), "waiting")
        nodes.tell("add")
        broken.wait()
        check(broken, undisturbed)
        return
    broken.until(lambda: said(broken, "goes on with 1 of 2 workers"), "going on")
    reached = broken.newest
    broken.until(lambda: broken.newest > reached, "a checkpoint by one worker")
    nodes.tell("add")
    broken.wait()
    assert said(broken, "there is room for 2 workers again")
    assert len(list(broken.run.glob("distill/traces/worker-1.txt"))) == 1
    assert broken.log.count("goes on from the checkpoint") == 2  # by one worker, and by two again
    assert [step for step, _ in broken.history("loss")] == REPORTED  # dropout differs by worker, so the weights do


class Nodes:
    """Two Ray nodes that can be killed and added."""

    def __init__(self, environment: dict[str, str]) -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(Path(faults.__file__).with_name("two_nodes.py"))],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self.address = self._answer()

    def tell(self, what: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{what}\n")
        self.process.stdin.flush()
        assert self._answer() == "done"

    def _answer(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()


@pytest.fixture
def nodes(hermetic_environment: dict[str, str]) -> Iterator[Nodes]:
    made = Nodes(hermetic_environment)
    yield made
    faults.end(made.process)


@pytest.fixture(scope="module")
def mlflow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of a real MLflow server."""
    folder = tmp_path_factory.mktemp("server")
    with mlflow_server(folder, f"sqlite:///{folder}/mlflow.db") as address:
        yield int(address.rpartition(":")[2])
