"""The token store: rows of token ids in memory-mapped Arrow files, with a manifest."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from compactbio.spec.base import SpecError

FORMAT_VERSION = 2
SPLITS = ("train", "held_out")
HISTOGRAM_BIN = 32
MANIFEST, SOURCES, BAD_RECORDS = "manifest.json", "sources.jsonl", "bad_records.jsonl"


@dataclass(frozen=True)
class Manifest:
    """What a store was made from, and what is in it.

    Its files with their checksums are listed in `sources.jsonl` beside it, its bad records in `bad_records.jsonl`.
    """

    format_version: int
    fingerprint: str
    """Digest of the sources' bytes, the tokenizer and the cut: equal fingerprints, equal rows."""

    rows_sha256: str
    """Digest of the rows themselves."""

    tokenizer_fingerprint: str
    sources: list[str]
    num_files: int
    num_bytes: int
    segmentation: str
    max_tokens: int
    num_documents: int
    """Documents that were read; each is in the rows or counted in `dropped`, but for rows below `min_tokens`."""

    dropped: dict[str, int]
    """Reason to documents: superseded, deleted, empty, duplicate; `short` counts rows."""

    num_bad: int
    num_cut: int
    """Rows whose document (packed: a sentence) was longer than `max_tokens`."""

    num_rows: dict[str, int]
    num_tokens: dict[str, int]
    length_histogram: list[int]
    """Rows by length, in bins of 32 tokens: 1 to 32, 33 to 64 and so on."""

    num_shards: int


class TokenStore:
    """Random access by row to a store on disk; the rows stay in the page cache, not in the process."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.manifest = read_manifest(path)
        self._splits = {split: self._open(split) for split in SPLITS}

    def _open(self, split: str) -> _Rows:
        files = [self.path / shard_file(split, number) for number in range(self.manifest.num_shards)]
        try:
            rows = _Rows(files)
        except (OSError, pa.ArrowInvalid) as error:
            raise SpecError.at("store", f"the token store {self.path} is damaged: {error}; build it again") from None
        if len(rows) != self.manifest.num_rows[split]:
            raise SpecError.at(
                "store",
                f"the token store {self.path} is damaged: {len(rows)} rows in {split}, the manifest says "
                f"{self.manifest.num_rows[split]}; build it again",
            )
        return rows

    def num_rows(self, split: str = "train") -> int:
        """Rows in a split."""
        return len(self._splits[split])

    def lengths(self, rows: NDArray[np.int64], split: str = "train") -> NDArray[np.int64]:
        """Tokens in each of the rows."""
        return self._splits[split].lengths(rows)

    def token_counts(self, vocabulary_size: int) -> NDArray[np.int64]:
        """How often each token stands in the training rows [V]."""
        return self._splits["train"].token_counts(vocabulary_size)

    def padded(self, rows: NDArray[np.int64], pad_id: int, split: str = "train") -> NDArray[np.int64]:
        """The rows [B, T] as int64, padded on the right to the longest of them."""
        return self._splits[split].padded(rows, pad_id)


class _Rows:
    """Arrow files of `list<uint>`, read in place as one."""

    def __init__(self, paths: list[Path]) -> None:
        files = [pa.ipc.open_file(pa.memory_map(str(path))).read_all().column("tokens") for path in paths]
        chunks = [chunk for file in files for chunk in file.chunks]
        self._values = [chunk.values.to_numpy(zero_copy_only=True) for chunk in chunks]
        self._offsets = [chunk.offsets.to_numpy(zero_copy_only=True) for chunk in chunks]
        self._starts = np.cumsum([0, *(len(chunk) for chunk in chunks)])

    def __len__(self) -> int:
        return int(self._starts[-1])

    def _places(self, rows: NDArray[np.int64]) -> list[tuple[int, int, int]]:
        """For each row its chunk, and where in it the row starts and stops."""
        if len(rows) and not (rows.min() >= 0 and rows.max() < len(self)):
            raise IndexError(f"row {rows.max() if rows.min() >= 0 else rows.min()} of {len(self)}")
        chunks = np.searchsorted(self._starts, rows, side="right") - 1
        inside = rows - self._starts[chunks]
        pairs = zip(chunks.tolist(), inside.tolist(), strict=True)
        return [(chunk, int(self._offsets[chunk][at]), int(self._offsets[chunk][at + 1])) for chunk, at in pairs]

    def lengths(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        return np.array([end - start for _, start, end in self._places(rows)], dtype=np.int64)

    def token_counts(self, vocabulary_size: int) -> NDArray[np.int64]:
        counts = np.zeros(vocabulary_size, dtype=np.int64)
        for values in self._values:
            counts += np.bincount(values, minlength=vocabulary_size)
        return counts

    def padded(self, rows: NDArray[np.int64], pad_id: int) -> NDArray[np.int64]:
        places = self._places(rows)
        width = max((end - start for _, start, end in places), default=0)
        out = np.full((len(places), width), pad_id, dtype=np.int64)
        for line, (chunk, start, end) in zip(out, places, strict=True):
            line[: end - start] = self._values[chunk][start:end]
        return out


def shard_file(split: str, number: int) -> str:
    """The name of a shard's file in a store."""
    return f"{split}-{number:05}.arrow"


def read_manifest(path: Path) -> Manifest:
    """The manifest of the store at `path`. Raises SpecError where there is none that this version reads."""
    try:
        values = json.loads((path / MANIFEST).read_text())
    except (OSError, ValueError):
        raise SpecError.at("store", f"{path} is no token store: no {MANIFEST} in it that can be read") from None
    if values.get("format_version") != FORMAT_VERSION:
        raise SpecError.at(
            "store",
            f"{path} is a token store of format {values.get('format_version')}, this version reads {FORMAT_VERSION}; "
            "build it again",
        )
    return Manifest(**values)
