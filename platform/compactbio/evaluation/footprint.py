"""What a model costs to run: parameters, seconds a sentence, memory.

Meant for a process of its own, in which nothing else has run: memory is read from the process.
"""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import AutoModelForMaskedLM, AutoTokenizer

from compactbio.spec.evaluation import Measuring


@dataclass(frozen=True)
class Footprint:
    """Figures of one model on this machine."""

    parameters: int
    """Of the encoder, without pooler and heads."""

    seconds_a_sentence: float
    """Median over the rounds, one sentence at a time, tokenisation included."""

    peak_mib: float | None
    """Growth of the process's resident memory at its peak since before the model was loaded; Linux only."""


def measure(model_folder: Path, sentences: list[str], section: Measuring, max_tokens: int) -> Footprint:
    """The footprint of the encoder of the masked language model in `model_folder`."""
    torch.set_num_threads(section.threads)
    before = _status("VmRSS")
    tokenizer = AutoTokenizer.from_pretrained(model_folder, local_files_only=True)
    model = AutoModelForMaskedLM.from_pretrained(model_folder, local_files_only=True).base_model.eval()

    def run(texts: list[str]) -> float:
        started = time.perf_counter()
        with torch.inference_mode():
            for text in texts:
                model(**tokenizer(text, truncation=True, max_length=max_tokens, return_tensors="pt"))
        return (time.perf_counter() - started) / len(texts)

    run(sentences[: max(1, len(sentences) // 4)])  # warm-up
    seconds = statistics.median(run(sentences) for _ in range(section.rounds))
    peak = _status("VmHWM")
    return Footprint(
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        seconds_a_sentence=seconds,
        peak_mib=None if before is None or peak is None else (peak - before) / 1024,
    )


def _status(field: str) -> int | None:
    """Kibibytes from this process's status; None where the system does not say."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) for line in lines if line.startswith(field + ":")), None)
