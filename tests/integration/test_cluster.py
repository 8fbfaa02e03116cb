"""A job on a Ray cluster that was there before it."""

from __future__ import annotations

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
from conftest import skip_where_no_node_starts


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[str]:
    """The address of a head node with two cores."""
    skip_where_no_node_starts()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    ray = shutil.which("ray", path=str(Path(sys.executable).parent))
    assert ray is not None
    options = [f"--port={port}", "--num-cpus=2", "--node-ip-address=127.0.0.1", "--include-dashboard=false"]
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "RAY_AUTH_MODE": "disabled"}
    with (tmp_path / "ray.log").open("w") as log:
        head = subprocess.Popen([ray, "start", "--head", "--block", *options], env=environment, stdout=log, stderr=log)
        try:
            _wait_until_up(port)
            yield f"127.0.0.1:{port}"
        finally:
            for process in psutil.Process(head.pid).children(recursive=True):
                process.kill()
            head.kill()
            head.wait()


def _wait_until_up(port: int) -> None:
    for _ in range(120):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.5)
    raise AssertionError("the head node did not come up")


def test_a_job_joins_a_cluster(
    compactbio: Callable[..., Any], cluster: str, tmp_path: Path, tiny_model: Path, tiny_corpus: Path
) -> None:
    training = {"steps": 2, "global_batch": 8, "lr": 1e-3, "report_every_steps": 1}
    spec = {
        "name": "joined",
        "teacher": str(tiny_model),
        "corpus": {"sources": [{"format": "lines", "files": str(tiny_corpus)}], "max_tokens": 32, "held_out": 0.1},
        "cluster": {"address": cluster},
        "stages": {
            "adapt": {"kind": "pretrain", "student": {"start": "checkpoint", "model": "teacher"}, "training": training}
        },
    }
    (tmp_path / "job.yaml").write_text(yaml.safe_dump(spec))
    done = compactbio(tmp_path, "run", "job.yaml")
    assert done.returncode == 0, done.stderr
    [run] = (tmp_path / "runs").glob("joined-*")
    assert (run / "adapt" / "model" / "model.safetensors").exists()
    with socket.socket() as probe:
        host, port = cluster.split(":")
        assert probe.connect_ex((host, int(port))) == 0, "the job took the cluster down with it"
