"""How long, how fast and how sharded a student is trained."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from compactbio.spec.base import Section
from compactbio.spec.corpus import Masking

Precision = Literal["fp32", "bf16", "fp16"]
Positive = Annotated[int, Field(ge=1)]


class Optimiser(Section):
    """AdamW and its learning-rate schedule, shared by training and fine-tuning."""

    lr: Annotated[float, Field(gt=0.0, le=1.0)]
    """Peak learning rate."""

    schedule: Literal["linear", "cosine", "constant", "polynomial"] = "linear"
    """Shape of the learning rate after the warm-up; all but constant end at zero."""

    power: Annotated[float, Field(gt=0.0)] = 2.0
    """Exponent of the polynomial schedule; 1 would be linear."""

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


class Checkpoints(Section):
    """When the state of a training stage is saved, and which checkpoints are kept."""

    every_steps: Positive | None = None
    """Save behind every so many steps."""

    every_minutes: Annotated[float, Field(gt=0.0)] | None = 10.0
    """Save when so many minutes have passed since the last checkpoint; `null` leaves it to `every_steps`."""

    keep_last: Positive = 2
    """How many of the newest checkpoints stay."""

    keep_best: bool = True
    """Keep the one with the lowest held-out loss (the MLM part, where there is one) besides, among those that
    `evaluate_every_steps` scored."""


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

    offload_optimiser: bool = False
    """Keep the optimiser's state in the memory of the CPU and step there (from ZeRO 1 on)."""

    precision: Precision | None = None
    """Precision of the student's forward and backward pass; the optimiser keeps fp32 weights. Left out: bf16 on GPUs,
    fp32 on CPUs. `fp16` scales the loss, and runs on GPUs only. `bf16` and `fp16` need ZeRO 1 at least."""

    activation_checkpointing: bool = False
    """Compute the activations of a layer again in the backward pass instead of keeping them: less memory, a third
    more work. Layers whose attention a term compares keep theirs."""

    compile: bool = False
    """Compile the student's and the teacher's encoder with torch.compile, which needs a C++ compiler on CPUs; not with
    terms that compare attention."""

    max_skipped_steps: Annotated[int, Field(ge=0)] = 0
    """A step whose loss or gradient is not finite moves nothing. So many of them are skipped, and logged with the
    numbers of their rows; one more stops the run. Steps that only the fp16 loss scale skips do not count."""

    trainable: Literal["all", "head"] = "all"
    """`head` trains the MLM head alone and leaves the encoder and the embeddings as they are."""

    masking: Masking = Masking()
    """Which tokens are scored."""

    checkpoints: Checkpoints = Checkpoints()
    """What is saved so that a run that is killed goes on."""

    report_every_steps: Positive = 10
    """Losses and speed are reported at the first step, every so many steps, and at the last."""

    held_out_rows: Annotated[int, Field(ge=0)] = 256
    """Held-out rows scored before the first step and after the last; 0 for none."""

    evaluate_every_steps: Positive | None = None
    """Score the held-out rows every so many steps besides."""

    export_at_steps: tuple[Positive, ...] = ()
    """Export the student behind these steps besides, as `model-step-N` (Rohanian et al. 2023 look at 50 K, 100 K and
    200 K)."""
