"""Questions whose answers stand in passages."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import cast

from transformers import PreTrainedTokenizerBase

from compactbio.data.answer_rows import encode_questions, find_answers
from compactbio.data.bioasq import write_submission
from compactbio.data.examples import Example, Question
from compactbio.data.task_rows import Row, TaskRows
from compactbio.evaluation.answers import Candidate, first_snippet, pool, score_bioasq, score_squad
from compactbio.evaluation.score import Score
from compactbio.objectives.tasks import ClassLoss, TaskLoss
from compactbio.spec.question_tasks import QuestionTask, QuestionTasks
from compactbio.spec.tuning import Tuning
from compactbio.tracking.cell_files import SUBMISSION_FILE
from compactbio.training.judged import Judged
from compactbio.training.task_model import Head, Logits


@dataclass(frozen=True)
class Answers:
    """Answers that stand in passages."""

    tokenizer: PreTrainedTokenizerBase
    tuning: Tuning
    task: QuestionTasks
    seed: int

    @property
    def head(self) -> Head:
        """Start and end of the answer."""
        return Head("spans")

    def encode(self, examples: Sequence[Example], *, training: bool) -> TaskRows:
        """Overlapping windows; to train on, perhaps not all of those without an answer."""
        questions = cast(Sequence[Question], examples)
        most = self.tuning.max_empty_windows if training else None
        length, stride = self.tuning.max_tokens, self.tuning.stride
        return encode_questions(questions, self.tokenizer, length, stride, max_empty=most, seed=self.seed)

    def loss(self, rows: Sequence[Row]) -> TaskLoss:
        """Mean cross-entropy of the start and of the end."""
        return ClassLoss("spans")

    def judge(self, examples: Sequence[Example], rows: Sequence[Row], answers: Sequence[Logits]) -> Judged:
        """Strict and lenient accuracy, mean reciprocal rank, exact match and F1."""
        questions = cast(Sequence[Question], examples)
        candidates = passage_candidates(questions, rows, answers)
        ranked = [self._ranked(of_question) for of_question in candidates]
        score = _question_score(questions, ranked)
        lines = [
            (question.identity, *map(_in_a_line, ("|".join("/".join(one) for one in question.answers), "|".join(best))))
            for question, best in zip(questions, ranked, strict=True)
        ]
        judged = Judged(score, ("id", "gold", "predicted"), lines)
        if not isinstance(self.task, QuestionTask) or self.task.format != "bioasq":
            return judged
        best_of = {question.identity: best for question, best in zip(questions, ranked, strict=True)}
        return replace(judged, files={SUBMISSION_FILE: lambda path: write_submission(path, questions, best_of)})

    def _ranked(self, candidates: Sequence[Sequence[Candidate]]) -> list[str]:
        return pool(candidates) if self.task.protocol == "pooled" else first_snippet(candidates)


def _in_a_line(text: str) -> str:
    """A piece of a passage may have tabs and ends of lines in it."""
    return " ".join(text.split())


def _question_score(questions: Sequence[Question], ranked: Sequence[Sequence[str]]) -> Score:
    """BioASQ's measures, and SQuAD's beside them."""
    answers = [question.answers for question in questions]
    score = score_bioasq(answers, ranked)
    words = score_squad(answers, [best[0] if best else "" for best in ranked])
    return replace(score, values=score.values | words.values)


def passage_candidates(
    questions: Sequence[Question], rows: Sequence[Row], answers: Sequence[Logits]
) -> list[list[list[Candidate]]]:
    """For each question and each of its passages the best candidates."""
    windows: dict[int, list[int]] = {}
    for index, row in enumerate(rows):
        windows.setdefault(row.example, []).append(index)
    number = itertools.count()
    found = []
    for question in questions:
        of_question = []
        for passage in question.passages:
            indices = windows.get(next(number), [])
            picked = [rows[index] for index in indices], [answers[index] for index in indices]
            spans = find_answers(passage.text, *picked)
            of_question.append([Candidate(span.text, span.probability) for span in spans])
        found.append(of_question)
    return found
