"""What a fine-tuned model says of texts: entities, labels or answers; of a masked language model the masked words."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import (
    AutoModelForMaskedLM,
    AutoModelForQuestionAnswering,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from compactbio.data.answer_rows import encode_questions, find_answers
from compactbio.data.examples import ClassifiedText, Passage, Question, TaggedText
from compactbio.data.tag_rows import encode_tagged, join_windows
from compactbio.data.text_rows import encode_classified
from compactbio.models.architecture import longest_input
from compactbio.models.load import load_config, load_tokenizer
from compactbio.spec.base import SpecError
from compactbio.spec.references import locate
from compactbio.training.task_model import TEXT_PAIRS, Logits, answers

_WORD = re.compile(r"\w+|[^\w\s]")
_NUM_BEST = 5
_STRIDE = 128
_CPU = torch.device("cpu")


@dataclass(frozen=True)
class Prediction:
    """One thing that a model says of a text."""

    label: str
    """Entity type, class, or what it is (`answer`, `word`)."""

    text: str
    """The piece of the text, or what stands in its place; empty for classes."""

    probability: float
    start: int | None = None
    end: int | None = None
    """Characters of the text, where it is a piece of it."""


Predict = Callable[[Sequence[str]], list[list[Prediction]]]


def load_predictor(reference: str, *, question: str | None, online: bool) -> Predict:
    """What the model at `reference` says of each text. Raises SpecError where it cannot say anything."""
    config = load_config(reference, "MODEL", online=online)
    made = (config.architectures or ["no head"])[0]
    kind = next((name for name in _KINDS if made.endswith(name)), None)
    if kind is None:
        raise SpecError.at("MODEL", f"'{reference}' is a {made}, which predicts nothing; fine-tune it first")
    _check_question(kind, question, reference, reads_pairs=bool(config.to_dict().get(TEXT_PAIRS, False)))
    auto, predictor = _KINDS[kind]
    tokenizer = load_tokenizer(reference, "MODEL", online=online)
    try:
        model = auto.from_pretrained(locate(reference, "MODEL"), local_files_only=not online, dtype="float32").eval()
    except (OSError, ValueError, KeyError) as error:
        raise SpecError.at("MODEL", f"cannot load '{reference}': {str(error).splitlines()[0]}") from None
    return predictor(model, tokenizer, question)


def _check_question(kind: str, question: str | None, reference: str, *, reads_pairs: bool) -> None:
    answers_questions = kind == "ForQuestionAnswering"
    if question is not None and not (answers_questions or reads_pairs):
        raise SpecError.at("--question", f"'{reference}' answers no questions and reads no pairs of texts")
    if question is None and answers_questions:
        raise SpecError.at("--question", f"'{reference}' answers questions; ask one with --question")
    if question is None and reads_pairs:
        raise SpecError.at("--question", f"'{reference}' reads pairs of texts; give the first one with --question")


class _Model:
    """A loaded model with its tokenizer."""

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, question: str | None) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.question = question
        self.max_tokens = longest_input(model.config)

    def names(self) -> list[str]:
        """The classes in their order."""
        return [self.model.config.id2label[index] for index in range(self.model.config.num_labels)]


class _Entities(_Model):
    """The words of each text are runs of letters and digits, and single other characters, as tokenised data have
    them. The first sub-word decides."""

    def __call__(self, texts: Sequence[str]) -> list[list[Prediction]]:
        spans = [[match.span() for match in _WORD.finditer(text)] for text in texts]
        names = self.names()
        examples = [
            TaggedText(str(index), [text[start:end] for start, end in found], [names[0]] * len(found))
            for index, (text, found) in enumerate(zip(texts, spans, strict=True))
        ]
        rows = encode_tagged(examples, names, self.tokenizer, self.max_tokens, "word").rows
        logits = answers(self.model, rows, self.tokenizer.pad_token_id, "tokens", _CPU)
        tags = join_windows(rows, [some.argmax(-1).tolist() for some in logits], len(texts))
        sure = join_windows(rows, [_softmax(some).max(-1).tolist() for some in logits], len(texts))
        return [
            list(_entities(text, found, [names[tag] for tag in ids], shares))
            for text, found, ids, shares in zip(texts, spans, tags, sure, strict=True)
        ]


def _entities(
    text: str, spans: Sequence[tuple[int, int]], tags: Sequence[str], sure: Sequence[float]
) -> Iterator[Prediction]:
    """Runs of tags of one type; an I- without a B- begins an entity too. Its probability is the mean of its words'."""
    first: int | None = None
    for index, tag in enumerate([*tags, "O"]):
        goes_on = first is not None and tag.startswith("I-") and tag[2:] == tags[first][2:]
        if first is not None and not goes_on:
            start, end = spans[first][0], spans[index - 1][1]
            yield Prediction(tags[first][2:], text[start:end], float(np.mean(sure[first:index])), start, end)
            first = None
        if first is None and tag != "O":
            first = index


class _Classes(_Model):
    """The class of each text, or of the pair of the question and the text; of a model for several labels those with a
    probability of a half at least."""

    def __call__(self, texts: Sequence[str]) -> list[list[Prediction]]:
        if self.question is None:
            examples = [ClassifiedText("", text, None, 0) for text in texts]
        else:
            examples = [ClassifiedText("", self.question, text, 0) for text in texts]
        rows = encode_classified(examples, self.tokenizer, self.max_tokens).rows
        logits = answers(self.model, rows, self.tokenizer.pad_token_id, "texts", _CPU)
        return [self._labels(some[0]) for some in logits]

    def _labels(self, logits: Logits) -> list[Prediction]:
        several = self.model.config.problem_type == "multi_label_classification"
        shares = 1 / (1 + np.exp(-logits)) if several else _softmax(logits)
        best = np.argsort(-shares, kind="stable")
        chosen = [index for index in best if shares[index] >= 0.5] if several else best[:1]
        return [Prediction(self.names()[index], "", float(shares[index])) for index in chosen]


class _Answers(_Model):
    """The best answers to the question in each text."""

    def __call__(self, texts: Sequence[str]) -> list[list[Prediction]]:
        found = []
        for text in texts:
            asked = Question("", self.question or "", (Passage("", text, ()),), ())
            rows = encode_questions([asked], self.tokenizer, self.max_tokens, _STRIDE).rows
            logits = answers(self.model, rows, self.tokenizer.pad_token_id, "spans", _CPU)
            spans = find_answers(text, rows, logits)[:_NUM_BEST]
            found.append([Prediction("answer", one.text, one.probability, one.start, one.end) for one in spans])
        return found


class _Words(_Model):
    """The likeliest tokens for the first mask of each text."""

    def __call__(self, texts: Sequence[str]) -> list[list[Prediction]]:
        return [self._words(text) for text in texts]

    @torch.inference_mode()
    def _words(self, text: str) -> list[Prediction]:
        mask = self.tokenizer.mask_token
        tokens = self.tokenizer(text, return_tensors="pt", truncation=True, max_length=self.max_tokens)
        places = (tokens["input_ids"][0] == self.tokenizer.mask_token_id).nonzero()
        if not len(places):
            raise SpecError.at("TEXT", f"this model fills in words: write {mask} where one is missing in '{text[:60]}'")
        logits = self.model(**tokens).logits[0, places[0, 0]]
        shares, ids = logits.softmax(-1).topk(_NUM_BEST)
        words = [self.tokenizer.decode([token]).strip() for token in ids.tolist()]
        return [Prediction("word", word, share) for word, share in zip(words, shares.tolist(), strict=True)]


def _softmax(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    weights = np.exp(logits - logits.max(axis=-1, keepdims=True))
    shares: NDArray[np.float32] = weights / weights.sum(axis=-1, keepdims=True)
    return shares


_KINDS: dict[str, tuple[Any, Callable[..., Predict]]] = {
    "ForTokenClassification": (AutoModelForTokenClassification, _Entities),
    "ForSequenceClassification": (AutoModelForSequenceClassification, _Classes),
    "ForQuestionAnswering": (AutoModelForQuestionAnswering, _Answers),
    "ForMaskedLM": (AutoModelForMaskedLM, _Words),
}
