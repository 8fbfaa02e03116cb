"""What a student is trained for: weighted terms, in the words of the papers."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator

from compactbio.spec.base import Section
from compactbio.spec.students import Layer

NonNegative = Annotated[float, Field(ge=0.0)]
Lambda = NonNegative | Annotated[dict[int, NonNegative], Field(min_length=1)]
Direction = Literal["teacher_student", "student_teacher"]
Positions = Literal["masked", "real", "all"]
Projection = Literal["none", "shared", "own"]
LayerMap = Annotated[tuple[Layer, ...], Field(min_length=1)]
LayerLambdas = Annotated[tuple[NonNegative, ...], Field(min_length=1)]


class _Term(Section):
    """A summand of the objective."""

    weight: Annotated[Lambda, Field(alias="lambda")] = 1.0
    """The term's lambda: a number, or numbers by step (`{0: 0.0, 5000: 3.0}`) with straight lines between them."""

    @field_validator("weight")
    @classmethod
    def _steps(cls, weight: Lambda) -> Lambda:
        if isinstance(weight, dict) and (min(weight) < 0 or list(weight) != sorted(weight)):
            raise ValueError("its steps count from 0 and go up")
        return weight


class _OfLayers(_Term):
    """Compares layers."""

    layer_map: LayerMap
    """g(l): for each student layer the teacher's layer that it is compared with, both counted from 0."""

    layer_lambdas: LayerLambdas | None = None
    """lambda_l: a weight for each student layer, besides the term's lambda; 1 when left out."""


class Mlm(_Term):
    """Cross-entropy against the masked tokens (Rohanian et al. 2023, eq. 1; trained as a mean)."""


class Output(_Term):
    """KL divergence of the output distributions, times T squared (eq. 2)."""

    temperature: Annotated[float, Field(gt=0.0)] = 1.0
    """T: both sides' logits are divided by it."""

    direction: Direction = "teacher_student"
    """`teacher_student` is KL(teacher || student), as trained by the authors; eq. 2 prints the other one."""

    positions: Positions = "masked"
    """Over which positions the mean is taken."""


class SoftLabels(_Term):
    """Cross-entropy against the teacher's distribution (output* of eq. 7)."""

    temperature: Annotated[float, Field(gt=0.0)] = 1.0
    """T: both sides' logits are divided by it."""

    positions: Positions = "masked"
    """Over which positions the mean is taken."""


class Logits(_Term):
    """Mean squared error of the logits."""

    positions: Positions = "masked"
    """Over which positions, and all of the vocabulary, the mean is taken."""


class Align(_Term):
    """1 - cosine of the last hidden states (eq. 3; Lewis et al. 2020 project the student's first)."""

    positions: Positions = "real"
    """Over which positions the mean is taken."""

    projection: Projection = "none"
    """A learnt projection of the student's states to the teacher's width: `own` of this term, `shared` with others."""


class Hidden(_OfLayers):
    """Hidden states, layer to layer."""

    loss: Literal["cosine", "mse"]
    """`cosine` is 1 - cosine; `mse` a mean over the width too."""

    positions: Positions = "real"
    """Over which positions the mean is taken."""

    projection: Projection = "none"
    """A learnt projection to the teacher's width: `own` has one for each layer, `shared` one for all of them."""


class Attention(_OfLayers):
    """Attention, layer to layer and head to head."""

    loss: Literal["mse", "kl"]
    """`kl` compares rows as distributions; `mse` their entries."""

    on: Literal["probabilities", "scores"] = "probabilities"
    """`scores` are those before the softmax, scaled (Jiao et al. 2020); for `mse` alone."""

    direction: Direction = "teacher_student"
    """Direction of the KL."""

    reduction: Literal["rows", "entries"] = "rows"
    """The KL's mean: over heads and rows, or over keys besides (the code of Rohanian et al. 2023). `mse` is always a
    mean over entries."""

    positions: Positions = "real"
    """Which queries count; keys are the real positions, and under `all` every position."""


class Embed(_Term):
    """Mean squared error of the outputs of the embedding layers (eq. 6)."""

    positions: Positions = "real"
    """Over which positions the mean is taken."""

    projection: Projection = "none"
    """A learnt projection to the teacher's width."""


class Compact(_OfLayers):
    """Layer-to-layer hidden cosine and attention KL (eq. 8)."""

    direction: Direction = "teacher_student"
    """Direction of the KL between rows of attention."""

    reduction: Literal["rows", "entries"] = "rows"
    """The KL's mean: over heads and rows as in eq. 8, or over keys besides, as the authors' code has it."""

    positions: Positions = "real"
    """Over which positions the means are taken; the authors' code averages over `all`, padding included."""


class LayerTerm(_OfLayers):
    """Layer-to-layer MSE of hidden states and of attention (eq. 5)."""

    attention: Literal["probabilities", "scores"] = "probabilities"
    """Attention after the softmax, as in eq. 5, or before it, as Jiao et al. 2020 have it."""

    positions: Positions = "real"
    """Over which positions the means are taken; the authors' code averages over `all`, padding included."""

    projection: Projection = "shared"
    """W_p: one for all layers and the embed term, as the authors' code has it, or `own` for each layer."""


class Objective(Section):
    """The terms and their weights; a term that is left out is not computed."""

    mlm: Mlm | None = None
    """Masked language modelling on the labels."""

    output: Output | None = None
    """Matching the teacher's output distribution by KL."""

    soft_labels: SoftLabels | None = None
    """Matching the teacher's output distribution by cross-entropy."""

    logits: Logits | None = None
    """Matching the teacher's logits."""

    align: Align | None = None
    """Matching the direction of the last hidden states."""

    compact: Compact | None = None
    """Matching hidden states and attention as CompactBioBERT."""

    layer: LayerTerm | None = None
    """Matching hidden states and attention as TinyBioBERT."""

    embed: Embed | None = None
    """Matching the embeddings."""

    hidden: Hidden | None = None
    """Matching hidden states."""

    attention: Attention | None = None
    """Matching attention."""

    def terms(self) -> dict[str, _Term]:
        """The terms that are set, by name."""
        named = {name: getattr(self, name) for name in type(self).model_fields}
        return {name: term for name, term in named.items() if term is not None}

    def layer_terms(self) -> dict[str, _OfLayers]:
        """Those that compare layers."""
        return {name: term for name, term in self.terms().items() if isinstance(term, _OfLayers)}
