"""Times `runs list`, `runs compare` and `report` on a store with many runs: `python tests/benchmarks/many_runs.py`.

The store has 200 jobs with a training stage each, and 2 million metric points. Runs, tags and parameters are written by
MLflow, the points by SQL into its tables.
"""

from __future__ import annotations

import json
import math
import random
import resource
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import yaml
from mlflow import MlflowClient
from mlflow.entities import Param, RunTag

from compactbio.spec.load import from_raw

NUM_JOBS, NUM_STEPS = 200, 1000
METRICS = (
    *("loss", "tokens", "loss/mlm", "loss/output", "loss/align", "gradient_norm", "learning_rate", "tokens_per_second"),
    *("held_out/loss/mlm", "held_out/perplexity"),
)
RECIPES = ("distilbiobert", "compactbiobert", "tinybiobert", "biomobilebert")


def main() -> None:
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        started = time.monotonic()
        names = _fill(folder / "runs")
        size = (folder / "runs" / "mlflow.db").stat().st_size
        made = time.monotonic() - started
        print(f"{NUM_JOBS} jobs, {_count(folder):,} points, {size / 1e6:.0f} MB, made in {made:.0f} s", flush=True)
        run = _finished_run(folder / "runs")
        for arguments in (
            ("runs", "list", "--most", "200"),
            ("runs", "list", "--recipe", RECIPES[0], "--score", "score/student/mentions>=0.5"),
            ("runs", "show", names[0]),
            ("runs", "compare", names[0], names[1], names[2]),
            ("report", str(run)),
        ):
            wall, computed = _time(folder, arguments)
            print(f"{wall:6.2f} s, {computed:5.2f} s of CPU  compactbio {' '.join(arguments)}", flush=True)


def _time(folder: Path, arguments: tuple[str, ...]) -> tuple[float, float]:
    """Wall and CPU seconds of the command, the start of Python included; the better of two."""
    best = (math.inf, math.inf)
    for _ in range(2):
        started, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(
            [sys.executable, "-m", "compactbio.launch.cli", *arguments],
            cwd=folder,
            check=True,
            stdout=subprocess.DEVNULL,
        )
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        computed = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        best = min(best, (time.monotonic() - started, computed))
    return best


def _spec(recipe: str, lr: float) -> dict[str, Any]:
    return {
        "name": recipe,
        "teacher": "some/teacher",
        "corpus": {"sources": [{"format": "lines", "files": "text"}], "max_tokens": 32},
        "stages": {
            "distill": {
                "kind": "distill",
                "student": {"start": "teacher_layers", "layers": [1, 3]},
                "objective": {"mlm": {}, "output": {"lambda": 5}},
                "training": {"steps": NUM_STEPS, "global_batch": 8, "lr": lr},
            }
        },
    }


def _fill(storage: Path) -> list[str]:
    """Writes the store. Returns the names of the jobs."""
    storage.mkdir()
    draw = random.Random(0)
    client = MlflowClient(f"sqlite:///{storage / 'mlflow.db'}")
    experiments = {recipe: client.create_experiment(recipe) for recipe in RECIPES}
    names, stages = [], []
    for number in range(NUM_JOBS):
        recipe = RECIPES[number % len(RECIPES)]
        spec = from_raw(_spec(recipe, lr=draw.choice([1e-4, 5e-4, 1e-3])))
        names.append(f"{recipe}-{number:03}-{spec.digest()[:6]}")
        shared = {"recipe": recipe, "spec_digest": spec.digest(), "seed": "1", "teacher": "some/teacher"}
        parent = client.create_run(experiments[recipe], run_name=names[-1], tags={**shared, "kind": "job"}).info.run_id
        params = [Param(name, str(value)) for name, value in spec.flat().items()]
        client.log_batch(parent, params=params)
        client.log_metric(parent, "score/student/mentions", draw.random())
        stage = client.create_run(experiments[recipe], run_name="distill", tags={**shared, "kind": "distill"})
        client.log_batch(stage.info.run_id, tags=[RunTag("mlflow.parentRunId", parent)], params=params)
        stages.append(stage.info.run_id)
        for run_id in (stage.info.run_id, parent):
            client.set_terminated(run_id)
    _write_points(storage / "mlflow.db", stages)
    return names


def _write_points(database: Path, runs: list[str]) -> None:
    now = round(time.time() * 1000)
    with sqlite3.connect(database) as connection:
        for number, run in enumerate(runs):
            points = [
                (metric, 5.0 / (1 + step / 100) + number / 100, now + step, run, step, False)
                for metric in METRICS
                for step in range(1, NUM_STEPS + 1)
            ]
            columns = "(key, value, timestamp, run_uuid, step, is_nan)"
            connection.executemany(f"INSERT INTO metrics {columns} VALUES (?, ?, ?, ?, ?, ?)", points)
            last = points[NUM_STEPS - 1 :: NUM_STEPS]
            connection.executemany(f"INSERT INTO latest_metrics {columns} VALUES (?, ?, ?, ?, ?, ?)", last)


def _count(folder: Path) -> int:
    with sqlite3.connect(folder / "runs" / "mlflow.db") as connection:
        count: int = connection.execute("SELECT COUNT(*) FROM metrics").fetchone()[0]
    return count


def _finished_run(storage: Path) -> Path:
    """The folder of a run that reported every one of its steps."""
    run = storage / "one"
    (run / "distill").mkdir(parents=True)
    (run / "spec.yaml").write_text(yaml.safe_dump(from_raw(_spec("one", 1e-3)).resolved()))
    (run / "results.json").write_text(json.dumps({"name": "one", "digest": "", "git_sha": "", "corpus": _corpus()}))
    with (run / "distill" / "journal.jsonl").open("w") as file:
        for step in range(1, NUM_STEPS + 1):
            values = dict.fromkeys(METRICS, 5.0 / (1 + step / 100))
            file.write(json.dumps({"kind": "metrics", "time": 0.0, "step": step, "values": values}) + "\n")
    return run


def _corpus() -> dict[str, Any]:
    return {
        "fingerprint": "0",
        "sources": ["text"],
        "num_documents": 1,
        "num_rows": {"train": 1, "held_out": 1},
        "num_tokens": {"train": 1, "held_out": 1},
        "dropped": {},
        "max_tokens": 32,
        "num_cut": 0,
        "num_bad": 0,
    }


if __name__ == "__main__":
    main()
