"""What a student is trained for: weighted terms, in the words of the papers."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from compactbio.spec.base import Section
from compactbio.spec.students import Layer

Weight = Annotated[float, Field(ge=0.0, alias="lambda")]
Direction = Literal["teacher_student", "student_teacher"]


class Mlm(Section):
    """Cross-entropy against the masked tokens (Rohanian et al. 2023, eq. 1; trained as a mean)."""

    weight: Weight = 1.0
    """The term's lambda."""


class Output(Section):
    """KL divergence of the output distributions on the masked tokens, times T squared (eq. 2)."""

    weight: Weight = 1.0
    """The term's lambda."""

    temperature: Annotated[float, Field(gt=0.0)] = 1.0
    """T: both sides' logits are divided by it."""

    direction: Direction = "teacher_student"
    """`teacher_student` is KL(teacher || student), as trained by the authors; eq. 2 prints the other one."""


class Compact(Section):
    """Layer-to-layer hidden cosine and attention KL (eq. 8)."""

    weight: Weight = 1.0
    """The term's lambda."""

    layer_map: Annotated[tuple[Layer, ...], Field(min_length=1)]
    """g(l): for each student layer the teacher's layer that it is compared with, both counted from 0."""

    direction: Direction = "teacher_student"
    """Direction of the KL between rows of attention."""


class Objective(Section):
    """The terms and their weights; a term that is left out is not computed."""

    mlm: Mlm | None = None
    """Masked language modelling on the labels."""

    output: Output | None = None
    """Matching the teacher's output distribution."""

    compact: Compact | None = None
    """Matching the teacher's hidden states and attention, layer to layer."""

    def terms(self) -> dict[str, Section]:
        """The terms that are set, by name."""
        named = {name: getattr(self, name) for name in type(self).model_fields}
        return {name: term for name, term in named.items() if term is not None}
