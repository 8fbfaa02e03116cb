"""Texts and pairs of texts with labels, one row each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from compactbio.data.task_rows import Row, TaskRows

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from compactbio.data.examples import ClassifiedText, LabelledText

SEGMENTS = "token_type_ids"


def encode_labelled(
    examples: Sequence[LabelledText], num_labels: int, tokenizer: PreTrainedTokenizerBase, max_tokens: int
) -> TaskRows:
    """A 0/1 vector of labels for each text. Longer texts are cut, and counted."""
    labels = [[float(label in example.labels) for label in range(num_labels)] for example in examples]
    return _encode([example.text for example in examples], None, labels, tokenizer, max_tokens)


def encode_classified(
    examples: Sequence[ClassifiedText], tokenizer: PreTrainedTokenizerBase, max_tokens: int
) -> TaskRows:
    """One class for each text or pair of texts; of a pair the longer text is cut first. The markers of entities are
    plain text, as in the published code: the tokenizer splits them as it splits anything."""
    texts = [example.text for example in examples]
    pairs = [example.pair for example in examples if example.pair is not None]
    assert len(pairs) in (0, len(texts)), "a task has pairs of texts or single ones"
    return _encode(texts, pairs or None, [[example.label] for example in examples], tokenizer, max_tokens)


def _encode(
    texts: list[str],
    pairs: list[str] | None,
    labels: Sequence[list[int] | list[float]],
    tokenizer: PreTrainedTokenizerBase,
    max_tokens: int,
) -> TaskRows:
    if not texts:
        return TaskRows([], num_cut=0)
    encoded = tokenizer(texts, pairs, truncation=True, max_length=max_tokens, verbose=False)
    segments = encoded.get(SEGMENTS) or [None] * len(texts)
    rows = [
        Row(index, ids, [0], labels[index], segments[index] if pairs else None)
        for index, ids in enumerate(encoded["input_ids"])
    ]
    return TaskRows(rows, num_cut=sum(bool(one.overflowing) for one in encoded.encodings))
