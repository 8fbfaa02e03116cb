"""The copies of a run, between two folders of this machine: one stands for the object store."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from compactbio.launch.run_folder import new_storage, stored_run
from compactbio.launch.submission import order_to_resume
from compactbio.spec.base import SpecError
from compactbio.spec.load import from_raw
from compactbio.spec.storage import local_folder
from compactbio.storage import lease as leases
from compactbio.storage.copies import SCRATCH, Storage
from compactbio.storage.lease import LEASE_FILE, Lease
from compactbio.training.uploads import Uploads


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage(tmp_path / "here", f"file://{tmp_path / 'there'}")


@pytest.fixture
def there(tmp_path: Path) -> Path:
    return tmp_path / "there"


def write(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        path = folder / name.replace("__", "/").replace("_dot_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def checkpoint(folder: Path, step: int) -> Path:
    return write(folder / f"step-{step}", state_dot_safetensors=f"tensors {step}", manifest_dot_json=f"step {step}")


def content(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def fail_at(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """From now on files of this name cannot be stored: the store goes away in the middle."""
    whole = Storage._upload

    def upload(self: Storage, path: Path) -> None:
        if path.name == name:
            raise OSError("When writing: AWS Error SLOW_DOWN during PutObject operation (Request ID: 7)")
        whole(self, path)

    monkeypatch.setattr(Storage, "_upload", upload)


def test_a_folder_needs_no_copies(tmp_path: Path) -> None:
    plain = Storage.of(str(tmp_path))
    assert plain == Storage(tmp_path) and Storage.of(f"file://{tmp_path}") == plain
    run = write(tmp_path / "run", spec_dot_yaml="a")
    for call in (plain.push, plain.push_whole, plain.push_journal, plain.fetch, plain.catch_up):
        call(run)
    plain.pull(run, checkpoints=True)
    plain.match([run / "step-1"])
    assert content(tmp_path) == {"run/spec.yaml"}
    assert plain.address(run) == str(run)


def test_an_address_has_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SCRATCH, str(tmp_path))
    storage = Storage.of("s3://bucket/some/runs/")
    assert storage == Storage(tmp_path / "s3" / "bucket" / "some" / "runs", "s3://bucket/some/runs")
    assert storage.address(storage.folder / "run" / "report") == "s3://bucket/some/runs/run/report"


def test_a_run_is_stored_without_what_is_of_this_machine_alone(storage: Storage, there: Path) -> None:
    run = write(storage.folder / "run", spec_dot_yaml="a", lock="", stop="", ray__x="", distill__writer="")
    write(run, distill__journal_dot_jsonl='{"a": 1}\n{"b', distill__model__config_dot_json="c", _dot_half="")
    checkpoint(run / "distill" / "checkpoints", 5)
    storage.push(run)
    assert content(there) == {"run/spec.yaml", "run/distill/journal.jsonl", "run/distill/model/config.json"}
    assert (there / "run/distill/journal.jsonl").read_text() == '{"a": 1}\n'  # without the half line


def test_what_is_stored_is_not_stored_again(storage: Storage, there: Path) -> None:
    run = write(storage.folder / "run", a="first", model__config_dot_json="c", model__weights="w")
    storage.push(run)
    stored = [path for path in there.rglob("*") if path.is_file()]
    for path in stored:
        os.utime(path, ns=(2 * 10**18, 2 * 10**18))
    storage.push(run)
    assert {path.stat().st_mtime_ns for path in stored} == {2 * 10**18}
    (run / "a").write_text("second")
    storage.push(run)
    assert (there / "run" / "a").read_text() == "second"


def test_a_checkpoint_is_stored_whole_or_not_at_all(
    storage: Storage, there: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = storage.folder / "run" / "checkpoints"
    storage.match([checkpoint(folder, 5)])
    checkpoint(folder, 10)
    with monkeypatch.context() as broken:
        fail_at(broken, "manifest.json")
        with pytest.raises(OSError, match="SLOW_DOWN"):
            storage.match([folder / "step-10"])
    assert (there / "run/checkpoints/step-5/manifest.json").exists()  # the only whole one
    shutil.rmtree(storage.folder)
    storage.pull(storage.folder / "run", checkpoints=True)
    assert content(storage.folder) == {
        "run/checkpoints/step-5/manifest.json",
        "run/checkpoints/step-5/state.safetensors",
    }
    checkpoint(folder, 10)
    half = there / "run/checkpoints/step-10/state.safetensors"
    os.utime(half, ns=(2 * 10**18, 2 * 10**18))
    storage.match([folder / "step-10"])
    assert half.stat().st_mtime_ns == 2 * 10**18  # which was stored before, and is not stored again
    assert {path.name for path in (there / "run/checkpoints").iterdir() if content(path)} == {"step-10"}


def test_a_checkpoint_that_is_written_anew_is_not_whole_meanwhile(
    storage: Storage, there: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = storage.folder / "run" / "checkpoints"
    storage.match([checkpoint(folder, 5)])
    (folder / "step-5" / "state.safetensors").write_text("other tensors")
    fail_at(monkeypatch, "state.safetensors")
    with pytest.raises(OSError, match="SLOW_DOWN"):
        storage.match([folder / "step-5"])
    assert content(there / "run/checkpoints") == {"step-5/state.safetensors"}


def test_retention_deletes_nothing_where_nothing_stays(storage: Storage, there: Path) -> None:
    folder = storage.folder / "run" / "checkpoints"
    storage.match([checkpoint(folder, 5)])
    storage.match([])
    assert (there / "run/checkpoints/step-5/manifest.json").exists()


def test_a_half_model_or_store_is_not_fetched(storage: Storage, there: Path) -> None:
    write(there, run__model__weights="w", stores__s__train_dot_arrow="rows")
    for name in ("run/model", "stores/s"):
        storage.fetch(storage.folder / name)
    storage.pull(storage.folder / "run", checkpoints=True)
    assert not storage.folder.exists()
    write(there, run__model__config_dot_json="c", stores__s__manifest_dot_json="m", stores__s__tokenizer__vocab="v")
    for name in ("run/model", "stores/s"):
        storage.fetch(storage.folder / name)
    assert content(storage.folder) == content(there)
    storage.fetch(Path("/elsewhere/model"))  # not of this storage


def test_a_run_comes_back_as_it_was_stored(storage: Storage) -> None:
    run = write(storage.folder / "run", spec_dot_yaml="a", journal_dot_jsonl="1\n", distill__journal_dot_jsonl="2\n")
    write(run / "distill", model__config_dot_json="c", model__tokenizer__vocab="v", report__index_dot_html="r")
    storage.push(run)
    storage.match([checkpoint(run / "distill" / "checkpoints", 5)])
    before = content(storage.folder)
    shutil.rmtree(storage.folder)
    storage.pull(run, checkpoints=False)
    assert content(storage.folder) == {name for name in before if "step-5" not in name}
    storage.pull(run, checkpoints=True)
    assert content(storage.folder) == before


def test_what_is_newer_here_stays(storage: Storage) -> None:
    run = write(storage.folder / "run", results_dot_json="old", journal_dot_jsonl="1\n")
    storage.push(run)
    write(run, results_dot_json="newer", journal_dot_jsonl="1\n2\n")
    os.utime(run / "results.json", ns=(2 * 10**18, 2 * 10**18))
    storage.pull(run, checkpoints=True)
    assert (run / "results.json").read_text() == "newer"
    assert (run / "journal.jsonl").read_text() == "1\n2\n"


def test_checkpoints_that_another_machine_left_behind_are_dropped(storage: Storage, there: Path) -> None:
    stage = write(storage.folder / "run" / "distill", journal_dot_jsonl="1\n2 here\n", model__config_dot_json="c")
    checkpoint(stage / "checkpoints", 80)  # which was never stored
    write(there / "run" / "distill", journal_dot_jsonl="1\n2 elsewhere\n")
    checkpoint(there / "run" / "distill" / "checkpoints", 40)
    storage.pull(stage, checkpoints=True)
    assert (stage / "journal.jsonl").read_text() == "1\n2 elsewhere\n"
    assert {path.name for path in (stage / "checkpoints").iterdir()} == {"step-40"}
    assert not (stage / "model").exists()


def test_a_driver_follows_workers_on_other_machines(storage: Storage, there: Path) -> None:
    run = write(storage.folder / "run", journal_dot_jsonl="driver\n", distill__journal_dot_jsonl="1\n")
    write(there / "run", distill__journal_dot_jsonl="1\n2\n", distill__model__config_dot_json="c")
    checkpoint(there / "run" / "distill" / "checkpoints", 40)
    storage.catch_up(run)
    assert content(run) == {"journal.jsonl", "distill/journal.jsonl", "distill/model/config.json"}
    assert (run / "distill" / "journal.jsonl").read_text() == "1\n2\n"
    write(run, distill__journal_dot_jsonl="1\n2\n3\n")  # here it is further: a worker of this machine writes it
    storage.catch_up(run)
    assert (run / "distill" / "journal.jsonl").read_text() == "1\n2\n3\n"


def test_a_store_that_is_away_is_said_and_tried_again(
    storage: Storage, there: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage, said = write(storage.folder / "run" / "distill", journal_dot_jsonl="1\n"), []
    uploads = Uploads(storage, stage, said.append)
    older = checkpoint(stage / "checkpoints", 5)
    with monkeypatch.context() as broken:
        fail_at(broken, "manifest.json")
        uploads.checkpoints([older])
    assert len(said) == 1 and said[0].startswith("CANNOT COPY") and "step-5 is on this machine alone" in said[0]
    assert "Request ID" not in said[0]
    uploads.checkpoints([checkpoint(stage / "checkpoints", 10), older])
    assert len(said) == 2 and "work again" in said[1]
    names = {path.parent.name for path in (there / "run/distill/checkpoints").glob("*/manifest.json")}
    assert names == {"step-5", "step-10"}


@pytest.mark.parametrize(
    ("storage", "words"),
    [
        ("s3://key:planted@bucket/runs", "an address with a password"),
        ("s3://planted@bucket/runs", "takes neither keys nor options"),
        ("s3://bucket/runs?secret_key=planted", "takes neither keys nor options"),
        ("s3://bucket/runs#planted", "takes neither keys nor options"),
        ("http://bucket/runs", "name a folder, s3://BUCKET/PREFIX or gs://BUCKET/PREFIX"),
        ("s3:///runs", "names no bucket"),
        ("s3://bucket/../runs", "`..` in it"),
        ("s3://bucket/a//runs", "has an empty part"),
        ("file://host/runs", "names another machine"),
    ],
)
def test_addresses_that_are_refused(storage: str, words: str) -> None:
    tuning = {"all": {"lr": 1e-5}}
    stages = {
        "score": {"kind": "finetune", "models": {"a": "m"}, "reference": "a", "tasks": ["BC2GM"], "tuning": tuning}
    }
    with pytest.raises(SpecError) as refused:
        from_raw({"name": "a", "storage": storage, "stages": stages})
    assert words in str(refused.value) and "planted" not in str(refused.value)
    assert len(str(refused.value).splitlines()) == 1
    if not storage.startswith("file"):
        for resumed in (stored_run, lambda run: order_to_resume(run, None)):
            with pytest.raises(SpecError) as refused:
                resumed(f"{storage}/run" if "?" not in storage else storage)
            assert "planted" not in str(refused.value)


def test_addresses_that_are_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert local_folder("file:///with%20space/runs") == Path("/with space/runs")
    assert new_storage(str(tmp_path)) == Storage(tmp_path)
    assert order_to_resume("s3://bucket/runs/a/", None).run == "s3://bucket/runs/a"


class Clock:
    """Time that passes where somebody waits for it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, meanwhile: Callable[[], Any] = lambda: None) -> None:
        self.now, self.waited, self._meanwhile = 1000.0, 0.0, meanwhile
        monkeypatch.setattr(leases.time, "time", lambda: self.now)
        monkeypatch.setattr(leases.time, "monotonic", lambda: self.now)
        monkeypatch.setattr(leases.time, "sleep", self._sleep)

    def _sleep(self, seconds: float) -> None:
        self.now += seconds
        self.waited += seconds
        self._meanwhile()


def put(there: Path, **lease: Any) -> None:
    (there / "run").mkdir(parents=True, exist_ok=True)
    (there / "run" / LEASE_FILE).write_text(json.dumps(lease))


def test_a_run_is_leased_while_it_is_run(storage: Storage, there: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    lease, said = Lease(storage, storage.folder / "run"), []
    lease.take(said.append)
    first = json.loads((there / "run" / LEASE_FILE).read_text())
    assert lease.renew() and json.loads((there / "run" / LEASE_FILE).read_text()) == first
    clock.now += 30
    assert lease.renew() and json.loads((there / "run" / LEASE_FILE).read_text())["time"] == first["time"] + 30
    lease.give_up()
    assert content(there) == set() and not said and clock.waited == 0


def test_a_lease_that_is_renewed_is_respected(storage: Storage, there: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(there, host="other", process=1, token="theirs", time=995.0)
    Clock(monkeypatch, meanwhile=lambda: put(there, host="other", process=1, token="theirs", time=1050.0))
    said: list[str] = []
    with pytest.raises(SpecError, match=r"another driver runs .* \(process 1 on other\)"):
        Lease(storage, storage.folder / "run").take(said.append)
    assert len(said) == 1 and "other may still run" in said[0]


def test_a_lease_that_is_not_renewed_is_taken(storage: Storage, there: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(there, host="other", process=1, token="theirs", time=995.0)
    clock = Clock(monkeypatch)
    lease, said = Lease(storage, storage.folder / "run"), []
    lease.take(said.append)
    assert said[-1] == "it does not" and clock.waited == 62
    put(there, host="third", process=1, token="taken meanwhile", time=clock.now)
    clock.now += 30
    assert not lease.renew()
    lease.give_up()
    assert content(there) == {f"run/{LEASE_FILE}"}  # it is the other's


def test_the_lease_of_a_process_that_is_gone_is_taken_at_once(
    storage: Storage, there: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(there, host=leases.socket.gethostname(), process=2**30, token="dead", time=999.0)
    clock = Clock(monkeypatch)
    Lease(storage, storage.folder / "run").take(lambda text: None)
    assert clock.waited == 2  # to see that nobody else took it in the same moment


def test_the_journal_is_stored_while_it_grows(storage: Storage, there: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("compactbio.training.uploads._JOURNAL_EVERY_SECONDS", 0.01)
    stage = write(storage.folder / "run" / "distill", journal_dot_jsonl="1\n")
    stored = there / "run" / "distill" / "journal.jsonl"
    uploads = Uploads(storage, stage, print)
    uploads.start()
    while not stored.exists():
        time.sleep(0.01)
    write(stage, journal_dot_jsonl="1\n2\n")
    uploads.close()
    assert stored.read_text() == "1\n2\n"
