"""Attention taken from the attention call itself: before dropout, and only in the layers that are asked for.

Every other layer, and the output of an observed one, goes through PyTorch's fused attention. On a CPU that has no
kernel with dropout and keeps a layer's whole map three times over, so there the maps are computed again in the
backward pass, with the same dropout.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from compactbio.models.architecture import attention_modules

IMPLEMENTATION = "compactbio_observed"
_SLOT = "_compactbio_observed_into"


def make_observable(model: PreTrainedModel) -> None:
    """Routes the model's attention calls through `observed_attention`. Raises ValueError where that is impossible."""
    AttentionInterface.register(IMPLEMENTATION, observed_attention)
    AttentionMaskInterface.register(IMPLEMENTATION, sdpa_mask)
    if len(attention_modules(model)) != model.config.num_hidden_layers:
        raise ValueError(f"the attention of a '{model.config.model_type}' model cannot be observed")
    model.set_attn_implementation(IMPLEMENTATION)


@contextmanager
def observe(model: PreTrainedModel, layers: frozenset[int]) -> Iterator[dict[int, Tensor]]:
    """Inside, forward passes fill the dictionary: layer to scaled scores [B, H, T, T], before the softmax."""
    rows: dict[int, Tensor] = {}
    modules = [(layer, attention_modules(model)[layer]) for layer in sorted(layers)]
    for layer, module in modules:
        setattr(module, _SLOT, (rows, layer))
    try:
        yield rows
    finally:
        for _, module in modules:
            delattr(module, _SLOT)


def observed_attention(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **kwargs: Any
) -> tuple[Tensor, None]:
    """Fused attention, and the scores besides where the module is being observed."""
    slot = getattr(module, _SLOT, None)
    if slot is not None:
        rows, layer = slot
        scaling = kwargs.get("scaling") or query.shape[-1] ** -0.5
        rows[layer] = _masked_scores(query, key, attention_mask, scaling)
    attend = partial(sdpa_attention_forward, module, attention_mask=attention_mask, **kwargs)
    if _keeps_maps(query, kwargs.get("dropout", 0.0)):
        return checkpoint(attend, query, key, value, use_reentrant=False)
    return attend(query, key, value)


def _keeps_maps(query: Tensor, dropout: float) -> bool:
    """Whether PyTorch's attention would keep its maps for the backward pass."""
    return query.device.type == "cpu" and dropout > 0 and query.requires_grad and not torch.compiler.is_compiling()


def _masked_scores(query: Tensor, key: Tensor, mask: Tensor | None, scaling: float) -> Tensor:
    scores = torch.matmul(query * scaling, key.transpose(-1, -2))
    if mask is None:
        return scores
    lowest = torch.finfo(scores.dtype).min  # finite: a key of probability 0 must not turn 0 x log 0 into NaN
    return scores.masked_fill(~mask, lowest) if mask.dtype == torch.bool else (scores + mask).clamp_min(lowest)
