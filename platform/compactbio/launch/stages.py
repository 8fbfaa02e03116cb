"""Running one stage of a job on Ray."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import ray

from compactbio.data.benchmarks import read_task
from compactbio.data.examples import Example, Question, TaggedText
from compactbio.data.store import MANIFEST, Manifest
from compactbio.launch.attempts import train_to_the_end
from compactbio.launch.cells import list_cells, refuse_other_data, run_cells, run_tracked
from compactbio.launch.corpora import corpus_store
from compactbio.launch.measure import footprints
from compactbio.launch.preflight import resolve_model
from compactbio.launch.stopping import Stopping
from compactbio.spec.evaluation import Measuring
from compactbio.spec.job import Finetune, JobSpec
from compactbio.storage.copies import IN_PLACE, Storage
from compactbio.tracking.journal import Journal
from compactbio.training.requests import MODEL_FOLDER, Cell, StageRequest


def groups(spec: JobSpec) -> list[list[str]]:
    """The stages in their order; training stages that follow each other share one start of Ray Train workers."""
    grouped: list[list[str]] = []
    training = spec.training_stages()
    for name in spec.stages:
        if name in training and grouped and grouped[-1][-1] in training:
            grouped[-1].append(name)
        else:
            grouped.append([name])
    return grouped


def run_corpus(spec: JobSpec, journal: Journal, storage: Storage) -> tuple[Path, Manifest]:
    """The token store of the job, tracked."""
    store, manifest = corpus_store(spec, journal, storage)
    values = {name: value for name, value in asdict(manifest).items() if not isinstance(value, dict | list)}
    journal.params({**values, "sources": ", ".join(manifest.sources)})
    counts = {f"{split}_rows": float(count) for split, count in manifest.num_rows.items()}
    counts |= {f"{split}_tokens": float(count) for split, count in manifest.num_tokens.items()}
    counts |= {f"dropped_{reason}": float(count) for reason, count in manifest.dropped.items()}
    journal.metrics(counts)
    shutil.copyfile(store / MANIFEST, journal.folder / MANIFEST)  # a run may be read without its store
    journal.artifact(journal.folder / MANIFEST)
    return store, manifest


def run_training(
    spec: JobSpec,
    names: list[str],
    folder: Path,
    store: Path,
    made: dict[str, str],
    tags: dict[str, str],
    stopping: Stopping,
    journal: Journal,
    storage: Storage = IN_PLACE,
) -> dict[str, str]:
    """Trains the stages, those that follow each other with one start of Ray Train. Returns the folders of the models
    that they export."""
    requests, exported = training_requests(spec, names, folder, store, made, tags, storage)
    train_to_the_end(spec, requests, folder / "ray", stopping, journal)
    return exported


def training_requests(
    spec: JobSpec,
    names: list[str],
    folder: Path,
    store: Path,
    made: dict[str, str],
    tags: dict[str, str],
    storage: Storage = IN_PLACE,
) -> tuple[Callable[[int], list[StageRequest]], dict[str, str]]:
    """What so many workers are asked to do for the stages, and the folders of the models that they will export."""
    exported = {name: str(folder / name / MODEL_FOLDER) for name in names}
    models = {
        name: {
            field: resolve_model(spec, model, f"stages.{name}.{field}", made | exported)
            for field, model in spec.stages[name].models().items()
        }
        for name in names
    }

    def requests(num_workers: int) -> list[StageRequest]:
        return [
            StageRequest(spec, name, models[name], store, folder / name, tags, num_workers, storage) for name in names
        ]

    return requests, exported


def run_finetune(
    spec: JobSpec,
    name: str,
    section: Finetune,
    folder: Path,
    made: dict[str, str],
    tags: dict[str, str],
    absent: Mapping[str, str],
    *,
    stopping: Stopping | None = None,
    here: bool = False,
    storage: Storage = IN_PLACE,
) -> dict[str, Any]:
    """Fine-tunes every model on every task for every seed, then measures the models one by one. Tasks in `absent` are
    left out: it says why for each.

    With `here` it is all done in this process, one after the other. Returns the `cells`, the `footprints` and the
    `absent` tasks as plain values.
    """
    cells = [replace(cell, storage=storage) for cell in list_cells(spec, name, section, folder, made, tags, absent)]
    refuse_other_data(cells, f"stages.{name}.tasks")
    if here:
        results = [run_tracked(cell) for cell in cells]
    else:
        results = run_cells(
            cells, num_cpus=spec.cluster.cpus_per_worker, use_gpu=spec.cluster.use_gpu, stopping=stopping
        )
        storage.catch_up(folder)
    measured = _measure_all(section, cells, here=here) if section.measuring else {}
    journal = Journal(folder)
    for model, found in measured.items():
        figures = {figure: float(value) for figure, value in found.items() if value is not None}
        journal.metrics({f"footprint/{model}/{figure}": value for figure, value in figures.items()})
    return {"cells": [asdict(result) for result in results], "footprints": measured, "absent": dict(absent)}


def _measure_all(section: Finetune, cells: list[Cell], *, here: bool) -> dict[str, dict[str, float | None]]:
    """One model after the other, when nothing else of the job runs."""
    assert section.measuring is not None
    task = cells[0].task
    tuning = section.tuning_of(task)
    sentences = [_text_of(example) for example in read_task(task).test[: section.measuring.sentences]]
    models = {cell.model_name: cell.model for cell in cells}
    max_tokens = tuning.max_tokens if tuning is not None else 128
    if here:
        return footprints(models, sentences, section.measuring, max_tokens)
    remote = ray.remote(_footprints).options(num_cpus=section.measuring.threads)
    return ray.get(remote.remote(cells[0].storage, models, sentences, section.measuring, max_tokens))


def _footprints(
    storage: Storage, models: dict[str, str], sentences: list[str], measuring: Measuring, max_tokens: int
) -> dict[str, dict[str, float | None]]:
    for model in models.values():
        storage.fetch(Path(model).absolute())
    return footprints(models, sentences, measuring, max_tokens)


def _text_of(example: Example) -> str:
    match example:
        case TaggedText():
            return " ".join(example.words)
        case Question():
            return example.question
        case _:
            return example.text
