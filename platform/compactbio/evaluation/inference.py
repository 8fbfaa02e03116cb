"""A saved model as what answers: its encoder, or itself with the head of its task; in PyTorch and in ONNX Runtime."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from compactbio.spec.base import SpecError
from compactbio.spec.evaluation import Runtime

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import PreTrainedModel

Ids = NDArray[np.int64]
"""Token ids [B rows, T tokens], none of them padding."""

Forward = Callable[[Ids], NDArray[np.float32]]
"""Hidden states [B, T, D] of an encoder, or logits; of a model for questions start and end [B, 2, T]."""

ONNX_FILES: dict[Runtime, str] = {"onnx": "model.onnx", "onnx-int8": "model-int8.onnx"}
_INPUTS = ("input_ids", "attention_mask")
_OPSET_NOISE = "torch.onnx._internal.exporter._registration"  # says of torchvision that it is not installed


def load_model(path: str, *, mlm_head: bool = True) -> PreTrainedModel:
    """The model under the head that its configuration names, in fp32 and eval mode.

    Without `mlm_head` a masked language model is its encoder alone.

    Raises SpecError where that is none of: masked language model, tokens, texts, questions, no head.
    """
    import transformers

    config = transformers.AutoConfig.from_pretrained(path, local_files_only=True)
    name = (config.architectures or ["Model"])[0]
    masked_lm = transformers.AutoModelForMaskedLM if mlm_head else transformers.AutoModel
    classes = {
        "ForMaskedLM": masked_lm,
        "ForPreTraining": masked_lm,
        "ForTokenClassification": transformers.AutoModelForTokenClassification,
        "ForSequenceClassification": transformers.AutoModelForSequenceClassification,
        "ForQuestionAnswering": transformers.AutoModelForQuestionAnswering,
        "Model": transformers.AutoModel,
    }
    found = next((classes[ending] for ending in classes if name.endswith(ending)), None)
    if found is None:
        raise SpecError.at("MODEL", f"'{path}' is a {name}; what is measured are {', '.join(classes)}")
    model: PreTrainedModel = found.from_pretrained(path, local_files_only=True, dtype="float32")
    return model.eval()


def is_masked_lm(model: PreTrainedModel) -> bool:
    """Whether its head predicts tokens of the vocabulary."""
    return model.get_output_embeddings() is not None


def answering(model: PreTrainedModel) -> nn.Module:
    """What is measured, as a module from ids and mask [B, T] to one tensor (see `Forward`).

    Of a masked language model that is the encoder alone: its head is not what a task runs.
    """
    import torch

    class Answering(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model.base_model if is_masked_lm(model) else model

        def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
            out = self.model(input_ids=input_ids, attention_mask=attention_mask)
            if "start_logits" in out:
                return torch.stack([out.start_logits, out.end_logits], 1)
            return out.logits if "logits" in out else out.last_hidden_state

    return Answering().eval()


def export_onnx(model: PreTrainedModel, folder: Path, runtimes: tuple[Runtime, ...]) -> dict[Runtime, Path]:
    """Writes the ONNX files that the runtimes need into the folder, for every number of rows and tokens.

    int8 is ONNX Runtime's dynamic quantisation: weights of matrix products as 8-bit integers, one scale for each
    output channel, activations quantised as they come.
    """
    import torch

    files = {runtime: folder / name for runtime, name in ONNX_FILES.items() if runtime in runtimes}
    if not files:
        return {}
    ids = torch.full((2, 8), 5)  # sizes of 0 and 1 would be taken for constants
    any_size = {name: {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC} for name in _INPUTS}
    with _without_noise():
        program = torch.onnx.export(
            answering(model),
            kwargs={"input_ids": ids, "attention_mask": torch.ones_like(ids)},
            dynamo=True,
            dynamic_shapes=any_size,
            input_names=list(_INPUTS),
            output_names=["output"],
            verbose=False,
        )
        assert program is not None
        whole = folder / ONNX_FILES["onnx"]
        program.save(whole)
        if "onnx-int8" in files:
            import onnx
            from onnxruntime.quantization import QuantType, quantize_dynamic

            graph = onnx.load(whole)
            del graph.graph.value_info[:]  # the exporter leaves shapes of before it folded transposes into heads
            quantize_dynamic(graph, files["onnx-int8"], per_channel=True, weight_type=QuantType.QInt8)
    return files


def open_torch(model: PreTrainedModel, device: str = "cpu") -> Callable[[Ids], Tensor]:
    """The model in PyTorch; what it answers stays on the device, and is not waited for."""
    import torch

    module = answering(model).to(device)

    def forward(ids: Ids) -> Tensor:
        with torch.inference_mode():
            rows = torch.from_numpy(ids).to(device)
            return module(rows, torch.ones_like(rows))

    return forward


def open_onnx(path: Path, *, threads: int, device: str = "cpu") -> Forward:
    """The file in ONNX Runtime. This needs neither PyTorch nor transformers."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=[onnx_provider(device)])

    def forward(ids: Ids) -> NDArray[np.float32]:
        return session.run(None, {"input_ids": ids, "attention_mask": np.ones_like(ids)})[0]

    return forward


def onnx_provider(device: str) -> str:
    """What ONNX Runtime calls the device. Raises SpecError where the installed build cannot use it."""
    import onnxruntime

    name = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}[device]
    if name not in onnxruntime.get_available_providers():
        raise SpecError.at("--runtime", "the installed ONNX Runtime has no CUDA: install onnxruntime-gpu in its place")
    return name


@contextmanager
def _without_noise() -> Iterator[None]:
    """Exporter and quantiser warn of what is no matter here, the quantiser through the root logger."""
    names = (None, _OPSET_NOISE)
    levels = [logging.getLogger(name).level for name in names]
    for name in names:
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        yield
    finally:
        for name, level in zip(names, levels, strict=True):
            logging.getLogger(name).setLevel(level)
