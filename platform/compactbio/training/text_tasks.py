"""Texts and pairs of texts with one class or several labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from transformers import PreTrainedTokenizerBase

from compactbio.data.examples import ClassifiedText, Example, LabelledText
from compactbio.data.task_rows import Row, TaskRows
from compactbio.data.text_rows import encode_classified, encode_labelled
from compactbio.evaluation.documents import score_abstracts, score_labels
from compactbio.evaluation.relations import score_classes
from compactbio.evaluation.score import Score
from compactbio.objectives.tasks import ClassLoss, MultiLabelLoss, TaskLoss
from compactbio.spec.relation_tasks import RelationTasks
from compactbio.spec.tasks import AnyTask
from compactbio.spec.text_tasks import ChoiceTask, PairTask
from compactbio.spec.tuning import Tuning
from compactbio.training.class_weights import class_weights
from compactbio.training.judged import Judged
from compactbio.training.task_model import Head, Logits


@dataclass(frozen=True)
class Classes:
    """One class for each text or pair of texts."""

    names: list[str]
    tokenizer: PreTrainedTokenizerBase
    tuning: Tuning
    task: AnyTask

    @property
    def head(self) -> Head:
        """Read once a text."""
        return Head("texts", tuple(self.names), pairs=isinstance(self.task, PairTask | ChoiceTask))

    def encode(self, examples: Sequence[Example], *, training: bool) -> TaskRows:
        """One row each."""
        return encode_classified(cast(Sequence[ClassifiedText], examples), self.tokenizer, self.tuning.max_tokens)

    def loss(self, rows: Sequence[Row]) -> TaskLoss:
        """Cross-entropy."""
        return ClassLoss("classes", class_weights(self.tuning, rows, len(self.names)))

    def judge(self, examples: Sequence[Example], rows: Sequence[Row], answers: Sequence[Logits]) -> Judged:
        """F1 or accuracy, as the task says."""
        texts = cast(Sequence[ClassifiedText], examples)
        gold = [text.label for text in texts]
        predicted = [int(logits[0].argmax()) for logits in answers]
        lines = [
            (text.identity, self.names[text.label], self.names[found])
            for text, found in zip(texts, predicted, strict=True)
        ]
        return Judged(_class_score(self.task, gold, predicted, self.names), ("id", "gold", "predicted"), lines)


def _class_score(task: AnyTask, gold: Sequence[int], predicted: Sequence[int], names: Sequence[str]) -> Score:
    """The score of a task with one class a text, under the name that the task gives it."""
    if not isinstance(task, RelationTasks):
        return score_classes(gold, predicted, names, main="accuracy")
    return score_classes(gold, predicted, names, main=task.score, negative=task.negative)


@dataclass(frozen=True)
class Labels:
    """Any number of labels for each text."""

    names: list[str]
    tokenizer: PreTrainedTokenizerBase
    tuning: Tuning
    by_group: bool

    @property
    def head(self) -> Head:
        """Read once a text."""
        return Head("texts", tuple(self.names), multi_label=True)

    def encode(self, examples: Sequence[Example], *, training: bool) -> TaskRows:
        """One row each."""
        texts = cast(Sequence[LabelledText], examples)
        return encode_labelled(texts, len(self.names), self.tokenizer, self.tuning.max_tokens)

    def loss(self, rows: Sequence[Row]) -> TaskLoss:
        """Binary cross-entropy."""
        if self.tuning.class_weights is None:
            return MultiLabelLoss()
        having = torch.tensor([row.labels for row in rows]).sum(0)
        return MultiLabelLoss(torch.where(having > 0, (len(rows) - having) / having.clamp_min(1), 1.0))

    def judge(self, examples: Sequence[Example], rows: Sequence[Row], answers: Sequence[Logits]) -> Judged:
        """F1; a label is predicted from a probability of a half on."""
        texts = cast(Sequence[LabelledText], examples)
        predicted = [frozenset(np.flatnonzero(logits[0] > 0.0).tolist()) for logits in answers]
        lines = [
            (text.identity, self._named(text.labels), self._named(found))
            for text, found in zip(texts, predicted, strict=True)
        ]
        gold = [text.labels for text in texts]
        if self.by_group:
            score = score_abstracts(gold, predicted, [text.group for text in texts], self.names)
        else:
            score = score_labels(gold, predicted, self.names)
        return Judged(score, ("id", "gold", "predicted"), lines)

    def _named(self, labels: frozenset[int]) -> str:
        return "|".join(self.names[label] for label in sorted(labels))
