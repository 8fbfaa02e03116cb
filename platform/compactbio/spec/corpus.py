"""Which text a job learns from, and how it is cut into rows of tokens."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from compactbio.spec.base import Section


class Corpus(Section):
    """Text, its format, and the cut into rows."""

    text: str
    """The file: a path, or `package:NAME/inside/path` for a file that a Python package ships."""

    format: Literal["lines", "blocks", "obo"] = "lines"
    """`lines`: one document a line. `blocks`: documents parted by a blank line. `obo`: the definitions and
    comments of an ontology in OBO format; both passages of a concept belong to one document."""

    tokenizer: str | None = None
    """Where the tokenizer comes from (path, `package:` or hub name); the job's teacher when left out."""

    max_tokens: Annotated[int, Field(ge=8, le=8192)] = 256
    """Length at which a row is cut, special tokens included."""

    min_tokens: Annotated[int, Field(ge=1)] = 8
    """Shorter rows (special tokens included) are dropped, and counted in the manifest of the token store."""

    held_out: Annotated[float, Field(ge=0.0, lt=0.9)] = 0.05
    """Share of documents kept out of training, chosen by a hash of the document's identity."""


class Masking(Section):
    """Which tokens are hidden from the model (Devlin et al. 2019)."""

    share: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.15
    """Share of the ordinary tokens of a row that are scored; at least one a row."""

    mask: Annotated[float, Field(ge=0.0, le=1.0)] = 0.8
    """Of those, the share replaced by the mask token."""

    random: Annotated[float, Field(ge=0.0, le=1.0)] = 0.1
    """Of those, the share replaced by a random token; the rest stays as it is."""
