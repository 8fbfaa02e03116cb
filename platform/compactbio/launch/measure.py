"""What models cost to run on this machine: time, memory, and what quantisation changes in their predictions."""

from __future__ import annotations

import importlib.metadata
import importlib.resources
import itertools
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from transformers import PreTrainedConfig, PreTrainedTokenizerBase

from compactbio.evaluation.agreement import top_agreement
from compactbio.evaluation.footprint import Case, measure
from compactbio.evaluation.inference import Ids, export_onnx, load_model, onnx_provider, open_onnx
from compactbio.launch import fork_server
from compactbio.launch.doctor import gpu_names, processor
from compactbio.launch.failures import JobFailedError
from compactbio.models.count import encoder_parameters
from compactbio.models.load import load_config, load_tokenizer, quiet_transformers
from compactbio.reporting.costs import Cost
from compactbio.spec.base import Problem, SpecError
from compactbio.spec.evaluation import CostGrid, Measuring, Runtime
from compactbio.spec.references import locate

_FIELD = "MODEL"


@dataclass(frozen=True)
class _Candidate:
    """A model that can be measured."""

    name: str
    path: str
    config: PreTrainedConfig
    tokenizer: PreTrainedTokenizerBase


def machine(grid: CostGrid) -> str:
    """What the figures were taken on."""
    where = f"{grid.threads} thread(s) of {processor()}" if grid.device == "cpu" else gpu_names()[0]
    versions = {"torch": "PyTorch", "onnxruntime": "ONNX Runtime"}
    return ", ".join([where, *(f"{name} {importlib.metadata.version(key)}" for key, name in versions.items())])


def measure_models(models: list[str], grid: CostGrid, *, online: bool) -> Iterator[Cost]:
    """Figures of each model (`NAME=FOLDER`, or a reference that is its own name) under each runtime, batch and length.

    Everything is looked at before anything is measured. Raises SpecError for what cannot be measured, JobFailedError
    for a process that fails.
    """
    quiet_transformers()
    _check_device(grid)
    candidates = _candidates(models, grid, online=online)
    return itertools.chain.from_iterable(_costs(candidate, grid) for candidate in candidates)


def footprints(
    models: dict[str, str], texts: list[str], section: Measuring, max_tokens: int
) -> dict[str, dict[str, float | None]]:
    """Of models by name, in PyTorch on the CPU: `parameters` of the encoder, without pooler and heads;
    `seconds_a_sentence`, one text at a time, each as long as it is; `peak_mib`, what the process grows by, at its peak.
    """
    figures: dict[str, dict[str, float | None]] = {}
    for name, path in models.items():
        tokenizer = load_tokenizer(path, name, online=False)
        batches = [[tokenizer(text, truncation=True, max_length=max_tokens)["input_ids"]] for text in texts]
        found = measure(Case(path, "torch", "cpu", section.threads, section.rounds, batches), fork_server.interpreter())
        figures[name] = {
            "parameters": encoder_parameters(load_config(path, name, online=False)),
            "seconds_a_sentence": found.seconds,
            "peak_mib": found.growth_mib,
        }
    return figures


def _check_device(grid: CostGrid) -> None:
    if grid.device == "cpu":
        return
    if not gpu_names():
        raise SpecError.at("--device", "this machine has no GPU that PyTorch can use; leave --device out for the CPU")
    if "onnx-int8" in grid.runtimes:
        raise SpecError.at("--runtime", "onnx-int8 runs on CPUs; leave it out with --device cuda")
    if "onnx" in grid.runtimes:
        onnx_provider(grid.device)


def _candidates(models: list[str], grid: CostGrid, *, online: bool) -> list[_Candidate]:
    found: list[_Candidate] = []
    problems: list[Problem] = []
    for text in models:
        name, equals, reference = text.partition("=")
        try:
            candidate = _candidate(name if equals else text, reference if equals else text, grid, online=online)
            if any(candidate.name == other.name for other in found):
                raise SpecError.at(_FIELD, f"two models are called '{candidate.name}'; name them with NAME=FOLDER")
            found.append(candidate)
        except SpecError as error:
            problems.extend(error.problems)
    if problems:
        raise SpecError(problems)
    return found


def _candidate(name: str, reference: str, grid: CostGrid, *, online: bool) -> _Candidate:
    config = load_config(reference, _FIELD, online=online)
    tokenizer = load_tokenizer(reference, _FIELD, online=online)
    limit = config.max_position_embeddings - (config.pad_token_id + 1 if config.model_type == "roberta" else 0)
    if max(grid.lengths) > limit:
        raise SpecError([Problem("--length", f"'{name}' takes {limit} tokens at most, not {max(grid.lengths)}")])
    return _Candidate(name, locate(reference, _FIELD), config, tokenizer)


def _costs(candidate: _Candidate, grid: CostGrid) -> Iterator[Cost]:
    sentences = _passage()
    with tempfile.TemporaryDirectory() as scratch:
        files, agreements = _export(candidate, sentences, grid, Path(scratch))
        for runtime, batch, length in itertools.product(grid.runtimes, grid.batches, grid.lengths):
            rows = filled_batch(candidate.tokenizer, sentences, batch, length).tolist()
            place = str(files.get(runtime, candidate.path))
            try:
                found = measure(Case(place, runtime, grid.device, grid.threads, grid.rounds, [rows]))
            except RuntimeError as error:
                raise JobFailedError(f"{candidate.name}, {batch} x {length} tokens: {error}") from None
            yield Cost(
                model=candidate.name,
                runtime=runtime,
                device=grid.device,
                threads=grid.threads,
                batch=batch,
                length=length,
                encoder_parameters=encoder_parameters(candidate.config),
                seconds=found.seconds,
                peak_mib=found.peak_mib,
                libraries_mib=found.libraries_mib,
                agreement=agreements.get(runtime),
            )


def _export(
    candidate: _Candidate, sentences: list[str], grid: CostGrid, folder: Path
) -> tuple[dict[Runtime, Path], dict[Runtime, float | None]]:
    """The ONNX files that the grid needs, and how far their predictions agree with PyTorch's."""
    model = load_model(candidate.path)
    files = export_onnx(model, folder, grid.runtimes)
    cut = {"truncation": True, "max_length": max(grid.lengths)}
    batches = [np.array([candidate.tokenizer(sentence, **cut)["input_ids"]]) for sentence in sentences]
    return files, {
        runtime: top_agreement(model, open_onnx(file, threads=grid.threads), batches) for runtime, file in files.items()
    }


def filled_batch(tokenizer: PreTrainedTokenizerBase, sentences: list[str], num_rows: int, length: int) -> Ids:
    """Rows [num_rows, length] of the sentences' tokens, over and over, each between the tokens that open and close a
    text."""
    tokens = [token for text in sentences for token in tokenizer(text, add_special_tokens=False)["input_ids"]]
    inner = np.resize(np.array(tokens, dtype=np.int64), (num_rows, length - 2))
    ends = np.array([[tokenizer.cls_token_id, tokenizer.sep_token_id]] * num_rows)
    return np.hstack([ends[:, :1], inner, ends[:, 1:]])


def _passage() -> list[str]:
    """Sentences in biomedical English, so that predictions are compared on what the models are made for."""
    return importlib.resources.files("compactbio.evaluation").joinpath("passage.txt").read_text().splitlines()
