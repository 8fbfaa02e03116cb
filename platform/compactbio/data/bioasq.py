"""Factoid questions in BioASQ's own files: golden JSON read, submissions written and read."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from compactbio.data.annotated import AnnotatedFile, Json, notes_of
from compactbio.data.examples import Passage, Question
from compactbio.data.sets import Sets
from compactbio.spec.question_tasks import QuestionTask
from compactbio.spec.references import locate_file

FACTOID = "factoid"
MOST_ANSWERS = 5
"""As many candidates are scored for a question."""


def read_bioasq(task: QuestionTask) -> Sets[Question]:
    """The factoid questions of golden files, with their snippets as passages.

    Raises SpecError with the file and the question's id.
    """
    sets: dict[str, list[Question]] = {}
    files = []
    for name, path in task.files():
        files.append(AnnotatedFile(locate_file(path, name)))
        kind = "test" if name == "more_tests" else name
        sets.setdefault(kind, []).extend(read_golden(files[-1]))
    num_training = len(_questions(files[0]))  # table 1 of Rohanian et al. (2023) counts the questions of every type
    return Sets(sets["train"], sets.get("dev", []), sets["test"], [], notes_of(files), num_training)


def read_golden(file: AnnotatedFile) -> list[Question]:
    """The factoid questions of a golden file; how many of all they are is noted."""
    asked = _questions(file)
    found = [_question(file, value) for value in asked if value.get("type") == FACTOID]
    file.notes.append(f"{file.path}: {len(asked):,} questions, {len(found):,} of them factoid")
    file.raise_problems()
    return found


def write_submission(path: Path, questions: Iterable[Question], answers: Mapping[str, Sequence[str]]) -> None:
    """Writes the best answers by question id, best first, as a system's submission (phase B, since BioASQ 5).

    The first five of each question are written. Raises KeyError for a question without an entry in `answers`.
    """
    told = [
        {
            "id": question.identity,
            "type": FACTOID,
            "body": question.question,
            "exact_answer": [[answer] for answer in answers[question.identity][:MOST_ANSWERS]],
            "ideal_answer": "",
        }
        for question in questions
    ]
    path.write_text(json.dumps({"questions": told}, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def read_submission(file: AnnotatedFile) -> dict[str, list[str]]:
    """The answers by question id, best first, of a system's submission. Raises SpecError."""
    found = {}
    for value in _questions(file):
        answers = value.get("exact_answer", [])
        entries = answers if isinstance(answers, list) else [answers]
        found[value["id"]] = [text for text in map(_first, entries) if text is not None]
    return found


def _first(entry: object) -> str | None:
    """An answer, or the first of its synonyms: the official scorer reads no more."""
    first = entry[0] if isinstance(entry, list) and entry else entry
    return first if isinstance(first, str) else None


def _questions(file: AnnotatedFile) -> list[Json]:
    value = file.json()
    asked: Any = value.get("questions") if isinstance(value, dict) else None
    if not isinstance(asked, list):
        file.refuse(1, "not in BioASQ's format: there is no list `questions`")
    seen: set[str] = set()
    for number, question in enumerate(asked):
        identity = question.get("id") if isinstance(question, dict) else None
        if not isinstance(identity, str):
            file.wrong(None, "no text under `id`", f"questions.{number}")
        elif identity in seen:
            file.wrong(None, "the id stands twice", f"question {identity}")
        else:
            seen.add(identity)
    file.raise_problems()
    return list(asked)


def _question(file: AnnotatedFile, value: Json) -> Question:
    place = f"question {value['id']}"
    body, snippets = value.get("body"), value.get("snippets", [])
    if not isinstance(body, str):
        file.wrong(None, "no text under `body`", place)
        body = ""
    answers = _answers(file, value.get("exact_answer"), place)
    passages = []
    for number, snippet in enumerate(snippets if isinstance(snippets, list) else []):
        text = snippet.get("text") if isinstance(snippet, dict) else None
        if isinstance(text, str):
            passages.append(Passage(f"{value['id']} snippet {number}", text, spans_of(answers, text)))
        else:
            file.wrong(None, f"no text in snippet {number}", place)
    if not passages:
        file.wrong(None, "no snippets to find an answer in", place)
    return Question(value["id"], body, tuple(passages), answers)


def _answers(file: AnnotatedFile, given: object, place: str) -> tuple[tuple[str, ...], ...]:
    """Groups of synonyms. A flat list, as older files have it, is one answer with its synonyms."""
    if isinstance(given, str):
        given = [given]
    groups: list[Any] = []
    if isinstance(given, list):
        groups = [given] if all(isinstance(entry, str) for entry in given) else given
    found = tuple(
        tuple(text.strip() for text in group if isinstance(text, str) and text.strip())
        for group in groups
        if isinstance(group, list)
    )
    if not found or not all(found):
        file.wrong(None, "`exact_answer` is no list of answers", place)
    return found


def spans_of(answers: Iterable[Iterable[str]], text: str) -> tuple[tuple[int, str], ...]:
    """Where the answers stand in the text as whole words, whatever their case; the text's own spelling."""
    found = set()
    for answer in (synonym for group in answers for synonym in group):
        pattern = rf"(?<!\w){re.escape(answer)}(?!\w)"
        found |= {(match.start(), match.group()) for match in re.finditer(pattern, text, re.IGNORECASE)}
    return tuple(sorted(found))
