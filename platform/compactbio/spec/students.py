"""Where the weights of a student come from before training."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from compactbio.spec.base import Section

Layer = Annotated[int, Field(ge=0)]


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


Student = Annotated[FromCheckpoint | FromTeacherLayers, Field(discriminator="start")]
