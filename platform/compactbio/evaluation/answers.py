"""Answers to questions: BioASQ's measures of factoid answers, SQuAD's exact match and F1, and pooling over snippets."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from compactbio.evaluation.score import Score, value

Synonyms = Sequence[Sequence[str]]
"""What counts as an answer to a question, as groups of synonyms."""

NUM_CANDIDATES = 5
"""How many answers a system may give to a factoid question (BioASQ, since its third year)."""
LONGEST_ANSWER = 100
"""Characters; longer ones cannot be handed in to BioASQ."""

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


@dataclass(frozen=True)
class Candidate:
    """A piece of a snippet that a model takes for the answer."""

    text: str
    probability: float


def pool(snippets: Iterable[Sequence[Candidate]]) -> list[str]:
    """The best answers to one question over all of its snippets, as BioBERT has it (protocol `pooled`).

    Answers that differ only in case are one, with the sum of their probabilities and the spelling of the most probable.
    As in BioBERT's code a full stop, comma or space at the end goes, and so do brackets round the whole; answers with
    half a pair of brackets, and those of more than 100 characters, are dropped.
    """
    found = sorted((one for snippet in snippets for one in snippet), key=lambda one: -one.probability)
    spelling: dict[str, str] = {}
    total: Counter[str] = Counter()
    for candidate in found:
        text = _strip(candidate.text)
        if text and len(text) <= LONGEST_ANSWER:
            spelling.setdefault(text.lower(), text)
            total[text.lower()] += candidate.probability  # type: ignore[assignment]
    return [spelling[key] for key, _ in total.most_common(NUM_CANDIDATES)]


def first_snippet(snippets: Sequence[Sequence[Candidate]]) -> list[str]:
    """The best answers from a question's first snippet alone (protocol `first-snippet`)."""
    return pool(snippets[:1])


def score_bioasq(answers: Sequence[Synonyms], candidates: Sequence[Sequence[str]]) -> Score:
    """BioASQ's measures of factoid questions (phase B), from each question's answers and a system's candidates.

    `strict`: the first candidate is right; `lenient`: one of the first five is; `mrr`: the mean of 1 / rank of the
    first right one, 0 where none is. A candidate is right if, lower-cased, it equals a synonym of any group; nothing
    else is normalised (the organisers' Evaluation-Measures, https://github.com/BioASQ/Evaluation-Measures). A question
    without candidates counts as wrong.
    """
    ranks = [_rank(groups, some) for groups, some in zip(answers, candidates, strict=True)]
    reciprocal = np.array([[1 / rank if rank else 0.0, 1.0] for rank in ranks]).reshape(-1, 2)
    strict = np.array([[rank == 1, 1.0] for rank in ranks], dtype=np.float64).reshape(-1, 2)
    lenient = np.array([[rank is not None, 1.0] for rank in ranks], dtype=np.float64).reshape(-1, 2)
    return Score(
        main="mrr",
        values={
            "strict": value(strict, "strict"),
            "lenient": value(lenient, "lenient"),
            "mrr": value(reciprocal, "mrr"),
        },
        counts=reciprocal,
        detail={},
    )


def score_squad(answers: Sequence[Synonyms], predicted: Sequence[str]) -> Score:
    """SQuAD 1.1's exact match and overlap of words (F1), each the best over a question's answers; then the mean."""
    rows = []
    for groups, answer in zip(answers, predicted, strict=True):
        golds = [synonym for group in groups for synonym in group]
        if not golds:
            raise ValueError("a question without gold answers cannot be scored")
        exact = max(float(normalise(answer) == normalise(gold)) for gold in golds)
        rows.append((exact, max(overlap(answer, gold) for gold in golds), 1.0))
    table = np.array(rows, dtype=np.float64).reshape(-1, 3)
    exact_match, f1 = table[:, [0, 2]], table[:, [1, 2]]
    values = {"exact_match": value(exact_match, "exact_match"), "overlap_f1": value(f1, "overlap_f1")}
    return Score(main="overlap_f1", values=values, counts=f1, detail={})


def normalise(text: str) -> str:
    """Lower case, without punctuation, articles and further spaces (Rajpurkar et al. 2016)."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def overlap(predicted: str, gold: str) -> float:
    """F1 of two answers as bags of normalised words, between 0 and 1."""
    words, right = normalise(predicted).split(), normalise(gold).split()
    common = sum((Counter(words) & Counter(right)).values())
    return 2 * common / (len(words) + len(right)) if common else 0.0


def _rank(groups: Synonyms, candidates: Sequence[str]) -> int | None:
    right = {synonym.lower() for group in groups for synonym in group}
    ranks = (rank for rank, text in enumerate(candidates[:NUM_CANDIDATES], start=1) if text.lower() in right)
    return next(ranks, None)


def _strip(text: str) -> str:
    if text and text[-1] in ",. ":
        return text[:-1]
    if len(text) > 2 and text[0] == "(" and text[-1] == ")" and text.count("(") == text.count(")") == 1:
        return text[1:-1]
    return "" if ("(" in text) != (")" in text) else text
