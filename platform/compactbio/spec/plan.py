"""The arithmetic of a spec: what its numbers come to."""

from __future__ import annotations

from dataclasses import dataclass

from compactbio.spec.job import Cluster
from compactbio.spec.training import Training

LARGEST_DERIVED_MICRO_BATCH = 32


@dataclass(frozen=True)
class BatchPlan:
    """How one global batch is spread: global = workers x accumulation x micro, all in rows."""

    global_batch: int
    num_workers: int
    micro_batch: int
    accumulation: int


def plan_batch(training: Training, cluster: Cluster) -> BatchPlan:
    """The spread of a global batch; a micro-batch that is not given is the largest divisor up to 32 rows."""
    rows = training.global_batch // cluster.num_workers
    micro = training.micro_batch or max(
        size for size in range(1, min(rows, LARGEST_DERIVED_MICRO_BATCH) + 1) if rows % size == 0
    )
    return BatchPlan(training.global_batch, cluster.num_workers, micro, rows // micro)


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
    *, student_params: int, trained_params: int, teacher_params: int, training: Training, num_workers: int
) -> MemoryPlan:
    """Bytes a worker by ZeRO stage (Rajbhandari et al. 2020): Adam keeps two fp32 moments a trained parameter,
    and bf16 an fp32 copy besides."""
    stage, half = training.zero_stage, training.precision == "bf16"
    width = 2 if half else 4

    def split(size: int, from_stage: int) -> int:
        return size // num_workers if stage >= from_stage else size

    return MemoryPlan(
        student=split(student_params * width, 3),
        gradients=split(trained_params * width, 2),
        optimiser=split(trained_params * (12 if half else 8), 1),
        teacher=teacher_params * width,
    )
