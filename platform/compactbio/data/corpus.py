"""The documents of a corpus, whatever its format."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from compactbio.data.obo import read_concepts, read_lines
from compactbio.spec.base import SpecError
from compactbio.spec.corpus import Corpus
from compactbio.spec.references import locate_file


@dataclass(frozen=True)
class Document:
    """A piece of text, and what decides whether it is held out."""

    identity: str
    text: str


def corpus_file(corpus: Corpus) -> Path:
    """The file that holds the corpus. Raises SpecError when it is not there."""
    return locate_file(corpus.text, "corpus.text")


def documents(corpus: Corpus) -> Iterator[Document]:
    """The documents of the corpus in the file's order, streamed. Empty ones are left out."""
    path = corpus_file(corpus)
    match corpus.format:
        case "lines":
            texts = read_lines(path)
        case "blocks":
            texts = (" ".join(block) for some, block in groupby(read_lines(path), key=bool) if some)
        case "obo":
            yield from _passages(path)
            return
    for text in texts:
        if text:
            yield Document(identity=text, text=text)


def require_text(corpus: Corpus) -> None:
    """Raises SpecError when the corpus has not a single document."""
    if next(documents(corpus), None) is None:
        raise SpecError.at("corpus.text", f"'{corpus.text}' holds no text in the format '{corpus.format}'")


def _passages(path: Path) -> Iterator[Document]:
    for concept in read_concepts(path):
        for text in (concept.definition, concept.comment):
            if text:
                yield Document(identity=concept.id, text=text)
