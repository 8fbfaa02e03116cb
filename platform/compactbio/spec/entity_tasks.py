"""Named entity recognition: which files, which protocol."""

from __future__ import annotations

from typing import Literal

from pydantic import model_validator

from compactbio.spec.task_base import SplitFiles


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
