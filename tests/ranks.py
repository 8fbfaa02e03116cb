"""Training stages in processes of their own, under real DeepSpeed and gloo, without Ray."""

from __future__ import annotations

import inspect
import json
import os
import pickle
import runpy
import sys
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import commands
import torch
from torch import distributed

Found = dict[str, Any]
Task = Callable[[int, Path, dict[str, Any]], Found]


def distillation(model: Path, corpus: Path, *, num_workers: int, **training: Any) -> dict[str, Any]:
    """A job under five terms; `training` is put into its section."""
    return {
        "name": "ranks",
        "teacher": str(model),
        "corpus": {"sources": [{"format": "lines", "files": str(corpus)}], "max_tokens": 24, "held_out": 0.1},
        "cluster": {"num_workers": num_workers},
        "stages": {
            "distill": {
                "kind": "distill",
                "student": {"start": "teacher_layers", "layers": [1, 3]},
                "objective": {
                    "mlm": {"lambda": 1},
                    "output": {"lambda": 5},
                    "compact": {"lambda": 3, "layer_map": [1, 3]},
                    "align": {"projection": "own"},
                    "embed": {"lambda": {"0": 1, "2": 0}, "projection": "shared"},
                },
                "training": {
                    "global_batch": 8,
                    "micro_batch": 2,
                    "lr": 0.002,
                    "weight_decay": 0.1,
                    "report_every_steps": 1,
                    **training,
                },
            }
        },
    }


def on_ranks(task: Task, num_workers: int, folder: Path, values: dict[str, Any]) -> list[Found]:
    """What `task(rank, folder, values)` found on each of so many workers; it returns what JSON can hold."""
    request = folder / f"request-{uuid.uuid4().hex}"
    request.write_bytes(pickle.dumps((str(inspect.getfile(task)), task.__name__, num_workers, str(folder), values)))
    with request.with_suffix(".log").open("w+") as log:
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        script = [__file__, str(request)]
        workers = [
            commands.Forked([*script, str(rank)], folder, environment, log.fileno(), log.fileno())
            for rank in range(num_workers)
        ]
        codes = [worker.wait(300) for worker in workers]
        log.seek(0)
        assert codes == [0] * num_workers, log.read()
    return [json.loads(Path(f"{request}-{rank}.json").read_text()) for rank in range(num_workers)]


def _run(request: Path, rank: int) -> None:
    file, name, num_workers, folder, values = pickle.loads(request.read_bytes())
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(num_workers))
    rendezvous = f"file://{request}-rendezvous"
    distributed.init_process_group("gloo", rank=rank, world_size=num_workers, init_method=rendezvous)
    torch.set_num_threads(1)
    found = runpy.run_path(file)[name](rank, Path(folder), values)
    Path(f"{request}-{rank}.json").write_text(json.dumps(found))
    distributed.barrier()
    distributed.destroy_process_group()


def without_dropout(module: torch.nn.Module) -> None:
    for inner in module.modules():
        if isinstance(inner, torch.nn.Dropout):
            inner.p = 0.0


if __name__ == "__main__":
    _run(Path(sys.argv[1]), int(sys.argv[2]))
