"""Named entity recognition: tags of words or of sub-words."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
from transformers import PreTrainedTokenizerBase

from compactbio.data.examples import Example, TaggedText
from compactbio.data.tag_rows import Protocol as TagProtocol
from compactbio.data.tag_rows import encode_tagged, join_windows, word_pieces
from compactbio.data.task_rows import Row, TaskRows
from compactbio.evaluation.entities import score_entities
from compactbio.evaluation.errors import Mention
from compactbio.objectives.tasks import ClassLoss, TaskLoss
from compactbio.spec.tuning import Tuning
from compactbio.tracking.cell_files import MENTIONS_FILE, WORDS_FILE
from compactbio.training.class_weights import class_weights
from compactbio.training.judged import Judged, tab_separated
from compactbio.training.task_model import Head, Logits


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
        return ClassLoss("tags", class_weights(self.tuning, rows, len(self.names)))

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
