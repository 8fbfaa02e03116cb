"""Where the weights of a student come from before training."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from compactbio.spec.base import Section

Layer = Annotated[int, Field(ge=0)]
Size = Annotated[int, Field(ge=1)]


class FromCheckpoint(Section):
    """The student starts as a copy of another model."""

    start: Literal["checkpoint"]
    """Says that this is `checkpoint`."""

    model: str
    """A path, `package:...`, hub name, `teacher` (the job's) or `stage:NAME` (the model that a stage made)."""


class FromTeacherLayers(Section):
    """The student starts with the embeddings, the MLM head and some layers of a teacher."""

    start: Literal["teacher_layers"]
    """Says that this is `teacher_layers`."""

    layers: Annotated[tuple[Layer, ...], Field(min_length=1)]
    """The teacher's layers, counted from 0, in the student's order."""

    model: str | None = None
    """The model that gives its layers; the stage's teacher when left out."""

    copy_head: bool = True
    """Copy the teacher's MLM head. `false` leaves it random, as the code of Rohanian et al. 2023 did."""


class FromShape(Section):
    """The student starts with random weights, in the shape of another model or a smaller one."""

    start: Literal["random"]
    """Says that this is `random`."""

    model: str | None = None
    """The model whose configuration it takes; the stage's teacher when left out. Its vocabulary is the corpus'."""

    num_hidden_layers: Size | None = None
    """Layers; that model's when left out."""

    hidden_size: Size | None = None
    """Width; that model's when left out."""

    num_attention_heads: Size | None = None
    """Attention heads; that model's when left out."""

    intermediate_size: Size | None = None
    """Width inside the feed-forward blocks; that model's when left out."""

    def shape(self) -> dict[str, int]:
        """What differs from the model."""
        given = self.model_dump(exclude={"start", "model"})
        return {name: size for name, size in given.items() if size is not None}


Student = Annotated[FromCheckpoint | FromTeacherLayers | FromShape, Field(discriminator="start")]
