"""What every Ray Train worker runs. Ray's controller imports this module too, so it is light by itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from compactbio.training.requests import StageRequest

if TYPE_CHECKING:
    import torch


def train(config: dict[str, Any]) -> None:
    """Runs the training stages in `config["stages"]`, a list of StageRequest, on this Ray Train worker."""
    import ray.train
    import ray.train.torch

    train_stages(config["stages"], ray.train.get_context().get_world_rank(), ray.train.torch.get_device())


def train_stages(requests: list[StageRequest], rank: int, device: torch.device) -> None:
    """Runs training stages one after the other, as one worker of a process group that is there.

    They share one start of workers, which costs more than a short stage. Stages that have ended are left out, and one
    that was begun goes on from its newest checkpoint. Returns early when the run is asked to stop.
    """
    import torch

    from compactbio.models.load import quiet_transformers
    from compactbio.tracking.journal import has_ended
    from compactbio.training.stage_run import StageRun

    quiet_transformers()
    for request in requests:
        if has_ended(request.folder):
            continue
        torch.distributed.barrier()  # rank 0 may end the stage only when everybody has seen that it has not ended
        torch.set_num_threads(request.spec.cluster.cpus_per_worker)
        with StageRun(request, rank, device) as run:
            finished = run.train()
        torch.distributed.barrier()  # the next stage may read the model that rank 0 has just written
        if not finished:
            return
