"""What each kind of task makes of its examples, and of a model's answers."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol, cast

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from compactbio.data.answer_rows import encode_questions, find_answers
from compactbio.data.bioasq import write_submission
from compactbio.data.examples import ClassifiedText, Example, LabelledText, Question, TaggedText, TaskData
from compactbio.data.tag_rows import Protocol as TagProtocol
from compactbio.data.tag_rows import encode_tagged, join_windows, word_pieces
from compactbio.data.task_rows import Row, TaskRows
from compactbio.data.text_rows import encode_classified, encode_labelled
from compactbio.evaluation.answers import Candidate, first_snippet, pool, score_bioasq, score_squad
from compactbio.evaluation.documents import score_abstracts, score_labels
from compactbio.evaluation.entities import score_entities
from compactbio.evaluation.errors import Mention, mentions
from compactbio.evaluation.relations import score_classes
from compactbio.evaluation.score import Score
from compactbio.objectives.tasks import ClassLoss, MultiLabelLoss, TaskLoss, balanced_weights
from compactbio.spec.entity_tasks import EntityTask
from compactbio.spec.ontology_tasks import BranchTask, MentionTask
from compactbio.spec.question_tasks import QuestionTask, QuestionTasks
from compactbio.spec.relation_tasks import RelationTasks
from compactbio.spec.tasks import AnyTask
from compactbio.spec.text_tasks import ChoiceTask, LabelTask, PairTask
from compactbio.spec.tuning import Tuning
from compactbio.tracking.cell_files import MENTIONS_FILE, SUBMISSION_FILE, WORDS_FILE
from compactbio.training.task_model import Head, Logits


@dataclass(frozen=True)
class Judged:
    """The score of a model's answers, and these beside the gold ones as the lines of a table."""

    score: Score
    header: tuple[str, ...] = ()
    """None where there is no table."""

    lines: Sequence[tuple[str, ...]] = ()
    """An empty one parts sentences."""

    files: dict[str, Callable[[Path], object]] = field(default_factory=dict)
    """What writes further files, by their name."""


def tab_separated(header: tuple[str, ...], lines: Sequence[tuple[str, ...]]) -> str:
    """The table as text."""
    return "".join("\t".join(columns) + "\n" for columns in (header, *lines))


class TaskKind(Protocol):
    """A kind of task, bound to its labels, a tokenizer and a tuning."""

    @property
    def head(self) -> Head:
        """What the encoder needs on top."""

    def encode(self, examples: Sequence[Example], *, training: bool) -> TaskRows:
        """The examples as rows."""

    def loss(self, rows: Sequence[Row]) -> TaskLoss:
        """The loss to train these rows with."""

    def judge(self, examples: Sequence[Example], rows: Sequence[Row], answers: Sequence[Logits]) -> Judged:
        """From the logits of each row in its place."""


def task_kind(
    task: AnyTask, data: TaskData[Example], tokenizer: PreTrainedTokenizerBase, tuning: Tuning, seed: int
) -> TaskKind:
    """The kind of a task that is fine-tuned."""
    match task:
        case EntityTask() | MentionTask():
            protocol = task.protocol if isinstance(task, EntityTask) else "word"
            train = cast(Sequence[TaggedText], data.train)
            trained = mentions([sentence.words for sentence in train], [sentence.tags for sentence in train])
            return Tags(data.labels, tokenizer, tuning, protocol, trained)
        case LabelTask() | BranchTask():
            return Labels(
                data.labels, tokenizer, tuning, by_group=isinstance(task, LabelTask) and task.unit == "abstract"
            )
        case PairTask() | ChoiceTask():
            return Classes(data.labels, tokenizer, tuning, task)
    if isinstance(task, RelationTasks):
        return Classes(data.labels, tokenizer, tuning, task)
    assert isinstance(task, QuestionTasks)
    return Answers(tokenizer, tuning, task, seed)


def _class_weights(tuning: Tuning, rows: Sequence[Row], num_classes: int) -> Tensor | None:
    if tuning.class_weights is None:
        return None
    labels = np.fromiter(itertools.chain.from_iterable(row.labels for row in rows), dtype=np.int64)
    return balanced_weights(torch.from_numpy(np.bincount(labels, minlength=num_classes)))


@dataclass(frozen=True)
class Tags:
    """A tag for each word, or for each sub-word."""

    names: list[str]
    tokenizer: PreTrainedTokenizerBase
    tuning: Tuning
    protocol: TagProtocol
    trained: frozenset[Mention]
    """The mentions of the training set, for the analysis of errors."""

    @property
    def head(self) -> Head:
        """Read at every token that carries a tag."""
        return Head("tokens", tuple(self.names))

    def encode(self, examples: Sequence[Example], *, training: bool) -> TaskRows:
        """Windows of whole words."""
        sentences = cast(Sequence[TaggedText], examples)
        return encode_tagged(sentences, self.names, self.tokenizer, self.tuning.max_tokens, self.protocol)

    def loss(self, rows: Sequence[Row]) -> TaskLoss:
        """Cross-entropy over the tokens that carry a tag."""
        return ClassLoss("tags", _class_weights(self.tuning, rows, len(self.names)))

    def judge(self, examples: Sequence[Example], rows: Sequence[Row], answers: Sequence[Logits]) -> Judged:
        """Entity scores, strict."""
        sentences = cast(Sequence[TaggedText], examples)
        joined = join_windows(rows, [logits.argmax(-1).tolist() for logits in answers], len(sentences))
        predicted = [[self.names[index] for index in tags] for tags in joined]
        tokens, gold = self._tokens(sentences, rows)
        lines = _tag_lines(tokens, gold, predicted)
        files: dict[str, Callable[[Path], object]] = {
            MENTIONS_FILE: lambda path: path.write_text(json.dumps(sorted(self.trained)))
        }
        if self.protocol == "subword":
            words = self._words(sentences, predicted)
            files[WORDS_FILE] = lambda path: path.write_text(tab_separated(_TAG_HEADER, words), encoding="utf-8")
        return Judged(score_entities(gold, predicted), _TAG_HEADER, lines, files)

    def _words(self, sentences: Sequence[TaggedText], predicted: Sequence[Sequence[str]]) -> list[tuple[str, ...]]:
        """Lines of words with the tags that their first sub-words were given, from the tags of all sub-words."""
        room = self.tuning.max_tokens - 2  # of a longer word only so many sub-words have a tag
        pieces = word_pieces([sentence.words for sentence in sentences], self.tokenizer)
        firsts = [np.cumsum([0, *(min(len(word), room) for word in words[:-1])]) for words in pieces]
        tags = [[some[place] for place in places] for some, places in zip(predicted, firsts, strict=True)]
        return _tag_lines([one.words for one in sentences], [one.tags for one in sentences], tags)

    def _tokens(self, sentences: Sequence[TaggedText], rows: Sequence[Row]) -> tuple[list[list[str]], list[list[str]]]:
        """What is scored and its gold tags: words, or under protocol `subword` their sub-words."""
        if self.protocol == "word":
            return [sentence.words for sentence in sentences], [sentence.tags for sentence in sentences]
        pieces = join_windows(rows, [[row.ids[position] for position in row.positions] for row in rows], len(sentences))
        labels = join_windows(rows, [cast(list[int], row.labels) for row in rows], len(sentences))
        return (
            [self.tokenizer.convert_ids_to_tokens(ids) for ids in pieces],
            [[self.names[index] for index in tags] for tags in labels],
        )


_TAG_HEADER = ("token", "gold", "predicted")


def _tag_lines(*columns: Sequence[Sequence[str]]) -> list[tuple[str, ...]]:
    """Tokens and their tags, an empty line behind each sentence."""
    lines: list[tuple[str, ...]] = []
    for sentence in zip(*columns, strict=True):
        lines += [*zip(*sentence, strict=True), ()]
    return lines


@dataclass(frozen=True)
class Classes:
    """One class for each text or pair of texts."""

    names: list[str]
    tokenizer: PreTrainedTokenizerBase
    tuning: Tuning
    task: AnyTask

    @property
    def head(self) -> Head:
        """Read once a text."""
        return Head("texts", tuple(self.names), pairs=isinstance(self.task, PairTask | ChoiceTask))

    def encode(self, examples: Sequence[Example], *, training: bool) -> TaskRows:
        """One row each."""
        return encode_classified(cast(Sequence[ClassifiedText], examples), self.tokenizer, self.tuning.max_tokens)

    def loss(self, rows: Sequence[Row]) -> TaskLoss:
        """Cross-entropy."""
        return ClassLoss("classes", _class_weights(self.tuning, rows, len(self.names)))

    def judge(self, examples: Sequence[Example], rows: Sequence[Row], answers: Sequence[Logits]) -> Judged:
        """F1 or accuracy, as the task says."""
        texts = cast(Sequence[ClassifiedText], examples)
        gold = [text.label for text in texts]
        predicted = [int(logits[0].argmax()) for logits in answers]
        lines = [
            (text.identity, self.names[text.label], self.names[found])
            for text, found in zip(texts, predicted, strict=True)
        ]
        return Judged(_class_score(self.task, gold, predicted, self.names), ("id", "gold", "predicted"), lines)


def _class_score(task: AnyTask, gold: Sequence[int], predicted: Sequence[int], names: Sequence[str]) -> Score:
    """The score of a task with one class a text, under the name that the task gives it."""
    if not isinstance(task, RelationTasks):
        return score_classes(gold, predicted, names, main="accuracy")
    return score_classes(gold, predicted, names, main=task.score, negative=task.negative)


@dataclass(frozen=True)
class Labels:
    """Any number of labels for each text."""

    names: list[str]
    tokenizer: PreTrainedTokenizerBase
    tuning: Tuning
    by_group: bool

    @property
    def head(self) -> Head:
        """Read once a text."""
        return Head("texts", tuple(self.names), multi_label=True)

    def encode(self, examples: Sequence[Example], *, training: bool) -> TaskRows:
        """One row each."""
        texts = cast(Sequence[LabelledText], examples)
        return encode_labelled(texts, len(self.names), self.tokenizer, self.tuning.max_tokens)

    def loss(self, rows: Sequence[Row]) -> TaskLoss:
        """Binary cross-entropy."""
        if self.tuning.class_weights is None:
            return MultiLabelLoss()
        having = torch.tensor([row.labels for row in rows]).sum(0)
        return MultiLabelLoss(torch.where(having > 0, (len(rows) - having) / having.clamp_min(1), 1.0))

    def judge(self, examples: Sequence[Example], rows: Sequence[Row], answers: Sequence[Logits]) -> Judged:
        """F1; a label is predicted from a probability of a half on."""
        texts = cast(Sequence[LabelledText], examples)
        predicted = [frozenset(np.flatnonzero(logits[0] > 0.0).tolist()) for logits in answers]
        lines = [
            (text.identity, self._named(text.labels), self._named(found))
            for text, found in zip(texts, predicted, strict=True)
        ]
        gold = [text.labels for text in texts]
        if self.by_group:
            score = score_abstracts(gold, predicted, [text.group for text in texts], self.names)
        else:
            score = score_labels(gold, predicted, self.names)
        return Judged(score, ("id", "gold", "predicted"), lines)

    def _named(self, labels: frozenset[int]) -> str:
        return "|".join(self.names[label] for label in sorted(labels))


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
            (question.identity, "|".join("/".join(group) for group in question.answers), "|".join(best))
            for question, best in zip(questions, ranked, strict=True)
        ]
        judged = Judged(score, ("id", "gold", "predicted"), lines)
        if not isinstance(self.task, QuestionTask) or self.task.format != "bioasq":
            return judged
        best_of = {question.identity: best for question, best in zip(questions, ranked, strict=True)}
        return replace(judged, files={SUBMISSION_FILE: lambda path: write_submission(path, questions, best_of)})

    def _ranked(self, candidates: Sequence[Sequence[Candidate]]) -> list[str]:
        return pool(candidates) if self.task.protocol == "pooled" else first_snippet(candidates)


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
