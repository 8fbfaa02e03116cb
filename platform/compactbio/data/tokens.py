"""From text to token ids, with a tokenizer that is only a file: workers need no transformers."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from compactbio.spec.base import SpecError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Tokens = NDArray[np.uint16] | NDArray[np.uint32]

_PROBE = "a"


def fingerprint(tokenizer: PreTrainedTokenizerBase) -> str:
    """Digest of the vocabulary: equal for tokenizers whose ids mean the same tokens."""
    vocabulary = sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])
    return digest(json.dumps([vocabulary, sorted(tokenizer.all_special_ids)]))


def encoding_digest(tokenizer: PreTrainedTokenizerBase) -> str:
    """Digest of all that the tokenizer does to text.

    Raises SpecError for one that is not backed by the tokenizers library.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise SpecError.at("corpus.tokenizer", "it has no tokenizer.json; use the fast version of this tokenizer")
    return digest(_plain(Tokenizer.from_str(backend.to_str())).to_str())


def digest(text: str) -> str:
    """Sixteen hex digits that change with the text."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Encoder:
    """Texts to ids, and the special tokens round a row."""

    tokenizer: Tokenizer
    prefix: tuple[int, ...]
    suffix: tuple[int, ...]

    @property
    def num_special(self) -> int:
        """Special tokens of a row."""
        return len(self.prefix) + len(self.suffix)

    @property
    def dtype(self) -> type[np.unsignedinteger]:
        """The smallest type that holds every id."""
        return np.uint16 if self.tokenizer.get_vocab_size() <= 2**16 else np.uint32

    def encode(self, texts: list[str]) -> list[Tokens]:
        """The ids of each text, without special tokens."""
        encodings = self.tokenizer.encode_batch_fast(texts, add_special_tokens=False)
        return [np.array(encoding.ids, dtype=self.dtype) for encoding in encodings]


@lru_cache(maxsize=2)
def load_encoder(folder: str) -> Encoder:
    """The encoder of a tokenizer that was saved to `folder`."""
    tokenizer = _plain(Tokenizer.from_file(str(Path(folder) / "tokenizer.json")))
    inner = tokenizer.encode(_PROBE, add_special_tokens=False).ids
    outer = tokenizer.encode(_PROBE).ids
    begin = next(at for at in range(len(outer)) if outer[at : at + len(inner)] == inner)
    return Encoder(tokenizer, tuple(outer[:begin]), tuple(outer[begin + len(inner) :]))


def _plain(tokenizer: Tokenizer) -> Tokenizer:
    """Without the cutting and padding that a checkpoint may have been saved with."""
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer
