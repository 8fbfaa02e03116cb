"""How long, how fast and how sharded a student is trained."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from compactbio.spec.base import Section
from compactbio.spec.corpus import Masking

Positive = Annotated[int, Field(ge=1)]


class Optimiser(Section):
    """AdamW and its learning-rate schedule, shared by training and fine-tuning."""

    lr: Annotated[float, Field(gt=0.0, le=1.0)]
    """Peak learning rate."""

    schedule: Literal["linear", "cosine", "constant"] = "linear"
    """Shape of the learning rate after the warm-up; linear and cosine end at zero."""

    weight_decay: Annotated[float, Field(ge=0.0)] = 0.0
    """Decoupled weight decay; never applied to biases and norms."""

    beta1: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.9
    """Decay of Adam's first moment."""

    beta2: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.999
    """Decay of Adam's second moment."""

    epsilon: Annotated[float, Field(gt=0.0)] = 1e-8
    """Added to the square root of Adam's second moment."""

    max_grad_norm: Annotated[float, Field(ge=0.0)] = 1.0
    """Gradients are clipped to this global norm; 0 leaves them alone."""


class Training(Optimiser):
    """Steps, batches, precision and sharding of a training stage."""

    steps: Positive
    """Optimiser steps."""

    warmup_steps: Annotated[int, Field(ge=0)] = 0
    """Steps of linear warm-up."""

    global_batch: Positive
    """Rows a step, over all workers and micro-batches."""

    micro_batch: Positive | None = None
    """Rows of one forward pass on one worker: memory against speed, never the result. Derived when left out."""

    zero_stage: Annotated[int, Field(ge=0, le=3)] = 1
    """DeepSpeed ZeRO: 0 shards nothing, 1 the optimiser state, 2 also gradients, 3 also parameters."""

    precision: Literal["fp32", "bf16"] = "fp32"
    """Precision of the student's forward and backward pass; the optimiser keeps fp32 weights."""

    trainable: Literal["all", "head"] = "all"
    """`head` trains the MLM head alone and leaves the encoder and the embeddings as they are."""

    masking: Masking = Masking()
    """Which tokens are scored."""

    report_every_steps: Positive = 10
    """Losses and speed are reported at the first step, every so many steps, and at the last."""

    held_out_rows: Annotated[int, Field(ge=0)] = 256
    """Held-out rows scored before the first step and after the last; 0 for none."""

    evaluate_every_steps: Positive | None = None
    """Score the held-out rows every so many steps besides."""

    export_at_steps: tuple[Positive, ...] = ()
    """Export the student behind these steps besides, as `model-step-N` (Rohanian et al. 2023 look at 50 K, 100 K and
    200 K)."""
