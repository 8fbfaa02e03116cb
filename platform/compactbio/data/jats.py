"""Articles in JATS XML (https://jats.nlm.nih.gov), as PMC distributes them, as records."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, cast

from lxml import etree

from compactbio.data.files import Part, open_bytes
from compactbio.data.records import Bad, Document, Record, one_line, too_long
from compactbio.data.xml import name_of, read_elements, text_of

_MARKUP = 32  # bytes of an article's XML for each of its characters, at most: references and tables are XML too
_SKIPPED = frozenset(
    [
        "table-wrap",
        "table-wrap-group",
        "table",
        "fig",
        "fig-group",
        "disp-formula",
        "disp-formula-group",
        "inline-formula",
        "math",
        "tex-math",
        "supplementary-material",
        "fn",
        "fn-group",
        "ref-list",
        "media",
        "graphic",
    ]
)


def read_jats(part: Part, max_chars: int) -> Iterator[Record]:
    """The articles of a file, or of an archive of files."""
    if not part.path.endswith((".tar", ".tar.gz", ".tgz", ".tar.xz")):
        with open_bytes(part.path) as file:
            yield from _articles(file, Path(part.path).name, max_chars)
        return
    with tarfile.open(part.path, "r|*") as archive:
        for member in archive:
            if member.isfile() and member.name.endswith((".nxml", ".xml")):
                yield from _articles(cast(BinaryIO, archive.extractfile(member)), member.name, max_chars)


def _articles(file: BinaryIO, name: str, max_chars: int) -> Iterator[Record]:
    number = 0
    for number, article in read_elements(file, ("article",), max_chars * _MARKUP):
        place = name if number == 1 else f"{name}, article {number}"
        yield Bad(place, article) if isinstance(article, str) else _document(article, place, max_chars)
    if number == 0:
        yield Bad(name, "no <article> in it")


def _document(article: etree._Element, place: str, max_chars: int) -> Record:
    text = "\n".join(filter(None, map(one_line, _paragraphs(article))))
    if len(text) > max_chars:
        return Bad(place, too_long(len(text), max_chars))
    return Document(_identity(article) or text, text)


def _identity(article: etree._Element) -> str | None:
    """The article's number in PMC or PubMed, if it says one."""
    found = article.iterfind("{*}front/{*}article-meta/{*}article-id")
    ids = {element.get("pub-id-type"): text_of(element).strip() for element in found}
    pmc = ids.get("pmcid") or ids.get("pmc")
    if pmc:
        return f"pmc:{pmc.removeprefix('PMC')}"
    return f"pmid:{ids['pmid']}" if "pmid" in ids else None


def _paragraphs(article: etree._Element) -> Iterator[str]:
    """Title, abstract and body; what is not running text is left out."""
    meta = article.find("{*}front/{*}article-meta")
    if meta is not None:
        for title in meta.iterfind("{*}title-group/{*}article-title"):
            yield text_of(title, _SKIPPED)
        for abstract in meta.iterfind("{*}abstract"):
            if abstract.get("abstract-type") is None:  # otherwise a teaser, or a graphical one
                yield from _below(abstract)
    body = article.find("{*}body")
    if body is not None:
        yield from _below(body)


def _below(element: etree._Element) -> Iterator[str]:
    for child in element:
        if name_of(child) == "p":
            yield text_of(child, _SKIPPED)
        elif name_of(child) not in _SKIPPED:
            yield from _below(child)
