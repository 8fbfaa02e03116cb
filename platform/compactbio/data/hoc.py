"""Hallmarks of Cancer: sentences of abstracts with any number of labels."""

from __future__ import annotations

import re
from collections.abc import Iterator

from compactbio.data.annotated import AnnotatedFile, notes_of
from compactbio.data.examples import LabelledText
from compactbio.data.sets import Sets
from compactbio.spec.references import locate_file
from compactbio.spec.text_tasks import LabelTask

_COLUMNS = {"id": "id", "index": "id", "labels": "labels", "sentence": "sentence"}
_IDENTITY = re.compile(r"^(.+)_s\d+$")


def read_labelled(task: LabelTask) -> Sets[LabelledText]:
    """Sentences in the order of the files, with their abstract as the group. Raises SpecError with file and line."""
    files = {name: AnnotatedFile(locate_file(path, name)) for name, path in task.files()}
    names = [line.strip() for line in files.pop("names").lines() if line.strip()]
    sets = {name: list(_sentences(file, len(names))) for name, file in files.items()}
    for file in files.values():
        file.raise_problems()
    return Sets(sets["train"], sets.get("dev", []), sets["test"], names, notes_of(files.values()))


def _sentences(file: AnnotatedFile, num_labels: int) -> Iterator[LabelledText]:
    lines = file.lines()
    header = [_COLUMNS.get(cell.strip().lower(), cell) for cell in lines[0].split("\t")]
    if sorted(header) != ["id", "labels", "sentence"]:
        file.wrong(1, f"the first line names the columns id, labels and sentence; it is '{lines[0]}'")
        return
    seen: dict[str, int] = {}
    for number, line in enumerate(lines[1:], start=2):
        cells = line.split("\t")
        if not line.strip():
            continue
        if len(cells) != len(header):
            file.wrong(number, f"{len(cells)} columns instead of {len(header)}")
            continue
        row = dict(zip(header, cells, strict=True))
        matched = _IDENTITY.match(row["id"])
        if matched is None:
            file.wrong(number, f"the id '{row['id']}' is not of the form PMID_sN, which says the abstract")
            continue
        if row["id"] in seen:
            file.wrong(number, f"the id '{row['id']}' stands in line {seen[row['id']]} already")
        seen[row["id"]] = number
        file.note_length(number, len(row["sentence"].split()))
        labels = _labels(file, number, row["labels"], num_labels)
        yield LabelledText(row["id"], row["sentence"], labels, group=matched[1])


def _labels(file: AnnotatedFile, line: int, text: str, num_labels: int) -> frozenset[int]:
    labels = set()
    for label in filter(None, (part.strip() for part in text.split(","))):
        if label.isascii() and label.isdigit() and int(label) < num_labels:
            labels.add(int(label))
        else:
            file.wrong(line, f"stray label '{label}': the labels are 0 to {num_labels - 1}, with commas between them")
    return frozenset(labels)
