"""Terms: what they need of a forward pass, over how much they average, and their sum.

The loss of a part is the sum of its totals over the sum of its counts, over all micro-batches of all workers.
A term of several parts adds means with different denominators.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from transformers import PreTrainedConfig

from compactbio.data.batches import Batch
from compactbio.models.forward import Needs, Outputs
from compactbio.objectives import losses
from compactbio.spec import objective as spec


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
    student_needs = Needs(logits=True)
    teacher_needs = Needs()

    def count(self, batch: Batch) -> Tensor:
        return batch.scored.sum()[None].float()

    def total(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        assert student.logits is not None
        return losses.mlm_sum(_full(student.logits), batch.labels)[None]


@dataclass(frozen=True)
class OutputTerm:
    """KL of the output distributions, a mean over the scored positions."""

    spec: spec.Output
    parts = ("output",)
    student_needs = Needs(logits=True)
    teacher_needs = Needs(logits=True)

    def count(self, batch: Batch) -> Tensor:
        return batch.scored.sum()[None].float()

    def total(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        assert student.logits is not None and teacher.logits is not None
        loss = losses.output_kl_sum(
            _full(student.logits),
            _full(teacher.logits),
            temperature=self.spec.temperature,
            teacher_first=self.spec.direction == "teacher_student",
        )
        return loss[None]


class CompactTerm:
    """Per layer: hidden cosine, a mean over real positions, and attention KL, a mean over heads and real rows."""

    parts = ("compact.hidden", "compact.attention")

    def __init__(self, section: spec.Compact, num_heads: int) -> None:
        self.spec = section
        self.num_heads = num_heads
        self.pairs = list(enumerate(section.layer_map))
        self.student_needs = _layers(frozenset(range(len(section.layer_map))))
        self.teacher_needs = _layers(frozenset(section.layer_map))

    def count(self, batch: Batch) -> Tensor:
        num_real = batch.real.sum().float()
        return torch.stack([num_real, num_real * self.num_heads])

    def total(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        teacher_first = self.spec.direction == "teacher_student"
        hidden = [
            losses.cosine_sum(_full(student.hidden[s + 1]), _full(teacher.hidden[t + 1]), batch.real)
            for s, t in self.pairs
        ]
        attention = [
            losses.attention_kl_sum(
                _full(student.attention[s]), _full(teacher.attention[t]), batch.real, teacher_first=teacher_first
            )
            for s, t in self.pairs
        ]
        return torch.stack([torch.stack(hidden).sum(), torch.stack(attention).sum()])


def _layers(layers: frozenset[int]) -> Needs:
    return Needs(hidden=frozenset(layer + 1 for layer in layers), attention=layers)


def _full(values: Tensor) -> Tensor:
    """At least fp32: sums over a vocabulary do not fit half precision."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def build_terms(objective: spec.Objective, student: PreTrainedConfig) -> dict[str, tuple[float, Term]]:
    """The objective's terms with their lambda, by name."""
    terms: dict[str, tuple[float, Term]] = {}
    if objective.mlm is not None:
        terms["mlm"] = (objective.mlm.weight, MlmTerm())
    if objective.output is not None:
        terms["output"] = (objective.output.weight, OutputTerm(objective.output))
    if objective.compact is not None:
        terms["compact"] = (objective.compact.weight, CompactTerm(objective.compact, student.num_attention_heads))
    return terms
