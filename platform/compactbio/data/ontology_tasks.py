"""Two tasks that an ontology's own curation gives: mentions of its concepts, and the branch that a concept is in."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import TypeVar

from compactbio.data.counter import is_held_out
from compactbio.data.examples import LabelledText, TaggedText
from compactbio.data.obo import Concept, ancestors, read_concepts
from compactbio.data.sets import Sets, hold_out, text_of
from compactbio.spec.base import SpecError
from compactbio.spec.ontology_tasks import BranchTask, MentionTask, OntologyTask
from compactbio.spec.references import locate_file

_cache = lru_cache(maxsize=2)  # two tasks of one ontology ask for it, and a sweep's check for each value that it tries
_File = tuple[Path, int, int]
"""A file as it is now: its path, the time of its last change, its size."""
_WORD = re.compile(r"\w+|[^\w\s]")
_SHORTEST_NAME = 4  # characters; shorter ones are abbreviations that collide with ordinary words

OntologyExample = TypeVar("OntologyExample", TaggedText, LabelledText)


def read_mentions(task: MentionTask) -> Sets[TaggedText]:
    """The definitions of all concepts, tagged where a concept's name or exact synonym stands in them.

    The longest match from the left counts, whatever its case. Labels found by matching are distant: what the ontology
    calls by another name stays untagged.
    """
    tags = ["O", f"B-{task.entity}", f"I-{task.entity}"]
    return _split(_mentions(_file(task), task.entity), task, tags)


@_cache
def _mentions(file: _File, entity: str) -> list[TaggedText]:
    concepts = _concepts(file)
    names = _names(concepts)
    lengths = _lengths(names)
    found = ((concept.id, _WORD.findall(concept.definition)) for concept in concepts.values())
    return [TaggedText(id_, words, _tag(words, names, lengths, entity)) for id_, words in found if words]


def read_branches(task: BranchTask) -> Sets[LabelledText]:
    """The definitions of the concepts below `task.root`; the labels are the names of its children."""
    concepts = _concepts(_file(task))
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


def _file(task: OntologyTask) -> _File:
    path = locate_file(task.text, "tasks")
    status = path.stat()
    return path, status.st_mtime_ns, status.st_size


@_cache
def _concepts(file: _File) -> dict[str, Concept]:
    return {concept.id: concept for concept in read_concepts(file[0])}


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
