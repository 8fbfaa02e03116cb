"""How large a model is, from its configuration alone."""

from __future__ import annotations

import json
from collections.abc import Hashable
from functools import lru_cache
from typing import TYPE_CHECKING

from transformers import PreTrainedConfig

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def parameters(config: PreTrainedConfig) -> int:
    """Parameters of the masked language model, tied ones once."""
    return sum(parameter.numel() for parameter in _skeleton(_values(config), config.model_type).parameters())


def encoder_parameters(config: PreTrainedConfig) -> int:
    """Parameters of its encoder, without pooler and MLM head."""
    model = _skeleton(_values(config), config.model_type).base_model
    return sum(parameter.numel() for name, parameter in model.named_parameters() if "pooler" not in name)


def linear_weights(config: PreTrainedConfig) -> tuple[int, int]:
    """Weights of the linear layers of its encoder, and of its MLM head, the tied decoder included."""
    from torch import nn

    model = _skeleton(_values(config), config.model_type)
    everything, encoder = (
        sum(inner.weight.numel() for inner in module.modules() if isinstance(inner, nn.Linear))
        for module in (model, model.base_model)
    )
    return encoder, everything - encoder


def _values(config: PreTrainedConfig) -> str:
    values = config.to_dict()
    values.pop("model_type")
    return json.dumps(values, sort_keys=True, default=str)


@lru_cache(maxsize=16)
def _skeleton(text: str, kind: Hashable) -> PreTrainedModel:
    """The model without memory for its weights."""
    import torch
    from transformers import AutoConfig, AutoModelForMaskedLM

    with torch.device("meta"):
        model = AutoModelForMaskedLM.from_config(AutoConfig.for_model(kind, **json.loads(text)))
    model.tie_weights()
    return model
