"""PubMed baseline and update files (https://www.nlm.nih.gov/databases/dtd/), as records."""

from __future__ import annotations

import re
from collections.abc import Iterator

from lxml import etree

from compactbio.data.files import Part, open_bytes
from compactbio.data.records import Bad, Deletion, Document, Record, one_line, too_long
from compactbio.data.xml import read_elements, text_of
from compactbio.spec.corpus import PubmedSource

_RECORDS = ("PubmedArticle", "PubmedBookArticle", "MedlineCitation", "DeleteCitation")
_BRACKETED = re.compile(r"^\[(.*)\](\.?)$")  # the title of an article that is not in English
_MARKUP = 8  # bytes of a record's XML for each of its characters, at most


def read_pubmed(part: Part, max_chars: int, source: PubmedSource) -> Iterator[Record]:
    """The citations and deletions of a file, in its order."""
    number = 0
    with open_bytes(part.path) as file:
        for number, element in read_elements(file, _RECORDS, max_chars * _MARKUP):
            place = f"record {number}"
            if isinstance(element, str):
                yield Bad(place, element)
            elif element.tag == "DeleteCitation":
                yield from (Deletion(*_pmid(deleted)) for deleted in element.iter("PMID"))
            else:
                yield _citation(element, place, max_chars, source)
    if number == 0:
        yield Bad("file", "no citation in it")


def _citation(element: etree._Element, place: str, max_chars: int, source: PubmedSource) -> Record:
    pmid = next(element.iter("PMID"), None)
    if pmid is None or not (pmid.text or "").strip().isdigit():
        return Bad(place, "no PMID")
    identity, version = _pmid(pmid)
    title = next((found for name in ("ArticleTitle", "BookTitle") for found in element.iter(name)), None)
    heading = _BRACKETED.sub(r"\1\2", one_line(text_of(title))) if title is not None else ""
    sections = [
        _section(found, source) for abstract in element.iter("Abstract") for found in abstract.iter("AbstractText")
    ]
    abstract = " ".join(filter(None, sections))
    text = "\n".join(filter(None, (heading, abstract))) if abstract or not source.require_abstract else ""
    if len(text) > max_chars:
        return Bad(place, f"{identity}: {too_long(len(text), max_chars)}")
    return Document(identity, text, version)


def _section(element: etree._Element, source: PubmedSource) -> str:
    text, label = one_line(text_of(element)), element.get("Label")
    return f"{label}: {text}" if text and label and source.section_labels and label != "UNLABELLED" else text


def _pmid(element: etree._Element) -> tuple[str, int]:
    version = element.get("Version") or "1"
    return f"pmid:{(element.text or '').strip()}", int(version) if version.isdigit() else 1
