"""Questions whose answers stand in passages."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from compactbio.spec.base import Section
from compactbio.spec.task_base import Benchmark, Share, SplitFiles, percent


class Answers(Section):
    """How answers that stand in passages are scored."""

    protocol: Literal["pooled", "first-snippet"] = "pooled"
    """`pooled`: the probabilities of equal answers are summed over all passages of a question (BioBERT).
    `first-snippet`: the best answers of the first one (the published code of Rohanian et al. 2023)."""


class QuestionTask(Answers, SplitFiles):
    """Questions whose answers stand in passages, split into files."""

    kind: Literal["questions"]
    """Says that this is `questions`."""

    format: Literal["squad", "bioasq"]
    """`bioasq`: the challenge's own golden files, of which the factoid questions are used."""

    more_tests: tuple[str, ...] = ()
    """Further files of the test set (BioASQ's comes in five)."""

    @property
    def protocol_name(self) -> str:
        """The format and how answers are pooled."""
        return f"{self.format}-{self.protocol}"

    def files(self) -> Iterator[tuple[str, str]]:
        """The sets; the test set may have several files."""
        yield from super().files()
        yield from (("more_tests", path) for path in self.more_tests)


class QuestionHoldoutTask(Answers, Benchmark):
    """Questions in SQuAD's format in one file, of whose articles fixed shares are test and development set."""

    kind: Literal["question_holdout"]
    """Says that this is `question_holdout`."""

    file: str
    """The file; no article is in two sets."""

    test_share: Share = 0.2
    """Share of the articles in the test set, drawn by `subset_seed`."""

    @property
    def protocol_name(self) -> str:
        """SQuAD's format and how answers are pooled."""
        return f"squad-{self.protocol}"

    @property
    def split(self) -> str:
        """A share of the articles."""
        return f"{percent(self.test_share)} of the articles held out as test, a tenth of the rest as dev"

    def files(self) -> Iterator[tuple[str, str]]:
        """One file."""
        yield "file", self.file


QuestionTasks = QuestionTask | QuestionHoldoutTask
