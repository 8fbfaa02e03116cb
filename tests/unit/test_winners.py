from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from compactbio.data.winners import (
    DELETION,
    DOCUMENT,
    EMPTY,
    EVENT,
    TEXT,
    Events,
    first_of_each_text,
    gather,
    newest,
    ranges,
)


def events(*rows: tuple[int, int, int, int]) -> Events:
    """Identity, version, kind, text; in the order of the corpus."""
    return np.array(
        [(identity, 0, text, 0, order, version, kind) for order, (identity, version, kind, text) in enumerate(rows)],
        dtype=EVENT,
    )


@pytest.mark.parametrize(
    ("rows", "kept", "dropped"),
    [
        ([(1, 1, DOCUMENT, 5), (2, 1, DOCUMENT, 6)], {0, 1}, {}),
        ([(1, 1, DOCUMENT, 5), (1, 1, DOCUMENT, 6)], {1}, {"superseded": 1}),
        ([(1, 2, DOCUMENT, 5), (1, 1, DOCUMENT, 6)], {0}, {"superseded": 1}),
        ([(1, 1, DOCUMENT, 5), (1, 1, DELETION, 0)], set(), {"deleted": 1}),
        ([(1, 1, DELETION, 0), (1, 1, DOCUMENT, 5)], {1}, {}),
        ([(1, 1, DOCUMENT, 5), (1, 1, DELETION, 0), (1, 1, DOCUMENT, 6)], {2}, {"deleted": 1}),
        ([(1, 1, DOCUMENT, 5), (1, 2, DOCUMENT, 6), (1, 1, DELETION, 0)], {1}, {"deleted": 1}),
        ([(1, 1, DOCUMENT, 5), (1, 1, EMPTY, 0)], set(), {"superseded": 1, "empty": 1}),
        ([(1, 1, EMPTY, 0), (1, 1, DOCUMENT, 5)], {1}, {"superseded": 1}),
        ([(3, 1, DELETION, 0)], set(), {}),
        ([], set(), {}),
    ],
)
def test_the_newest_version_wins_unless_it_was_withdrawn(
    rows: list[tuple[int, int, int, int]], kept: set[int], dropped: dict[str, int]
) -> None:
    found, reasons = newest(events(*rows))
    assert set(found["order"].tolist()) == kept
    assert reasons == Counter(dropped)


def test_one_of_each_text_stays_and_it_is_the_first() -> None:
    texts = np.array([(7, 1, 4), (8, 1, 3), (7, 1, 0), (7, 2, 9), (8, 1, 5)], dtype=TEXT)
    kept, duplicates = first_of_each_text(texts)
    assert kept.tolist() == [0, 3, 9]
    assert duplicates == 2


@pytest.mark.parametrize("largest", [1, 3, 10, 1000])
def test_ranges_of_hashes_have_every_record_once(tmp_path: Path, largest: int) -> None:
    draw = np.random.default_rng(0)
    paths = []
    for number in range(3):
        rows = np.zeros(40, TEXT)
        rows["text_high"] = np.sort(draw.integers(0, 2**64, 40, dtype=np.uint64))
        rows["order"] = number * 40 + np.arange(40)
        rows["text_high"][[0, -1]] = (0, 2**64 - 1)
        paths.append(tmp_path / f"{number}.npy")
        np.save(paths[-1], rows)
    found = [gather(paths, "text_high", bounds)["order"] for bounds in ranges(120, largest)]
    assert sorted(np.concatenate(found).tolist()) == list(range(120))
