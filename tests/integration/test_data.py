"""Corpora through the command line, on real Ray Data."""

from __future__ import annotations

import json
import os
import random
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import commands
import pytest
import yaml
from pubmed_files import copies, write_file

Compactbio = Callable[..., Any]

NUM_FILES, RECORDS = 8, 700
FINISHED = "stores/.building-*/pieces/[0-9]*/piece.json"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Path:
    """A folder with PubMed files and a spec for them."""
    here = tmp_path_factory.mktemp("corpora of text")
    draw = random.Random(0)
    words = ["heart", "pain", "hand", "foot", "muscle", "of", "the", "weak"]
    texts = [("A title.", " ".join(draw.choices(words, k=400)) + ".") for _ in range(50)]
    (here / "pubmed").mkdir()
    for number in range(NUM_FILES):
        write_file(here / "pubmed" / f"pubmed25n{number:04}.xml.gz", copies(texts, number * RECORDS, RECORDS))
    corpus = {
        "sources": [{"format": "pubmed", "files": "pubmed/*.xml.gz"}],
        "tokenizer": str(tiny_model),
        "max_tokens": 64,
        "held_out": 0.1,
    }
    (here / "pubmed.yaml").write_text(yaml.safe_dump({"name": "pubmed", "corpus": corpus}))
    return here


@pytest.fixture(scope="module")
def store(compactbio: Compactbio, folder: Path) -> Path:
    done = compactbio(folder, "data", "build", "pubmed.yaml")
    assert done.returncode == 0, done.stderr
    assert f"documents    {NUM_FILES * RECORDS:,} read" in done.stdout
    [found] = (folder / "runs" / "stores").iterdir()
    return found


@pytest.mark.faults
def test_a_killed_build_goes_on_and_gives_the_same_store(
    compactbio: Compactbio, hermetic_environment: dict[str, str], folder: Path, store: Path
) -> None:
    arguments = ["data", "build", "pubmed.yaml", "--set", "storage=killed"]
    with Path(os.devnull).open("w") as nowhere:
        driver = commands.start(arguments, folder, hermetic_environment, nowhere)
    while len(finished := list((folder / "killed").glob(FINISHED))) < 2:
        assert driver.poll() is None, "the build was over before it could be killed"
        time.sleep(0.02)
    driver.kill()
    driver.wait()
    assert len(finished) < NUM_FILES
    kept = {path: path.stat().st_ino for path in finished}
    assert not [path for path in (folder / "killed" / "stores").iterdir() if not path.name.startswith(".")]

    inodes: dict[Path, int] = {}
    with Path(os.devnull).open("w") as nowhere:
        again = commands.start(arguments, folder, hermetic_environment, nowhere)
    while again.poll() is None:
        for path in kept:
            with suppress(FileNotFoundError):  # it is cleared away when the store is finished
                inodes[path] = path.stat().st_ino
        time.sleep(0.02)
    assert again.returncode == 0
    assert inodes == kept  # they were not built anew
    [resumed] = (folder / "killed" / "stores").iterdir()
    assert (resumed / "manifest.json").read_text() == (store / "manifest.json").read_text()


def test_a_store_is_described_and_its_rows_shown_as_text(compactbio: Compactbio, folder: Path, store: Path) -> None:
    described = compactbio(folder, "data", "describe", str(store)).stdout
    assert f"{NUM_FILES} files" in described
    assert "held_out" in described
    shown = compactbio(folder, "data", "show", str(store), "--row", "17")
    assert shown.stdout.startswith("64 tokens\n[CLS] a title. ")
    wrong = compactbio(folder, "data", "show", str(store), "--row", "99999999")
    assert wrong.returncode == 2
    assert "--row: 99999999 is not one of the" in wrong.stderr


def test_a_job_trains_on_a_store_and_refuses_one_of_another_tokenizer(
    compactbio: Compactbio, folder: Path, store: Path, tiny_model: Path
) -> None:
    stage = {
        "kind": "pretrain",
        "student": {"start": "checkpoint", "model": "teacher"},
        "training": {"steps": 1, "global_batch": 8, "lr": 1e-3},
    }
    job = {"name": "stored", "teacher": str(tiny_model), "store": str(store), "stages": {"adapt": stage}}
    (folder / "job.yaml").write_text(yaml.safe_dump(job))
    done = compactbio(folder, "run", "job.yaml", "--set", "tracking.register_models=false")
    assert done.returncode == 0, done.stderr

    learnt = compactbio(
        folder, "vocab", "pubmed.yaml", "--set", "corpus.tokenizer=other", "--algorithm", "bpe", "--size", "400"
    )
    assert learnt.returncode == 0, learnt.stderr
    assert json.loads((folder / "other" / "tokenizer.json").read_text())["model"]["type"] == "BPE"
    built = compactbio(folder, "data", "build", "pubmed.yaml", "--set", "corpus.tokenizer=other", "--set", "storage=o")
    assert built.returncode == 0, built.stderr
    [other] = (folder / "o" / "stores").iterdir()
    refused = compactbio(folder, "plan", "job.yaml", "--set", f"store={other}")
    assert refused.returncode == 2
    assert "has another vocabulary than the tokenizer of the rows" in refused.stderr


def test_a_vocabulary_is_never_written_over(compactbio: Compactbio, folder: Path) -> None:
    (folder / "taken").mkdir()
    done = compactbio(folder, "vocab", "pubmed.yaml", "--set", "corpus.tokenizer=taken")
    assert done.returncode == 2
    assert "there is something at taken already" in done.stderr


def test_a_full_disk_is_one_message(compactbio: Compactbio, folder: Path, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", disk], capture_output=True, text=True)
    if made.returncode:
        pytest.skip(f"a small file system cannot be mounted here: {made.stderr.strip()}")
    try:
        done = compactbio(folder, "data", "build", "pubmed.yaml", "--set", f"storage={disk}")
    finally:
        subprocess.run(["umount", disk], check=True)
    assert done.returncode == 1
    assert "the build failed: no space left for what it writes" in done.stderr
    assert "Traceback" not in done.stderr
