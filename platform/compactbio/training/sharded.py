"""The engine of a training stage: DeepSpeed, with a state that does not depend on how it is sharded."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator, Mapping
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_

from compactbio.data.batches import Batch
from compactbio.models.forward import Outputs
from compactbio.spec.base import SpecError
from compactbio.spec.plan import BatchPlan
from compactbio.spec.training import Precision, Training
from compactbio.training.optimiser import build_optimiser, build_schedule, set_learning_rate

WEIGHT, STEP = "weight/", "step/"
_MOMENTS = ("exp_avg", "exp_avg_sq")

State = dict[str, Tensor]
"""Whole fp32 tensors on the CPU by kind and parameter: `weight/NAME`, `exp_avg/NAME`, `exp_avg_sq/NAME`, `step/NAME`
(how often the optimiser moved it)."""


class DeepSpeedEngine:
    """A learner under DeepSpeed, its state sharded over the process group that is already up."""

    def __init__(
        self,
        learner: nn.Module,
        training: Training,
        plan: BatchPlan,
        device: torch.device,
        precision: Precision = "fp32",
        state: Mapping[str, Tensor] | None = None,
        num_steps: int = 0,
    ) -> None:
        """With a `state` the engine goes on from it, `num_steps` steps into the schedule."""
        deepspeed = import_deepspeed()
        self.device = device
        self.world_size = plan.num_workers
        self._zero_stage = training.zero_stage
        self._half = precision != "fp32"
        self._fp16 = precision == "fp16"
        self._max_norm = training.max_grad_norm or float("inf")
        self._norm = torch.zeros(())
        self._moved = True
        self._num_steps = num_steps
        self._schedule = build_schedule(training, steps=training.steps, warmup_steps=training.warmup_steps)
        if state is not None:
            weights = {name: state[WEIGHT + name] for name in _same_names(learner, state)}
            learner.load_state_dict(weights, strict=False)  # without buffers and the second names of tied weights
        self._optimiser = build_optimiser(learner, training)
        self._engine, *_ = deepspeed.initialize(
            model=learner, optimizer=self._optimiser, config=deepspeed_config(training, plan, precision)
        )
        self._prepare_moments()
        if state is not None:
            self._restore(state)

    def totals(self, batch: Batch, targets: Outputs) -> Tensor:
        return self._engine(batch, targets)

    def backward(self, loss: Tensor) -> None:
        # DeepSpeed averages over workers and, unless told not to, over accumulation steps; the loss is already
        # divided by the global count, so what is wanted is the sum.
        self._engine.backward(loss * self.world_size, scale_wrt_gas=False)

    def step(self, *, last_micro_batch: bool) -> None:
        assert self._engine.is_gradient_accumulation_boundary() == last_micro_batch
        if last_micro_batch:
            set_learning_rate(self._optimiser, self._schedule(self._num_steps))
            self._num_steps += 1
            if self._zero_stage == 0:  # DeepSpeed keeps no gradient norm there; gradients are already those of all
                self._norm = clip_grad_norm_(self._engine.module.parameters(), self._max_norm)
                if not self._norm.isfinite():
                    self._engine.zero_grad()  # parameters without a gradient stay as they are
        self._engine.step()
        if last_micro_batch:
            self._moved = bool(self._norm.isfinite()) if self._zero_stage == 0 else self._engine.was_step_applied()

    def moved(self) -> bool:
        return self._moved

    def scaling_skips(self) -> bool:
        return self._fp16

    def sum(self, values: Tensor) -> Tensor:
        if self.world_size > 1:
            torch.distributed.all_reduce(values)
        return values

    def train(self, mode: bool) -> None:
        self._engine.train(mode)

    def gradient_norm(self) -> float:
        return float(self._norm if self._zero_stage == 0 else self._engine.get_global_grad_norm())

    def learning_rate(self) -> float:
        return float(self._optimiser.param_groups[0]["lr"])

    def optimiser_state_elements(self) -> int:
        """Elements of Adam's moments that this worker holds."""
        return sum(value.numel() for moments in self._moments() for value in moments.values() if value.ndim > 0)

    def loss_scale(self) -> dict[str, float]:
        """The state of fp16's dynamic loss scale; empty in other precisions."""
        return moving_scale(self._engine.optimizer.loss_scaler) if self._fp16 else {}

    def restore_loss_scale(self, values: Mapping[str, float]) -> None:
        """Sets what `loss_scale` returned."""
        if self._fp16:
            vars(self._engine.optimizer.loss_scaler).update(values)

    def close(self) -> None:
        """Lets go of the learner and its optimiser state."""
        self._engine.destroy()
        del self._engine

    def full_weights(self, module: nn.Module) -> dict[str, Tensor]:
        """The module's weights in fp32 on the CPU, whole. Every worker has to call it."""
        named = module.named_parameters(remove_duplicate=False)
        return {name: self._weight(parameter).detach().float().cpu().clone() for name, parameter in named}

    def state(self, *, keep: bool) -> State:
        """Weights and optimiser state, whole, for a checkpoint. Every worker has to call it; one that does not `keep`
        the state gets nothing of it."""
        found = {}
        for name, tensor in self._state():
            if keep:
                found[name] = tensor.detach().float().to("cpu", copy=True)
        return found

    def _state(self) -> Iterator[tuple[str, Tensor]]:
        from deepspeed.utils import safe_get_full_optimizer_state

        flat_step = self._moments()[0]["step"] if self._zero_stage else None
        for name, parameter in self._engine.module.named_parameters():
            yield WEIGHT + name, self._weight(parameter)
            if not parameter.requires_grad:
                continue
            if flat_step is None:
                yield from ((f"{kind}/{name}", value) for kind, value in self._optimiser.state[parameter].items())
            else:
                yield STEP + name, flat_step
                yield from ((f"{kind}/{name}", safe_get_full_optimizer_state(parameter, kind)) for kind in _MOMENTS)

    def _weight(self, parameter: nn.Parameter) -> Tensor:
        from deepspeed.runtime.zero.partition_parameters import GatheredParameters
        from deepspeed.utils import safe_get_full_fp32_param

        if self._half and parameter.requires_grad:
            return safe_get_full_fp32_param(parameter)
        with GatheredParameters([parameter], enabled=self._zero_stage == 3):
            return parameter.detach().clone() if self._zero_stage == 3 else parameter

    def _moving(self) -> list[Tensor]:
        """The tensors that the optimiser moves: parameters under ZeRO 0, else this worker's flat parts of them."""
        if self._zero_stage == 3:
            return list(self._engine.optimizer.fp32_partitioned_groups_flat)
        return [tensor for group in self._optimiser.param_groups for tensor in group["params"]]

    def _moments(self) -> list[dict[str, Tensor]]:
        return [self._optimiser.state[tensor] for tensor in self._moving()]

    def _prepare_moments(self) -> None:
        """Makes Adam's state as its first step would, so that there is always one to save and to restore."""
        for tensor in self._moving():
            self._optimiser.state[tensor] = {
                "step": torch.zeros((), dtype=torch.float32, device=tensor.device),
                **{kind: torch.zeros_like(tensor, memory_format=torch.preserve_format) for kind in _MOMENTS},
            }
        if self._zero_stage in (1, 2):
            self._engine.optimizer._lazy_init_hp_params_optimizer_state()

    def _set(self, parameter: nn.Parameter, whole: Tensor, kind: str | None) -> None:
        """Sets this worker's part of one of a parameter's moments, or of its fp32 weights."""
        from deepspeed.utils import (
            safe_set_full_fp32_param,
            safe_set_full_optimizer_state,
            safe_set_local_fp32_param,
            safe_set_local_optimizer_state,
        )

        whole = whole.to(self.device)
        if self._zero_stage < 3:
            args = (parameter, whole)
            safe_set_full_optimizer_state(*args, kind) if kind else safe_set_full_fp32_param(*args)
            return
        filled = nn.functional.pad(whole.flatten(), (0, -whole.numel() % self.world_size))  # to equal parts
        args = (parameter, filled.chunk(self.world_size)[torch.distributed.get_rank()])
        safe_set_local_optimizer_state(*args, kind) if kind else safe_set_local_fp32_param(*args)

    def _restore(self, state: Mapping[str, Tensor]) -> None:
        steps = torch.zeros(())
        for name, parameter in self._engine.module.named_parameters():
            if not parameter.requires_grad:
                continue
            if self._zero_stage == 0:
                for kind, value in self._optimiser.state[parameter].items():
                    value.copy_(state[f"{kind}/{name}"])
                continue
            steps = torch.maximum(steps, state[STEP + name])
            for kind in _MOMENTS:
                self._set(parameter, state[f"{kind}/{name}"], kind)
            if self._half:
                self._set(parameter, state[WEIGHT + name], None)
        if self._zero_stage:
            for moments in self._moments():
                moments["step"].copy_(steps)


def _same_names(learner: nn.Module, state: Mapping[str, Tensor]) -> list[str]:
    """The learner's parameters. Raises SpecError where those of the state are others."""
    shapes = {name: parameter.shape for name, parameter in learner.named_parameters()}
    saved = {name.removeprefix(WEIGHT): value.shape for name, value in state.items() if name.startswith(WEIGHT)}
    if different := sorted(name for name in {*shapes, *saved} if shapes.get(name) != saved.get(name)):
        more = f"{different[0]} and {len(different) - 1} more"
        raise SpecError.at("--resume", f"the checkpoint is of another student or objective: {more}")
    return list(shapes)


def moving_scale(scaler: Any) -> dict[str, float]:
    """What changes along a run in DeepSpeed's dynamic loss scale; the rest of it is settings."""
    return {name: vars(scaler)[name] for name in ("cur_scale", "cur_iter", "last_overflow_iter", "cur_hysteresis")}


def deepspeed_config(training: Training, plan: BatchPlan, precision: Precision) -> dict[str, Any]:
    """What DeepSpeed is told; the optimiser and its learning rate are the project's own."""
    zero: dict[str, Any] = {"stage": training.zero_stage}
    if training.offload_optimiser:
        zero["offload_optimizer"] = {"device": "cpu"}
    return {
        "train_batch_size": plan.global_batch,
        "train_micro_batch_size_per_gpu": plan.micro_batch,
        "gradient_accumulation_steps": plan.accumulation,
        "gradient_clipping": training.max_grad_norm if training.zero_stage > 0 else 0.0,
        "zero_optimization": zero,
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
        "bf16": {"enabled": precision == "bf16"},
        "fp16": {"enabled": precision == "fp16"},
        "steps_per_print": 2**31,
    }


def import_deepspeed() -> Any:
    """DeepSpeed, told not to compile its shared-memory collectives: gloo and NCCL do without, and so does a
    machine without a C++ compiler.

    Two things that are not used here are kept from it: its autotuner imports mlflow, in two seconds, and its optimiser
    Muon compiles a function when it is imported, for which PyTorch's compiler is imported, in five.
    """
    modules: dict[str, Any] = sys.modules
    mlflow = modules.get("mlflow")
    modules["mlflow"] = None
    try:
        import deepspeed
    finally:
        del modules["mlflow"]
        if mlflow is not None:
            modules["mlflow"] = mlflow
    with mock.patch.object(torch, "compile", lambda function: function):
        import deepspeed.runtime.zero.muon.original_muon
    from deepspeed.ops import __compatible_ops__

    __compatible_ops__["deepspeed_shm_comm"] = False
    deepspeed.utils.logger.setLevel(logging.ERROR)
    return deepspeed
