"""How models are fine-tuned and scored on tasks, and how their speed and memory are measured."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from compactbio.spec.base import Section
from compactbio.spec.training import Optimiser, Positive


class Tuning(Optimiser):
    """Hyper-parameters of fine-tuning, the same for every model and task of the stage."""

    new_lr: Annotated[float | None, Field(gt=0.0, le=1.0)] = None
    """Peak learning rate of the weights that the pretrained model does not have (the task's head); `lr` when left
    out. Few steps need a larger one."""

    layer_decay: Annotated[float, Field(gt=0.0, le=1.0)] = 1.0
    """The learning rate of each layer is so many times that of the layer above it, the embeddings' that of the lowest
    layer once more; 1 for the same everywhere."""

    epochs: Positive = 3
    """Passes over the training set."""

    batch: Positive = 16
    """Rows a step."""

    max_tokens: Annotated[int, Field(ge=8, le=8192)] = 128
    """Longer texts are split into windows (mentions) or cut, and the number of cut ones is reported (branches)."""

    warmup_share: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.1
    """Share of the steps that warm up."""


class Measuring(Section):
    """How inference time and memory are measured (Rohanian et al. 2023, figure 2)."""

    sentences: Positive = 64
    """Held-out sentences, one at a time, in each round."""

    rounds: Positive = 3
    """Rounds over the sentences; the median round is reported."""

    threads: Positive = 1
    """CPU threads of one model."""
