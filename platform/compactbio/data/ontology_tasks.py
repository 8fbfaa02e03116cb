"""Two tasks that an ontology's own curation gives: mentions of its concepts, and the branch that a concept is in."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import TypeVar

from compactbio.data.counter import is_held_out
from compactbio.data.examples import LabelledText, TaggedText
from compactbio.data.obo import Concept, ancestors, read_concepts
from compactbio.data.sets import Sets, hold_out, text_of
from compactbio.spec.base import SpecError
from compactbio.spec.ontology_tasks import BranchTask, MentionTask, OntologyTask
from compactbio.spec.references import locate_file

_WORD = re.compile(r"\w+|[^\w\s]")
_SHORTEST_NAME = 4  # characters; shorter ones are abbreviations that collide with ordinary words

OntologyExample = TypeVar("OntologyExample", TaggedText, LabelledText)


def read_mentions(task: MentionTask) -> Sets[TaggedText]:
    """The definitions of all concepts, tagged where a concept's name or exact synonym stands in them.

    The longest match from the left counts, whatever its case. Labels found by matching are distant: what the ontology
    calls by another name stays untagged.
    """
    concepts = _concepts(task)
    names = _names(concepts)
    lengths = _lengths(names)
    tags = ["O", f"B-{task.entity}", f"I-{task.entity}"]
    examples = []
    for concept in concepts.values():
        words = _WORD.findall(concept.definition)
        if words:
            examples.append(TaggedText(concept.id, words, _tag(words, names, lengths, task.entity)))
    return _split(examples, task, tags)


def read_branches(task: BranchTask) -> Sets[LabelledText]:
    """The definitions of the concepts below `task.root`; the labels are the names of its children."""
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
    return _split(examples, task, [concepts[branch].name for branch in branches])


def _concepts(task: OntologyTask) -> dict[str, Concept]:
    path: Path = locate_file(task.text, "tasks")
    return {concept.id: concept for concept in read_concepts(path)}


def _names(concepts: dict[str, Concept]) -> set[tuple[str, ...]]:
    """Names as lower-case words. The root of the ontology is no mention."""
    return {
        words
        for concept in concepts.values()
        for name in ([concept.name, *concept.synonyms] if concept.parents else [])
        if len(name) >= _SHORTEST_NAME and (words := tuple(_WORD.findall(name.lower())))
    }


def _lengths(names: Iterable[tuple[str, ...]]) -> dict[str, list[int]]:
    """How many words the names have that begin with a word, the longest first."""
    found: dict[str, set[int]] = {}
    for name in names:
        found.setdefault(name[0], set()).add(len(name))
    return {first: sorted(lengths, reverse=True) for first, lengths in found.items()}


def _tag(words: list[str], names: set[tuple[str, ...]], lengths: dict[str, list[int]], entity: str) -> list[str]:
    lowered = [word.lower() for word in words]
    tags = ["O"] * len(words)
    start = 0
    while start < len(words):
        fitting = (n for n in lengths.get(lowered[start], ()) if start + n <= len(words))
        length = next((n for n in fitting if tuple(lowered[start : start + n]) in names), 0)
        if length:
            tags[start : start + length] = [f"B-{entity}"] + [f"I-{entity}"] * (length - 1)
        start += max(length, 1)
    return tags


def _split(examples: list[OntologyExample], task: OntologyTask, labels: list[str]) -> Sets[OntologyExample]:
    """The sets by concept. A text that both training and test set hold counts for the test set."""
    test = [example for example in examples if is_held_out(example.identity, task.test_share)]
    known = {text_of(example) for example in test}
    train = [
        example
        for example in examples
        if not is_held_out(example.identity, task.test_share) and text_of(example) not in known
    ]
    train, dev = hold_out(train, task.dev_share, task.subset_seed, key=text_of)
    for name, some in (("train", train), ("test", test)):
        if not some:
            raise SpecError.at("tasks", f"the {name} set of '{task.text}' is empty (test_share {task.test_share})")
    return Sets(train, dev, test, labels)
