"""Entity scores against seqeval's own, and against a counter written from conlleval's definition."""

from __future__ import annotations

import gzip
import os
import random
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from seqeval.metrics import f1_score
from seqeval.scheme import IOB2

from compactbio.evaluation.entities import Entity, entities, score_entities
from compactbio.evaluation.score import value

Tags = list[list[str]]


def conlleval(gold: Tags, predicted: Tags) -> dict[str, tuple[int, int, int]]:
    """Correct, found and gold chunks of each type, token by token as the conlleval script of CoNLL-2000 has it.

    A chunk ends where the next tag is O or B, or of another type; it starts at B, and at I where the tag before is O
    or of another type. It is correct if gold and predicted chunk start, go on and end together with one type.
    """
    correct: Counter[str] = Counter()
    found: Counter[str] = Counter()
    right: Counter[str] = Counter()
    for gold_tags, predicted_tags in zip(gold, predicted, strict=True):
        together: str | None = None
        before = ("O", "")
        before_found = ("O", "")
        for one, other in zip([*gold_tags, "O"], [*predicted_tags, "O"], strict=True):
            tag, tag_found = split(one), split(other)
            ends, ends_found = end_of_chunk(before, tag), end_of_chunk(before_found, tag_found)
            starts, starts_found = start_of_chunk(before, tag), start_of_chunk(before_found, tag_found)
            if together is not None and (ends or ends_found):
                correct[together] += ends and ends_found
                together = None
            if starts and starts_found and tag[1] == tag_found[1]:
                together = tag[1]
            right[tag[1]] += starts
            found[tag_found[1]] += starts_found
            before, before_found = tag, tag_found
    types = {name for name in right + found if name}
    return {name: (correct[name], found[name], right[name]) for name in types}


def split(tag: str) -> tuple[str, str]:
    prefix, _, name = tag.partition("-")
    return prefix, name


def end_of_chunk(before: tuple[str, str], tag: tuple[str, str]) -> bool:
    return before[0] != "O" and (tag[0] in "OB" or tag[1] != before[1])


def start_of_chunk(before: tuple[str, str], tag: tuple[str, str]) -> bool:
    return tag[0] == "B" or (tag[0] == "I" and (before[0] == "O" or tag[1] != before[1]))


def random_tags(draw: random.Random, length: int) -> list[str]:
    """Valid IOB2: an I- only behind a tag of its type."""
    tags: list[str] = []
    for _ in range(length):
        options = ["O", "B-A", "B-B", "B-Cell-line"]
        if tags and tags[-1] != "O":
            options += [f"I-{tags[-1][2:]}"] * 3
        tags.append(draw.choice(options))
    return tags


def changed(draw: random.Random, tags: list[str]) -> list[str]:
    """Like a model's answer: mostly right, still valid IOB2."""
    start = draw.randrange(len(tags))
    tail = random_tags(draw, len(tags) - start)
    return tags[:start] + tail


def expected(counts: dict[str, tuple[int, int, int]]) -> float:
    correct, found, right = np.sum(list(counts.values()), axis=0)
    return 200 * correct / (found + right)


@pytest.mark.parametrize("seed", range(20))
def test_scores_are_conllevals_on_valid_tags(seed: int) -> None:
    draw = random.Random(seed)
    gold = [random_tags(draw, draw.randint(1, 15)) for _ in range(40)]
    predicted = [changed(draw, tags) for tags in gold]
    counts = conlleval(gold, predicted)
    score = score_entities(gold, predicted)
    assert score.main_value == pytest.approx(expected(counts))
    assert set(score.detail) == set(counts)
    for name, (correct, found, right) in counts.items():
        assert score.detail[name]["f1"] == pytest.approx(200 * correct / (found + right))
        assert score.detail[name]["gold"] == right


@pytest.mark.skipif(not os.environ.get("COMPACTBIO_DATA"), reason="COMPACTBIO_DATA is not set")
@pytest.mark.parametrize("name", ["BC5CDR", "BioNLP13CG"])
def test_scores_are_conllevals_on_real_tags(name: str) -> None:
    gold = read_tags(Path(os.environ["COMPACTBIO_DATA"]) / "ner" / name / "test.tsv.gz")
    # A tagger that misses the last word of every third entity and forgets every fifth.
    predicted = [list(tags) for tags in gold]
    for number, (text, entity) in enumerate((text, one) for text, found in enumerate(entities(gold)) for one in found):
        if number % 5 == 0:
            predicted[text][entity.start : entity.end] = ["O"] * (entity.end - entity.start)
        elif number % 3 == 0 and entity.end - entity.start > 1:
            predicted[text][entity.end - 1] = "O"
    counts = conlleval(gold, predicted)
    score = score_entities(gold, predicted)
    assert score.main_value == pytest.approx(expected(counts))
    assert sum(int(one["gold"]) for one in score.detail.values()) == sum(right for _, _, right in counts.values())
    assert score_entities(gold, gold).main_value == 100


def read_tags(path: Path) -> Tags:
    texts: Tags = [[]]
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        for line in lines:
            if line.strip():
                texts[-1].append(line.rstrip("\n").split("\t")[1])
            else:
                texts.append([])
    return [tags for tags in texts if tags]


def test_stray_tags_are_seqevals_strict_mode() -> None:
    draw = random.Random(0)
    gold, predicted = ([draw.choices(["O", "B-A", "I-A", "B-B", "I-B"], k=12) for _ in range(60)] for _ in range(2))
    strict = 100 * f1_score(gold, predicted, mode="strict", scheme=IOB2)
    assert score_entities(gold, predicted).main_value == pytest.approx(strict)


def test_an_inside_tag_without_a_beginning_is_no_entity() -> None:
    stray = ["O", "I-A", "I-A", "B-A", "I-B"]
    assert entities([stray]) == [{Entity(3, 4, "A")}]
    assert conlleval([stray], [stray]) == {"A": (2, 2, 2), "B": (1, 1, 1)}  # where the two part


def test_counts_by_example_give_the_score_again() -> None:
    score = score_entities([["B-A", "O"], ["B-A", "I-A"], ["O"]], [["B-A", "B-A"], ["B-A", "O"], ["O"]])
    assert score.counts.tolist() == [[1, 2, 1], [0, 1, 1], [0, 0, 0]]
    assert value(score.counts, "f1") == score.main_value == pytest.approx(100 * 2 / 5)
    assert value(score.counts[2:], "f1") == 0.0


def test_tags_that_do_not_match_are_refused() -> None:
    with pytest.raises(ValueError, match="text 1 has 1 gold and 2 predicted tags"):
        score_entities([["O"], ["O"]], [["O"], ["O", "O"]])
