"""Questions with answers in passages, in SQuAD's format."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from compactbio.data.annotated import AnnotatedFile, Json, notes_of
from compactbio.data.examples import Passage, Question
from compactbio.data.sets import Sets, hold_out
from compactbio.spec.question_tasks import QuestionHoldoutTask, QuestionTask
from compactbio.spec.references import locate_file
from compactbio.spec.task_base import DEV_SHARE


@dataclass(frozen=True)
class _Asked:
    """A question, and the article that it is about."""

    article: str
    question: Question


def read_squad(task: QuestionTask) -> Sets[Question]:
    """The files of the task. Raises SpecError with the file, the place in it and the question's id."""
    sets: dict[str, list[Question]] = {}
    files = []
    for name, path in task.files():
        files.append(AnnotatedFile(locate_file(path, name)))
        kind = "test" if name == "more_tests" else name
        questions = [asked.question for asked in _read(files[-1])]
        if kind != "train":
            _require_answers(files[-1], questions)
        sets.setdefault(kind, []).extend(questions)
    return Sets(sets["train"], sets.get("dev", []), sets["test"], [], notes_of(files))


def read_squad_holdout(task: QuestionHoldoutTask) -> Sets[Question]:
    """Fixed shares of the articles as test and development set. Raises SpecError as `read_squad`."""
    file = AnnotatedFile(locate_file(task.file, "file"))
    rest, test = hold_out(_read(file), task.test_share, task.subset_seed, key=_article)
    train, dev = hold_out(rest, DEV_SHARE, task.subset_seed, key=_article)
    train_set, dev_set, test_set = ([asked.question for asked in some] for some in (train, dev, test))
    _require_answers(file, dev_set + test_set)
    return Sets(train_set, dev_set, test_set, [], notes_of([file]))


def _require_answers(file: AnnotatedFile, questions: list[Question]) -> None:
    """Exact match and F1 are of answers: what has none, as SQuAD 2 has them, can be trained on alone."""
    for question in questions:
        if not question.answers:
            file.wrong(None, "has no answer, and so cannot be scored", f"question {question.identity}")
    file.raise_problems()


def _article(asked: _Asked) -> str:
    return asked.article


def _read(file: AnnotatedFile) -> list[_Asked]:
    value = file.json()
    if not isinstance(value, dict) or not isinstance(value.get("data"), list):
        file.refuse(1, "not in SQuAD's format: there is no list `data`")
    found: dict[str, _Asked] = {}
    for number, article in enumerate(value["data"]):
        for asked in _article_questions(file, article, number):
            if asked.question.identity in found:
                file.wrong(None, "the id stands twice", f"question {asked.question.identity}")
            found[asked.question.identity] = asked
    if not found:
        file.wrong(None, "no questions", "data")
    file.raise_problems()
    return list(found.values())


def _article_questions(file: AnnotatedFile, article: object, number: int) -> Iterator[_Asked]:
    place = f"data.{number}"
    for inside, paragraph in enumerate(_list(file, article, "paragraphs", place)):
        here = f"{place}.paragraphs.{inside}"
        context = paragraph.get("context") if isinstance(paragraph, dict) else None
        if not isinstance(context, str):
            file.wrong(None, "no text under `context`", here)
            continue
        for asked in _list(file, paragraph, "qas", here):
            question = _question(file, asked, context, here)
            if question is not None:
                yield _Asked(str(number), question)


def _question(file: AnnotatedFile, asked: object, context: str, place: str) -> Question | None:
    if not isinstance(asked, dict) or not isinstance(asked.get("question"), str) or "id" not in asked:
        file.wrong(None, "a question without `id` or `question`", place)
        return None
    identity = str(asked["id"])
    given = [] if asked.get("is_impossible") else asked.get("answers", [])
    if not isinstance(given, list):
        file.wrong(None, "`answers` is no list", f"question {identity}")
        given = []
    answers = [answer for answer in given if _stands_there(file, answer, context, identity)]
    spans = tuple((answer["answer_start"], answer["text"]) for answer in answers)
    synonyms = tuple(dict.fromkeys(text for _, text in spans))
    passages = (Passage(f"{identity} {place}", context, spans),)
    return Question(identity, asked["question"], passages, (synonyms,) if synonyms else ())


def _stands_there(file: AnnotatedFile, answer: Json, context: str, identity: str) -> bool:
    """Whether the answer's text is at its offset in the context."""
    place = f"question {identity}"
    text, start = (answer.get("text"), answer.get("answer_start")) if isinstance(answer, dict) else (None, None)
    if not isinstance(text, str) or not isinstance(start, int) or not text:
        file.wrong(None, "an answer without `text` or `answer_start`", place)
        return False
    if start < 0 or context[start : start + len(text)] != text:
        there = context[max(start, 0) : max(start, 0) + len(text)]
        file.wrong(None, f"at answer_start {start} stands '{there[:60]}', not the answer '{text[:60]}'", place)
        return False
    return True


def _list(file: AnnotatedFile, value: object, name: str, place: str) -> list[Any]:
    found = value.get(name) if isinstance(value, dict) else None
    if isinstance(found, list):
        return found
    file.wrong(None, f"there is no list `{name}`", place)
    return []
