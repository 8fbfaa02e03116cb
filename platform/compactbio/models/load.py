"""Loading models and tokenizers by path, package or hub name."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
import transformers
from numpy.typing import NDArray
from transformers import AutoConfig, AutoTokenizer, PreTrainedConfig, PreTrainedTokenizerBase

from compactbio.data.masking import Vocabulary
from compactbio.models.published import published_config
from compactbio.spec.base import SpecError
from compactbio.spec.references import locate

if TYPE_CHECKING:
    from transformers import PreTrainedModel

log = logging.getLogger(__name__)

Counts = NDArray[np.int64]

_WORD_MARKS = ("\u0120", "\u2581")


def quiet_transformers() -> None:
    """No progress bars and load reports from transformers: a run says what matters itself."""
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()


def load_config(reference: str, field: str, *, online: bool) -> PreTrainedConfig:
    """The model's configuration. Raises SpecError under `field` where there is none."""
    path = locate(reference, field)
    try:
        return AutoConfig.from_pretrained(path, local_files_only=not online)
    except (OSError, ValueError, KeyError) as error:
        raise SpecError.at(field, _why_not(reference, path, "model", online, error)) from None


def load_shape(reference: str, field: str, *, online: bool) -> PreTrainedConfig:
    """As `load_config`, for the shape of a model alone: of published models it is known here."""
    return published_config(reference) or load_config(reference, field, online=online)


def load_tokenizer(reference: str, field: str, *, online: bool) -> PreTrainedTokenizerBase:
    """The model's tokenizer. Raises SpecError under `field` where there is none."""
    path = locate(reference, field)
    try:
        tokenizer = AutoTokenizer.from_pretrained(path, local_files_only=not online)
    except (OSError, ValueError, KeyError) as error:
        raise SpecError.at(field, _why_not(reference, path, "tokenizer", online, error)) from None
    if tokenizer.mask_token_id is None or tokenizer.pad_token_id is None:
        raise SpecError.at(field, f"the tokenizer of '{reference}' has no mask or no padding token")
    return tokenizer


def load_masked_lm(
    reference: str, field: str, *, online: bool, seed: int, token_counts: Callable[[], Counts] | None = None
) -> PreTrainedModel:
    """The model with its MLM head, in fp32 and eval mode.

    A head that the checkpoint lacks is drawn from `seed`; the bias of its decoder starts at the log frequency of
    each token where `token_counts`, which gives them [V], is there, so that the first steps need not learn it.

    Raises SpecError under `field` where there is no model.
    """
    from transformers import AutoModelForMaskedLM  # seconds of imports that reading a configuration does without

    path = locate(reference, field)
    transformers.set_seed(seed)
    try:
        model, info = AutoModelForMaskedLM.from_pretrained(
            path, local_files_only=not online, dtype="float32", output_loading_info=True
        )
    except (OSError, ValueError, KeyError) as error:
        raise SpecError.at(field, _why_not(reference, path, "masked language model", online, error)) from None
    if info["missing_keys"]:
        log.warning("%s has no weights for %s: drawn at random", reference, ", ".join(sorted(info["missing_keys"])))
        bias = model.get_output_embeddings().bias
        if token_counts is not None and any(name.endswith("decoder.bias") for name in info["missing_keys"]):
            smoothed = torch.from_numpy(token_counts()[: len(bias)] + 1.0)
            bias.data[: len(smoothed)] = (smoothed / smoothed.sum()).log().float()
    return model.eval()


def vocabulary(tokenizer: PreTrainedTokenizerBase) -> Vocabulary:
    """What masking has to know of the tokenizer."""
    inner = _inner_token(tokenizer.get_vocab())
    return Vocabulary(
        size=len(tokenizer),
        mask_id=tokenizer.mask_token_id,
        pad_id=tokenizer.pad_token_id,
        special_ids=tuple(sorted(set(tokenizer.all_special_ids))),
        inner_ids=tuple(id_ for token, id_ in tokenizer.get_vocab().items() if inner(token)),
    )


def _inner_token(tokens: Collection[str]) -> Callable[[str], bool]:
    """Says of a token whether it goes on with a word: WordPiece marks these, byte-level BPE and SentencePiece the
    others."""
    for mark in _WORD_MARKS:
        if any(token.startswith(mark) for token in tokens):
            return lambda token: not token.startswith(mark)
    return lambda token: token.startswith("##")


def _why_not(reference: str, path: str, what: str, online: bool, error: Exception) -> str:
    if Path(path).exists():
        return f"no {what} of transformers can be loaded from '{reference}': {str(error).splitlines()[0]}"
    if online:
        return f"'{reference}' is neither a path here nor a {what} on the hub: {str(error).splitlines()[0]}"
    return f"'{reference}' is neither a path here nor in the local cache; to download it set online: true"
