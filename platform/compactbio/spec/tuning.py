"""How models are fine-tuned: hyper-parameters, those of the papers by name, and a teacher for the task."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from compactbio.spec.base import Section
from compactbio.spec.training import Optimiser, Positive

TaskGroup = Literal["ner", "re", "cls", "qa"]
GROUPS: tuple[TaskGroup, ...] = ("ner", "re", "cls", "qa")
EVERY_GROUP = "all"
GROUP_OF: dict[str, TaskGroup | None] = {
    "ner": "ner",
    "concept_mentions": "ner",
    "relations": "re",
    "relation_folds": "re",
    "relation_holdout": "re",
    "labels": "cls",
    "pairs": "cls",
    "choice": "cls",
    "concept_branches": "cls",
    "questions": "qa",
    "question_holdout": "qa",
    "mlm": None,
}
"""The hyper-parameters that each kind of task takes: PubMedQA's are those of classification."""

_ROHANIAN: dict[str, Any] = {"batch": 16, "weight_decay": 0.01, "schedule": "cosine", "warmup_share": 0.0}
_LEWIS: dict[str, Any] = {"beta2": 0.98, "epsilon": 1e-6, "weight_decay": 0.01, "warmup_share": 0.06, "keep": "best"}

PRESETS: dict[str, dict[str, Any]] = {
    # Rohanian et al. 2023, sections 5.1 to 5.3: epochs, batch, learning rate; schedule, decay and lengths: their code
    "rohanian-ner": {**_ROHANIAN, "lr": 5e-5, "epochs": 5, "max_tokens": 512},
    "rohanian-re": {**_ROHANIAN, "lr": 5e-5, "epochs": 3, "max_tokens": 512},
    "rohanian-qa": {**_ROHANIAN, "lr": 3e-5, "epochs": 5, "max_tokens": 384, "stride": 128},
    # Lewis et al. 2020, section 5.2; the learning rate of classification is that of their code (the paper: 0.002)
    "lewis-sequence": {**_LEWIS, "lr": 1e-5, "batch": 32, "epochs": 20, "evaluate_every_steps": 500, "max_tokens": 512},
    "lewis-classification": {
        **_LEWIS,
        "lr": 2e-5,
        "batch": 16,
        "epochs": 10,
        "evaluate_every_steps": 200,
        "patience": 10,
        "max_tokens": 512,
    },
}
"""Hyper-parameters by name; what a preset does not say has the default of `Tuning`."""

PAPERS: dict[str, dict[str, str]] = {
    "rohanian": {"ner": "rohanian-ner", "re": "rohanian-re", "qa": "rohanian-qa", "cls": "rohanian-re"},
    "lewis": {
        "ner": "lewis-sequence",
        "re": "lewis-classification",
        "cls": "lewis-classification",
        "qa": "rohanian-qa",
    },
}
"""A paper's preset for each group of tasks. Rohanian et al. classify no documents, which take the preset of relations;
Lewis et al. answer no questions, which take that of the other paper."""


class Tuning(Optimiser):
    """Hyper-parameters of fine-tuning."""

    preset: str | None = None
    """Start from the hyper-parameters of a paper; what stands beside it replaces single ones. One of `rohanian-ner`,
    `rohanian-re`, `rohanian-qa`, `lewis-sequence`, `lewis-classification`."""

    head_lr: Annotated[float | None, Field(gt=0.0, le=1.0)] = None
    """Peak learning rate of the layer that gives the task's logits; `lr` when left out. Few steps need a larger one.
    A pooler below that layer learns at `lr`, new or not."""

    layer_decay: Annotated[float, Field(gt=0.0, le=1.0)] = 1.0
    """The learning rate of each layer is so many times that of the layer above it, the embeddings' that of the lowest
    layer once more; 1 for the same everywhere."""

    freeze_layers: Annotated[int, Field(ge=0)] = 0
    """So many of the lowest layers stay as they are."""

    freeze_embeddings: bool = False
    """The embeddings stay as they are."""

    epochs: Positive = 3
    """Passes over the training set."""

    batch: Positive = 16
    """Rows a step."""

    max_tokens: Annotated[int, Field(ge=8, le=8192)] = 128
    """Longer sentences (NER) and passages (questions) are split into windows; other texts are cut, and the number of
    cut ones is reported."""

    stride: Annotated[int, Field(ge=0)] = 128
    """Tokens that neighbouring windows of a passage share (questions)."""

    max_empty_windows: Annotated[int, Field(ge=0)] | None = None
    """Of a question's windows without an answer train on so many, drawn once by the seed; all when left out."""

    warmup_share: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.1
    """Share of the steps that warm up."""

    evaluate_every_steps: Positive | None = None
    """Score the development set every so many steps; behind every epoch when left out."""

    score_dev: bool = False
    """Score the development set at the end in any case, so that models can be compared without the test set."""

    keep: Literal["last", "best"] = "last"
    """Which weights are tested and exported: those of the last step, or the first that were best on the development
    set."""

    patience: Positive | None = None
    """Stop when so many evaluations in a row were no better than the best one."""

    class_weights: Literal["balanced"] | None = None
    """Weigh the loss so that every class weighs the same, by its share of the training set. Answers in passages have no
    classes: there it does nothing."""

    @model_validator(mode="before")
    @classmethod
    def _with_preset(cls, raw: Any) -> Any:
        name = raw.get("preset") if isinstance(raw, dict) else None
        if not isinstance(name, str):
            return raw
        if name not in PRESETS:
            raise ValueError(f"preset '{name}' is not known; known: {', '.join(PRESETS)}")
        return {**PRESETS[name], **raw}

    @property
    def looks_at_dev(self) -> bool:
        """Whether the development set decides anything."""
        return self.keep == "best" or self.patience is not None


def by_group(raw: Any) -> Any:
    """`tuning` as it may stand in a spec: one section for all tasks, or one for each group of tasks."""
    if isinstance(raw, dict) and raw and not set(raw) <= {*GROUPS, EVERY_GROUP}:
        return {EVERY_GROUP: raw}
    return raw


class TaskDistillation(Section):
    """A model that is fine-tuned against the logits of another, which is fine-tuned for the same task before it:
    alpha x cross-entropy of the labels + (1 - alpha) x the distance of the logits (Mehmood et al. 2020)."""

    teacher: str
    """Name of the teacher among the stage's models; of the same vocabulary."""

    alpha: Annotated[float, Field(ge=0.0, le=1.0)] = 0.5
    """Weight of the labels."""

    loss: Literal["mse", "kl"] = "mse"
    """Distance of the logits: mean squared error, or KL(teacher || student) of the distributions."""

    temperature: Annotated[float, Field(gt=0.0)] = 1.0
    """Of the distributions, for `kl`; the loss is multiplied by its square."""
