"""From text to a token store, in tasks that may run anywhere.

Pieces of the corpus are read and encoded; the documents that stay are found by ranges of hashes; shards of rows are
written. Every task leaves a folder that is there whole or not at all, so a build that was killed goes on from there.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from compactbio.data.files import Piece, SourceFile, pieces, read_source_files
from compactbio.data.piece import BAD, INDEX, SUMMARY, BuildTask, build_piece, too_many_bad
from compactbio.data.shard import ShardCounts, ShardRequest, build_shard, read_counts, shard_folder
from compactbio.data.store import BAD_RECORDS, FORMAT_VERSION, MANIFEST, SOURCES, SPLITS, Manifest, shard_file
from compactbio.data.tokens import digest, encoding_digest, fingerprint
from compactbio.data.whole import save_array, whole_folder
from compactbio.data.winners import TEXT, first_of_each_text, gather, newest, ranges
from compactbio.spec.base import SpecError
from compactbio.spec.corpus import Corpus
from compactbio.spec.job import STORE_TOKENIZER

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Spread = Callable[[Callable[[Any], Any], list[Any]], Iterable[Any]]
"""Calls a function with every item, anywhere and in any order, and yields the results as they come."""

_MOST_SHARDS = 256
_RECORDS_A_RANGE = 500_000


def in_turn(function: Callable[[Any], Any], items: list[Any]) -> Iterator[Any]:
    """The spread that runs in this process, one item after the other."""
    return map(function, items)


def build_store(
    corpus: Corpus,
    tokenizer: PreTrainedTokenizerBase,
    folder: Path,
    *,
    online: bool = False,
    spread: Spread = in_turn,
    report: Callable[[int, int], None] = lambda done, total: None,
    fetch: Callable[[Path], None] = lambda path: None,
) -> Path:
    """The store of this corpus and tokenizer under `folder`, built unless it is there already.

    `fetch` may bring it there from elsewhere. `report` is called with the number of pieces that are done, and of all.
    Raises SpecError for bad input.
    """
    files = read_source_files(corpus, online=online)
    key = _fingerprint(corpus, files, tokenizer)
    path = folder / f"{Path(files[0].path).name.split('.')[0]}-{key}"
    unfinished = folder / f".building-{key}"
    fetch(path)
    if path.is_dir() and not unfinished.exists():
        return path
    with _building(unfinished) as building:
        if not path.is_dir():  # another process may have finished it just now
            tokenizer.save_pretrained(building / STORE_TOKENIZER)
            build = _Build(BuildTask(corpus, building), pieces(corpus, online=online), spread)
            build.read(report)
            dropped = build.choose()
            build.write()
            with whole_folder(path) as making:
                manifest = _manifest(build, files, key, tokenizer, dropped)
                build.assemble(making, files)
                (making / MANIFEST).write_text(json.dumps(asdict(manifest), indent=2) + "\n")
        shutil.rmtree(building, ignore_errors=True)
    return path


def _fingerprint(corpus: Corpus, files: list[SourceFile], tokenizer: PreTrainedTokenizerBase) -> str:
    settings = corpus.model_dump(mode="json", exclude={"tokenizer", "max_bad_records", "sources"})
    formats = [source.model_dump(mode="json", exclude={"files", "dataset"}) for source in corpus.sources]
    checksums = [[file.source, file.sha256] for file in files]
    parts = [FORMAT_VERSION, checksums, formats, settings, encoding_digest(tokenizer), fingerprint(tokenizer)]
    return digest(json.dumps(parts, sort_keys=True))


@contextmanager
def _building(folder: Path) -> Iterator[Path]:
    """The folder of a build, for this process alone."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / "lock").open("w")
    except OSError as error:
        raise SpecError.at("storage", f"cannot write to {folder}: {error.strerror}") from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SpecError.at("corpus", f"another process is building this token store in {folder}") from None
        yield folder


@dataclass(frozen=True)
class _Build:
    """The steps of a build."""

    task: BuildTask
    pieces: list[Piece]
    spread: Spread

    def read(self, report: Callable[[int, int], None]) -> None:
        """Reads and encodes the pieces that are not done yet. Raises SpecError for too many bad records."""
        todo = [piece for piece in self.pieces if not self._summary(piece).exists()]
        done = len(self.pieces) - len(todo)
        num_bad = self.count("bad")
        report(done, len(self.pieces))
        self._check_bad(num_bad)
        for counts in self.spread(partial(build_piece, self.task), todo):
            done += 1
            report(done, len(self.pieces))
            num_bad += counts["bad"]
            self._check_bad(num_bad)

    def choose(self) -> Counter[str]:
        """Finds the documents that stay. Returns how many do not, by reason."""
        for name in ("newest", "kept"):
            (self.task.folder / name).mkdir(exist_ok=True)
        bounds = list(enumerate(ranges(self.count("documents"), _RECORDS_A_RANGE)))
        dropped: Counter[str] = Counter()
        for step in (_choose_newest, _choose_first):
            for counts in self.spread(partial(step, self.task, len(self.pieces)), bounds):
                dropped += counts
        return dropped

    def write(self) -> None:
        """Writes the shards that are not done yet."""
        kept = tuple(sorted((self.task.folder / "kept").glob("*.npy")))
        requests = [ShardRequest(number, some, kept) for number, some in enumerate(self._groups())]
        todo = [request for request in requests if not shard_folder(self.task, request.number).is_dir()]
        for _ in self.spread(partial(build_shard, self.task), todo):
            pass

    def counts(self) -> list[ShardCounts]:
        """What came of the shards."""
        return [read_counts(shard_folder(self.task, number)) for number in range(len(self._groups()))]

    def assemble(self, making: Path, files: list[SourceFile]) -> None:
        """Puts the files of the finished store together."""
        for number in range(len(self._groups())):
            for split in SPLITS:
                name = shard_file(split, number)
                os.link(shard_folder(self.task, number) / name, making / name)
        shutil.copytree(self.task.folder / STORE_TOKENIZER, making / STORE_TOKENIZER)
        (making / SOURCES).write_text("".join(json.dumps(asdict(file)) + "\n" for file in files))
        with (making / BAD_RECORDS).open("wb") as out:
            for piece in self.pieces:
                with (self.task.piece_folder(piece.number) / BAD).open("rb") as some:
                    shutil.copyfileobj(some, out)

    def count(self, what: str) -> int:
        """Documents or bad records in the pieces that are done."""
        summaries = (self._summary(piece) for piece in self.pieces)
        return sum(json.loads(path.read_text())[what] for path in summaries if path.exists())

    def _groups(self) -> list[range]:
        """The pieces of each shard."""
        total = len(self.pieces)
        size = -(-total // _MOST_SHARDS)
        return [range(start, min(start + size, total)) for start in range(0, total, size)]

    def _summary(self, piece: Piece) -> Path:
        return self.task.piece_folder(piece.number) / SUMMARY

    def _check_bad(self, num_bad: int) -> None:
        if num_bad > self.task.corpus.max_bad_records:
            raise too_many_bad(self.task.corpus, self._last_bad())

    def _last_bad(self) -> str:
        for piece in reversed(self.pieces):
            path = self.task.piece_folder(piece.number) / BAD
            if path.exists() and (lines := path.read_text().splitlines()):
                bad = json.loads(lines[-1])
                return f"{bad['file']}: {bad['place']}: {bad['reason']}"
        return "unknown"


def _choose_newest(task: BuildTask, num_pieces: int, part: tuple[int, tuple[int, int]]) -> Counter[str]:
    number, bounds = part
    events = gather((task.piece_folder(piece) / INDEX for piece in range(num_pieces)), "id_high", bounds)
    kept, dropped = newest(events)
    texts = np.empty(len(kept), TEXT)
    for name in TEXT.names or ():
        texts[name] = kept[name]
    save_array(task.folder / "newest" / f"{number:05}.npy", texts[np.argsort(texts["text_high"], kind="stable")])
    return dropped


def _choose_first(task: BuildTask, num_pieces: int, part: tuple[int, tuple[int, int]]) -> Counter[str]:
    number, bounds = part
    kept, duplicates = first_of_each_text(gather(sorted((task.folder / "newest").glob("*.npy")), "text_high", bounds))
    save_array(task.folder / "kept" / f"{number:05}.npy", kept)
    return Counter(duplicate=duplicates)


def _manifest(
    build: _Build, files: list[SourceFile], key: str, tokenizer: PreTrainedTokenizerBase, dropped: Counter[str]
) -> Manifest:
    """What the shards add up to. Raises SpecError when no row is left to train on."""
    corpus, counts = build.task.corpus, build.counts()
    num_rows = {split: sum(shard.rows[split] for shard in counts) for split in SPLITS}
    num_documents = build.count("documents")
    reasons = +dropped + Counter(short=sum(shard.short for shard in counts))
    if not num_rows["train"]:
        what = ", ".join(f"{count} {reason}" for reason, count in reasons.items()) or "all held out"
        raise SpecError.at(
            "corpus",
            f"no row is left to train on, of {num_documents} documents ({what}); min_tokens is {corpus.min_tokens}",
        )
    histogram = sum((shard.histogram for shard in counts), Counter[int]())
    return Manifest(
        format_version=FORMAT_VERSION,
        fingerprint=key,
        rows_sha256=hashlib.sha256("".join(shard.sha256 for shard in counts).encode()).hexdigest(),
        tokenizer_fingerprint=fingerprint(tokenizer),
        sources=[source.reference() for source in corpus.sources],
        num_files=len(files),
        num_bytes=sum(file.size for file in files),
        segmentation=corpus.segmentation,
        max_tokens=corpus.max_tokens,
        num_documents=num_documents,
        dropped=dict(+reasons),
        num_bad=build.count("bad"),
        num_cut=sum(shard.cut for shard in counts),
        num_rows=num_rows,
        num_tokens={split: sum(shard.tokens[split] for shard in counts) for split in SPLITS},
        length_histogram=[histogram[bin_] for bin_ in range(max(histogram, default=-1) + 1)],
        num_shards=len(counts),
    )
