from __future__ import annotations

import random

import numpy as np
import pytest
from seqeval.metrics import f1_score
from seqeval.scheme import IOB2

from compactbio.data.examples import TaggedText
from compactbio.data.ontology_tasks import read_branches, read_mentions
from compactbio.data.task_rows import TaskBatches, encode_tagged
from compactbio.evaluation import f1
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


def test_micro_f1_of_entities_is_seqevals() -> None:
    draw = random.Random(0)
    gold, predicted = ([draw.choices(["O", "B-A", "I-A", "B-B", "I-B"], k=12) for _ in range(60)] for _ in range(2))
    assert f1.micro_f1(f1.count_entities(gold, predicted)) == pytest.approx(
        f1_score(gold, predicted, mode="strict", scheme=IOB2)
    )


def test_micro_f1_of_labels() -> None:
    counts = f1.count_labels([frozenset({1, 2}), frozenset({0})], [frozenset({1}), frozenset({0, 3})])
    assert f1.micro_f1(counts) == pytest.approx(2 * 2 / (3 + 3))
    assert f1.micro_f1(np.zeros((3, 3), dtype=np.int64)) == 0.0


def test_intervals_cover_the_score_and_tell_a_better_model_from_a_worse_one() -> None:
    draw = np.random.default_rng(0)
    good = np.stack([draw.binomial(3, 0.9, 400), np.full(400, 3), np.full(400, 3)], axis=1)
    bad = np.stack([draw.binomial(3, 0.6, 400), np.full(400, 3), np.full(400, 3)], axis=1)
    bounds = f1.interval(good, seed=1)
    assert bounds.low < f1.micro_f1(good) < bounds.high
    assert f1.difference(good, bad, seed=1).low > 0.2
    same = f1.difference(good, good, seed=1)
    assert (same.low, same.high) == (0, 0)
    with pytest.raises(ValueError, match="different test sets"):
        f1.difference(good, bad[:-1], seed=1)


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
