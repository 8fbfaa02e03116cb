"""Which text a job learns from, and how it is cut into rows of tokens."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from compactbio.spec.base import Section


class _Files(Section):
    """Files of one format. They may be compressed: .gz or .xz."""

    files: str
    """A path, a pattern (`pubmed/*.xml.gz`; its files are read in the order of their names), or
    `package:NAME/inside/path` for a file that an installed Python package ships."""

    def reference(self) -> str:
        """What the spec calls the text."""
        return self.files


class LinesSource(_Files):
    """Plain text, one document a line."""

    format: Literal["lines"]
    """Says that these are `lines`."""


class BlocksSource(_Files):
    """Plain text, documents parted by a blank line."""

    format: Literal["blocks"]
    """Says that these are `blocks`."""


class OboSource(_Files):
    """The definitions and comments of an ontology; both passages of a concept are held out together."""

    format: Literal["obo"]
    """Says that this is `obo`, version 1.2 of the format."""


class PubmedSource(_Files):
    """PubMed baseline and update files: title and abstract of each citation, the newest version of each PMID.

    A later file supersedes an earlier one, and its deletions hold for what came before; names sort that way.
    """

    format: Literal["pubmed"]
    """Says that these are `pubmed`, XML as the NLM distributes it."""

    require_abstract: bool = True
    """Leave out citations that are only a title."""

    section_labels: bool = True
    """Keep the labels of a structured abstract (`METHODS: ...`)."""


class JatsSource(_Files):
    """Articles of PMC in JATS XML, one a file or many in a .tar or .tar.gz: title, abstract, paragraphs of the body."""

    format: Literal["jats"]
    """Says that these are `jats`."""


class JsonLinesSource(_Files):
    """One JSON object a line."""

    format: Literal["jsonl"]
    """Says that these are `jsonl`."""

    field: str = "text"
    """The key that holds the text."""


class ParquetSource(_Files):
    """Parquet tables, one document a row."""

    format: Literal["parquet"]
    """Says that these are `parquet`."""

    field: str = "text"
    """The column that holds the text."""


class HuggingFaceSource(Section):
    """A data set of Hugging Face `datasets`, one document a row."""

    format: Literal["huggingface"]
    """Says that this is `huggingface`."""

    dataset: str
    """A folder made by `save_to_disk`, or a hub name (with `online: true`, or from the local cache)."""

    configuration: str | None = None
    """The configuration of a data set by name."""

    split: str = "train"
    """The split to read."""

    field: str = "text"
    """The column that holds the text."""

    def reference(self) -> str:
        """What the spec calls the text."""
        return self.dataset


FileSource = LinesSource | BlocksSource | OboSource | PubmedSource | JatsSource | JsonLinesSource | ParquetSource
Source = Annotated[FileSource | HuggingFaceSource, Field(discriminator="format")]


class Corpus(Section):
    """Text, and the cut into rows."""

    sources: Annotated[tuple[Source, ...], Field(min_length=1)]
    """Where the text is; several sources follow each other."""

    tokenizer: str | None = None
    """Where the tokenizer comes from (path, `package:` or hub name); the job's teacher when left out."""

    segmentation: Literal["truncate", "pack"] = "truncate"
    """`truncate`: one document a row, cut at `max_tokens` (Rohanian et al. 2023). `pack`: full sentences up to
    `max_tokens`, documents parted by a separator token (RoBERTa; Lewis et al. 2020)."""

    max_tokens: Annotated[int, Field(ge=8, le=8192)] = 256
    """Longest row, special tokens included."""

    min_tokens: Annotated[int, Field(ge=1)] = 8
    """Shorter rows (special tokens included) are dropped, and counted in the manifest of the token store."""

    held_out: Annotated[float, Field(ge=0.0, lt=0.9)] = 0.05
    """Share of documents kept out of training, chosen by a hash of the document's identity."""

    max_document_chars: Annotated[int, Field(ge=1000)] = 2_000_000
    """A longer document is a bad record: something is wrong with its file."""

    max_bad_records: Annotated[int, Field(ge=0)] = 100
    """Bad records (malformed, not UTF-8, too long, a damaged file) are left out and listed in the token store; more
    than so many stop the build."""


class Masking(Section):
    """Which tokens are hidden from the model (Devlin et al. 2019)."""

    share: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.15
    """Share of the ordinary tokens of a row that are scored; at least one a row."""

    mask: Annotated[float, Field(ge=0.0, le=1.0)] = 0.8
    """Of those, the share replaced by the mask token."""

    random: Annotated[float, Field(ge=0.0, le=1.0)] = 0.1
    """Of those, the share replaced by a random token; the rest stays as it is."""

    whole_words: bool = False
    """Choose words, not tokens: all pieces of a chosen word are scored."""
