"""Which documents stay: the newest version of each, none that was withdrawn, one of each text.

Works on ranges of hashes, so that memory depends on the size of a range and not on the corpus.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

EVENT = np.dtype(
    [
        ("id_high", "<u8"),
        ("id_low", "<u8"),
        ("text_high", "<u8"),
        ("text_low", "<u8"),
        ("order", "<u8"),
        ("version", "<u4"),
        ("kind", "<u1"),
    ]
)
"""What is known of a record: digests of identity and text, its place in the corpus, its version, its kind."""

DOCUMENT, EMPTY, DELETION = range(3)

TEXT = np.dtype([("text_high", "<u8"), ("text_low", "<u8"), ("order", "<u8")])

Events = NDArray[np.void]
Orders = NDArray[np.uint64]


def newest(events: Events) -> tuple[Events, Counter[str]]:
    """Of each identity the event that counts in the end, and how many documents are dropped for which reason.

    A deletion withdraws what came before it, up to its version. Of what is left the highest version counts, and of
    equal versions the latest.
    """
    events = events[np.lexsort((events["order"], events["id_low"], events["id_high"]))]
    starts = np.flatnonzero(_first(events, "id"))
    stops = np.append(starts[1:], len(events))
    keep = np.zeros(len(events), dtype=bool)
    single = stops - starts == 1
    keep[starts[single]] = True
    dropped: Counter[str] = Counter()
    for start, stop in zip(starts[~single], stops[~single], strict=True):
        winner, deleted, superseded = _winner(events[start:stop])
        dropped["deleted"] += deleted
        dropped["superseded"] += superseded
        if winner is not None:
            keep[start + winner] = True
    kept = events[keep & (events["kind"] != DELETION)]
    empty = kept["kind"] == EMPTY
    dropped["empty"] += int(empty.sum())
    return kept[~empty], +dropped


def _winner(group: Events) -> tuple[int | None, int, int]:
    """Which of an identity's events counts, and how many documents were withdrawn and replaced."""
    live: dict[int, int] = {}
    deleted = superseded = 0
    for at, event in enumerate(group):
        version = int(event["version"])
        if event["kind"] == DELETION:
            gone = [other for other in live if other <= version]
            deleted += len(gone)
            for other in gone:
                del live[other]
        else:
            superseded += version in live
            live[version] = at
    if not live:
        return None, deleted, superseded
    return live[max(live)], deleted, superseded + len(live) - 1


def first_of_each_text(texts: NDArray[np.void]) -> tuple[Orders, int]:
    """The places of the documents that are the first with their text, in order, and how many are not."""
    texts = texts[np.lexsort((texts["order"], texts["text_low"], texts["text_high"]))]
    first = _first(texts, "text")
    return np.sort(texts["order"][first]), int((~first).sum())


def _first(rows: NDArray[np.void], digest: str) -> NDArray[np.bool_]:
    """Where in sorted rows a digest differs from that of the row before."""
    first = np.ones(len(rows), dtype=bool)
    high, low = rows[f"{digest}_high"], rows[f"{digest}_low"]
    first[1:] = (high[1:] != high[:-1]) | (low[1:] != low[:-1])
    return first


def ranges(num_records: int, largest: int) -> list[tuple[int, int]]:
    """Ranges of 64-bit hashes, the end included, that hold about `largest` records each at most."""
    count = max(1, -(-num_records // largest))
    bounds = [2**64 * number // count for number in range(count + 1)]
    return [(low, high - 1) for low, high in itertools.pairwise(bounds)]


def gather(paths: Iterable[Path], key: str, bounds: tuple[int, int]) -> NDArray[np.void]:
    """What lies between the bounds in files that are sorted by `key`."""
    return np.concatenate(list(_slices(paths, key, *bounds)))


def _slices(paths: Iterable[Path], key: str, low: int, high: int) -> Iterator[NDArray[np.void]]:
    for path in paths:
        rows = np.load(path, mmap_mode="r")
        start = np.searchsorted(rows[key], np.uint64(low), side="left")
        stop = np.searchsorted(rows[key], np.uint64(high), side="right")
        yield np.array(rows[start:stop])
