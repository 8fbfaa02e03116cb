"""The weighted sum of terms."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig

from compactbio.data.batches import Batch
from compactbio.models.forward import Needs, Outputs
from compactbio.objectives import losses
from compactbio.objectives.terms import (
    AgreementTerm,
    AttentionTerm,
    HiddenTerm,
    JointTerm,
    LayerPair,
    LogitTerm,
    MlmMeasure,
    MlmTerm,
    Project,
    Term,
    layer_pairs,
    output_term,
    soft_labels_term,
)
from compactbio.spec import objective as spec
from compactbio.spec.base import Section

SHARED = "shared"


class Objective(nn.Module):
    """The terms of a training stage, seen as one list of parts, and the projections that they learn.

    loss = sum over parts of lambda x (sum of totals) / (sum of counts), the sums over the global batch.
    """

    def __init__(
        self, section: spec.Objective, student: PreTrainedConfig, teacher: PreTrainedConfig | None = None
    ) -> None:
        super().__init__()
        self.projections = nn.ModuleDict()
        named = _Builder(section, student, teacher or student, self.projections).terms()
        self._terms = [term for _, term in named]
        self._lambdas = [weight for weight, term in named for _ in term.parts]
        self.parts = tuple(part for term in self._terms for part in term.parts)
        self.student_needs = Needs.union(term.student_needs for term in self._terms)
        self.teacher_needs = Needs.union(term.teacher_needs for term in self._terms)
        self._measures: list[Term] = [] if "mlm" in self.parts else [MlmMeasure()]
        self._measures += [AgreementTerm()] if self.teacher_needs.logits is not None else []
        self.measured_needs = Needs.union([self.student_needs, *(term.student_needs for term in self._measures)])
        self.measures = tuple(part for term in self._measures for part in term.parts)

    def count(self, batch: Batch) -> Tensor:
        """Denominators [parts + measures] of this batch, before any forward pass."""
        return torch.cat([term.count(batch) for term in (*self._terms, *self._measures)])

    def totals(self, student: Outputs, teacher: Outputs, batch: Batch, *, measure: bool = False) -> Tensor:
        """Sums [parts] of this batch, and with `measure` those of the measures behind them."""
        terms = (*self._terms, *self._measures) if measure else self._terms
        return torch.cat([term.total(student, teacher, batch) for term in terms])

    def weights(self, step: int) -> Tensor:
        """The lambdas [parts] of a step, counted from 0."""
        return torch.tensor([lambda_at(weight, step) for weight in self._lambdas])

    def loss(self, totals: Tensor, counts: Tensor, step: int = 0) -> Tensor:
        """The weighted loss, given totals of a batch (or of all) and counts of the global batch.

        A part that nothing in the global batch is counted for contributes zero.
        """
        num_parts = len(self.parts)
        means = totals[:num_parts] / counts[:num_parts].clamp_min(1.0)
        return torch.sum(self.weights(step).to(means.device) * means)


def lambda_at(weight: spec.Lambda, step: int) -> float:
    """A lambda at a step: the number, or between its points in a straight line and beyond them level."""
    if isinstance(weight, dict):
        return float(np.interp(step, list(weight), list(weight.values())))
    return weight


class _Builder:
    """Makes the terms of a section, and the projections that they share."""

    def __init__(
        self, section: spec.Objective, student: PreTrainedConfig, teacher: PreTrainedConfig, made: nn.ModuleDict
    ) -> None:
        self._section = section
        self._student = student
        self._teacher = teacher
        self._made = made

    def terms(self) -> list[tuple[spec.Lambda, Term]]:
        """Each term that is set, with its lambda."""
        return [(section.weight, self._term(name, section)) for name, section in self._section.terms().items()]

    def _term(self, name: str, section: Section) -> Term:
        match section:
            case spec.Mlm():
                return MlmTerm()
            case spec.Output():
                return output_term(section)
            case spec.SoftLabels():
                return soft_labels_term(section)
            case spec.Logits():
                return LogitTerm(name, losses.squared_error_sum, section.positions, self._student.vocab_size)
            case spec.Align():
                last = (self._student.num_hidden_layers, self._teacher.num_hidden_layers)
                return self._states(name, [LayerPair(*last, 1.0, self._project(section.projection, name))], section)
            case spec.Embed():
                return self._states(name, [LayerPair(0, 0, 1.0, self._project(section.projection, name))], section)
            case spec.Hidden():
                return self._hidden(name, section)
            case spec.Attention():
                return self._attention(name, section)
            case spec.Compact() | spec.LayerTerm():
                hidden, attention = _halves(section)
                return JointTerm(
                    self._hidden(f"{name}.hidden", hidden), self._attention(f"{name}.attention", attention)
                )
        raise AssertionError(name)

    def _states(self, name: str, pairs: list[LayerPair], section: spec.Align | spec.Embed | spec.Hidden) -> HiddenTerm:
        cosine = isinstance(section, spec.Align) or (isinstance(section, spec.Hidden) and section.loss == "cosine")
        return HiddenTerm(name, pairs, cosine=cosine, positions=section.positions, width=self._teacher.hidden_size)

    def _hidden(self, name: str, section: spec.Hidden) -> HiddenTerm:
        projects = [self._project(section.projection, f"{name}.{layer}") for layer in range(len(section.layer_map))]
        return self._states(name, layer_pairs(section.layer_map, section.layer_lambdas, projects), section)

    def _attention(self, name: str, section: spec.Attention) -> AttentionTerm:
        return AttentionTerm(name, section, self._student.num_attention_heads)

    def _project(self, kind: spec.Projection, own: str) -> Project:
        """A linear map from the student's width to the teacher's, or none."""
        if kind == "none":
            return _identity
        key = (SHARED if kind == "shared" else own).replace(".", "_")
        if key not in self._made:
            self._made[key] = nn.Linear(self._student.hidden_size, self._teacher.hidden_size)
        return self._made[key]


def _identity(states: Tensor) -> Tensor:
    return states


def _halves(section: spec.Compact | spec.LayerTerm) -> tuple[spec.Hidden, spec.Attention]:
    """The hidden half and the attention half of a term of the papers."""
    common: dict[str, Any] = {name: getattr(section, name) for name in ("layer_map", "layer_lambdas", "positions")}
    if isinstance(section, spec.Compact):
        kl: dict[str, Any] = {"direction": section.direction, "reduction": section.reduction}
        return spec.Hidden(loss="cosine", **common), spec.Attention(loss="kl", **kl, **common)
    return (
        spec.Hidden(loss="mse", projection=section.projection, **common),
        spec.Attention(loss="mse", on=section.attention, **common),
    )
