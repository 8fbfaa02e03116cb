"""A pretrained encoder under the head of a task: how it is loaded, trained and asked."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import (
    AutoModelForQuestionAnswering,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    set_seed,
)

from compactbio.data.batches import Batch
from compactbio.data.task_rows import Row, collate
from compactbio.data.text_rows import SEGMENTS
from compactbio.models.architecture import layer_of
from compactbio.models.forward import Outputs
from compactbio.objectives.tasks import Reading, TaskLoss, TeacherLoss, read_logits
from compactbio.spec.base import SpecError
from compactbio.spec.references import locate
from compactbio.spec.tuning import Tuning

_TOKENS_A_PREDICTION = 4096
_AUTO = {
    "tokens": AutoModelForTokenClassification,
    "texts": AutoModelForSequenceClassification,
    "spans": AutoModelForQuestionAnswering,
}

TEXT_PAIRS = "text_pairs"
"""In a model's configuration: whether it was fine-tuned on pairs of texts. transformers does not look at it."""

Logits = NDArray[np.float32]


@dataclass(frozen=True)
class Head:
    """What is put on the encoder: where it is read, and the names of its classes."""

    reading: Reading
    names: tuple[str, ...] = ()
    """None for spans, whose two logits are start and end."""

    multi_label: bool = False
    pairs: bool = False
    """Whether it is read once for two texts."""

    def config(self) -> dict[str, object]:
        """What the model's configuration says of it, in the words of transformers."""
        if self.reading == "spans":
            return {}
        labels: dict[str, object] = {
            "id2label": dict(enumerate(self.names)),
            "label2id": {name: index for index, name in enumerate(self.names)},
        }
        if self.reading == "texts":
            kind = "multi_label_classification" if self.multi_label else "single_label_classification"
            labels["problem_type"] = kind
        return labels


@dataclass(frozen=True)
class TaskModel:
    """A model with the head of a task."""

    model: PreTrainedModel
    digest: str
    """Twelve hex digits of the weights that the pretrained model has."""


def load_task_model(reference: str, field: str, head: Head, *, seed: int, online: bool) -> TaskModel:
    """The pretrained model under a head, in fp32; new weights are drawn from `seed`. Raises SpecError under `field`."""
    path = locate(reference, field)
    set_seed(seed)
    try:
        model, info = _AUTO[head.reading].from_pretrained(
            path, output_loading_info=True, local_files_only=not online, dtype="float32", **head.config()
        )
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise SpecError.at(field, f"'{reference}' cannot carry a head for this task: {reason}") from None
    model.config.update({TEXT_PAIRS: head.pairs})
    return TaskModel(model, weights_digest(model, new=frozenset(info["missing_keys"])))


def fit_tokenizer(tokenizer: PreTrainedTokenizerBase, model: PreTrainedModel) -> None:
    """Makes the tokenizer tell apart the texts of a pair only where the model takes that: a student may have its
    teacher's tokenizer and another architecture."""
    if SEGMENTS not in inspect.signature(model.forward).parameters:
        tokenizer.model_input_names = [name for name in tokenizer.model_input_names if name != SEGMENTS]


def freeze(model: PreTrainedModel, tuning: Tuning, field: str) -> None:
    """Leaves the embeddings and the lowest layers as they are, where the tuning says so."""
    depth = model.config.num_hidden_layers
    if tuning.freeze_layers > depth:
        raise SpecError.at(field, f"freeze_layers is {tuning.freeze_layers}, the model has {depth} layers")
    for name, parameter in model.named_parameters():
        layer = layer_of(name)
        frozen = tuning.freeze_embeddings if layer is None else layer < tuning.freeze_layers
        if frozen and (layer is not None or "embeddings" in name):
            parameter.requires_grad_(False)


def learning_rates(learner: TaskLearner, tuning: Tuning) -> dict[str, float]:
    """Each parameter's share of the learning rate: `head_lr` for the last layer, less for each layer below the head."""
    depth = learner.model.config.num_hidden_layers
    rates = {}
    for name, parameter in learner.model.named_parameters():
        layer = layer_of(name)
        below = depth - layer if layer is not None else (depth + 1 if "embeddings" in name else 0)
        rate = tuning.layer_decay**below
        if tuning.head_lr is not None and _gives_logits(name, parameter, learner.model):
            rate = tuning.head_lr / tuning.lr
        rates[f"model.{name}"] = rate
    return rates


def _gives_logits(name: str, parameter: Tensor, model: PreTrainedModel) -> bool:
    """Whether it belongs to the layer that gives the logits: outside the encoder, with a line for each class.

    Not to the layer between encoder and logits that heads on texts have (BERT's pooler, DistilBERT's `pre_classifier`,
    RoBERTa's `classifier.dense`): at the rate that the last layer needs it saturates, and the head then gives every
    text the same logits.
    """
    outside = not name.startswith(f"{model.base_model_prefix}.")
    return outside and parameter.shape[0] == model.config.num_labels


def head_logits(model: PreTrainedModel, batch: Batch) -> Tensor:
    """[B, T, C], or [B, C] of a head on texts; of a head on spans start and end are the classes."""
    inputs = {"input_ids": batch.input_ids, "attention_mask": batch.real.long()}
    if batch.segments is not None:
        inputs[SEGMENTS] = batch.segments
    outputs = model(**inputs)
    if "start_logits" in outputs:
        return torch.stack([outputs.start_logits, outputs.end_logits], dim=-1)
    return outputs.logits


class TaskLearner(nn.Module):
    """A model with a task head, under the loss of the task and, where there is a teacher, of its logits."""

    def __init__(
        self,
        model: PreTrainedModel,
        reading: Reading,
        loss: TaskLoss,
        taught: tuple[TeacherLoss, float] | None = None,
    ) -> None:
        """`taught`: the distance to the teacher, and alpha, the weight of the labels beside it."""
        super().__init__()
        self.model = model
        self._reading = reading
        self._loss = loss
        self._taught = taught
        self.parts = (loss.part,) if taught is None else (loss.part, taught[0].part)
        self.measures: tuple[str, ...] = ()

    def forward(self, batch: Batch, targets: Outputs) -> Tensor:
        """Totals [parts]; `targets` has the logits of the teacher, if there is one."""
        logits = read_logits(head_logits(self.model, batch), batch, self._reading)
        totals = [self._loss.total(logits, batch)]
        if self._taught is not None:
            assert targets.logits is not None
            totals.append(self._taught[0].total(logits, targets.logits))
        return torch.stack(totals)

    def count(self, batch: Batch) -> Tensor:
        """Denominators [parts]."""
        counts = [self._loss.count(batch)]
        if self._taught is not None:
            counts.append(self._taught[0].count(batch).to(counts[0].device))
        return torch.stack(counts)

    def loss(self, totals: Tensor, counts: Tensor, step: int) -> Tensor:
        """The mean, or alpha times it and 1 - alpha times the mean distance to the teacher."""
        means = totals / counts.clamp_min(torch.finfo(counts.dtype).tiny)
        return means[0] if self._taught is None else self._taught[1] * means[0] + (1 - self._taught[1]) * means[1]


class TaskTeacher:
    """A fine-tuned model outside the learner: no gradients, no dropout."""

    def __init__(self, folder: Path, reading: Reading, device: torch.device) -> None:
        model = _AUTO[reading].from_pretrained(folder, local_files_only=True, dtype="float32")
        self._model = model.eval().requires_grad_(False).to(device)
        self._reading = reading

    @torch.no_grad()
    def __call__(self, batch: Batch) -> Outputs:
        """Its logits, as the losses take them."""
        return Outputs(logits=read_logits(head_logits(self._model, batch), batch, self._reading))


@torch.inference_mode()
def answers(
    model: PreTrainedModel, rows: Sequence[Row], pad_id: int, reading: Reading, device: torch.device
) -> list[Logits]:
    """The logits of each row in its place: [positions, C], or [1, C] of a text. The model has to be in eval mode.

    Rows of similar length are computed together.
    """
    order = sorted(range(len(rows)), key=lambda index: len(rows[index].ids))
    found: list[Logits] = [np.zeros((0, 0), dtype=np.float32)] * len(rows)
    for some in _batched(order, rows):
        batch = collate([rows[index] for index in some], pad_id).to(device)
        logits = head_logits(model, batch)
        read = logits if reading == "texts" else logits[batch.scored]
        pieces = read.float().cpu().split([len(rows[index].positions) for index in some])
        for index, piece in zip(some, pieces, strict=True):
            found[index] = piece.numpy()
    return found


def _batched(order: Sequence[int], rows: Sequence[Row]) -> Iterator[list[int]]:
    some: list[int] = []
    for index in order:
        if some and len(rows[index].ids) * (len(some) + 1) > _TOKENS_A_PREDICTION:
            yield some
            some = []
        some.append(index)
    if some:
        yield some


def weights_digest(model: PreTrainedModel, new: frozenset[str] = frozenset()) -> str:
    """Twelve hex digits of the names and bytes of its weights, but for those in `new`."""
    digest = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        if name not in new:
            digest.update(name.encode())
            digest.update(value.contiguous().numpy().tobytes())
    return digest.hexdigest()[:12]
