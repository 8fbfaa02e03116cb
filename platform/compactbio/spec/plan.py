"""The arithmetic of a spec: what its numbers come to."""

from __future__ import annotations

from dataclasses import dataclass

from compactbio.spec.job import Cluster
from compactbio.spec.training import Precision, Training

LARGEST_DERIVED_MICRO_BATCH = 32


@dataclass(frozen=True)
class BatchPlan:
    """How one global batch is spread: global = workers x accumulation x micro, all in rows."""

    global_batch: int
    num_workers: int
    micro_batch: int
    accumulation: int


def plan_batch(training: Training, num_workers: int) -> BatchPlan:
    """The spread of a global batch; a micro-batch that is not given is the largest divisor up to 32 rows."""
    rows = training.global_batch // num_workers
    micro = training.micro_batch or max(
        size for size in range(1, min(rows, LARGEST_DERIVED_MICRO_BATCH) + 1) if rows % size == 0
    )
    return BatchPlan(training.global_batch, num_workers, micro, rows // micro)


def plan_precision(training: Training, cluster: Cluster) -> Precision:
    """The precision of the passes where the spec leaves it open: bf16 on GPUs, except under ZeRO 0, else fp32."""
    if training.precision is not None:
        return training.precision
    return "bf16" if cluster.use_gpu and training.zero_stage > 0 else "fp32"


def plan_workers(available: int, trainings: list[Training], cluster: Cluster) -> int | None:
    """How many workers a job goes on with where `available` fit: as many as it wants, or fewer if it may.

    Every global batch has to be dealt evenly to them. None where there are not enough.
    """
    fewest = cluster.min_workers or cluster.num_workers
    for num_workers in range(min(available, cluster.num_workers), fewest - 1, -1):
        if all(training.global_batch % (num_workers * (training.micro_batch or 1)) == 0 for training in trainings):
            return num_workers
    return None


@dataclass(frozen=True)
class MemoryPlan:
    """Bytes that one worker needs for parameters and optimiser; activations come on top."""

    student: int
    gradients: int
    optimiser: int
    teacher: int

    @property
    def total(self) -> int:
        """All of it."""
        return self.student + self.gradients + self.optimiser + self.teacher


def plan_memory(
    *, student_params: int, trained_params: int, teacher_params: int, training: Training, cluster: Cluster
) -> MemoryPlan:
    """Bytes a worker by ZeRO stage (Rajbhandari et al. 2020): Adam keeps two fp32 moments a trained parameter,
    and half precision an fp32 copy besides."""
    stage, half = training.zero_stage, plan_precision(training, cluster) != "fp32"
    width = 2 if half else 4

    def split(size: int, from_stage: int) -> int:
        return size // cluster.num_workers if stage >= from_stage else size

    return MemoryPlan(
        student=split(student_params * width, 3),
        gradients=split(trained_params * width, 2),
        optimiser=0 if training.offload_optimiser else split(trained_params * (12 if half else 8), 1),
        teacher=teacher_params * width,
    )
