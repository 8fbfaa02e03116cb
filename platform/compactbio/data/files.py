"""The files of a corpus: which there are, how they are opened, and how the work on them is cut into pieces."""

from __future__ import annotations

import gzip
import hashlib
import lzma
import os
import tarfile
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

import pyarrow as pa
import pyarrow.parquet as pq

from compactbio.spec.base import SpecError
from compactbio.spec.corpus import Corpus, FileSource, HuggingFaceSource, ParquetSource, Source
from compactbio.spec.references import PACKAGE_PREFIX, locate_file, looked_in, roots

DAMAGE = (EOFError, gzip.BadGzipFile, zlib.error, lzma.LZMAError, tarfile.TarError, pa.ArrowException)
"""What reading a file that is cut off or garbled raises."""

_OPENERS: dict[str, Callable[..., Any]] = {".gz": gzip.open, ".xz": lzma.open}
_PACKED = 4  # bytes of text in a byte of a packed file, about
_PIECE_BYTES = 8 * 2**20
_MOST_PIECES = 2000
_ROWS_A_PART = 50_000


@dataclass(frozen=True)
class Part:
    """A file of a source, or a range of it: bytes of text, row groups of Parquet, rows of a data set."""

    source: int
    """Which of the corpus' sources, counted from 0."""

    path: str
    start: int = 0
    stop: int | None = None
    size: int = 0
    """Bytes of text, about, for dealing out the work."""


@dataclass(frozen=True)
class Piece:
    """What one task works on: parts that follow each other in the corpus."""

    number: int
    parts: tuple[Part, ...]


def open_bytes(path: str | Path) -> BinaryIO:
    """The file's bytes, unpacked. Reading may raise one of DAMAGE."""
    return cast(BinaryIO, _OPENERS.get(Path(path).suffix, open)(path, "rb"))


def source_files(source: FileSource, field: str) -> list[Path]:
    """The files of a source, by name. Raises SpecError under `field` where there is none."""
    if source.files.startswith(PACKAGE_PREFIX) or not any(mark in source.files for mark in "*?["):
        found = [locate_file(source.files, field)]
    else:
        try:
            found = next(filter(None, (_matches(root / Path(source.files).expanduser()) for root in roots())), [])
        except ValueError as error:
            raise SpecError.at(field, f"'{source.files}' is no pattern of files: {error}") from None
    if not found:
        raise SpecError.at(field, f"no file matches '{source.files}' ({looked_in()})")
    if closed := [path for path in found if not os.access(path, os.R_OK)]:
        raise SpecError.at(field, f"{closed[0]} cannot be read: no permission")
    return found


def _matches(pattern: Path) -> list[Path]:
    matches = Path(pattern.anchor).glob(str(pattern.relative_to(pattern.anchor)))
    return sorted(path for path in matches if path.is_file())


def pieces(corpus: Corpus, *, online: bool) -> list[Piece]:
    """The corpus cut for parallel work, a function of its files alone. Raises SpecError where files are missing."""
    parts = [part for number, source in enumerate(corpus.sources) for part in _parts(number, source, online)]
    target = max(_PIECE_BYTES, sum(part.size for part in parts) // _MOST_PIECES)
    grouped: list[list[Part]] = [[]]
    for part in parts:
        if grouped[-1] and sum(other.size for other in grouped[-1]) + part.size > target:
            grouped.append([])
        grouped[-1].append(part)
    return [Piece(number, tuple(some)) for number, some in enumerate(grouped)]


def _parts(number: int, source: Source, online: bool) -> Iterator[Part]:
    if isinstance(source, HuggingFaceSource):
        from compactbio.data.tables import data_set_place, load_rows

        rows = load_rows(source, online=online)
        row_bytes = rows.data.nbytes // max(1, len(rows))
        for start in range(0, len(rows), _ROWS_A_PART):
            stop = min(start + _ROWS_A_PART, len(rows))
            yield Part(number, data_set_place(source), start, stop, (stop - start) * row_bytes)
        return
    for path in source_files(source, f"corpus.sources.{number}.files"):
        size = path.stat().st_size
        if isinstance(source, ParquetSource):
            groups = _row_groups(path, number)
            yield from (Part(number, str(path), index, index + 1, size // groups) for index in range(groups))
        elif source.format in ("lines", "jsonl") and path.suffix not in _OPENERS:
            for start in range(0, size, _PIECE_BYTES):
                stop = min(start + _PIECE_BYTES, size)
                yield Part(number, str(path), start, stop, stop - start)
        else:
            yield Part(number, str(path), size=size * (_PACKED if path.suffix in _OPENERS else 1))


def _row_groups(path: Path, number: int) -> int:
    try:
        return max(1, pq.ParquetFile(path).num_row_groups)
    except (OSError, ValueError) as error:
        raise SpecError.at(f"corpus.sources.{number}.files", f"{path} is not a Parquet file: {error}") from None


@dataclass(frozen=True)
class SourceFile:
    """A file of the corpus as it was read."""

    source: int
    path: str
    size: int
    sha256: str
    """Of the bytes on disk; of a data set, its fingerprint."""


def read_source_files(corpus: Corpus, *, online: bool) -> list[SourceFile]:
    """All files with their checksums. Raises SpecError where one is missing."""
    paths = []
    found = []
    for number, source in enumerate(corpus.sources):
        if isinstance(source, HuggingFaceSource):
            from compactbio.data.tables import load_rows

            rows = load_rows(source, online=online)
            found.append(SourceFile(number, source.dataset, rows.data.nbytes, rows._fingerprint))
        else:
            paths += [(number, path) for path in source_files(source, f"corpus.sources.{number}.files")]
    with ThreadPoolExecutor() as pool:  # hashing lets go of the interpreter's lock
        checksums = pool.map(_sha256, [path for _, path in paths])
        found += [
            SourceFile(number, str(path), path.stat().st_size, checksum)
            for (number, path), checksum in zip(paths, checksums, strict=True)
        ]
    return sorted(found, key=lambda file: file.source)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
