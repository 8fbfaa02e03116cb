"""Running a job as a person does, and breaking things under it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import commands
import psutil
import torch
import yaml
from mlflow import MlflowClient
from safetensors.torch import load_file

STEPS, REPORT, SAVE, EVALUATE = 100, 5, 10, 25
REPORTED = [1, *range(REPORT, STEPS + 1, REPORT)]


def job(model: Path, corpus: Path, **changes: Any) -> dict[str, Any]:
    """A distillation of a few hundred small steps on two workers; `changes` are of its training section."""
    return {
        "name": "faulty",
        "teacher": str(model),
        "corpus": {"sources": [{"format": "lines", "files": str(corpus)}], "max_tokens": 32, "held_out": 0.1},
        "tracking": {"register_models": False},
        "stages": {
            "distill": {
                "kind": "distill",
                "student": {"start": "teacher_layers", "layers": [1, 3]},
                "objective": {"mlm": {}, "output": {"lambda": 5}},
                "training": {
                    "steps": STEPS,
                    "global_batch": 8,
                    "lr": 1e-3,
                    "zero_stage": 2,
                    "report_every_steps": REPORT,
                    "held_out_rows": 8,
                    "evaluate_every_steps": EVALUATE,
                    "checkpoints": {"every_steps": SAVE, "keep_last": 3},
                    **changes,
                },
            }
        },
    }


class Command:
    """`compactbio` processes in a folder of their own, one at a time."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.environment = environment
        self._log = folder / "log"

    def start(self, *arguments: str) -> None:
        """The command with these arguments."""
        with self._log.open("a") as log:
            self.process = commands.start(arguments, self.folder, self.environment, log)

    @property
    def log(self) -> str:
        return self._log.read_text()

    def until(self, condition: Callable[[], Any], what: str, seconds: float = 240.0) -> None:
        give_up = time.monotonic() + seconds
        while not condition():
            assert self.process.poll() is None, f"ended with {self.process.returncode} before {what}:\n{self.log}"
            assert time.monotonic() < give_up, f"no {what} in {seconds} s:\n{self.log}"
            time.sleep(0.05)

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def kill_driver(self) -> None:
        """SIGKILL, and until the processes that it started are gone, Ray's agents excepted, which take minutes."""
        family = [each for each in self.family() if "Agent" not in " ".join(each.cmdline())]
        self.process.kill()
        self.process.wait()
        _, alive = psutil.wait_procs(family, timeout=60)
        left = [each.cmdline() for each in alive if each.status() != psutil.STATUS_ZOMBIE]
        assert not left, left

    def wait(self, code: int = 0, seconds: float = 300.0) -> None:
        found = self.process.wait(seconds)
        assert found == code, self.log

    def close(self) -> None:
        if self.process.poll() is None:
            for process in [*self.family(), self.process]:
                process.kill()

    def family(self) -> list[psutil.Process]:
        return commands.family(self.process.pid)


class Job(Command):
    """A job in a folder of its own, run by `compactbio run` processes, one at a time."""

    def __init__(self, folder: Path, environment: dict[str, str], spec: dict[str, Any]) -> None:
        super().__init__(folder, environment)
        (folder / "job.yaml").write_text(yaml.safe_dump(spec, sort_keys=False))

    def start(self, *arguments: str) -> None:
        """`compactbio run` with the job's file, or with other arguments."""
        super().start("run", *(arguments or ("job.yaml",)))

    def resume(self, *arguments: str) -> None:
        self.start("--resume", str(self.run), *arguments)

    @property
    def run(self) -> Path:
        [run] = self.folder.glob("runs/faulty-*")
        return run

    @property
    def newest(self) -> int:
        """The step of the newest checkpoint."""
        names = [path.name for path in self.folder.glob("runs/faulty-*/distill/checkpoints/step-*")]
        return max((int(name.removeprefix("step-")) for name in names), default=0)

    def until_saved(self, step: int) -> None:
        self.until(lambda: self.newest >= step, f"checkpoint of step {step}")

    def workers(self) -> list[psutil.Process]:
        """The Ray Train workers that this job started."""
        return [child for child in self.family() if "RayTrainWorker" in " ".join(child.cmdline())]

    def weights(self) -> dict[str, torch.Tensor]:
        return load_file(self.run / "distill" / "model" / "model.safetensors")

    def history(self, metric: str, uri: str | None = None) -> list[tuple[int, float]]:
        """Steps and values in MLflow, in the order in which they arrived."""
        client = MlflowClient(tracking_uri=uri or f"sqlite:///{self.folder / 'runs' / 'mlflow.db'}")
        experiment = client.get_experiment_by_name("faulty")
        assert experiment is not None
        runs = client.search_runs(
            [experiment.experiment_id], f"tags.stage = 'distill' and tags.job = '{self.run.name}'"
        )
        assert len(runs) == 1, [run.data.tags for run in runs]
        assert runs[0].info.status == "FINISHED"
        return [(point.step, point.value) for point in client.get_metric_history(runs[0].info.run_id, metric)]


def same_weights(first: Job, second: Job) -> bool:
    ours, theirs = first.weights(), second.weights()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


def said(job: Job, pattern: str) -> bool:
    return re.search(pattern, job.log) is not None


def clean_environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}


def end(process: subprocess.Popen[Any]) -> None:
    """Kills a process and those that it started."""
    family = [*psutil.Process(process.pid).children(recursive=True), process]
    for each in family:
        each.kill()
    process.wait()
