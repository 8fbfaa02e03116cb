"""A training stage in this process alone, as one worker of a group of one."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import distributed

from compactbio.training.profile import StepProfile, profile_steps
from compactbio.training.requests import StageRequest
from compactbio.training.stage import build_stage
from compactbio.training.worker import train_stages


def profile_alone(request: StageRequest, num_steps: int) -> StepProfile:
    """The profile of a stage's steps, with all CPUs that the spec gives its workers, or one GPU."""
    cluster = request.spec.cluster
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    device = torch.device("cuda", 0) if cluster.use_gpu else torch.device("cpu")
    with group_of_one("nccl" if cluster.use_gpu else "gloo"):
        stage = build_stage(request, rank=0, device=device)
        found = profile_steps(stage, num_steps, seed=request.spec.seed)
        stage.engine.close()
    return found


def train_alone(requests: list[StageRequest]) -> None:
    """Runs training stages as their only worker, in a process group of this process."""
    use_gpu = requests[0].spec.cluster.use_gpu
    train_stages(requests, 0, torch.device("cuda", 0) if use_gpu else torch.device("cpu"))


@contextmanager
def group_of_one(backend: str) -> Iterator[None]:
    """A process group of this process."""
    os.environ.update(RANK="0", LOCAL_RANK="0", WORLD_SIZE="1")
    with tempfile.TemporaryDirectory() as folder:
        rendezvous = f"file://{Path(folder) / 'rendezvous'}"
        distributed.init_process_group(backend, rank=0, world_size=1, init_method=rendezvous)
        try:
            yield
        finally:
            distributed.destroy_process_group()
