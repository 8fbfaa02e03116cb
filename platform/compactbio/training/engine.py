"""Who owns the step: forward, backward, gradients between workers, clipping, optimiser."""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR

from compactbio.data.batches import Batch
from compactbio.models.forward import Outputs
from compactbio.spec.plan import BatchPlan
from compactbio.spec.training import Training
from compactbio.training.optimiser import build_optimiser, build_schedule


class Engine(Protocol):
    """A learner with its optimiser, on one worker of a group."""

    device: torch.device
    world_size: int

    def totals(self, batch: Batch, targets: Outputs) -> Tensor:
        """The learner's totals for a micro-batch."""

    def backward(self, loss: Tensor) -> None:
        """Adds this micro-batch's gradients; the workers' losses are summed."""

    def step(self, *, last_micro_batch: bool) -> None:
        """Behind every backward pass: after the last of a step the optimiser moves."""

    def sum(self, values: Tensor) -> Tensor:
        """The sum over workers."""

    def train(self, mode: bool) -> None:
        """Dropout on or off."""

    def gradient_norm(self) -> float:
        """Norm of the last step's gradient, before clipping."""

    def learning_rate(self) -> float:
        """Learning rate of the last step."""


class LocalEngine:
    """A learner on one device of this process alone."""

    world_size = 1

    def __init__(
        self, learner: nn.Module, optimiser: AdamW, schedule: LambdaLR, *, max_grad_norm: float, device: torch.device
    ) -> None:
        self.device = device
        self._learner = learner.to(device)
        self._max_norm = max_grad_norm or float("inf")
        self._optimiser = optimiser
        self._schedule = schedule
        self._norm = torch.zeros(())
        self._rate = 0.0

    def totals(self, batch: Batch, targets: Outputs) -> Tensor:
        return self._learner(batch, targets)

    def backward(self, loss: Tensor) -> None:
        loss.backward()

    def step(self, *, last_micro_batch: bool) -> None:
        if not last_micro_batch:
            return
        self._norm = clip_grad_norm_(self._learner.parameters(), self._max_norm)
        self._rate = float(self._schedule.get_last_lr()[0])
        self._optimiser.step()
        self._schedule.step()
        self._optimiser.zero_grad()

    def sum(self, values: Tensor) -> Tensor:
        return values

    def train(self, mode: bool) -> None:
        self._learner.train(mode)

    def gradient_norm(self) -> float:
        return float(self._norm)

    def learning_rate(self) -> float:
        return self._rate


class DeepSpeedEngine:
    """A learner under DeepSpeed, its state sharded over the process group that is already up."""

    def __init__(self, learner: nn.Module, training: Training, plan: BatchPlan, device: torch.device) -> None:
        deepspeed = _import_deepspeed()
        self.device = device
        self.world_size = plan.num_workers
        self._zero_stage = training.zero_stage
        self._max_norm = training.max_grad_norm or float("inf")
        self._norm = torch.zeros(())
        optimiser = build_optimiser(learner, training)
        schedule = build_schedule(optimiser, training, steps=training.steps, warmup_steps=training.warmup_steps)
        self._engine, _, _, self._schedule = deepspeed.initialize(
            model=learner, optimizer=optimiser, lr_scheduler=schedule, config=deepspeed_config(training, plan)
        )
        self._rate = 0.0

    def totals(self, batch: Batch, targets: Outputs) -> Tensor:
        return self._engine(batch, targets)

    def backward(self, loss: Tensor) -> None:
        # DeepSpeed averages over workers and, unless told not to, over accumulation steps; the loss is already
        # divided by the global count, so what is wanted is the sum.
        self._engine.backward(loss * self.world_size, scale_wrt_gas=False)

    def step(self, *, last_micro_batch: bool) -> None:
        if last_micro_batch:
            self._rate = self._schedule.get_last_lr()[0]
            if self._zero_stage == 0:  # DeepSpeed keeps no gradient norm there; gradients are already those of all
                self._norm = clip_grad_norm_(self._engine.module.parameters(), self._max_norm)
        assert self._engine.is_gradient_accumulation_boundary() == last_micro_batch
        self._engine.step()

    def sum(self, values: Tensor) -> Tensor:
        if self.world_size > 1:
            torch.distributed.all_reduce(values)
        return values

    def train(self, mode: bool) -> None:
        self._engine.train(mode)

    def gradient_norm(self) -> float:
        return float(self._norm if self._zero_stage == 0 else self._engine.get_global_grad_norm())

    def learning_rate(self) -> float:
        return self._rate

    def optimiser_state_elements(self) -> int:
        """Elements of Adam's moments that this worker holds."""
        wrapped = self._engine.optimizer
        state = getattr(wrapped, "optimizer", wrapped).state
        return sum(value.numel() for moments in state.values() for value in moments.values() if value.ndim > 0)

    def close(self) -> None:
        """Lets go of the learner and its optimiser state."""
        self._engine.destroy()
        del self._engine

    def full_weights(self, module: nn.Module) -> dict[str, Tensor]:
        """The module's weights in fp32 on the CPU, whole. Every worker has to call it."""
        from deepspeed.runtime.zero.partition_parameters import GatheredParameters
        from deepspeed.utils import safe_get_full_fp32_param

        weights = {}
        for name, parameter in module.named_parameters(remove_duplicate=False):
            with GatheredParameters([parameter], enabled=self._zero_stage == 3):
                master = None if parameter.dtype == torch.float32 else safe_get_full_fp32_param(parameter)
                weights[name] = (parameter if master is None else master).detach().float().cpu().clone()
        return weights


def deepspeed_config(training: Training, plan: BatchPlan) -> dict[str, Any]:
    """What DeepSpeed is told; the optimiser and its schedule are PyTorch's own."""
    return {
        "train_batch_size": plan.global_batch,
        "train_micro_batch_size_per_gpu": plan.micro_batch,
        "gradient_accumulation_steps": plan.accumulation,
        "gradient_clipping": training.max_grad_norm if training.zero_stage > 0 else 0.0,
        "zero_optimization": {"stage": training.zero_stage},
        "zero_allow_untested_optimizer": True,
        "bf16": {"enabled": training.precision == "bf16"},
        "steps_per_print": 2**31,
    }


def _import_deepspeed() -> Any:
    """DeepSpeed, told not to compile its shared-memory collectives: gloo and NCCL do without, and so does a
    machine without a C++ compiler."""
    import logging

    import deepspeed
    from deepspeed.ops import __compatible_ops__

    __compatible_ops__["deepspeed_shm_comm"] = False
    deepspeed.utils.logger.setLevel(logging.ERROR)
    return deepspeed
