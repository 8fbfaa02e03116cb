"""The few places where one encoder architecture differs from another."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from transformers import PreTrainedConfig

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import PreTrainedModel

_LAYER = re.compile(r"\.layer\.(\d+)\.")


@dataclass(frozen=True)
class Architecture:
    """How to reach the parts of a masked language model.

    head: from hidden states [..., D] to vocabulary logits [..., V]. attention: suffix of the names of the
    modules that call the attention interface, one a layer, in order.
    """

    head: Callable[[PreTrainedModel, Tensor], Tensor]
    attention: str


def _distilbert_head(model: PreTrainedModel, hidden: Tensor) -> Tensor:
    hidden = model.vocab_layer_norm(model.activation(model.vocab_transform(hidden)))
    return model.vocab_projector(hidden)


_ARCHITECTURES = {
    "bert": Architecture(lambda model, hidden: model.cls(hidden), "attention.self"),
    "roberta": Architecture(lambda model, hidden: model.lm_head(hidden), "attention.self"),
    "distilbert": Architecture(_distilbert_head, "attention"),
    "electra": Architecture(
        lambda model, hidden: model.generator_lm_head(model.generator_predictions(hidden)), "attention.self"
    ),
    "mobilebert": Architecture(lambda model, hidden: model.cls(hidden), "attention.self"),
}


def architecture(config: PreTrainedConfig) -> Architecture:
    """How to reach the parts of a model with this configuration. Raises ValueError for one that is not known."""
    known = _ARCHITECTURES.get(config.model_type)
    if known is None:
        raise ValueError(f"a model of type '{config.model_type}' is not supported (known: {', '.join(_ARCHITECTURES)})")
    return known


def longest_input(config: PreTrainedConfig) -> int:
    """Tokens that the model can read at once, special ones included."""
    longest: int = config.max_position_embeddings
    return longest - 2 if config.model_type == "roberta" else longest  # whose positions start behind that of padding


def attention_modules(model: PreTrainedModel) -> list[nn.Module]:
    """The modules that call the attention interface, in the order of the layers."""
    suffix = architecture(model.config).attention
    pattern = re.compile(rf"\.layer\.\d+\.{re.escape(suffix)}$")
    return [module for name, module in model.named_modules() if pattern.search(name)]


def layer_of(name: str) -> int | None:
    """The index of the layer that a parameter belongs to."""
    match = _LAYER.search(name)
    return int(match[1]) if match else None


def rename_layer(name: str, layer: int) -> str:
    """The parameter's name in another layer."""
    return _LAYER.sub(f".layer.{layer}.", name)
