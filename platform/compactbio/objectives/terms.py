"""Terms: what they need of a forward pass, over how much they average, and their sum.

The loss of a part is the sum of its totals over the sum of its counts, over all micro-batches of all workers.
A term of several parts adds means with different denominators.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import torch
from torch import Tensor

from compactbio.data.batches import Batch
from compactbio.models.attention import Observed
from compactbio.models.forward import Needs, Outputs, positions_of
from compactbio.objectives import losses
from compactbio.spec import objective as spec
from compactbio.spec.objective import Positions

Project = Callable[[Tensor], Tensor]


class LogitLoss(Protocol):
    """A sum over positions, from the logits [P, V] of both sides."""

    def __call__(self, student: Tensor, teacher: Tensor) -> Tensor: ...


class Term(Protocol):
    """One summand of an objective."""

    @property
    def parts(self) -> tuple[str, ...]:
        """Names of its parts, in the order of `count` and `total`."""

    @property
    def student_needs(self) -> Needs:
        """What the student's forward pass has to return."""

    @property
    def teacher_needs(self) -> Needs:
        """What the teacher's forward pass has to return."""

    def count(self, batch: Batch) -> Tensor:
        """Denominators of the parts [parts], from the masks alone."""

    def total(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        """Sums of the parts [parts]."""


@dataclass(frozen=True)
class MlmTerm:
    """Cross-entropy against the labels, a mean over the scored positions."""

    parts = ("mlm",)
    student_needs = Needs(logits="masked")
    teacher_needs = Needs()

    def count(self, batch: Batch) -> Tensor:
        return batch.scored.sum()[None].float()

    def total(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        return losses.mlm_sum(_full(student.logits_at("masked", batch)), batch.labels)[None]


class MlmMeasure(MlmTerm):
    """The same where no term of the objective trains it: measured on held-out rows."""

    parts = ("loss/mlm",)


class LogitTerm:
    """A loss between the logits of both sides, a mean over positions (and over `entries` numbers at each)."""

    def __init__(self, name: str, loss: LogitLoss, positions: Positions, entries: int = 1) -> None:
        self.parts = (name,)
        self.student_needs = self.teacher_needs = Needs(logits=positions)
        self._loss = loss
        self._positions = positions
        self._entries = entries

    def count(self, batch: Batch) -> Tensor:
        return positions_of(batch, self._positions).sum()[None].float() * self._entries

    def total(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        ours, theirs = (_full(side.logits_at(self._positions, batch)) for side in (student, teacher))
        return losses.differentiated_at_once(partial(self._loss, teacher=theirs), ours)[None]


class AgreementTerm:
    """The share of masked positions at which both sides have the same token on top: measured, not trained."""

    parts = ("agreement",)
    student_needs = teacher_needs = Needs(logits="masked")

    def count(self, batch: Batch) -> Tensor:
        return batch.scored.sum()[None].float()

    def total(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        tops = (side.logits_at("masked", batch).argmax(dim=-1) for side in (student, teacher))
        return torch.eq(*tops).sum()[None].float()


@dataclass(frozen=True)
class LayerPair:
    """A student's hidden state and the teacher's that it is compared with (0 the embeddings, l + 1 layer l)."""

    student: int
    teacher: int
    weight: float
    project: Project


class HiddenTerm:
    """Hidden states of pairs of layers, a mean over positions; the squared error also over the teacher's width."""

    def __init__(self, name: str, pairs: list[LayerPair], *, cosine: bool, positions: Positions, width: int) -> None:
        self.parts = (name,)
        self.student_needs = Needs(hidden=frozenset(pair.student for pair in pairs))
        self.teacher_needs = Needs(hidden=frozenset(pair.teacher for pair in pairs))
        self._pairs = pairs
        self._loss = losses.cosine_sum if cosine else losses.squared_error_sum
        self._positions = positions
        self._entries = 1 if cosine else width

    def count(self, batch: Batch) -> Tensor:
        return positions_of(batch, self._positions).sum()[None].float() * self._entries

    def total(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        at = positions_of(batch, self._positions)
        sums = [
            pair.weight
            * self._loss(_full(pair.project(student.hidden[pair.student][at])), _full(teacher.hidden[pair.teacher][at]))
            for pair in self._pairs
        ]
        return torch.stack(sums).sum()[None]


class AttentionTerm:
    """Attention of pairs of layers, a mean over heads and query rows, or over heads and entries."""

    def __init__(self, name: str, section: spec.Attention, num_heads: int) -> None:
        self.parts = (name,)
        self.student_needs = Needs(attention=frozenset(range(len(section.layer_map))))
        self.teacher_needs = Needs(attention=frozenset(section.layer_map))
        self._spec = section
        self._num_heads = num_heads
        self._weights = _layer_lambdas(section.layer_map, section.layer_lambdas)

    def count(self, batch: Batch) -> Tensor:
        queries = positions_of(batch, self._spec.positions).sum(dim=1).float()
        if self._spec.loss == "mse" or self._spec.reduction == "entries":
            queries = queries * self._keys(batch).sum(dim=1)
        return self._num_heads * queries.sum()[None]

    def total(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        sums = [
            weight * self._loss(student.attention[s], teacher.attention[t], batch)
            for (s, t), weight in zip(enumerate(self._spec.layer_map), self._weights, strict=True)
        ]
        return torch.stack(sums).sum()[None]

    def _loss(self, student: Observed, teacher: Observed, batch: Batch) -> Tensor:
        queries = positions_of(batch, self._spec.positions)

        def loss(query: Tensor, key: Tensor) -> Tensor:
            ours = _full(student._replace(query=query, key=key).scores())
            theirs = _full(teacher.scores())
            if self._spec.loss == "kl":
                teacher_first = self._spec.direction == "teacher_student"
                return losses.attention_kl_sum(ours, theirs, queries, teacher_first=teacher_first)
            probabilities = self._spec.on == "probabilities"
            return losses.attention_squared_error_sum(ours, theirs, queries, batch.real, probabilities=probabilities)

        return losses.differentiated_at_once(loss, student.query, student.key)

    def _keys(self, batch: Batch) -> Tensor:
        """Keys over which the mean is taken [B, T]; under `all` padding counts, and adds nothing."""
        return positions_of(batch, "all" if self._spec.positions == "all" else "real")


class JointTerm:
    """Terms under one lambda: their parts side by side."""

    def __init__(self, *terms: Term) -> None:
        self._terms = terms
        self.parts = tuple(part for term in terms for part in term.parts)
        self.student_needs, self.teacher_needs = (
            Needs.union(needs) for needs in zip(*((t.student_needs, t.teacher_needs) for t in terms), strict=True)
        )

    def count(self, batch: Batch) -> Tensor:
        return torch.cat([term.count(batch) for term in self._terms])

    def total(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        return torch.cat([term.total(student, teacher, batch) for term in self._terms])


def output_term(section: spec.Output) -> Term:
    """KL of the output distributions."""
    teacher_first = section.direction == "teacher_student"
    loss = partial(losses.output_kl_sum, temperature=section.temperature, teacher_first=teacher_first)
    return LogitTerm("output", loss, section.positions)


def soft_labels_term(section: spec.SoftLabels) -> Term:
    """Cross-entropy against the teacher's distribution."""
    loss = partial(losses.soft_cross_entropy_sum, temperature=section.temperature)
    return LogitTerm("soft_labels", loss, section.positions)


def _layer_lambdas(layer_map: tuple[int, ...], lambdas: tuple[float, ...] | None) -> tuple[float, ...]:
    return lambdas or (1.0,) * len(layer_map)


def layer_pairs(
    layer_map: tuple[int, ...], lambdas: tuple[float, ...] | None, projects: list[Project]
) -> list[LayerPair]:
    """The hidden states behind the layers of a map."""
    weights = _layer_lambdas(layer_map, lambdas)
    triples = zip(enumerate(layer_map), weights, projects, strict=True)
    return [LayerPair(s + 1, t + 1, weight, project) for (s, t), weight, project in triples]


def _full(values: Tensor) -> Tensor:
    """At least fp32: sums over a vocabulary do not fit half precision."""
    return values.to(torch.promote_types(values.dtype, torch.float32))
