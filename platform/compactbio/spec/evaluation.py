"""How the speed and the memory of models are measured."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from compactbio.spec.base import Section
from compactbio.spec.training import Positive


class Measuring(Section):
    """How inference time and memory are measured (Rohanian et al. 2023, figure 2)."""

    sentences: Positive = 64
    """Held-out sentences, one at a time, in each round."""

    rounds: Positive = 3
    """Rounds over the sentences; the median round is reported."""

    threads: Positive = 1
    """CPU threads of one model."""


Runtime = Literal["torch", "onnx", "onnx-int8"]
"""What runs a model: PyTorch, ONNX Runtime, or ONNX Runtime with its dynamic quantisation to 8 bits."""


class CostGrid(Section):
    """The batches that `compactbio measure` runs, and what runs them."""

    batches: Annotated[tuple[Positive, ...], Field(min_length=1)] = (1, 8)
    """Rows of a batch."""

    lengths: Annotated[tuple[Annotated[int, Field(ge=3)], ...], Field(min_length=1)] = (64, 256)
    """Tokens of every row, none of them padding."""

    runtimes: Annotated[tuple[Runtime, ...], Field(min_length=1)] = ("torch", "onnx", "onnx-int8")
    """What runs the models."""

    device: Literal["cpu", "cuda"] = "cpu"
    """Where they run."""

    threads: Positive = 1
    """CPU threads of one model."""

    rounds: Positive = 10
    """Forward passes over the same batch; the median counts."""
