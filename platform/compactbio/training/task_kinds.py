"""What each kind of task makes of its examples, and of a model's answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, cast

from transformers import PreTrainedTokenizerBase

from compactbio.data.examples import Example, TaggedText, TaskData
from compactbio.data.task_rows import Row, TaskRows
from compactbio.evaluation.errors import mentions
from compactbio.objectives.tasks import TaskLoss
from compactbio.spec.entity_tasks import EntityTask
from compactbio.spec.ontology_tasks import BranchTask, MentionTask
from compactbio.spec.question_tasks import QuestionTasks
from compactbio.spec.relation_tasks import RelationTasks
from compactbio.spec.tasks import AnyTask
from compactbio.spec.text_tasks import ChoiceTask, LabelTask, PairTask
from compactbio.spec.tuning import Tuning
from compactbio.training.answer_task import Answers
from compactbio.training.judged import Judged
from compactbio.training.tag_task import Tags
from compactbio.training.task_model import Head, Logits
from compactbio.training.text_tasks import Classes, Labels


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
