"""What the tasks have in common that models are fine-tuned and scored on: files, splits, subsets, papers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Annotated

from pydantic import Field

from compactbio.spec.base import Section

Rows = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]
Share = Annotated[float, Field(gt=0.0, lt=0.9)]
Names = Annotated[tuple[str, ...], Field(min_length=2)]
DEV_SHARE = 0.1
"""Where a development set is drawn from the training set: the share of it, by the hash of each example."""


def percent(share: float) -> str:
    """With as many decimals as it has: two shares never read the same, because settings are told apart by them."""
    return f"{100 * share:g}%"


class Sizes(Section):
    """How many examples a data set has, as its source or a paper says; read data are checked against it."""

    train: int | None = None
    """The training set."""

    dev: int | None = None
    """The development set."""

    test: int | None = None
    """The test set."""

    total: int | None = None
    """What table 1 of Rohanian et al. (2023) gives: the three together; of BioASQ, the questions of every type in the
    training file."""


class Paper(Section):
    """A column of a paper's tables, and how its numbers were obtained."""

    source: str
    """Which paper: `rohanian2023`, `lewis2020`, `mehmood2020`."""

    column: str
    """The data set's name there."""

    protocol: str
    """The protocol, in the words of `Task.protocol_name`."""

    split: str
    """The split, in the words of `Task.split`."""


class Task(Section, ABC):
    """What all tasks have in common."""

    max_train: Rows | None = None
    """Train on a fixed subset of so many examples."""

    max_dev: Rows | None = None
    """Choose checkpoints on a fixed subset of so many examples."""

    max_test: Rows | None = None
    """Score on a fixed subset of so many examples."""

    subset_seed: Seed = 1
    """Draws the subsets and what is held out; apart from the seed of training, so that all seeds see the same data."""

    @property
    @abstractmethod
    def protocol_name(self) -> str:
        """How examples are made and scored."""

    @property
    def split(self) -> str:
        """Which examples are trained on, which choose checkpoints, which are scored."""
        return "train / dev / test"

    @property
    def subsets(self) -> str:
        """The subsets that stand in for whole sets; nothing where there are none."""
        limits = {"train": self.max_train, "dev": self.max_dev, "test": self.max_test}
        given = [f"{name} at most {limit}" for name, limit in limits.items() if limit is not None]
        return f"{', '.join(given)} (subset seed {self.subset_seed})" if given else ""

    @property
    def setting(self) -> str:
        """Everything that has to be equal for two results to stand in one column."""
        return "; ".join(filter(None, (self.protocol_name, self.split, self.subsets)))

    @abstractmethod
    def files(self) -> Iterator[tuple[str, str]]:
        """The files that the task reads, each behind the field that names it."""


class Benchmark(Task):
    """What tasks on files of annotated data have in common."""

    sizes: Sizes | None = None
    """The sizes that the data should have before subsets are drawn."""

    papers: tuple[Paper, ...] = ()
    """The published columns of this data set."""

    obtain: str | None = None
    """Where to get the data, and what to put where; told where a file is missing."""


class SplitFiles(Benchmark):
    """A data set that is split into files."""

    train: str
    """The training set; like all files of tasks looked for in the working directory, then below the data root."""

    dev: str | None = None
    """Left out, there is nothing to choose checkpoints by."""

    test: str
    """The test set."""

    @property
    def split(self) -> str:
        """The files as they are."""
        return super().split if self.dev else "train / test"

    def files(self) -> Iterator[tuple[str, str]]:
        """Two or three files."""
        yield "train", self.train
        if self.dev is not None:
            yield "dev", self.dev
        yield "test", self.test
