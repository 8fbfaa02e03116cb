"""Two tasks that an ontology's own curation gives: mentions of its concepts, and the branch that a concept is in."""

from __future__ import annotations

import re
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
    names = _name_index(concepts)
    tags = ["O", f"B-{task.entity}", f"I-{task.entity}"]
    examples = []
    for concept in concepts.values():
        words = _WORD.findall(concept.definition)
        if words:
            examples.append(TaggedText(concept.id, words, _tag(words, names, task.entity)))
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
