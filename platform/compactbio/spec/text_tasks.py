"""Texts and pairs of texts with labels, and masked words of texts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field

from compactbio.spec.task_base import Benchmark, Names, SplitFiles, percent


class LabelTask(SplitFiles):
    """Several labels a text (Hallmarks of Cancer), in the columns `id` (PMID_sN), `labels` (0,3), `sentence`."""

    kind: Literal["labels"]
    """Says that this is `labels`."""

    names: str
    """The file with the names of the labels, one a line, in their order."""

    unit: Literal["sentence", "abstract"]
    """What is scored; models read sentences in both. `abstract`: the labels of an abstract's sentences are united, gold
    and predicted (Peng et al. 2019, and Lewis et al. 2020 after them); subsets then count abstracts."""

    @property
    def protocol_name(self) -> str:
        """`hoc-sentence` or `hoc-abstract`."""
        return f"hoc-{self.unit}"

    def files(self) -> Iterator[tuple[str, str]]:
        """The sets and the names of the labels."""
        yield from super().files()
        yield "names", self.names


class PairTask(SplitFiles):
    """Natural language inference in JSON lines: `sentence1`, `sentence2`, `gold_label` (as MedNLI has them)."""

    kind: Literal["pairs"]
    """Says that this is `pairs`."""

    labels: Names = ("entailment", "neutral", "contradiction")
    """The classes in their order; any other label in a file is an error."""

    @property
    def protocol_name(self) -> str:
        """Accuracy."""
        return "nli, accuracy"


class ChoiceTask(Benchmark):
    """Questions that an abstract answers with yes, no or maybe (PubMedQA, reasoning required: no conclusion shown)."""

    kind: Literal["choice"]
    """Says that this is `choice`."""

    questions: str
    """The expert-labelled questions, `ori_pqal.json`."""

    test_ids: str
    """The identities of the test set, `test_ground_truth.json`."""

    folds: str
    """Ten splits of the other questions into training and development set."""

    fold: Annotated[int, Field(ge=0, le=9)] = 0
    """Which of them is used."""

    @property
    def protocol_name(self) -> str:
        """Accuracy, with the abstract but without its conclusion."""
        return "pubmedqa-reasoning, accuracy"

    @property
    def split(self) -> str:
        """Results of the folds stand together; they share the test set."""
        return "10 splits into train / dev, one test set"

    def files(self) -> Iterator[tuple[str, str]]:
        """Three files."""
        yield from (("questions", self.questions), ("test_ids", self.test_ids), ("folds", self.folds))


class MaskedTextTask(Benchmark):
    """Masked words of held-out text: nothing is fine-tuned."""

    kind: Literal["mlm"]
    """Says that this is `mlm`."""

    file: str
    """Text in blocks that blank lines part."""

    held_out: Annotated[float, Field(gt=0.0, le=1.0)] = 1.0
    """Share of the documents that is used, by the hash that also holds documents out of a corpus: with the corpus'
    `held_out` as the share, no model has trained on them."""

    @property
    def protocol_name(self) -> str:
        """Perplexity and top-k accuracy."""
        return "mlm"

    @property
    def split(self) -> str:
        """A share of the documents."""
        return f"{percent(self.held_out)} of the documents"

    def files(self) -> Iterator[tuple[str, str]]:
        """One file."""
        yield "file", self.file
