"""What a model costs to run: seconds and memory, each case in a process of its own.

Run as a program it measures one case, which it reads from standard input.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from compactbio.evaluation.inference import Ids, load_model, open_onnx, open_torch
from compactbio.spec.evaluation import Runtime


@dataclass(frozen=True)
class Case:
    """A model, what runs it, and on what."""

    model: str
    """Folder or hub name; of ONNX Runtime the file."""

    runtime: Runtime
    device: str
    threads: int
    rounds: int
    batches: list[list[list[int]]]
    """Token ids of each batch's rows, all rows of a batch equally long."""


@dataclass(frozen=True)
class Footprint:
    """Figures of one case on this machine."""

    seconds: float
    """Of a forward pass over one batch: the mean over the batches, the median over the rounds; without tokenisation."""

    peak_mib: float | None
    """The process's resident memory at its highest, with everything in it: interpreter, libraries, weights,
    activations, and what loading the file takes for a moment; Linux only. On a GPU PyTorch's `max_memory_allocated`,
    and nothing for ONNX Runtime, which does not tell."""

    libraries_mib: float | None
    """How much of `peak_mib` was there before the model was loaded; 0 on a GPU."""

    @property
    def growth_mib(self) -> float | None:
        """What the model itself takes, at its peak."""
        return None if self.peak_mib is None or self.libraries_mib is None else self.peak_mib - self.libraries_mib


def measure(case: Case, interpreter: Sequence[str] = (sys.executable,)) -> Footprint:
    """Runs the case in a fresh process of the interpreter, which may have imports done: they are counted as libraries.

    Raises RuntimeError with the last line of its errors when that fails.
    """
    done = subprocess.run(
        [*interpreter, "-m", __name__], input=json.dumps(asdict(case)), capture_output=True, text=True
    )
    if done.returncode != 0:
        reason = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise RuntimeError(f"measuring {case.model} under {case.runtime} failed: {reason}")
    return Footprint(**json.loads(done.stdout.splitlines()[-1]))


def _main() -> None:
    case = Case(**json.load(sys.stdin))
    found = _torch(case) if case.runtime == "torch" else _onnx(case)
    print(json.dumps(asdict(found)))  # noqa: T201  (read by `measure`)


def _torch(case: Case) -> Footprint:
    import torch

    torch.set_num_threads(case.threads)
    _warm_imports(case.model)
    libraries = _status_mib("VmRSS")
    forward = open_torch(load_model(case.model, mlm_head=False), case.device)
    if case.device == "cuda":
        seconds = _seconds(forward, case, torch.cuda.synchronize)
        return Footprint(seconds, torch.cuda.max_memory_allocated() / 1024**2, 0.0)
    return Footprint(_seconds(forward, case), _status_mib("VmHWM"), libraries)


def _warm_imports(path: str) -> None:
    """Imports the model's module without making a model; transformers imports a class when it is used."""
    import torch
    from transformers import AutoConfig, AutoModel

    with torch.device("meta"):
        AutoModel.from_config(AutoConfig.from_pretrained(path, local_files_only=True))


def _onnx(case: Case) -> Footprint:
    import onnxruntime

    assert onnxruntime is not None  # imported before memory is read
    libraries = _status_mib("VmRSS")
    forward = open_onnx(Path(case.model), threads=case.threads, device=case.device)
    seconds = _seconds(forward, case)
    return Footprint(seconds, *((_status_mib("VmHWM"), libraries) if case.device == "cpu" else (None, None)))


def _seconds(forward: Callable[[Ids], object], case: Case, wait: Callable[[], None] = lambda: None) -> float:
    batches = [np.array(rows, dtype=np.int64) for rows in case.batches]

    def run(some: list[Ids]) -> float:
        wait()
        started = time.perf_counter()
        for ids in some:
            forward(ids)
        wait()
        return (time.perf_counter() - started) / len(some)

    run(batches[: max(1, len(batches) // 4)])  # warm-up
    return statistics.median(run(batches) for _ in range(case.rounds))


def _status_mib(field: str) -> float | None:
    """MiB from this process's status; None where the system does not say. Not `ru_maxrss`: that starts at the size of
    the process that started this one."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith(field + ":")), None)


if __name__ == "__main__":
    _main()
