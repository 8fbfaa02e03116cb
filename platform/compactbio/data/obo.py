"""Reading an ontology in OBO format 1.2: concepts, their definitions and comments, and their ancestors."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from io import TextIOWrapper
from pathlib import Path

from compactbio.data.files import open_bytes
from compactbio.data.records import Document, Record
from compactbio.spec.base import SpecError

_QUOTED = re.compile(r'^"((?:[^"\\]|\\.)*)"\s*([A-Z]*)')
_ESCAPE = re.compile(r"\\(.)")


@dataclass
class Concept:
    """One [Term] stanza."""

    id: str
    name: str = ""
    definition: str = ""
    comment: str = ""
    synonyms: list[str] = field(default_factory=list)  # exact ones
    parents: list[str] = field(default_factory=list)
    obsolete: bool = False


def read_concepts(path: Path) -> Iterator[Concept]:
    """The concepts of the file that are not obsolete, in its order.

    Raises SpecError with file and line for a stanza without an id, or a file that holds no stanza at all.
    """
    concept: Concept | None = None
    found = False
    for number, line in enumerate(_lines(path), start=1):
        if line.startswith("["):
            if concept is not None and not concept.obsolete:
                yield concept
            concept = None
            in_term = line == "[Term]"
            found = found or in_term
            concept = Concept(id="") if in_term else None
        elif concept is not None and line:
            key, colon, value = line.partition(": ")
            if not colon:
                raise SpecError.at("", f"{path}:{number}: not a `key: value` line of an OBO file")
            _set(concept, key, value)
    if concept is not None and not concept.obsolete:
        yield concept
    if not found:
        raise SpecError.at("", f"{path}: no [Term] in it; is it an ontology in OBO format?")


def read_passages(path: Path) -> Iterator[Record]:
    """Definitions and comments, as documents of their concept."""
    for concept in read_concepts(path):
        for text in (concept.definition, concept.comment):
            if text:
                yield Document(identity=concept.id, text=text)


def ancestors(concepts: dict[str, Concept], concept_id: str) -> set[str]:
    """The ids of a concept and of everything above it."""
    above: set[str] = set()
    waiting = [concept_id]
    while waiting:
        here = waiting.pop()
        if here not in above and here in concepts:
            above.add(here)
            waiting.extend(concepts[here].parents)
    return above


def _lines(path: Path) -> Iterator[str]:
    """The lines of a text file, stripped. Raises SpecError where it is not UTF-8."""
    try:
        with TextIOWrapper(open_bytes(path), encoding="utf-8") as file:
            for line in file:
                yield line.strip()
    except UnicodeDecodeError as error:
        raise SpecError.at("", f"{path} is not UTF-8 text ({error.reason})") from None


def _set(concept: Concept, key: str, value: str) -> None:
    match key:
        case "id":
            concept.id = value
        case "name":
            concept.name = value
        case "def":
            concept.definition = _quoted(value)[0]
        case "comment":
            concept.comment = _ESCAPE.sub(_unescape, value)
        case "synonym":
            text, scope = _quoted(value)
            if scope == "EXACT":
                concept.synonyms.append(text)
        case "is_a":
            concept.parents.append(value.split(" ")[0])
        case "is_obsolete":
            concept.obsolete = value == "true"


def _quoted(value: str) -> tuple[str, str]:
    match = _QUOTED.match(value)
    return (_ESCAPE.sub(_unescape, match[1]), match[2]) if match else (value, "")


def _unescape(match: re.Match[str]) -> str:
    return {"n": " ", "t": " ", "W": " "}.get(match[1], match[1])
