"""What readers of text say, whatever the format."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Document:
    """A piece of text."""

    identity: str
    """Decides whether it is held out, and which documents are versions of each other."""

    text: str
    """Paragraphs, parted by newlines. Nothing where the record holds no text to learn from."""

    version: int | None = None
    """Where newer documents replace older ones of the same identity: the version."""


@dataclass(frozen=True, slots=True)
class Deletion:
    """Earlier versions of a document, up to this one, are withdrawn."""

    identity: str
    version: int


@dataclass(frozen=True, slots=True)
class Bad:
    """A record that cannot be read."""

    place: str
    """Where in its file."""

    reason: str


Record = Document | Deletion | Bad


def one_line(text: str) -> str:
    """The text with every run of white space as one space."""
    return " ".join(text.split())


def plain_document(text: str, place: str, max_chars: int) -> Document | Bad:
    """Text that is its own identity. One that is longer than `max_chars` is a bad record."""
    if len(text) > max_chars:
        return Bad(place, too_long(len(text), max_chars))
    try:
        text.encode()
    except UnicodeEncodeError as error:
        return Bad(place, f"not Unicode: {error.reason} at character {error.start}")
    joined = "\n".join(filter(None, map(one_line, text.splitlines())))
    return Document(identity=joined, text=joined)


def too_long(length: int, max_chars: int) -> str:
    """The reason that a document is refused for its length."""
    return f"{length:,} characters, more than {max_chars:,} (corpus.max_document_chars)"
