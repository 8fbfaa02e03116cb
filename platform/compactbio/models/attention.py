"""Attention taken from the attention call itself: before dropout, and only in the layers that are asked for.

The output of every layer, observed or not, comes from PyTorch's fused attention. On a CPU that has no kernel with
dropout and keeps a layer's whole map three times over, so there the maps are computed again in the backward pass, with
the same dropout.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from compactbio.models.architecture import attention_modules

IMPLEMENTATION = "compactbio_observed"
_SLOT = "_compactbio_observed_into"


class Observed(NamedTuple):
    """What a layer's scores are computed from when somebody wants them: they are many times as large.

    query, key [B, H, T, d]; mask, boolean or to be added, broadcast to [B, H, T, T].
    """

    query: Tensor
    key: Tensor
    mask: Tensor | None
    scaling: float

    def scores(self) -> Tensor:
        """Scaled scores [B, H, T, T] before the softmax and before dropout, the lowest number at keys that are
        padding."""
        scores = torch.matmul(self.query * self.scaling, self.key.transpose(-1, -2))
        if self.mask is None:
            return scores
        lowest = torch.finfo(scores.dtype).min  # finite: a key of probability 0 must not turn 0 x log 0 into NaN
        if self.mask.dtype == torch.bool:
            return scores.masked_fill(~self.mask, lowest)
        return (scores + self.mask).clamp_min(lowest)


def make_observable(model: PreTrainedModel) -> None:
    """Routes the model's attention calls through `observed_attention`. Raises ValueError where that is impossible."""
    AttentionInterface.register(IMPLEMENTATION, observed_attention)
    AttentionMaskInterface.register(IMPLEMENTATION, sdpa_mask)
    if len(attention_modules(model)) != model.config.num_hidden_layers:
        raise ValueError(f"the attention of a '{model.config.model_type}' model cannot be observed")
    model.set_attn_implementation(IMPLEMENTATION)


@contextmanager
def observe(model: PreTrainedModel, layers: frozenset[int]) -> Iterator[dict[int, Observed]]:
    """Inside, forward passes fill the dictionary by layer."""
    found: dict[int, Observed] = {}
    modules = [(layer, attention_modules(model)[layer]) for layer in sorted(layers)]
    for layer, module in modules:
        setattr(module, _SLOT, (found, layer))
    try:
        yield found
    finally:
        for _, module in modules:
            delattr(module, _SLOT)


def observed_attention(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **kwargs: Any
) -> tuple[Tensor, None]:
    """Fused attention, noted where the module is being observed."""
    slot = getattr(module, _SLOT, None)
    if slot is not None:
        found, layer = slot
        scaling = kwargs.get("scaling") or query.shape[-1] ** -0.5
        found[layer] = Observed(query, key, attention_mask, scaling)
    attend = partial(sdpa_attention_forward, module, attention_mask=attention_mask, **kwargs)
    if _keeps_maps(query, kwargs.get("dropout", 0.0)):
        return checkpoint(attend, query, key, value, use_reentrant=False)
    return attend(query, key, value)


def _keeps_maps(query: Tensor, dropout: float) -> bool:
    """Whether PyTorch's attention would keep its maps for the backward pass."""
    return query.device.type == "cpu" and dropout > 0 and query.requires_grad and not torch.compiler.is_compiling()
