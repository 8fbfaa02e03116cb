"""Tasks that are made from an ontology in OBO format."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field

from compactbio.spec.task_base import Share, Task, percent


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
        return (
            f"{percent(self.test_share)} of the concepts held out as test, {percent(self.dev_share)} of the rest as dev"
        )

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
