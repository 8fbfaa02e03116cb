"""The tasks that models are fine-tuned and scored on: which files, which split, which protocol."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field, model_validator

from compactbio.spec.base import Section

Rows = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]
Share = Annotated[float, Field(gt=0.0, lt=0.9)]
Names = Annotated[tuple[str, ...], Field(min_length=2)]

DEV_SHARE = 0.1
"""Where a development set is drawn from the training set: the share of it, by the hash of each example."""


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

    def why_not_beside(self, paper: Paper) -> str | None:
        """Why results may not stand beside the paper's column; None where they may."""
        if self.protocol_name != paper.protocol:
            return f"protocol {self.protocol_name}, the paper's is {paper.protocol}"
        if self.split != paper.split:
            return f"split {self.split}, the paper's is {paper.split}"
        return f"subsets: {self.subsets}" if self.subsets else None


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


class EntityTask(SplitFiles):
    """Named entity recognition in files of one token a line."""

    kind: Literal["ner"]
    """Says that this is `ner`."""

    types: tuple[str, ...] = ()
    """The entity types; any other is an error. Left out, the types of all files."""

    entity: str | None = None
    """The type of tags that have none (B, I, O)."""

    scheme: Literal["iob1", "iob2", "iobes"] = "iob2"
    """How the files mark where entities begin and end."""

    protocol: Literal["word", "subword"] = "word"
    """`word`: the first sub-word carries the label, scored on words. `subword`: the label is copied to every sub-word
    and scored there, as the published code of Rohanian et al. (2023) does; the two are not comparable."""

    training: Literal["train", "train+dev"] = "train"
    """`train+dev`: the development set is trained on too, and there is none to choose checkpoints by."""

    @model_validator(mode="after")
    def _has_what_it_trains_on(self) -> EntityTask:
        if self.training == "train+dev" and self.dev is None:
            raise ValueError("training: train+dev needs a `dev` file")
        return self

    @property
    def protocol_name(self) -> str:
        """`ner-word` or `ner-subword`."""
        return f"ner-{self.protocol}"

    @property
    def split(self) -> str:
        """As the files, or with the development set in the training set."""
        return "train+dev / test" if self.training == "train+dev" else super().split


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
        return f"{self.test_share:.0%} of the rows held out as test"

    def files(self) -> Iterator[tuple[str, str]]:
        """One file."""
        yield "file", self.file


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
        return f"{self.test_share:.0%} of the articles held out as test, a tenth of the rest as dev"

    def files(self) -> Iterator[tuple[str, str]]:
        """One file."""
        yield "file", self.file


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
        return f"{self.held_out:.0%} of the documents"

    def files(self) -> Iterator[tuple[str, str]]:
        """One file."""
        yield "file", self.file


class OntologyTask(Task):
    """What every task made from an ontology in OBO format has."""

    text: str
    """The ontology's file: a path or `package:NAME/inside/path`."""

    test_share: Share
    """Share of concepts in the test set, by the hash that also holds documents out of the corpus: with the
    corpus' `held_out` as the share, no model has seen the text of the test set before."""

    dev_share: Annotated[float, Field(ge=0.0, lt=0.9)] = 0.0
    """Share of the other concepts in the development set; without one, there is nothing to choose checkpoints by."""

    @property
    def split(self) -> str:
        """Shares of the concepts."""
        return f"{self.test_share:.0%} of the concepts held out as test, {self.dev_share:.0%} of the rest as dev"

    def files(self) -> Iterator[tuple[str, str]]:
        """One file."""
        yield "text", self.text


class MentionTask(OntologyTask):
    """Mentions of an ontology's own names and synonyms in its definitions (NER, distant labels)."""

    kind: Literal["concept_mentions"]
    """Says that this is `concept_mentions`."""

    entity: Annotated[str, Field(pattern=r"^[A-Za-z]+$")] = "Concept"
    """What the mentions are called in the tags."""

    @property
    def protocol_name(self) -> str:
        """`ner-word`, on distant labels."""
        return "ner-word, distant labels"


class BranchTask(OntologyTask):
    """The top-level branches that a concept belongs to, from its definition (multi-label)."""

    kind: Literal["concept_branches"]
    """Says that this is `concept_branches`."""

    root: str
    """The concept whose children are the labels, for example `HP:0000118`."""

    @property
    def protocol_name(self) -> str:
        """Micro F1 of the labels."""
        return "multi-label, micro_f1"


RelationTasks = RelationTask | RelationFoldTask | RelationHoldoutTask
"""The three ways in which relations are split; a union for `isinstance`."""
QuestionTasks = QuestionTask | QuestionHoldoutTask

AnyTask = Annotated[
    EntityTask
    | RelationTask
    | RelationFoldTask
    | RelationHoldoutTask
    | LabelTask
    | PairTask
    | ChoiceTask
    | QuestionTask
    | QuestionHoldoutTask
    | MaskedTextTask
    | MentionTask
    | BranchTask,
    Field(discriminator="kind"),
]
