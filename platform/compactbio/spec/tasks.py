"""The tasks that models are fine-tuned and scored on, as a spec may name them."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from compactbio.spec.entity_tasks import EntityTask
from compactbio.spec.ontology_tasks import BranchTask, MentionTask
from compactbio.spec.question_tasks import QuestionHoldoutTask, QuestionTask
from compactbio.spec.relation_tasks import RelationFoldTask, RelationHoldoutTask, RelationTask
from compactbio.spec.text_tasks import ChoiceTask, LabelTask, MaskedTextTask, PairTask

AnyTask = Annotated[
    EntityTask
    | RelationTask
    | RelationFoldTask
    | RelationHoldoutTask
    | LabelTask
    | PairTask
    | ChoiceTask
    | QuestionTask
    | QuestionHoldoutTask
    | MaskedTextTask
    | MentionTask
    | BranchTask,
    Field(discriminator="kind"),
]
