"""From text to a token store."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from compactbio.data import counter
from compactbio.data.corpus import Document, corpus_file, documents
from compactbio.data.store import FORMAT_VERSION, Manifest, write_store
from compactbio.spec.base import SpecError
from compactbio.spec.corpus import Corpus

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_DOCUMENTS_A_CALL = 1000


def is_held_out(identity: str, share: float) -> bool:
    """Whether the document or concept belongs to the held-out share: a function of its identity alone."""
    return counter.bucket(identity) < share


def tokenizer_fingerprint(tokenizer: PreTrainedTokenizerBase) -> str:
    """Digest of the vocabulary: equal for tokenizers whose ids mean the same tokens."""
    vocabulary = sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])
    return _digest(json.dumps([vocabulary, tokenizer.all_special_ids]))


def ensure_store(corpus: Corpus, tokenizer: PreTrainedTokenizerBase, folder: Path) -> Path:
    """The store of this corpus, tokenizer and cut under `folder`, built unless it is there already."""
    source = corpus_file(corpus)
    checksum = hashlib.sha256(source.read_bytes()).hexdigest()
    tokens = tokenizer_fingerprint(tokenizer)
    cut = [corpus.format, corpus.max_tokens, corpus.min_tokens, corpus.held_out]
    fingerprint = _digest(json.dumps([FORMAT_VERSION, checksum, tokens, cut]))
    path = folder / f"{source.stem}-{fingerprint}"
    if not (path / "manifest.json").exists():
        splits, counts = _tokenize(corpus, tokenizer)
        manifest = Manifest(
            format_version=FORMAT_VERSION,
            fingerprint=fingerprint,
            tokenizer_fingerprint=tokens,
            source=corpus.text,
            source_sha256=checksum,
            num_rows={split: len(rows) for split, rows in splits.items()},
            num_tokens={split: sum(len(row) for row in rows) for split, rows in splits.items()},
            **counts,
        )
        write_store(path, manifest, splits)
    return path


def _tokenize(
    corpus: Corpus, tokenizer: PreTrainedTokenizerBase
) -> tuple[dict[str, list[NDArray[np.int32]]], dict[str, int]]:
    """Rows by split, and what was counted on the way. Raises SpecError when no row is left to train on."""
    splits: dict[str, list[NDArray[np.int32]]] = {"train": [], "held_out": []}
    counts = {"num_documents": 0, "num_dropped_short": 0, "num_cut": 0}
    for some in _in_batches(documents(corpus)):
        encoded = tokenizer([document.text for document in some], add_special_tokens=True, verbose=False)
        for document, ids in zip(some, encoded["input_ids"], strict=True):
            counts["num_documents"] += 1
            if len(ids) < corpus.min_tokens:
                counts["num_dropped_short"] += 1
                continue
            if len(ids) > corpus.max_tokens:
                counts["num_cut"] += 1
                ids = [*ids[: corpus.max_tokens - 1], ids[-1]]  # the end token stays
            split = "held_out" if is_held_out(document.identity, corpus.held_out) else "train"
            splits[split].append(np.array(ids, dtype=np.int32))
    if not splits["train"]:
        raise SpecError.at(
            "corpus",
            f"no row is left to train on: {counts['num_documents']} documents, "
            f"{counts['num_dropped_short']} of them shorter than min_tokens {corpus.min_tokens}",
        )
    return splits, counts


def _in_batches(stream: Iterator[Document]) -> Iterator[list[Document]]:
    while some := list(islice(stream, _DOCUMENTS_A_CALL)):
        yield some


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
