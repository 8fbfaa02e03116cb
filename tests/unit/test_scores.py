from __future__ import annotations

from compactbio.data.examples import TaggedText
from compactbio.data.ontology_tasks import read_branches, read_mentions
from compactbio.data.task_rows import TaskBatches, encode_tagged
from compactbio.models.load import load_tokenizer
from compactbio.spec.tasks import BranchTask, MentionTask

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


def test_every_word_of_a_long_text_has_one_position(tiny_model) -> None:  # type: ignore[no-untyped-def]
    tokenizer = load_tokenizer(str(tiny_model), "teacher", online=False)
    words = ["heart", "enlargedx", "\u200b", "pain"] * 30
    rows = encode_tagged([TaggedText("a", words, ["O"] * 120)], ["O"], tokenizer, max_tokens=16).rows
    assert len(rows) > 1
    assert max(len(row.ids) for row in rows) <= 16
    assert sum(len(row.positions) for row in rows) == 120


def test_task_batches_see_every_row_once_an_epoch(tiny_model) -> None:  # type: ignore[no-untyped-def]
    tokenizer = load_tokenizer(str(tiny_model), "teacher", online=False)
    examples = [TaggedText(str(n), ["a"] * (n + 1), ["O"] * (n + 1)) for n in range(64)]
    batches = TaskBatches(encode_tagged(examples, ["O"], tokenizer, 70).rows, batch=4, seed=1, pad_id=0)
    lengths = [int(length) for step in range(16) for length in batches(step)[0].real.sum(1)]
    assert sorted(lengths) == list(range(3, 67))
    assert [batches(step)[0].input_ids.shape for step in range(3)] == [
        batches(step)[0].input_ids.shape for step in range(3)
    ]
