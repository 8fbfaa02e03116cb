"""Mistakes by kind, with context, and scores by sort of entity."""

from __future__ import annotations

from compactbio.evaluation.entities import Entity, score_entities
from compactbio.evaluation.errors import Group, analyse, mentions
from compactbio.reporting.errors import error_tables

WORDS = [
    ["Severe", "heart", "failure", "after", "aspirin", "or", "warfarin", "in", "Wilson", "disease"],
    ["No", "rash", ",", "no", "pain"],
    ["Aspirin", "and", "aspirin"],
]
#          Severe heart  failure after aspirin or warfarin in Wilson disease
GOLD = [
    ["O", "B-D", "I-D", "O", "B-C", "O", "B-C", "O", "B-D", "I-D"],
    ["O", "B-D", "O", "O", "B-D"],
    ["B-C", "O", "B-C"],
]
FOUND = [
    ["B-D", "I-D", "I-D", "O", "B-D", "O", "O", "O", "B-C", "O"],
    ["B-D", "O", "O", "O", "B-D"],
    ["B-C", "O", "B-C"],
]
TRAINED = mentions([["ASPIRIN", "for", "pain"], ["wilson", "disease"]], [["B-C", "O", "B-D"], ["B-C", "I-C"]])


def analysis():  # type: ignore[no-untyped-def]
    return analyse(["t1", "t2", "t3"], WORDS, GOLD, FOUND, TRAINED)


def test_mistakes_are_named_by_what_is_wrong() -> None:
    found = [(one.identity, one.kind, one.gold_type, one.predicted_type, one.covered) for one in analysis().mistakes]
    assert found == [
        ("t1", "wrong boundary", "D", "D", "Severe heart failure"),
        ("t1", "wrong type", "C", "D", "aspirin"),
        ("t1", "missed", "C", "", "warfarin"),
        ("t1", "wrong type and boundary", "D", "C", "Wilson disease"),
        ("t2", "spurious", "", "D", "No"),
        ("t2", "missed", "D", "", "rash"),
    ]
    assert analysis().counts()["missed"] == 2


def test_a_mistake_has_its_context_and_says_whether_training_had_the_mention() -> None:
    aspirin = analysis().mistakes[1]
    assert (aspirin.before, aspirin.after) == ("Severe heart failure after", "or warfarin in Wilson disease")
    assert (aspirin.gold, aspirin.predicted) == (Entity(4, 5, "C"), Entity(4, 5, "D"))
    # Wilson disease was trained on under another type, which does not count.
    assert [one.seen for one in analysis().mistakes] == [False, True, False, False, None, False]


def test_groups_add_up_to_the_score() -> None:
    score = score_entities(GOLD, FOUND)
    for groups in (analysis().by_type, analysis().by_length, analysis().by_seen):
        sums = [sum(getattr(group, name) for group in groups) for name in ("correct", "predicted", "gold")]
        assert sums == score.counts.sum(axis=0).tolist()
    for group in analysis().by_type:
        assert group.score("f1") == score.detail[group.name]["f1"]


def test_groups_by_length_and_by_training() -> None:
    assert analysis().by_length == [Group("1", 3, 6, 6), Group("2", 0, 0, 2), Group("3", 0, 1, 0)]
    assert analysis().by_seen == [Group("seen", 3, 3, 4), Group("unseen", 0, 4, 4)]
    long = ["B-D", *["I-D"] * 8]
    assert analyse(["t"], [["w"] * 9], [long], [long], frozenset()).by_length == [Group("5 or more", 1, 1, 1)]


def test_each_entity_is_paired_once_and_with_the_largest_overlap() -> None:
    gold = [["B-D", "I-D", "I-D", "I-D", "O"]]
    found = [["B-D", "B-D", "I-D", "I-D", "O"]]
    mistakes = analyse(["t"], [list("abcde")], gold, found, frozenset()).mistakes
    assert [(one.kind, one.predicted) for one in mistakes] == [
        ("spurious", Entity(0, 1, "D")),
        ("wrong boundary", Entity(1, 4, "D")),
    ]


def test_error_tables() -> None:
    kinds, types, _, seen, examples = error_tables(analysis(), examples=1)
    assert kinds.rows[0] == ("missed", "2", "33.3 %")
    assert types.rows[0] == ("C", "4", "3", "66.7", "50.0", "57.1")
    assert [row[0] for row in seen.rows] == ["seen", "unseen"]
    assert [row[0] for row in examples.rows] == [
        "missed",
        "spurious",
        "wrong type",
        "wrong boundary",
        "wrong type and boundary",
    ]
    assert examples.rows[0][3:] == (
        "unseen",
        "Severe heart failure after aspirin or [warfarin] in Wilson disease",
        "t1",
    )
