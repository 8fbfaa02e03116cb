"""How a model's passes are carried out: activations computed twice instead of kept, or compiled."""

from __future__ import annotations

import os
import shutil
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from compactbio.models.architecture import layer_of

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def checkpoint_activations(model: PreTrainedModel, kept: frozenset[int] = frozenset()) -> None:
    """Lets every layer compute its activations again in the backward pass, those in `kept` excepted: attention that is
    observed is part of the loss and has to stay.

    Raises ValueError for a model whose layers cannot do it.
    """
    from torch.utils.checkpoint import checkpoint
    from transformers.modeling_layers import GradientCheckpointingLayer  # seconds, which preflight does without

    layers = [
        (layer_of(f"{name}."), module)
        for name, module in model.named_modules()
        if isinstance(module, GradientCheckpointingLayer)
    ]
    layers = [(index, module) for index, module in layers if index is not None]
    if len(layers) != model.config.num_hidden_layers:
        raise ValueError(f"the layers of a '{model.config.model_type}' model cannot compute their activations again")
    for index, module in layers:
        module._gradient_checkpointing_func = partial(checkpoint, use_reentrant=False)
        module.gradient_checkpointing = index not in kept


def why_not_compile() -> str | None:
    """Why a model cannot be compiled for this machine's CPUs; None where it can."""
    if not shutil.which(os.environ.get("CXX", "g++")):
        return "there is no C++ compiler (g++) on this machine"
    import torch

    if " " in (home := str(Path(torch.__file__).parent)):
        return f"PyTorch's compiler does not work in a folder with a space in its path: {home}"
    return None


def compile_encoder(model: PreTrainedModel) -> None:
    """Compiles the encoder, for batches of any length."""
    model.base_model.compile(dynamic=True)
