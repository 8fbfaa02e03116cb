"""Files in the form of PubMed's, made from given texts."""

from __future__ import annotations

import gzip
from collections.abc import Iterable, Iterator
from pathlib import Path
from xml.sax.saxutils import escape

HEAD = '<?xml version="1.0" encoding="utf-8"?>\n<!DOCTYPE PubmedArticleSet SYSTEM "pubmed.dtd">\n<PubmedArticleSet>\n'
TAIL = "</PubmedArticleSet>\n"


def article(pmid: int, title: str, abstract: str, version: int = 1) -> str:
    """A citation, with some of the fields that surround title and abstract in a real one."""
    return (
        f'<PubmedArticle>\n<MedlineCitation Status="MEDLINE" Owner="NLM">\n<PMID Version="{version}">{pmid}</PMID>\n'
        "<DateRevised><Year>2025</Year><Month>01</Month><Day>09</Day></DateRevised>\n"
        '<Article PubModel="Print"><Journal><ISSN IssnType="Print">0006-2944</ISSN><JournalIssue CitedMedium="Print">'
        "<Volume>13</Volume><Issue>2</Issue><PubDate><Year>1975</Year></PubDate></JournalIssue></Journal>"
        f"<ArticleTitle>{escape(title)}</ArticleTitle>"
        f"<Abstract><AbstractText>{escape(abstract)}</AbstractText></Abstract>"
        '<AuthorList CompleteYN="Y"><Author ValidYN="Y"><LastName>Makar</LastName><Initials>AB</Initials></Author>'
        "</AuthorList><Language>eng</Language></Article>\n"
        "<MeshHeadingList><MeshHeading><DescriptorName>Animals</DescriptorName></MeshHeading></MeshHeadingList>\n"
        "<CommentsCorrectionsList><CommentsCorrections><PMID>1</PMID></CommentsCorrections></CommentsCorrectionsList>\n"
        "</MedlineCitation>\n<PubmedData><PublicationStatus>ppublish</PublicationStatus></PubmedData>\n</PubmedArticle>\n"
    )


def deletion(pmids: Iterable[int]) -> str:
    """Citations that are withdrawn."""
    return (
        "<DeleteCitation>\n" + "".join(f'<PMID Version="1">{pmid}</PMID>\n' for pmid in pmids) + "</DeleteCitation>\n"
    )


def write_file(path: Path, records: Iterable[str]) -> None:
    """A baseline or update file."""
    with gzip.open(path, "wt", encoding="utf-8", compresslevel=1) as file:
        file.write(HEAD)
        file.writelines(records)
        file.write(TAIL)


def copies(texts: list[tuple[str, str]], first: int, count: int) -> Iterator[str]:
    """Citations under the PMIDs from `first` on; each time that a text comes round it has a sentence of its own."""
    for pmid in range(first, first + count):
        title, abstract = texts[pmid % len(texts)]
        yield article(pmid, title, f"{abstract} This is record {pmid} of the simulated collection.")
