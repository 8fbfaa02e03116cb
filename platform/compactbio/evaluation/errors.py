"""What a tagger gets wrong: each mistake with its context, and scores by type, length, seen or unseen in training."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from compactbio.evaluation.entities import Entity, Tags, entities
from compactbio.evaluation.score import from_sums

Kind = Literal["missed", "spurious", "wrong type", "wrong boundary", "wrong type and boundary"]
KINDS: tuple[Kind, ...] = ("missed", "spurious", "wrong type", "wrong boundary", "wrong type and boundary")
Words = Sequence[Sequence[str]]
Mention = tuple[str, str]
"""A mention's words in lower case, and its type."""

_CONTEXT = 6  # words on either side
_LONGEST = 5  # words; longer mentions are counted with these


@dataclass(frozen=True)
class Mistake:
    """A gold entity that was not found as it is, or a predicted one that is none."""

    identity: str
    """Of the text."""

    kind: Kind
    gold: Entity | None
    predicted: Entity | None
    before: str
    """The words to the left of what gold and predicted entity cover."""

    covered: str
    after: str
    seen: bool | None
    """Whether the gold mention is in the training set with its type; None for spurious ones."""

    @property
    def gold_type(self) -> str:
        """The type that it should have, or nothing."""
        return self.gold.type if self.gold else ""

    @property
    def predicted_type(self) -> str:
        """The type that it was given, or nothing."""
        return self.predicted.type if self.predicted else ""


@dataclass(frozen=True)
class Group:
    """Entities of one sort: how many there are, were predicted, and are right. Scores in percent."""

    name: str
    correct: int
    predicted: int
    gold: int

    def score(self, name: Literal["precision", "recall", "f1"]) -> float:
        """0 where there is nothing to divide by."""
        return float(from_sums(np.array([self.correct, self.predicted, self.gold], dtype=np.float64), name))


@dataclass(frozen=True)
class ErrorAnalysis:
    """The mistakes on a test set, and how entities of each sort fared."""

    mistakes: list[Mistake]
    by_type: list[Group]
    by_length: list[Group]
    """By the number of words."""

    by_seen: list[Group]
    """By whether the training set has the mention, in any case of letters, with the same type."""

    def counts(self) -> dict[Kind, int]:
        """Mistakes of each kind."""
        return {kind: sum(mistake.kind == kind for mistake in self.mistakes) for kind in KINDS}


def mentions(words: Words, tags: Tags) -> frozenset[Mention]:
    """The mentions of a training set."""
    pairs = zip(words, entities(tags), strict=True)
    return frozenset(_mention(text, entity) for text, found in pairs for entity in found)


def analyse(
    identities: Sequence[str], words: Words, gold: Tags, predicted: Tags, trained: frozenset[Mention]
) -> ErrorAnalysis:
    """The mistakes of `predicted`, text by text; `trained` are the training set's `mentions`.

    An entity that is not exactly right is paired with one that it overlaps, each at most once: the same span under
    another type before the largest overlap. What is left alone is missed or spurious.
    """
    mistakes: list[Mistake] = []
    table: list[tuple[Sequence[str], Entity, bool, bool]] = []  # words, entity, whether gold, whether predicted
    for identity, text, right, found in zip(identities, words, entities(gold), entities(predicted), strict=True):
        table += [(text, entity, entity in right, entity in found) for entity in sorted(right | found)]
        for one, other in _pairs(right - found, found - right):
            mistakes.append(_mistake(identity, text, one, other, trained))
    return ErrorAnalysis(
        mistakes=mistakes,
        by_type=_groups(table, lambda text, entity: entity.type),
        by_length=_groups(table, lambda text, entity: _length(entity)),
        by_seen=_groups(table, lambda text, entity: "seen" if _mention(text, entity) in trained else "unseen"),
    )


def _pairs(gold: frozenset[Entity], predicted: frozenset[Entity]) -> Iterator[tuple[Entity | None, Entity | None]]:
    """Gold and predicted entities that stand for each other, and those that stand alone, from left to right."""
    overlaps = [(one, other) for one in gold for other in predicted if _overlap(one, other) > 0]
    overlaps.sort(key=lambda pair: (_span(pair[0]) != _span(pair[1]), -_overlap(*pair), pair))
    partner: dict[Entity, Entity] = {}
    taken: set[Entity] = set()
    for one, other in overlaps:
        if one not in partner and other not in taken:
            partner[one] = other
            taken.add(other)
    pairs: list[tuple[Entity | None, Entity | None]] = [(one, partner.get(one)) for one in gold]
    pairs += [(None, other) for other in predicted - taken]
    yield from sorted(pairs, key=lambda pair: next(entity for entity in pair if entity))


def _mistake(
    identity: str, text: Sequence[str], gold: Entity | None, predicted: Entity | None, trained: frozenset[Mention]
) -> Mistake:
    both = [entity for entity in (gold, predicted) if entity]
    start, end = min(entity.start for entity in both), max(entity.end for entity in both)
    return Mistake(
        identity=identity,
        kind=_kind(gold, predicted),
        gold=gold,
        predicted=predicted,
        before=" ".join(text[max(start - _CONTEXT, 0) : start]),
        covered=" ".join(text[start:end]),
        after=" ".join(text[end : end + _CONTEXT]),
        seen=_mention(text, gold) in trained if gold else None,
    )


def _kind(gold: Entity | None, predicted: Entity | None) -> Kind:
    if predicted is None:
        return "missed"
    if gold is None:
        return "spurious"
    if _span(gold) == _span(predicted):
        return "wrong type"
    return "wrong boundary" if gold.type == predicted.type else "wrong type and boundary"


def _groups(
    table: list[tuple[Sequence[str], Entity, bool, bool]], name_of: Callable[[Sequence[str], Entity], str]
) -> list[Group]:
    """An entity that is right has the same name as gold and as predicted one, so scores can be taken by name."""
    sums: dict[str, list[int]] = {}
    for text, entity, is_gold, is_predicted in table:
        row = sums.setdefault(name_of(text, entity), [0, 0, 0])
        row[0] += is_gold and is_predicted
        row[1] += is_predicted
        row[2] += is_gold
    return [Group(name, *sums[name]) for name in sorted(sums)]


def _length(entity: Entity) -> str:
    num_words = entity.end - entity.start
    return str(num_words) if num_words < _LONGEST else f"{_LONGEST} or more"


def _mention(text: Sequence[str], entity: Entity) -> Mention:
    return " ".join(text[entity.start : entity.end]).lower(), entity.type


def _span(entity: Entity) -> tuple[int, int]:
    return entity.start, entity.end


def _overlap(one: Entity, other: Entity) -> int:
    return min(one.end, other.end) - max(one.start, other.start)
