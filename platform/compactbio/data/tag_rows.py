"""Sentences with a tag for each word, as windows of tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np

from compactbio.data.task_rows import Row, TaskRows

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from compactbio.data.examples import TaggedText

Protocol = Literal["word", "subword"]


def encode_tagged(
    examples: Sequence[TaggedText],
    tags: Sequence[str],
    tokenizer: PreTrainedTokenizerBase,
    max_tokens: int,
    protocol: Protocol,
) -> TaskRows:
    """Under protocol `word` the first sub-word carries the word's tag, under `subword` every sub-word has it.

    Long sentences become several windows of whole words, so every word has a position; of a word longer than a window
    the first sub-words stand for it. A word that the tokenizer has no piece for is seen as the unknown token.
    """
    tag_ids = {tag: index for index, tag in enumerate(tags)}
    pieces = word_pieces([example.words for example in examples], tokenizer)
    rows = []
    for index, (example, words) in enumerate(zip(examples, pieces, strict=True)):
        labels = [tag_ids[tag] for tag in example.tags]
        for first, last in _windows([len(word) for word in words], max_tokens - 2):
            rows.append(_row(index, words[first:last], labels[first:last], tokenizer, max_tokens - 2, protocol))
    return TaskRows(rows, num_cut=0)


def word_pieces(sentences: Sequence[Sequence[str]], tokenizer: PreTrainedTokenizerBase) -> list[list[list[int]]]:
    """For each word of each sentence its sub-words, as they are in the running text of the sentence."""
    texts = [" ".join(words) for words in sentences]
    if not texts:
        return []
    encoded = tokenizer(texts, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    found = []
    for words, ids, offsets in zip(sentences, encoded["input_ids"], encoded["offset_mapping"], strict=True):
        pieces: list[list[int]] = [[] for _ in words]
        for id_, word in zip(ids, _words_of(offsets, words), strict=True):
            pieces[word].append(id_)
        found.append([word or [tokenizer.unk_token_id] for word in pieces])
    return found


def _words_of(offsets: Sequence[tuple[int, int]], words: Sequence[str]) -> list[int]:
    """The word that each token belongs to: the one that its last character is in, or comes before."""
    if not offsets:
        return []
    spaces = np.cumsum([len(word) + 1 for word in words]) - 1  # where the space behind each word is
    last = np.array([max(start, end - 1) for start, end in offsets])
    found: list[int] = np.minimum(np.searchsorted(spaces, last, side="right"), len(words) - 1).tolist()
    return found


def _windows(lengths: Sequence[int], room: int) -> list[tuple[int, int]]:
    """Ranges of words that fit into a window each."""
    ranges = []
    first, used = 0, 0
    for word, length in enumerate(lengths):
        length = min(length, room)
        if used + length > room:
            ranges.append((first, word))
            first, used = word, 0
        used += length
    return [*ranges, (first, len(lengths))]


def _row(
    example: int,
    words: Sequence[list[int]],
    labels: Sequence[int],
    tokenizer: PreTrainedTokenizerBase,
    room: int,
    protocol: Protocol,
) -> Row:
    ids: list[int] = []
    positions: list[int] = []
    carried: list[int] = []
    for pieces, label in zip(words, labels, strict=True):
        pieces = pieces[:room]
        labelled = pieces if protocol == "subword" else pieces[:1]
        positions += range(len(ids) + 1, len(ids) + 1 + len(labelled))
        carried += [label] * len(labelled)
        ids += pieces
    return Row(example, [tokenizer.cls_token_id, *ids, tokenizer.sep_token_id], positions, carried)


def join_windows(rows: Sequence[Row], values: Sequence[Sequence[int]], num_examples: int) -> list[list[int]]:
    """The values of each row's positions, by example."""
    joined: list[list[int]] = [[] for _ in range(num_examples)]
    for row, some in zip(rows, values, strict=True):
        joined[row.example] += some
    return joined
