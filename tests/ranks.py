"""Training stages in processes of their own, under real DeepSpeed and gloo, without Ray."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.multiprocessing
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
    torch.multiprocessing.spawn(_run, (task, num_workers, str(folder), values), nprocs=num_workers)
    return [json.loads((folder / f"found-{rank}.json").read_text()) for rank in range(num_workers)]


def _run(rank: int, task: Task, num_workers: int, folder: str, values: dict[str, Any]) -> None:
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(num_workers))
    rendezvous = Path(folder) / f"rendezvous-{os.getppid()}-{num_workers}-{len(list(Path(folder).glob('done-*')))}"
    distributed.init_process_group("gloo", rank=rank, world_size=num_workers, init_method=f"file://{rendezvous}")
    torch.set_num_threads(1)
    found = task(rank, Path(folder), values)
    (Path(folder) / f"found-{rank}.json").write_text(json.dumps(found))
    distributed.barrier()
    if rank == 0:
        (Path(folder) / f"done-{os.getpid()}").touch()
    distributed.destroy_process_group()


def without_dropout(module: torch.nn.Module) -> None:
    for inner in module.modules():
        if isinstance(inner, torch.nn.Dropout):
            inner.p = 0.0
