"""What models are fine-tuned and scored on: examples, whatever format their files have."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar


@dataclass(frozen=True)
class TaggedText:
    """Words with one IOB2 tag each."""

    identity: str
    words: list[str]
    tags: list[str]


@dataclass(frozen=True)
class LabelledText:
    """A text with the set of its labels, as positions in the list of labels."""

    identity: str
    text: str
    labels: frozenset[int]
    group: str = ""
    """The abstract that a sentence is from."""


@dataclass(frozen=True)
class ClassifiedText:
    """A text, or a pair of texts, with its class as a position in the list of classes."""

    identity: str
    text: str
    pair: str | None
    label: int


@dataclass(frozen=True)
class Passage:
    """A text in which answers stand."""

    identity: str
    text: str
    spans: tuple[tuple[int, str], ...]
    """The gold answers in it: offset in characters and text; none where they are not known to stand here."""


@dataclass(frozen=True)
class Question:
    """A question, the passages that may answer it, and what counts as an answer."""

    identity: str
    question: str
    passages: tuple[Passage, ...]
    answers: tuple[tuple[str, ...], ...]
    """Groups of synonyms."""


@dataclass(frozen=True)
class PlainText:
    """A text without labels."""

    identity: str
    text: str


Example = TaggedText | LabelledText | ClassifiedText | Question | PlainText
E_co = TypeVar("E_co", bound=Example, covariant=True)
ExampleT = TypeVar("ExampleT", bound=Example)


@dataclass(frozen=True)
class TaskData(Generic[E_co]):
    """The examples of a task, subsets drawn."""

    train: list[E_co]
    dev: list[E_co]
    """Empty where there is nothing to choose checkpoints by."""

    test: list[E_co]
    labels: list[str]
    """Tags (O first, then B-X and I-X by type), labels or classes in their order; none for questions and plain text."""

    fingerprint: str
    """SHA-256 over the examples and labels that are here."""

    sizes: dict[str, int]
    """Examples of each set before subsets were drawn."""

    notes: tuple[str, ...] = ()
    """What readers of a result should know of the data: sentences in two sets, sizes that are not the expected ones."""

    as_expected: bool | None = None
    """Whether the sizes are those that the task names; None where it names none."""
