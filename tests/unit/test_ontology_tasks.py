"""Labels that an ontology's own curation gives."""

from __future__ import annotations

from pathlib import Path

import pytest

from compactbio.data.ontology_tasks import read_branches, read_mentions
from compactbio.spec.ontology_tasks import BranchTask, MentionTask

TERMS = [
    ("HP:1", "All", "", "Everything."),
    ("HP:2", "Heart", "HP:1", "An organ with a Weak heart muscle, and weak heart"),
    ("HP:3", "Weak heart", "HP:2", "A heart that is weak heart muscle disease"),
    ("HP:4", "Weak heart muscle", "HP:2", "Pain of the heart."),
    *((f"HP:{number}", f"Sign {number}", "HP:4", f"Pain with number {number}.") for number in range(5, 40)),
]


@pytest.fixture
def ontology(tmp_path: Path) -> str:
    path = tmp_path / "small.obo"
    terms = []
    for identity, name, parent, definition in TERMS:
        lines = ["[Term]", f"id: {identity}", f"name: {name}", f'def: "{definition}" []']
        terms.append("\n".join([*lines, f"is_a: {parent}"] if parent else lines))
    path.write_text("format-version: 1.2\n\n" + "\n\n".join(terms) + "\n")
    return str(path)


def test_the_longest_name_counts_and_none_beyond_the_text(ontology: str) -> None:
    sets = read_mentions(MentionTask(kind="concept_mentions", text=ontology, test_share=0.3))
    tagged = {example.identity: example for example in (*sets.train, *sets.test)}
    assert " ".join(tagged["HP:2"].words) == "An organ with a Weak heart muscle , and weak heart"
    outside, (begin, inside) = "O", sets.labels[1:]
    assert tagged["HP:2"].tags == [outside] * 4 + [begin, inside, inside] + [outside] * 2 + [begin, inside]
    assert tagged["HP:3"].tags == [outside, begin, outside, outside, begin, inside, inside, outside]
    assert tagged["HP:1"].tags == [outside] * 2  # the root's own name is no mention


def test_a_concept_is_in_the_branch_that_it_lies_below(ontology: str) -> None:
    sets = read_branches(BranchTask(kind="concept_branches", text=ontology, root="HP:1", test_share=0.3))
    assert sets.labels == ["Heart"]
    assert {example.identity for example in (*sets.train, *sets.test)} == {identity for identity, *_ in TERMS[1:]}
