"""How often another runtime predicts what PyTorch predicts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from transformers.modeling_outputs import BaseModelOutput

from compactbio.evaluation.inference import Forward, Ids, is_masked_lm, open_torch

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def top_agreement(model: PreTrainedModel, found: Forward, batches: list[Ids]) -> float | None:
    """Share of the predictions of `found` whose most likely class (token, start, end) is PyTorch's.

    None for a model without a head.
    Several classes at once (`multi_label_classification`) agree where the same ones are over one half. Of a masked
    language model, PyTorch's head reads the hidden states of both.
    """
    if not is_masked_lm(model) and model is model.base_model:
        return None
    expected = open_torch(model)
    same = [_predicted(model, expected(ids).numpy()) == _predicted(model, found(ids)) for ids in batches]
    return float(np.concatenate([values.ravel() for values in same]).mean())


def _predicted(model: PreTrainedModel, output: NDArray[np.float32]) -> NDArray[np.int64]:
    if is_masked_lm(model):
        output = _vocabulary_logits(model, output)
    if model.config.problem_type == "multi_label_classification":
        return (output > 0).astype(np.int64)
    return output.argmax(-1)


def _vocabulary_logits(model: PreTrainedModel, hidden: NDArray[np.float32]) -> NDArray[np.float32]:
    """Logits [B, T, V] of the model's head over hidden states [B, T, D] that were computed elsewhere."""
    states = torch.from_numpy(hidden)

    hook = model.base_model.register_forward_hook(lambda *_: BaseModelOutput(last_hidden_state=states))
    try:
        with torch.inference_mode():
            return model(input_ids=torch.zeros(states.shape[:2], dtype=torch.long)).logits.numpy()
    finally:
        hook.remove()
