"""Relations between marked entities: JSON lines, tables, folds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from compactbio.data.annotated import AnnotatedFile, notes_of
from compactbio.data.examples import ClassifiedText
from compactbio.data.sets import Sets, hold_out
from compactbio.spec.base import Problem, SpecError
from compactbio.spec.references import locate_file
from compactbio.spec.relation_tasks import RelationFoldTask, RelationHoldoutTask, RelationTask, RelationTasks
from compactbio.spec.task_base import DEV_SHARE

_TEXT = ("sentence", "text")
_HEADERLESS = {2: ("sentence", "label"), 3: ("id", "sentence", "label")}


@dataclass(frozen=True)
class _Row:
    """A relation as it stands in a file, with its line."""

    line: int
    text: str
    label: str
    fold: str = ""


def read_relations(task: RelationTask) -> Sets[ClassifiedText]:
    """The files of the task. Raises SpecError with file and line."""
    files = {name: AnnotatedFile(locate_file(path, name)) for name, path in task.files()}
    sets = {name: _classified(file, _rows(file), task, name) for name, file in files.items()}
    return Sets(sets["train"], sets.get("dev", []), sets["test"], list(task.labels), notes_of(files.values()))


def read_folds(task: RelationFoldTask) -> Sets[ClassifiedText]:
    """One fold as test set, one or a share of the others as development set. Raises SpecError with file and line."""
    files = [AnnotatedFile(locate_file(path, name)) for name, path in task.files()]
    folds = _file_a_fold(files, task) if len(files) > 1 else _folds_of_a_table(files[0], task)
    if empty := [str(number) for number, rows in folds.items() if not rows]:
        raise SpecError([Problem("", f"no rows of fold {', '.join(empty)} of {task.folds}")], str(files[0].path))
    others = [row for number, rows in folds.items() if number not in (task.fold, task.dev_fold) for row in rows]
    if task.dev_fold is None:
        train, dev = hold_out(others, DEV_SHARE, task.subset_seed, key=_identity)
    else:
        train, dev = others, folds[task.dev_fold]
    return Sets(train, dev, folds[task.fold], list(task.labels), notes_of(files) + _repeated(folds))


def read_holdout(task: RelationHoldoutTask) -> Sets[ClassifiedText]:
    """A fixed share of the rows as test set, whatever folds the file has. Raises SpecError with file and line."""
    (name, path), *_ = task.files()
    file = AnnotatedFile(locate_file(path, name))
    rows = _classified(file, _rows(file), task, "row")
    train, test = hold_out(rows, task.test_share, task.subset_seed, key=_identity)
    return Sets(train, [], test, list(task.labels), notes_of([file]))


def _folds_of_a_table(file: AnnotatedFile, task: RelationFoldTask) -> dict[int, list[ClassifiedText]]:
    known = {str(number) for number in range(1, task.folds + 1)}
    rows: dict[int, list[_Row]] = {number: [] for number in range(1, task.folds + 1)}
    for row in _rows(file):
        if row.fold in known:
            rows[int(row.fold)].append(row)
        else:
            file.wrong(row.line, f"fold '{row.fold}' is not one of 1 to {task.folds} (a column `fold` has to say)")
    return {number: _classified(file, some, task, f"fold {number}") for number, some in rows.items()}


def _file_a_fold(files: list[AnnotatedFile], task: RelationFoldTask) -> dict[int, list[ClassifiedText]]:
    return {
        number: _classified(file, _rows(file), task, f"fold {number}") for number, file in enumerate(files, start=1)
    }


def _repeated(folds: dict[int, list[ClassifiedText]]) -> tuple[str, ...]:
    """What to say of sentences that stand in several folds: a model may have been trained on what it is scored on."""
    where: dict[str, set[int]] = {}
    for number, rows in folds.items():
        for row in rows:
            where.setdefault(row.text, set()).add(number)
    repeated = sum(len(numbers) > 1 for numbers in where.values())
    return (f"{repeated:,} of {len(where):,} sentences stand in more than one fold",) if repeated else ()


def _classified(
    file: AnnotatedFile, rows: Iterator[_Row] | list[_Row], task: RelationTasks, name: str
) -> list[ClassifiedText]:
    labels = {label: index for index, label in enumerate(task.labels)}
    examples = []
    for number, row in enumerate(rows, start=1):
        file.note_length(row.line, len(row.text.split()))
        if row.label not in labels:
            file.wrong(row.line, f"stray label '{row.label}': the task has {', '.join(labels)}")
        for marker in task.markers:
            if marker not in row.text:
                file.wrong(row.line, f"no '{marker}' in the sentence, so that an entity is not marked")
        examples.append(ClassifiedText(f"{name} {number}", row.text, None, labels.get(row.label, 0)))
    file.raise_problems()
    return examples


def _rows(file: AnnotatedFile) -> Iterator[_Row]:
    return _json_rows(file) if {".jsonl", ".json"} & set(file.path.suffixes) else _table_rows(file)


def _json_rows(file: AnnotatedFile) -> Iterator[_Row]:
    for number, value in file.json_lines():
        texts = [value[name] for name in _TEXT if name in value]
        label = value.get("label")
        if len(texts) == 1 and isinstance(texts[0], str) and isinstance(label, str):
            yield _Row(number, texts[0], label)
        else:
            file.wrong(number, "needs `text` and `label`, both of them text")


def _table_rows(file: AnnotatedFile) -> Iterator[_Row]:
    """Rows by the names of their columns; a table without a header has sentence, label, or id, sentence, label."""
    lines = file.lines()
    header = tuple(cell.strip().lower() for cell in lines[0].split("\t"))
    has_text, has_label = any(name in header for name in _TEXT), "label" in header
    named = has_text and has_label
    if has_text != has_label:
        missing = "label" if has_text else "sentence"
        file.wrong(1, f"a column is missing: `{missing}` (the first line names {', '.join(header)})")
        return
    columns = header if named else _HEADERLESS.get(len(header))
    if columns is None:
        file.wrong(1, f"{len(header)} columns and no header: name the columns (sentence, label, and id or fold)")
        return
    for number, line in enumerate(lines, start=1):
        cells = line.split("\t")
        if (named and number == 1) or not line.strip():
            continue
        if len(cells) != len(columns):
            file.wrong(number, f"{len(cells)} columns instead of {len(columns)} ({', '.join(columns)})")
            continue
        text, label, fold = (_column(columns, cells, names) for names in (_TEXT, ("label",), ("fold",)))
        if text:
            yield _Row(number, text, label, fold)
        else:
            file.wrong(number, "the sentence is empty")


def _column(columns: tuple[str, ...], cells: list[str], names: tuple[str, ...]) -> str:
    """The cell under the first of these names that the table has; nothing where it has none."""
    return next((cells[columns.index(name)].strip() for name in names if name in columns), "")


def _identity(example: ClassifiedText) -> str:
    return example.identity
