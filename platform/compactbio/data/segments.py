"""How documents become rows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
from sentencex import segment

from compactbio.data.tokens import Encoder, Tokens
from compactbio.spec.corpus import Corpus


def segments_of(text: str, corpus: Corpus) -> list[str]:
    """What is encoded by itself: the whole document where rows are cut, its sentences where they are packed."""
    if corpus.segmentation == "truncate":
        return [text.replace("\n", " ")]
    sentences = (sentence.strip() for paragraph in text.split("\n") for sentence in segment("en", paragraph))
    return [sentence if at == 0 else f" {sentence}" for at, sentence in enumerate(filter(None, sentences))]


def truncate(documents: Iterable[list[Tokens]], encoder: Encoder, max_tokens: int) -> Iterator[tuple[Tokens, bool]]:
    """One row a document, and whether it was cut."""
    room = max_tokens - encoder.num_special
    for [tokens] in documents:
        yield _row([tokens[:room]], encoder), len(tokens) > room


def pack(documents: Iterable[list[Tokens]], encoder: Encoder, max_tokens: int) -> Iterator[tuple[Tokens, bool]]:
    """Full sentences up to `max_tokens`, over the borders of documents, with a separator between these.

    As FULL-SENTENCES of Liu et al. 2019. A sentence that is longer than a row is cut into rows. The second value
    of a row says whether it holds a part of such a sentence.
    """
    room = max_tokens - encoder.num_special
    separator = np.array(encoder.suffix[-1:], dtype=encoder.dtype)
    waiting: list[Tokens] = []
    length, cut = 0, False
    for document in documents:
        if waiting and length + len(separator) < room:
            waiting.append(separator)
            length += len(separator)
        for sentence in document:
            for start in range(0, len(sentence), room):
                some = sentence[start : start + room]
                if length + len(some) > room:
                    yield _row(_without_separator(waiting, separator), encoder), cut
                    waiting, length, cut = [], 0, False
                waiting.append(some)
                length += len(some)
                cut = cut or len(sentence) > room
    if waiting:
        yield _row(waiting, encoder), cut


def _without_separator(waiting: list[Tokens], separator: Tokens) -> list[Tokens]:
    return waiting[:-1] if waiting[-1] is separator else waiting


def _row(parts: list[Tokens], encoder: Encoder) -> Tokens:
    return np.concatenate([np.array(encoder.prefix, encoder.dtype), *parts, np.array(encoder.suffix, encoder.dtype)])
