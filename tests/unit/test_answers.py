"""BioASQ's and SQuAD's measures by hand, and the pooling of candidates over snippets."""

from __future__ import annotations

import pytest

from compactbio.evaluation.answers import (
    Candidate,
    first_snippet,
    normalise,
    overlap,
    pool,
    score_bioasq,
    score_squad,
)
from compactbio.evaluation.score import value

ANSWERS = [[["Transthyretin", "TTR"]], [["p53"], ["TP53", "tumor protein 53"]], [["beta-cells"]], [["7"]]]


def test_bioasq_by_hand() -> None:
    candidates = [["ttr", "albumin"], ["BRCA1", "p63", "Tumor Protein 53"], ["beta cells"], list("123457")]
    score = score_bioasq(ANSWERS, candidates)
    assert score.values["strict"] == 25  # question 1
    assert score.values["lenient"] == 50  # questions 1 and 2; 3 differs by a hyphen, 4 is right on rank 6
    assert score.values["mrr"] == pytest.approx(100 * (1 + 1 / 3) / 4)
    assert value(score.counts, "mrr") == score.main_value


def test_a_question_without_candidates_is_wrong() -> None:
    assert score_bioasq(ANSWERS[:2], [[], ["p53"]]).values == {"strict": 50, "lenient": 50, "mrr": 50}


def test_pooling_sums_equal_answers_over_snippets() -> None:
    snippets = [
        [Candidate("Dystrophin", 0.5), Candidate("utrophin", 0.4)],
        [Candidate("Utrophin", 0.3), Candidate("a" * 101, 0.7)],
    ]
    assert pool(snippets) == ["utrophin", "Dystrophin"]
    assert first_snippet(snippets) == ["Dystrophin", "utrophin"]
    assert pool([[Candidate(str(n), 1 / (n + 1)) for n in range(9)]]) == list("01234")


def test_pooling_mends_ends_and_brackets_as_bioberts_code_does() -> None:
    texts = ["TTR.", "(TTR)", "TTR (gene", "(a) (b)", "ttr", " "]
    assert pool([[Candidate(text, 0.5) for text in texts]]) == ["TTR", "(a) (b)"]


def test_squad_normalises_case_articles_punctuation_and_spaces() -> None:
    assert normalise("The  Beta-cell, of an islet.") == "betacell of islet"


def test_squad_takes_the_best_of_the_gold_answers() -> None:
    score = score_squad([[["the heart", "left ventricle"]], [["ten days"]]], ["Heart", "ten of the fourteen days"])
    assert score.values["exact_match"] == 50
    assert score.values["overlap_f1"] == pytest.approx(100 * (1 + 2 * 2 / (4 + 2)) / 2)
    assert value(score.counts, "overlap_f1") == score.main_value
    assert overlap("kidney", "heart") == 0


def test_a_question_without_gold_answers_is_refused() -> None:
    with pytest.raises(ValueError, match="without gold answers"):
        score_squad([[]], ["x"])
