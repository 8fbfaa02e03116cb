"""How well a masked language model fills in words of text that it has not seen; nothing is trained."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from compactbio.data import counter
from compactbio.data.batches import Batch
from compactbio.data.examples import PlainText
from compactbio.data.masking import Vocabulary, mask_tokens
from compactbio.evaluation.score import Score, value
from compactbio.models.architecture import longest_input
from compactbio.models.forward import Needs, forward
from compactbio.models.load import vocabulary
from compactbio.spec.base import SpecError
from compactbio.spec.corpus import Masking

WINDOW_TOKENS = 128
TOP = 5
_ROWS_A_BATCH = 32


@dataclass(frozen=True)
class _Window:
    text: int
    number: int
    ids: list[int]


def score_masked_text(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[PlainText],
    *,
    seed: int,
    field: str,
    device: torch.device,
) -> Score:
    """Accuracy and top-5 accuracy at 15 % of the tokens, and exp of the mean loss there (perplexity).

    Texts are cut into windows of 128 tokens; masks depend on the seed and on the place of the window alone.
    Perplexities of models with different vocabularies are not comparable. Raises SpecError under `field` for a model
    that cannot read a window.
    """
    if longest_input(model.config) < WINDOW_TOKENS:
        raise SpecError.at(field, f"the model reads fewer than {WINDOW_TOKENS} tokens")
    model.eval()
    tables = np.zeros((len(texts), 4))  # by text: right, right among the best five, loss, scored tokens
    words = vocabulary(tokenizer)
    windows = sorted(_windows(tokenizer, texts), key=lambda window: len(window.ids))
    for start in range(0, len(windows), _ROWS_A_BATCH):
        some = windows[start : start + _ROWS_A_BATCH]
        for window, row in zip(some, _judge(model, _masked(some, words, seed).to(device)), strict=True):
            tables[window.text] += row
    right, among_best, loss, scored = (tables[:, column] for column in range(4))
    counts = np.stack([right, scored], axis=1)
    return Score(
        main="accuracy",
        values={
            "accuracy": value(counts, "accuracy"),
            f"top{TOP}_accuracy": value(np.stack([among_best, scored], axis=1), "accuracy"),
            "perplexity": math.exp(loss.sum() / max(scored.sum(), 1)),
        },
        counts=counts,
        detail={},
    )


def _windows(tokenizer: PreTrainedTokenizerBase, texts: Sequence[PlainText]) -> Iterator[_Window]:
    room = WINDOW_TOKENS - 2
    for index, text in enumerate(texts):
        ids = tokenizer(text.text, add_special_tokens=False, verbose=False)["input_ids"]
        for number, start in enumerate(range(0, len(ids), room)):
            inner = ids[start : start + room]
            yield _Window(index, number, [tokenizer.cls_token_id, *inner, tokenizer.sep_token_id])


def _masked(windows: Sequence[_Window], words: Vocabulary, seed: int) -> Batch:
    lengths = np.array([len(window.ids) for window in windows])
    tokens = np.full((len(windows), lengths.max()), words.pad_id, dtype=np.int64)
    for line, window in enumerate(windows):
        tokens[line, : len(window.ids)] = window.ids
    places = [np.array([getattr(window, name) for window in windows], dtype=np.uint64) for name in ("text", "number")]
    seen, scored = mask_tokens(tokens, counter.at(seed, *places), Masking(), words)
    real = np.arange(tokens.shape[1])[None, :] < lengths[:, None]
    parts = (seen, real, scored, tokens[scored])
    return Batch(*(torch.from_numpy(part) for part in parts))


@torch.inference_mode()
def _judge(model: PreTrainedModel, batch: Batch) -> NDArray[np.float64]:
    """[B, 4]: for each window what its masked tokens add."""
    logits = forward(model, batch, Needs(logits="masked")).logits
    assert logits is not None
    own = logits.gather(1, batch.labels[:, None])
    rank = (logits > own).sum(1)
    loss = functional.cross_entropy(logits.float(), batch.labels, reduction="none")
    rows = torch.stack([rank == 0, rank < TOP, loss, torch.ones_like(loss)], dim=1).double().cpu()
    sums = torch.zeros(len(batch.input_ids), 4, dtype=torch.float64)
    sums.index_add_(0, batch.scored.nonzero()[:, 0].cpu(), rows)
    return sums.numpy()
