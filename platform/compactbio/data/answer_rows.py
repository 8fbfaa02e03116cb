"""Questions on passages as overlapping windows, and the answers that a model's logits say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from compactbio.data import counter
from compactbio.data.task_rows import Row, TaskRows
from compactbio.data.text_rows import SEGMENTS

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from compactbio.data.examples import Passage, Question

MAX_QUESTION_TOKENS = 64  # this and the next two as in BERT's run_squad.py, which BioBERT's QA took over
MAX_ANSWER_TOKENS = 30
NUM_CANDIDATES = 20
_NO_ANSWER = [0, 0]
"""First and last position of the answer in a window that has none: the first token, which no answer covers."""

Logits = NDArray[np.float32]


@dataclass(frozen=True)
class AnswerSpan:
    """A possible answer: its characters in the passage, and its share of the passage's best candidates."""

    start: int
    end: int
    text: str
    probability: float


def encode_questions(
    questions: Sequence[Question],
    tokenizer: PreTrainedTokenizerBase,
    max_tokens: int,
    stride: int,
    *,
    max_empty: int | None = None,
    seed: int = 0,
) -> TaskRows:
    """Windows of the passages, each behind its question; neighbours share `stride` tokens.

    A row's example counts passages through all questions. Its positions are those of the passage's tokens. Of the
    windows of a question that hold no answer at most `max_empty` are kept, drawn by `seed`; all when left out.
    """
    rows: list[Row] = []
    passage_number = num_cut = 0
    for number, question in enumerate(questions):
        text, cut = _shortened(question.question, tokenizer)
        num_cut += cut
        windows: list[Row] = []
        for passage in question.passages:
            windows += _windows(text, passage, passage_number, tokenizer, max_tokens, stride)
            passage_number += 1
        rows += windows if max_empty is None else _without_most_empty(windows, max_empty, seed, number)
    return TaskRows(rows, num_cut)


def _shortened(question: str, tokenizer: PreTrainedTokenizerBase) -> tuple[str, bool]:
    encoded = tokenizer(question, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    offsets = encoded["offset_mapping"]
    if len(offsets) <= MAX_QUESTION_TOKENS:
        return question, False
    return question[: offsets[MAX_QUESTION_TOKENS - 1][1]], True


def _windows(
    question: str, passage: Passage, number: int, tokenizer: PreTrainedTokenizerBase, max_tokens: int, stride: int
) -> list[Row]:
    used = len(tokenizer(question, "", verbose=False)["input_ids"])
    encoded = tokenizer(
        question,
        passage.text,
        truncation="only_second",
        max_length=max_tokens,
        stride=min(stride, (max_tokens - used) // 2),
        return_overflowing_tokens=True,
        return_offsets_mapping=True,
        verbose=False,
    )
    return [_window(encoded, window, passage, number) for window in range(len(encoded["input_ids"]))]


def _window(encoded: Any, window: int, passage: Passage, number: int) -> Row:
    positions = [index for index, part in enumerate(encoded.sequence_ids(window)) if part == 1]
    offsets = tuple(encoded["offset_mapping"][window][position] for position in positions)
    return Row(
        number,
        encoded["input_ids"][window],
        positions,
        _answer_positions(passage, positions, offsets),
        encoded[SEGMENTS][window] if SEGMENTS in encoded else None,
        offsets,
    )


def _answer_positions(passage: Passage, positions: Sequence[int], offsets: Sequence[tuple[int, int]]) -> list[int]:
    """First and last position of the first gold answer that lies whole in the window."""
    for start, text in passage.spans:
        end = start + len(text)
        inside = [index for index, (left, right) in enumerate(offsets) if left < end and right > start]
        if inside and offsets[inside[0]][0] <= start and offsets[inside[-1]][1] >= end:
            return [positions[inside[0]], positions[inside[-1]]]
    return _NO_ANSWER


def _without_most_empty(windows: list[Row], most: int, seed: int, question: int) -> list[Row]:
    empty = [index for index, row in enumerate(windows) if row.labels == _NO_ANSWER]
    draws = counter.at(seed, question, np.array(empty, dtype=np.uint64))
    dropped = {empty[place] for place in np.argsort(draws, kind="stable")[most:]}
    return [row for index, row in enumerate(windows) if index not in dropped]


def find_answers(passage: str, windows: Sequence[Row], logits: Sequence[Logits]) -> list[AnswerSpan]:
    """The best candidates of a passage, best first; logits [positions, 2] of each of its windows, start and end.

    A candidate's probability is the softmax of the sums of its two logits over the candidates that are kept.
    """
    scores: dict[tuple[int, int], float] = {}
    for row, pairs in zip(windows, logits, strict=True):
        for first, last, score in _best_spans(pairs):
            span = (row.offsets[first][0], row.offsets[last][1])
            scores[span] = max(score, scores.get(span, -np.inf))
    best = sorted(scores.items(), key=lambda item: (-item[1], item[0]))[:NUM_CANDIDATES]
    if not best:
        return []
    weights = np.exp(np.array([score for _, score in best]) - best[0][1])
    shares = weights / weights.sum()
    return [
        AnswerSpan(start, end, passage[start:end], float(share))
        for ((start, end), _), share in zip(best, shares, strict=True)
    ]


def _best_spans(logits: Logits) -> list[tuple[int, int, float]]:
    starts, ends = (np.argsort(-logits[:, side], kind="stable")[:NUM_CANDIDATES].tolist() for side in (0, 1))
    return [
        (first, last, float(logits[first, 0] + logits[last, 1]))
        for first in starts
        for last in ends
        if first <= last < first + MAX_ANSWER_TOKENS
    ]
