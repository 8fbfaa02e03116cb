"""One shard of a token store: the rows of the documents that stay, of some pieces that follow each other."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from compactbio.data.piece import DOCUMENTS, ORDER_BITS, BuildTask, token_lists
from compactbio.data.segments import pack, truncate
from compactbio.data.store import HISTOGRAM_BIN, SPLITS, shard_file
from compactbio.data.tokens import Tokens
from compactbio.data.whole import whole_folder

SUMMARY = "shard.json"

_ROWS_A_BATCH = 16_384


@dataclass(frozen=True)
class ShardRequest:
    """A shard: its number, its pieces, and where the places of the documents that stay are."""

    number: int
    pieces: range
    kept: tuple[Path, ...]


@dataclass
class ShardCounts:
    """What came of a shard."""

    rows: Counter[str] = field(default_factory=Counter)
    tokens: Counter[str] = field(default_factory=Counter)
    histogram: Counter[int] = field(default_factory=Counter)
    """Rows by length, in bins of HISTOGRAM_BIN tokens."""

    cut: int = 0
    short: int = 0
    """Rows that were dropped, being shorter than `min_tokens`."""

    sha256: str = ""


def shard_folder(task: BuildTask, number: int) -> Path:
    """Where a shard's files are until the store is finished."""
    return task.folder / "shards" / f"{number:05}"


def build_shard(task: BuildTask, request: ShardRequest) -> None:
    """Writes the rows of a shard, by split."""
    counts, checksum = ShardCounts(), hashlib.sha256()
    with whole_folder(shard_folder(task, request.number)) as folder:
        for split in SPLITS:
            writer = _RowWriter(folder / shard_file(split, request.number), task.encoder().dtype)
            documents = _documents(task, request, held_out=split == "held_out")
            for row, cut in _rows(task)(documents):
                if len(row) < task.corpus.min_tokens:
                    counts.short += 1
                    continue
                writer.add(row)
                counts.cut += cut
                counts.rows[split] += 1
                counts.tokens[split] += len(row)
                counts.histogram[(len(row) - 1) // HISTOGRAM_BIN] += 1
            checksum.update(writer.close())
        counts.sha256 = checksum.hexdigest()
        (folder / SUMMARY).write_text(json.dumps(vars(counts)))


def read_counts(folder: Path) -> ShardCounts:
    """The counts of a finished shard."""
    values = json.loads((folder / SUMMARY).read_text())
    histogram = Counter({int(bin_): count for bin_, count in values.pop("histogram").items()})
    return ShardCounts(Counter(values.pop("rows")), Counter(values.pop("tokens")), histogram, **values)


def _rows(task: BuildTask) -> Callable[[Iterator[list[Tokens]]], Iterator[tuple[Tokens, bool]]]:
    cut = truncate if task.corpus.segmentation == "truncate" else pack
    return partial(cut, encoder=task.encoder(), max_tokens=task.corpus.max_tokens)


def _documents(task: BuildTask, request: ShardRequest, *, held_out: bool) -> Iterator[list[Tokens]]:
    """The documents of a split that stay, as the ids of their segments."""
    for number in request.pieces:
        kept = _kept_in(number, request.kept)
        with pa.memory_map(str(task.piece_folder(number) / DOCUMENTS)) as source, pa.ipc.open_file(source) as file:
            for index in range(file.num_record_batches):
                batch = file.get_batch(index)
                wanted = np.isin(batch["number"].to_numpy(), kept)
                wanted &= batch["held_out"].to_numpy(zero_copy_only=False) == held_out
                yield from _segments(batch["tokens"], np.flatnonzero(wanted))


def _segments(documents: pa.ListArray, wanted: NDArray[np.int64]) -> Iterator[list[Tokens]]:
    outer = documents.offsets.to_numpy()
    inner = documents.values.offsets.to_numpy()
    values = documents.values.values.to_numpy()
    for at in wanted:
        bounds = inner[outer[at] : outer[at + 1] + 1]
        yield [values[start:stop] for start, stop in itertools.pairwise(bounds)]


def _kept_in(piece: int, paths: tuple[Path, ...]) -> NDArray[np.uint64]:
    """Numbers, in the piece, of the records that stay."""
    first, last = np.uint64(piece << ORDER_BITS), np.uint64(((piece + 1) << ORDER_BITS) - 1)
    found = []
    for path in paths:
        orders = np.load(path, mmap_mode="r")
        start, stop = np.searchsorted(orders, first), np.searchsorted(orders, last, side="right")
        found.append(np.array(orders[start:stop]) - first)
    return np.concatenate(found)


class _RowWriter:
    """Rows into an Arrow file, a batch at a time."""

    def __init__(self, path: Path, dtype: type[np.unsignedinteger]) -> None:
        self._schema = pa.schema([("tokens", pa.list_(pa.from_numpy_dtype(dtype)))])
        self._sink = pa.OSFile(str(path), "wb")
        self._file = pa.ipc.new_file(self._sink, self._schema)
        self._checksum = hashlib.sha256()
        self._rows: list[Tokens] = []

    def add(self, row: Tokens) -> None:
        self._rows.append(row)
        if len(self._rows) == _ROWS_A_BATCH:
            self._flush()

    def close(self) -> bytes:
        """Ends the file. Returns a digest of its rows."""
        self._flush()
        self._file.close()
        self._sink.close()
        return self._checksum.digest()

    def _flush(self) -> None:
        if not self._rows:
            return
        rows = token_lists(self._rows)
        self._checksum.update(rows.offsets.to_numpy().tobytes())
        self._checksum.update(rows.values.to_numpy().tobytes())
        self._file.write_batch(pa.record_batch([rows], schema=self._schema))
        self._rows = []
