"""How models are fine-tuned and scored on tasks, and how their speed and memory are measured."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from compactbio.spec.base import Section
from compactbio.spec.training import Optimiser, Positive

Rows = Annotated[int, Field(ge=1)]


class Task(Section):
    """What every task made from an ontology in OBO format has."""

    text: str
    """The ontology's file: a path or `package:NAME/inside/path`."""

    test_share: Annotated[float, Field(gt=0.0, lt=0.9)]
    """Share of concepts in the test set, by the hash that also holds documents out of the corpus: with the
    corpus' `held_out` as the share, no model has seen the text of the test set before."""

    max_train: Rows | None = None
    """Train on a fixed subset of so many examples."""

    max_test: Rows | None = None
    """Score on a fixed subset of so many examples."""


class MentionTask(Task):
    """Mentions of an ontology's own names and synonyms in its definitions (NER, distant labels)."""

    kind: Literal["concept_mentions"]
    """Says that this is `concept_mentions`."""

    entity: Annotated[str, Field(pattern=r"^[A-Za-z]+$")] = "Concept"
    """What the mentions are called in the tags."""


class BranchTask(Task):
    """The top-level branches that a concept belongs to, from its definition (multi-label)."""

    kind: Literal["concept_branches"]
    """Says that this is `concept_branches`."""

    root: str
    """The concept whose children are the labels, for example `HP:0000118`."""


OntologyTask = Annotated[MentionTask | BranchTask, Field(discriminator="kind")]


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
