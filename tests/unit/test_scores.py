from __future__ import annotations

from compactbio.data.ontology_tasks import read_branches, read_mentions
from compactbio.spec.ontology_tasks import BranchTask, MentionTask

OBO = """format-version: 1.2

[Term]
id: X:1
name: All

[Term]
id: X:2
name: Abnormal heart
def: "A weak heart." []
is_a: X:1 ! All

[Term]
id: X:3
name: Weak heart
def: "An enlarged heart is an Abnormal  heart with \\"pain\\"." [who]
synonym: "Enlarged heart" EXACT []
synonym: "Pain" RELATED []
is_a: X:2 ! Abnormal heart

[Term]
id: X:4
name: Gone
def: "No more." []
is_obsolete: true
"""


def test_mentions_are_the_longest_names_and_synonyms(tmp_path) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path / "x.obo"
    path.write_text(OBO)
    task = MentionTask(kind="concept_mentions", text=str(path), test_share=0.5, entity="Sign")
    sets = read_mentions(task)
    tagged = {
        example.identity: list(zip(example.words, example.tags, strict=True)) for example in sets.train + sets.test
    }
    assert sets.labels == ["O", "B-Sign", "I-Sign"]
    assert tagged["X:2"] == [("A", "O"), ("weak", "B-Sign"), ("heart", "I-Sign"), (".", "O")]
    assert [word for word, tag in tagged["X:3"] if tag != "O"] == ["enlarged", "heart", "Abnormal", "heart"]
    assert "X:4" not in tagged


def test_branches_are_the_ancestors_below_the_root(tmp_path) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path / "x.obo"
    path.write_text(OBO)
    task = BranchTask(kind="concept_branches", text=str(path), test_share=0.5, root="X:1")
    sets = read_branches(task)
    assert sets.labels == ["Abnormal heart"]
    assert {example.identity: example.labels for example in sets.train + sets.test} == {"X:2": {0}, "X:3": {0}}
    assert not {example.text for example in sets.train} & {example.text for example in sets.test}
