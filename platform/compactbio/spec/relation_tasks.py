"""Relations between two entities that are marked in a text: split into files, in folds, or by a share."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from pydantic import model_validator

from compactbio.spec.base import Section
from compactbio.spec.task_base import Benchmark, Names, Rows, Share, SplitFiles, percent


class Relations(Section):
    """Relations between two entities that are marked in the text: how they are labelled and scored."""

    name: str
    """The protocol's name, for example `chemprot-13`."""

    labels: Names
    """The classes in their order; any other label in a file is an error."""

    negative: str | None = None
    """The class that says that there is no relation; micro F1 leaves it out."""

    markers: tuple[str, ...] = ()
    """What stands in every sentence where the two entities are; a sentence without them is an error."""

    score: Literal["macro_f1", "micro_f1", "positive_f1"]
    """The main score. `positive_f1`: the F1 of the last class, of two."""

    @property
    def protocol_name(self) -> str:
        """The name with the main score."""
        return f"{self.name}, {self.score}"


class RelationTask(Relations, SplitFiles):
    """Relations in JSON lines (`text`, `label`) or tab-separated columns (`sentence`, `label`)."""

    kind: Literal["relations"]
    """Says that this is `relations`."""


class RelationFoldTask(Relations, Benchmark):
    """Relations in folds, each of which is the test set once."""

    kind: Literal["relation_folds"]
    """Says that this is `relation_folds`."""

    file: str
    """A table with the columns `fold`, `sentence`, `label`; or, with {fold} in the path, the test set of each fold."""

    folds: Rows = 10
    """How many there are, counted from 1."""

    fold: Rows
    """The test set."""

    dev_fold: Rows | None = None
    """The fold that chooses checkpoints and is neither trained on nor scored; left out, a fixed tenth of the other
    folds."""

    @model_validator(mode="after")
    def _is_one_of_the_folds(self) -> RelationFoldTask:
        for number in filter(None, (self.fold, self.dev_fold)):
            if number > self.folds:
                raise ValueError(f"there is no fold {number} of {self.folds}")
        if self.fold == self.dev_fold:
            raise ValueError(f"fold {self.fold} chooses checkpoints (dev_fold), and cannot be the test set")
        return self

    @property
    def split(self) -> str:
        """The same for all folds: results of the folds stand together."""
        dev = f"fold {self.dev_fold} as dev" if self.dev_fold else "a tenth held out as dev"
        return f"{self.folds} folds ({dev})"

    def files(self) -> Iterator[tuple[str, str]]:
        """One file, or one a fold."""
        for fold in range(1, self.folds + 1) if "{fold}" in self.file else (self.fold,):
            yield "file", self.file.replace("{fold}", str(fold))


class RelationHoldoutTask(Relations, Benchmark):
    """Relations in one file, of which a fixed share is the test set and all the rest the training set."""

    kind: Literal["relation_holdout"]
    """Says that this is `relation_holdout`."""

    file: str
    """A table with the columns `sentence` and `label`."""

    test_share: Share = 0.1
    """Share of the rows in the test set, drawn by `subset_seed`."""

    @property
    def split(self) -> str:
        """A share of the rows."""
        return f"{percent(self.test_share)} of the rows held out as test"

    def files(self) -> Iterator[tuple[str, str]]:
        """One file."""
        yield "file", self.file


RelationTasks = RelationTask | RelationFoldTask | RelationHoldoutTask
"""The three ways in which relations are split; a union for `isinstance`."""
