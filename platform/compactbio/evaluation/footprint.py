"""What a model costs to run: parameters, seconds a sentence, memory.

Run as a program it measures several models, each in a fork of its own of a process that has done nothing but
imports, so that the memory of one does not count for the next.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from compactbio.spec.evaluation import Measuring


@dataclass(frozen=True)
class Footprint:
    """Figures of one model on this machine."""

    parameters: int
    """Of the encoder, without pooler and heads."""

    seconds_a_sentence: float
    """Median over the rounds, one sentence at a time, tokenisation included."""

    peak_mib: float | None
    """Growth of the process's resident memory, at its peak, since before the model was loaded; Linux only."""


def measure(models: dict[str, str], sentences: list[str], section: Measuring, max_tokens: int) -> dict[str, Footprint]:
    """The footprints of the encoders of the masked language models, by name, one after the other."""
    request = json.dumps([models, sentences, section.model_dump(), max_tokens])
    done = subprocess.run(
        [sys.executable, "-m", __name__], input=request, stdout=subprocess.PIPE, text=True, check=True
    )
    return {name: Footprint(**figures) for name, figures in json.loads(done.stdout.splitlines()[-1]).items()}


def _main() -> None:
    models, sentences, section, max_tokens = json.load(sys.stdin)
    for path in models.values():
        _warm_imports(path)
    figures = {name: _in_fork(Path(path), sentences, Measuring(**section), max_tokens) for name, path in models.items()}
    print(json.dumps(figures))  # noqa: T201  (read by `measure`)


def _warm_imports(path: str) -> None:
    """Imports the model's module without making a model."""
    import torch
    from transformers import AutoConfig, AutoModelForMaskedLM, AutoTokenizer

    assert AutoTokenizer is not None  # transformers imports a class when it is named
    with torch.device("meta"):
        AutoModelForMaskedLM.from_config(AutoConfig.from_pretrained(path, local_files_only=True))


def _in_fork(path: Path, sentences: list[str], section: Measuring, max_tokens: int) -> dict[str, object]:
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            answer = json.dumps(asdict(_measure(path, sentences, section, max_tokens)))
            os.write(writing, answer.encode())
            status = 0
        finally:
            os._exit(status)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        answer = pipe.read()
    if os.waitpid(child, 0)[1] != 0:
        raise RuntimeError(f"measuring {path} failed")
    figures: dict[str, object] = json.loads(answer)
    return figures


def _measure(path: Path, sentences: list[str], section: Measuring, max_tokens: int) -> Footprint:
    import torch
    from transformers import AutoModelForMaskedLM, AutoTokenizer

    torch.set_num_threads(section.threads)
    before = _status("VmRSS")
    tokenizer = AutoTokenizer.from_pretrained(path, local_files_only=True)
    model = AutoModelForMaskedLM.from_pretrained(path, local_files_only=True).base_model.eval()

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
        parameters=sum(value.numel() for name, value in model.named_parameters() if "pooler" not in name),
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


if __name__ == "__main__":
    _main()
