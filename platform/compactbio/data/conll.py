"""Named entities in files of one token a line: CoNLL columns, tagged by IOB1, IOB2 or IOBES."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from compactbio.data.annotated import AnnotatedFile, notes_of
from compactbio.data.examples import TaggedText
from compactbio.data.sets import Sets
from compactbio.spec.entity_tasks import EntityTask
from compactbio.spec.references import locate_file

DOCUMENT_START = "-DOCSTART-"

_PREFIXES = {"iob1": "BI", "iob2": "BI", "iobes": "BIES"}
_CONTINUED = "BI"  # prefixes that an I- or E- may follow


@dataclass(frozen=True)
class _Tag:
    """prefix: O, B, I, E or S; type: the entity's, nothing for O."""

    prefix: str
    type: str = ""


_OUTSIDE = _Tag("O")


def read_entities(task: EntityTask) -> Sets[TaggedText]:
    """The sets of the task; words of all files carry IOB2 tags. Raises SpecError with file and line."""
    files = {name: AnnotatedFile(locate_file(path, name)) for name, path in task.files()}
    sets: dict[str, list[TaggedText]] = {"dev": []}
    for name, file in files.items():
        sets[name] = list(_examples(file, task, name))
        file.raise_problems()
    train, dev = sets["train"], sets["dev"]
    if task.training == "train+dev":
        train, dev = train + dev, []
    return Sets(train, dev, sets["test"], _tag_names(task, sets), notes_of(files.values()))


def _tag_names(task: EntityTask, sets: dict[str, list[TaggedText]]) -> list[str]:
    found = {tag[2:] for some in sets.values() for example in some for tag in example.tags if tag != "O"}
    types = task.types or tuple(sorted(found))
    return ["O"] + [f"{prefix}-{entity}" for entity in types for prefix in "BI"]


def _examples(file: AnnotatedFile, task: EntityTask, name: str) -> Iterator[TaggedText]:
    reader = _Sentences(file, task)
    number = 0
    for words, tags in reader.sentences():
        number += 1
        yield TaggedText(f"{name} {number}", words, tags)
    if not number:
        file.wrong(1, "no sentence in the file")


@dataclass
class _Sentences:
    """The sentences of one file, and the checks of its scheme."""

    file: AnnotatedFile
    task: EntityTask
    num_columns: int = 0
    """Of the file, once a line has been seen."""

    known: dict[str, _Tag] = field(default_factory=lambda: {"O": _OUTSIDE})
    """Tags that nothing is wrong with, by their text."""

    def sentences(self) -> Iterator[tuple[list[str], list[str]]]:
        """Words and IOB2 tags."""
        rows: list[tuple[int, str, _Tag]] = []
        for number, line in enumerate([*self.file.lines(), ""], start=1):
            row = self._row(number, line) if line.strip() else None
            if row is not None:
                rows.append(row)
            elif rows and self._is_break(line):
                yield self._checked(rows)
                rows = []

    def _is_break(self, line: str) -> bool:
        return not line.strip() or line.startswith(DOCUMENT_START)

    def _row(self, number: int, line: str) -> tuple[int, str, _Tag] | None:
        """Token first, tag last; nothing for a line that is none."""
        if line.startswith(DOCUMENT_START):
            return None
        cells = line.split("\t") if "\t" in line else re.split(" +", line.strip(" "))
        token, tag = cells[0].strip(), cells[-1].strip()
        if len(cells) < 2 or not token or not tag:
            self.file.wrong(number, f"a column is missing: '{line}' (token first, tag last; a tab or spaces between)")
            return None
        self.num_columns = self.num_columns or len(cells)
        if len(cells) != self.num_columns:
            self.file.wrong(number, f"{len(cells)} columns, where the lines before have {self.num_columns}: '{line}'")
        return number, token, self.known.get(tag) or self._tag(number, tag)

    def _tag(self, number: int, text: str) -> _Tag:
        """The tag, remembered where nothing is wrong with it."""
        prefix, dash, entity = text.partition("-")
        allowed = _PREFIXES[self.task.scheme]
        if prefix not in tuple(allowed) or (dash and not entity):
            shapes = ", ".join(f"{letter}-TYPE" for letter in allowed)
            self.file.wrong(number, f"stray label '{text}' ({self.task.scheme} has O, {shapes})")
            return _OUTSIDE
        if not dash and self.task.entity is None:
            self.file.wrong(number, f"label '{text}' has no type: say which under the task's `entity`")
            return _OUTSIDE
        tag = _Tag(prefix, entity or self.task.entity or "")
        if self.task.types and tag.type not in self.task.types:
            self.file.wrong(number, f"stray label '{text}': the task has the types {', '.join(self.task.types)}")
            return tag
        self.known[text] = tag
        return tag

    def _checked(self, rows: list[tuple[int, str, _Tag]]) -> tuple[list[str], list[str]]:
        """The sentence, after the rules of the scheme; IOB2 tags."""
        words, tags = [], []
        self.file.note_length(rows[0][0], len(rows))
        before, rule = _OUTSIDE, _RULES[self.task.scheme]
        for number, word, tag in rows:
            if complaint := None if tag is before is _OUTSIDE else rule(before, tag):
                self.file.wrong(number, f"'{word}': {complaint}")
            words.append(word)
            tags.append("O" if tag is _OUTSIDE else _iob2(before, tag))
            before = tag
        if self.task.scheme == "iobes" and before.prefix in _CONTINUED:
            self.file.wrong(rows[-1][0], f"'{rows[-1][1]}': {_unfinished(before)}")
        return words, tags


def _iob2(before: _Tag, tag: _Tag) -> str:
    inside = tag.prefix in "IE" and before.prefix != "O" and before.type == tag.type
    return f"{'I' if inside else 'B'}-{tag.type}"


def _iob1_rule(before: _Tag, tag: _Tag) -> str | None:
    """I- begins an entity; B- only where one of the same type touches it (Ramshaw and Marcus 1995)."""
    if tag.prefix == "B" and before.type != tag.type:
        return f"B-{tag.type} follows no entity of its type; in iob1 entities begin with I- (is this iob2?)"
    return None


def _iob2_rule(before: _Tag, tag: _Tag) -> str | None:
    """Every entity begins with B-."""
    if tag.prefix == "I" and before.type != tag.type:
        return f"I-{tag.type} without B-{tag.type} before it; in iob2 entities begin with B- (is this iob1?)"
    return None


def _iobes_rule(before: _Tag, tag: _Tag) -> str | None:
    """B- I-* E- for several words, S- for one."""
    continues = before.prefix in _CONTINUED
    if tag.prefix in "IE" and not (continues and before.type == tag.type):
        return f"{tag.prefix}-{tag.type} without B-{tag.type} before it"
    if continues and tag.prefix not in "IE":
        return f"the entity before it is not finished: {_unfinished(before)}"
    return None


def _unfinished(tag: _Tag) -> str:
    return f"{tag.prefix}-{tag.type} without E-{tag.type} behind it"


_RULES = {"iob1": _iob1_rule, "iob2": _iob2_rule, "iobes": _iobes_rule}
