"""The records of a corpus, whatever its formats."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from compactbio.data.files import DAMAGE, Part, pieces
from compactbio.data.jats import read_jats
from compactbio.data.obo import read_passages
from compactbio.data.pubmed import read_pubmed
from compactbio.data.records import Bad, Document, Record
from compactbio.data.tables import read_data_set, read_parquet
from compactbio.data.text import read_blocks, read_json_lines, read_lines
from compactbio.spec import corpus as spec
from compactbio.spec.base import SpecError


def records(corpus: spec.Corpus, part: Part) -> Iterator[Record]:
    """The records of a part in its order, streamed. A file that is cut off or garbled ends with a bad record."""
    try:
        yield from _read(corpus.sources[part.source], part, corpus.max_document_chars)
    except DAMAGE as error:
        reason = str(error) or type(error).__name__
        yield Bad("file", f"damaged, and what follows is lost: {reason}")
    except OSError as error:
        if error.errno is not None:  # of the system, not of what is in the file
            raise
        yield Bad("file", f"damaged, and what follows is lost: {error}")


def _read(source: spec.Source, part: Part, max_chars: int) -> Iterator[Record]:
    match source:
        case spec.LinesSource():
            return read_lines(part, max_chars)
        case spec.BlocksSource():
            return read_blocks(part, max_chars)
        case spec.OboSource():
            return read_passages(Path(part.path))
        case spec.PubmedSource():
            return read_pubmed(part, max_chars, source)
        case spec.JatsSource():
            return read_jats(part, max_chars)
        case spec.JsonLinesSource():
            return read_json_lines(part, max_chars, source.field)
        case spec.ParquetSource():
            return read_parquet(part, max_chars, source.field)
        case spec.HuggingFaceSource():
            return read_data_set(part, max_chars, source)


def require_text(corpus: spec.Corpus, *, online: bool) -> None:
    """Raises SpecError when files are missing or the corpus has not a single document."""
    for piece in pieces(corpus, online=online):
        for part in piece.parts:
            for record in records(corpus, part):
                if isinstance(record, Document) and record.text:
                    return
    where = ", ".join(source.reference() for source in corpus.sources)
    formats = ", ".join(sorted({source.format for source in corpus.sources}))
    raise SpecError.at("corpus.sources", f"'{where}' holds no text in the format '{formats}'")
