"""Natural language inference in JSON lines, as SNLI and MedNLI have it."""

from __future__ import annotations

from collections.abc import Iterator

from compactbio.data.annotated import AnnotatedFile, notes_of
from compactbio.data.examples import ClassifiedText
from compactbio.data.sets import Sets
from compactbio.spec.references import locate_file
from compactbio.spec.text_tasks import PairTask

_FIELDS = ("sentence1", "sentence2", "gold_label")


def read_pairs(task: PairTask) -> Sets[ClassifiedText]:
    """The files of the task. Raises SpecError with file and line."""
    files = {name: AnnotatedFile(locate_file(path, name)) for name, path in task.files()}
    sets = {name: list(_pairs(file, task.labels, name)) for name, file in files.items()}
    for file in files.values():
        file.raise_problems()
    return Sets(sets["train"], sets.get("dev", []), sets["test"], list(task.labels), notes_of(files.values()))


def _pairs(file: AnnotatedFile, labels: tuple[str, ...], name: str) -> Iterator[ClassifiedText]:
    for line, value in file.json_lines():
        missing = [field for field in _FIELDS if not isinstance(value.get(field), str)]
        if missing:
            file.wrong(line, f"no text under {', '.join(f'`{field}`' for field in missing)}")
        elif value["gold_label"] not in labels:
            file.wrong(line, f"stray label '{value['gold_label']}': the task has {', '.join(labels)}")
        else:
            file.note_length(line, max(len(value[field].split()) for field in _FIELDS[:2]))
            label = labels.index(value["gold_label"])
            yield ClassifiedText(f"{name} {line}", value["sentence1"], value["sentence2"], label)
