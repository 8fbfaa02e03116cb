"""Training, development and test sets: shares that are held out, fixed subsets, and a fingerprint of what is used."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np

from compactbio.data import counter
from compactbio.data.examples import E_co, Example, ExampleT, LabelledText, TaggedText

T = TypeVar("T")

_HOLDING_OUT = 1  # keeps what is held out apart from what subsets choose


@dataclass(frozen=True)
class Sets(Generic[E_co]):
    """The whole sets of a task, before subsets are drawn."""

    train: list[E_co]
    dev: list[E_co]
    test: list[E_co]
    labels: list[str]
    notes: tuple[str, ...] = ()
    num_counted: int | None = None
    """What papers give as the data set's size, where it is not the three sets together."""


def draws(identities: Iterable[str], *coordinates: int) -> list[int]:
    """For each identity a number that depends on it and the coordinates alone."""
    places = np.array([int(counter.bucket(identity) * 2**63) for identity in identities], dtype=np.uint64)
    drawn: list[int] = counter.at(*coordinates, places).tolist()
    return drawn


def hold_out(items: Sequence[T], share: float, seed: int, *, key: Callable[[T], str]) -> tuple[list[T], list[T]]:
    """The items that stay, and the share of them that is held out; items of one key are never parted.

    Of n keys, round(share n) are held out: those with the smallest draws.
    """
    keys = sorted({key(item) for item in items})
    drawn = draws(keys, seed, _HOLDING_OUT)
    order = np.argsort(drawn, kind="stable")[: round(share * len(keys))]
    chosen = {keys[position] for position in order}
    return [item for item in items if key(item) not in chosen], [item for item in items if key(item) in chosen]


def subset(items: list[ExampleT], size: int | None, seed: int, *, by_group: bool = False) -> list[ExampleT]:
    """So many of the examples, or of their groups, in their order: those with the smallest draws."""
    if size is None:
        return items
    keys = list(dict.fromkeys(_group(item) if by_group else item.identity for item in items))
    if size >= len(keys):
        return items
    chosen = {keys[position] for position in np.argsort(draws(keys, seed), kind="stable")[:size]}
    return [item for item in items if (_group(item) if by_group else item.identity) in chosen]


def _group(example: Example) -> str:
    assert isinstance(example, LabelledText)
    return example.group


def fingerprint(sets: Sets[ExampleT]) -> str:
    """SHA-256 over labels and examples, in their order."""
    digest = hashlib.sha256(json.dumps(sets.labels).encode())
    for some in (sets.train, sets.dev, sets.test):
        digest.update(b"\n\n")
        for example in some:
            digest.update(json.dumps(example, default=_plain, ensure_ascii=False).encode("utf-8", "surrogatepass"))
    return digest.hexdigest()


def _plain(value: object) -> object:
    return sorted(value) if isinstance(value, frozenset) else vars(value)


def text_of(example: TaggedText | LabelledText) -> str:
    """The words of the example."""
    return " ".join(example.words) if isinstance(example, TaggedText) else example.text


def num_shared(first: Iterable[Hashable], second: Iterable[Hashable]) -> int:
    """How many of the second are in the first too."""
    known = set(first)
    return sum(item in known for item in second)
