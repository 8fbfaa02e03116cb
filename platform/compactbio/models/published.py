"""Configurations of published models: a job can be planned, and a student of that shape built, without the models.

Each is what the model's own `config.json` says where it differs from the defaults of its class in transformers.
"""

from __future__ import annotations

from transformers import AutoConfig, PreTrainedConfig

_CASED, _UNCASED = 28_996, 30_522
_TINY = {
    "hidden_size": 312,
    "num_hidden_layers": 4,
    "num_attention_heads": 12,
    "intermediate_size": 1200,
    "vocab_size": _UNCASED,
}
_PUBLISHED: dict[str, tuple[str, dict[str, int]]] = {
    "dmis-lab/biobert-base-cased-v1.1": ("bert", {"vocab_size": _CASED}),
    "dmis-lab/biobert-base-cased-v1.2": ("bert", {"vocab_size": _CASED}),
    "distilbert-base-cased": ("distilbert", {"vocab_size": _CASED}),
    "distilbert-base-uncased": ("distilbert", {"vocab_size": _UNCASED}),
    "huawei-noah/TinyBERT_General_4L_312D": ("bert", _TINY),
    "google/mobilebert-uncased": ("mobilebert", {"vocab_size": _UNCASED}),
}


def published_config(name: str) -> PreTrainedConfig | None:
    """The configuration of a published model, where it is known here."""
    if name not in _PUBLISHED:
        return None
    kind, values = _PUBLISHED[name]
    return AutoConfig.for_model(kind, **values)
