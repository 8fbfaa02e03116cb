"""Entities scored strictly: type and both ends have to be right (CoNLL; seqeval's strict mode in IOB2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from seqeval.scheme import IOB2, Entities

from compactbio.evaluation.score import Score, class_counts, class_detail, value

Tags = Sequence[Sequence[str]]
"""IOB2 tags of each text: O, B-TYPE, I-TYPE."""


@dataclass(frozen=True, order=True)
class Entity:
    """A typed span of tokens."""

    start: int
    end: int
    """The token behind the last one."""

    type: str


def entities(tags: Tags) -> list[frozenset[Entity]]:
    """The entities of each text. An I- that continues no entity of its type belongs to none, as strict IOB2 has it
    (conlleval would start an entity there; the two agree wherever tags are valid IOB2)."""
    found = Entities([list(text) for text in tags], IOB2).entities
    return [frozenset(Entity(one.start, one.end, one.tag) for one in text) for text in found]


def score_entities(gold: Tags, predicted: Tags) -> Score:
    """Strict precision, recall and F1 over all entities, and by type. Raises ValueError for texts that do not match."""
    for index, (right, answer) in enumerate(zip(gold, predicted, strict=True)):
        if len(right) != len(answer):
            raise ValueError(f"text {index} has {len(right)} gold and {len(answer)} predicted tags")
    pairs = list(zip(entities(gold), entities(predicted), strict=True))
    types = sorted({entity.type for pair in pairs for side in pair for entity in side})
    position = {name: index for index, name in enumerate(types)}
    table = np.zeros((3, len(pairs), len(types)))
    for index, (gold_ones, found) in enumerate(pairs):
        for row, group in enumerate((gold_ones & found, found, gold_ones)):
            for entity in group:
                table[row, index, position[entity.type]] += 1
    return Score(
        main="f1",
        values={name: value(table.sum(axis=-1).T, name) for name in ("precision", "recall", "f1")},
        counts=table.sum(axis=-1).T,
        detail=class_detail(class_counts(*table), types),
    )
