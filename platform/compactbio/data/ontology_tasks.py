"""Two tasks that an ontology's own curation gives: mentions of its concepts, and the branch that a concept is in."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np

from compactbio.data import counter
from compactbio.data.counter import is_held_out
from compactbio.data.obo import Concept, ancestors, read_concepts
from compactbio.spec.base import SpecError
from compactbio.spec.evaluation import BranchTask, MentionTask, OntologyTask, Task
from compactbio.spec.references import locate_file

_WORD = re.compile(r"\w+|[^\w\s]")
_SHORTEST_NAME = 4  # characters; shorter ones are abbreviations that collide with ordinary words


@dataclass(frozen=True)
class TaggedText:
    """Words with one IOB2 tag each."""

    identity: str
    words: list[str]
    tags: list[str]


@dataclass(frozen=True)
class LabelledText:
    """A text with the set of its labels, as positions in the list of labels."""

    identity: str
    text: str
    labels: frozenset[int]


Example = TypeVar("Example", TaggedText, LabelledText)


def read_mentions(task: MentionTask, seed: int) -> tuple[list[TaggedText], list[TaggedText], list[str]]:
    """Training examples, test examples and tags.

    The definitions of all concepts, tagged where a concept's name or exact synonym stands in them: the longest
    match from the left, whatever its case. Labels found by matching are distant: what the ontology calls by
    another name stays untagged.
    """
    concepts = _concepts(task)
    names = _name_index(concepts)
    tags = ["O", f"B-{task.entity}", f"I-{task.entity}"]
    examples = []
    for concept in concepts.values():
        words = _WORD.findall(concept.definition)
        if words:
            examples.append(TaggedText(concept.id, words, _tag(words, names, task.entity)))
    return (*_split(examples, task, seed), tags)


def read_branches(task: BranchTask, seed: int) -> tuple[list[LabelledText], list[LabelledText], list[str]]:
    """Training examples, test examples and the names of the labels, which are the children of `task.root`."""
    concepts = _concepts(task)
    branches = [concept.id for concept in concepts.values() if task.root in concept.parents]
    if not branches:
        raise SpecError.at("tasks", f"no concept of {task.text} has the parent '{task.root}' (root)")
    index = {branch: position for position, branch in enumerate(branches)}
    examples = []
    for concept in concepts.values():
        labels = frozenset(index[above] for above in ancestors(concepts, concept.id) if above in index)
        if labels and concept.definition:
            examples.append(LabelledText(concept.id, concept.definition, labels))
    return (*_split(examples, task, seed), [concepts[branch].name for branch in branches])


def test_texts(task: OntologyTask, seed: int) -> list[str]:
    """The texts of the task's test set."""
    if isinstance(task, MentionTask):
        return [" ".join(example.words) for example in read_mentions(task, seed)[1]]
    return [example.text for example in read_branches(task, seed)[1]]


def _concepts(task: Task) -> dict[str, Concept]:
    path: Path = locate_file(task.text, "tasks")
    return {concept.id: concept for concept in read_concepts(path)}


def _name_index(concepts: dict[str, Concept]) -> dict[str, set[tuple[str, ...]]]:
    """Names as lower-case words, by their first word. The root of the ontology is no mention."""
    names: dict[str, set[tuple[str, ...]]] = {}
    for concept in concepts.values():
        for name in [concept.name, *concept.synonyms] if concept.parents else []:
            words = tuple(_WORD.findall(name.lower()))
            if words and len(name) >= _SHORTEST_NAME:
                names.setdefault(words[0], set()).add(words)
    return names


def _tag(words: list[str], names: dict[str, set[tuple[str, ...]]], entity: str) -> list[str]:
    lowered = [word.lower() for word in words]
    tags = ["O"] * len(words)
    start = 0
    while start < len(words):
        matches = [name for name in names.get(lowered[start], ()) if tuple(lowered[start : start + len(name)]) == name]
        length = max(map(len, matches), default=0)
        if length:
            tags[start : start + length] = [f"B-{entity}"] + [f"I-{entity}"] * (length - 1)
        start += max(length, 1)
    return tags


def _split(examples: list[Example], task: Task, seed: int) -> tuple[list[Example], list[Example]]:
    """Train and test by concept, and the seeded subsets of them. A text that both hold counts for the test set."""
    test = [example for example in examples if is_held_out(example.identity, task.test_share)]
    known = {_text(example) for example in test}
    train = [
        example
        for example in examples
        if not is_held_out(example.identity, task.test_share) and _text(example) not in known
    ]
    for name, some in (("train", train), ("test", test)):
        if not some:
            raise SpecError.at("tasks", f"the {name} set of '{task.text}' is empty (test_share {task.test_share})")
    return _subset(train, task.max_train, seed), _subset(test, task.max_test, seed)


def _text(example: TaggedText | LabelledText) -> str:
    return " ".join(example.words) if isinstance(example, TaggedText) else example.text


def _subset(examples: list[Example], size: int | None, seed: int) -> list[Example]:
    if size is None or size >= len(examples):
        return examples
    draw = [int(counter.at(seed, int(counter.bucket(example.identity) * 2**63))) for example in examples]
    chosen = np.sort(np.argsort(draw, kind="stable")[:size])
    return [examples[position] for position in chosen]
