"""Held-out text for scoring a model's masked words."""

from __future__ import annotations

from compactbio.data.counter import is_held_out
from compactbio.data.examples import PlainText
from compactbio.data.files import DAMAGE, Part
from compactbio.data.records import Bad, Document
from compactbio.data.sets import Sets
from compactbio.data.text import read_blocks
from compactbio.spec.base import Problem, SpecError
from compactbio.spec.corpus import Corpus
from compactbio.spec.references import locate_file
from compactbio.spec.text_tasks import MaskedTextTask

_MAX_CHARS = int(Corpus.model_fields["max_document_chars"].default)


def read_plain(task: MaskedTextTask) -> Sets[PlainText]:
    """The held-out documents, in their order; a document that stands twice counts once. Raises SpecError."""
    path = locate_file(task.file, "file")
    texts: dict[str, PlainText] = {}
    bad: list[Problem] = []
    try:
        for number, record in enumerate(read_blocks(Part(0, str(path)), _MAX_CHARS), start=1):
            if isinstance(record, Bad):
                bad.append(Problem(record.place, record.reason))
            elif isinstance(record, Document) and is_held_out(record.identity, task.held_out):
                texts.setdefault(record.identity, PlainText(f"document {number}", record.text))
    except DAMAGE as error:
        bad.append(Problem("", f"damaged: {error}"))
    if not texts and not bad:
        bad.append(Problem("", f"no held-out document (held_out {task.held_out})"))
    if bad:
        raise SpecError(bad, str(path))
    return Sets([], [], list(texts.values()), [])
