"""One piece of a corpus: its records read, encoded, and put on disk with what decides which of them stay."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from compactbio.data import counter
from compactbio.data.corpus import records
from compactbio.data.files import Part, Piece
from compactbio.data.records import Bad, Deletion, Document, Record
from compactbio.data.segments import segments_of
from compactbio.data.tokens import Encoder, Tokens, load_encoder
from compactbio.data.whole import save_array, whole_folder
from compactbio.data.winners import DELETION, DOCUMENT, EMPTY, EVENT
from compactbio.spec.base import SpecError
from compactbio.spec.corpus import Corpus
from compactbio.spec.job import STORE_TOKENIZER

DOCUMENTS, INDEX, BAD, SUMMARY = "documents.arrow", "index.npy", "bad.jsonl", "piece.json"
ORDER_BITS = 32
"""A record's place in the corpus is its piece's number, shifted by so many bits, plus its number in the piece."""

_CHARS_A_BATCH = 2**20
_DOCUMENTS_A_BATCH = 2048


@dataclass(frozen=True)
class BuildTask:
    """What every task of a build is told."""

    corpus: Corpus
    folder: Path
    """Where the build keeps what is not finished."""

    def encoder(self) -> Encoder:
        """The tokenizer of the build."""
        return load_encoder(str(self.folder / STORE_TOKENIZER))

    def piece_folder(self, number: int) -> Path:
        """Where a piece's files are."""
        return self.folder / "pieces" / f"{number:05}"


def build_piece(task: BuildTask, piece: Piece) -> dict[str, int]:
    """Reads and encodes a piece. Returns how many documents and bad records it has.

    Raises SpecError when there are more bad records than the corpus may have.
    """
    with whole_folder(task.piece_folder(piece.number)) as folder:
        with (folder / BAD).open("w", encoding="utf-8") as bad_file:
            writer = _Writer(folder, task.corpus, task.encoder(), piece.number, bad_file)
            for part in piece.parts:
                for record in records(task.corpus, part):
                    writer.add(record, part)
            writer.close()
        (folder / SUMMARY).write_text(json.dumps(writer.counts))
    return writer.counts


def documents_schema(dtype: type[np.unsignedinteger]) -> pa.Schema:
    """A document: its number in the piece, whether it is held out, the ids of each of its segments."""
    tokens = pa.list_(pa.list_(pa.from_numpy_dtype(dtype)))
    return pa.schema([("number", pa.uint32()), ("held_out", pa.bool_()), ("tokens", tokens)])


class _Writer:
    """Takes records one by one and writes them in batches."""

    def __init__(self, folder: Path, corpus: Corpus, encoder: Encoder, piece: int, bad_file: TextIO) -> None:
        self.counts = {"documents": 0, "bad": 0}
        self._corpus = corpus
        self._encoder = encoder
        self._first = piece << ORDER_BITS
        self._schema = documents_schema(encoder.dtype)
        self._bad_file = bad_file
        self._folder = folder
        self._sink = pa.OSFile(str(folder / DOCUMENTS), "wb")
        self._file = pa.ipc.new_file(self._sink, self._schema)
        self._number = 0
        self._documents: list[tuple[int, Document]] = []
        self._chars = 0
        self._events: list[tuple[int, ...]] = []
        self._index: list[NDArray[np.void]] = []

    def add(self, record: Record, part: Part) -> None:
        match record:
            case Bad():
                self._bad(record, part)
                return
            case Deletion():
                self._event(DELETION, record.identity, record.version, "")
            case Document():
                self.counts["documents"] += 1
                self._event(DOCUMENT if record.text else EMPTY, record.identity, record.version, record.text)
                if record.text:
                    self._documents.append((self._number, record))
                    self._chars += len(record.text)
        self._number += 1
        if self._chars >= _CHARS_A_BATCH or len(self._events) >= _DOCUMENTS_A_BATCH:
            self._flush()

    def close(self) -> None:
        self._flush()
        self._file.close()
        self._sink.close()
        index = np.concatenate([np.empty(0, EVENT), *self._index])
        save_array(self._folder / INDEX, index[np.argsort(index["id_high"], kind="stable")])

    def _bad(self, bad: Bad, part: Part) -> None:
        self.counts["bad"] += 1
        entry: dict[str, Any] = {"file": part.path, "place": bad.place, "reason": bad.reason}
        self._bad_file.write(json.dumps(entry) + "\n")
        if self.counts["bad"] > self._corpus.max_bad_records:
            raise too_many_bad(self._corpus, f"{part.path}: {bad.place}: {bad.reason}")

    def _event(self, kind: int, identity: str, version: int | None, text: str) -> None:
        order = self._first + self._number
        # A document that has no versions is nobody's version: its identity here is its place.
        identified = (
            (int(counter.mix(np.array(order, dtype=np.uint64))), order) if version is None else _digest(identity)
        )
        self._events.append((*identified, *_digest(text), order, version or 0, kind))

    def _flush(self) -> None:
        self._index.append(np.array(self._events, dtype=EVENT))
        if self._documents:
            self._file.write_batch(self._batch())
        self._documents, self._events, self._chars = [], [], 0

    def _batch(self) -> pa.RecordBatch:
        segments = [segments_of(document.text, self._corpus) for _, document in self._documents]
        encoded = self._encoder.encode([segment for some in segments for segment in some])
        if self._corpus.segmentation == "truncate":  # the rest is never read; one more than a row says that it was cut
            encoded = [tokens[: self._corpus.max_tokens + 1] for tokens in encoded]
        numbers = np.array([number for number, _ in self._documents], dtype=np.uint32)
        held_out = [counter.is_held_out(document.identity, self._corpus.held_out) for _, document in self._documents]
        tokens = pa.ListArray.from_arrays(_offsets([len(some) for some in segments]), token_lists(encoded))
        return pa.record_batch([pa.array(numbers), pa.array(held_out), tokens], schema=self._schema)


def token_lists(rows: list[Tokens]) -> pa.ListArray:
    """Rows of ids as an Arrow array."""
    return pa.ListArray.from_arrays(_offsets([len(row) for row in rows]), pa.array(np.concatenate(rows)))


def too_many_bad(corpus: Corpus, last: str) -> SpecError:
    """The error that stops a build."""
    return SpecError.at(
        "corpus.max_bad_records",
        f"more than {corpus.max_bad_records} bad records; the last is {last}. Mend the files, or allow more; "
        "what is finished is kept",
    )


def _offsets(lengths: list[int]) -> pa.Array:
    return pa.array(np.cumsum([0, *lengths], dtype=np.int32))


def _digest(text: str) -> tuple[int, int]:
    digest = hashlib.blake2b(text.encode(), digest_size=16).digest()
    return int.from_bytes(digest[:8], "little"), int.from_bytes(digest[8:], "little")
