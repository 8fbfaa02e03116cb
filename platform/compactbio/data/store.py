"""The token store: rows of token ids in memory-mapped Arrow files, with a manifest."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

FORMAT_VERSION = 1
SPLITS = ("train", "held_out")
_ROWS_A_BATCH = 16_384


@dataclass(frozen=True)
class Manifest:
    """What a store was made from, and what is in it."""

    format_version: int
    fingerprint: str
    """Digest of the source, the tokenizer and the cut: equal fingerprints, equal rows."""

    tokenizer_fingerprint: str
    source: str
    source_sha256: str
    num_documents: int
    num_dropped_short: int
    num_cut: int
    """Rows that were longer than `max_tokens`."""

    num_rows: dict[str, int]
    num_tokens: dict[str, int]


class TokenStore:
    """Random access by row to a store on disk; the rows stay in the page cache, not in the process."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.manifest = read_manifest(path)
        self._splits = {split: _Rows(path / f"{split}.arrow") for split in SPLITS}

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
    """One Arrow file of `list<int32>`, read in place."""

    def __init__(self, path: Path) -> None:
        chunks = pa.ipc.open_file(pa.memory_map(str(path))).read_all().column("tokens").chunks
        self._values = [chunk.values.to_numpy(zero_copy_only=True) for chunk in chunks]
        self._offsets = [chunk.offsets.to_numpy(zero_copy_only=True) for chunk in chunks]
        self._starts = np.cumsum([0, *(len(chunk) for chunk in chunks)])

    def __len__(self) -> int:
        return int(self._starts[-1])

    def _place(self, row: int) -> tuple[int, int, int]:
        if not 0 <= row < len(self):
            raise IndexError(f"row {row} of {len(self)}")
        chunk = int(np.searchsorted(self._starts, row, side="right")) - 1
        inside = row - int(self._starts[chunk])
        return chunk, int(self._offsets[chunk][inside]), int(self._offsets[chunk][inside + 1])

    def lengths(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        places = (self._place(int(row)) for row in rows)
        return np.array([end - start for _, start, end in places], dtype=np.int64)

    def token_counts(self, vocabulary_size: int) -> NDArray[np.int64]:
        counts = np.zeros(vocabulary_size, dtype=np.int64)
        for values in self._values:
            counts += np.bincount(values, minlength=vocabulary_size)
        return counts

    def padded(self, rows: NDArray[np.int64], pad_id: int) -> NDArray[np.int64]:
        places = [self._place(int(row)) for row in rows]
        width = max((end - start for _, start, end in places), default=0)
        out = np.full((len(places), width), pad_id, dtype=np.int64)
        for line, (chunk, start, end) in zip(out, places, strict=True):
            line[: end - start] = self._values[chunk][start:end]
        return out


def read_manifest(path: Path) -> Manifest:
    """The manifest of the store at `path`."""
    manifest = Manifest(**json.loads((path / "manifest.json").read_text()))
    if manifest.format_version != FORMAT_VERSION:
        raise ValueError(
            f"{path}: token store of format {manifest.format_version}, this version reads {FORMAT_VERSION}"
        )
    return manifest


def write_store(path: Path, manifest: Manifest, splits: dict[str, list[NDArray[np.int32]]]) -> None:
    """Writes a store whole or not at all: under a temporary name first, renamed when it is on disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    building = Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=path.parent))
    try:
        for split in SPLITS:
            _write_rows(building / f"{split}.arrow", splits[split])
        (building / "manifest.json").write_text(json.dumps(asdict(manifest), indent=2) + "\n")
        for file in building.iterdir():
            _sync(file)
        try:
            building.rename(path)
        except OSError:
            if not (path / "manifest.json").exists():  # otherwise another job was first: its rows are the same
                raise
    finally:
        shutil.rmtree(building, ignore_errors=True)


def _write_rows(path: Path, rows: list[NDArray[np.int32]]) -> None:
    schema = pa.schema([("tokens", pa.list_(pa.int32()))])
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
        for start in range(0, len(rows), _ROWS_A_BATCH):
            some = rows[start : start + _ROWS_A_BATCH]
            offsets = np.cumsum([0, *(len(row) for row in some)], dtype=np.int32)
            values = np.concatenate(some).astype(np.int32)
            writer.write_batch(pa.record_batch([pa.ListArray.from_arrays(offsets, values)], schema=schema))


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())
