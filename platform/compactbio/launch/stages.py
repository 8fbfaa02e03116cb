"""Running one stage of a job on Ray."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import ray

from compactbio.data.ontology_tasks import test_texts
from compactbio.data.store import MANIFEST, Manifest
from compactbio.evaluation.footprint import Footprint, measure
from compactbio.launch.attempts import train_to_the_end
from compactbio.launch.corpora import corpus_store
from compactbio.launch.preflight import resolve_model
from compactbio.launch.stopping import Stopping
from compactbio.spec import lineage
from compactbio.spec.evaluation import Measuring
from compactbio.spec.job import Finetune, JobSpec
from compactbio.spec.lineage import stage_tags
from compactbio.tracking.journal import Journal, has_ended
from compactbio.training.requests import MODEL_FOLDER, RESULT_FILE, Cell, CellResult, StageRequest


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


def run_corpus(spec: JobSpec, journal: Journal, storage: Path) -> tuple[Path, Manifest]:
    """The token store of the job, tracked."""
    store, manifest = corpus_store(spec, journal, storage)
    values = {name: value for name, value in asdict(manifest).items() if not isinstance(value, dict | list)}
    journal.params({**values, "sources": ", ".join(manifest.sources)})
    counts = {f"{split}_rows": float(count) for split, count in manifest.num_rows.items()}
    counts |= {f"{split}_tokens": float(count) for split, count in manifest.num_tokens.items()}
    counts |= {f"dropped_{reason}": float(count) for reason, count in manifest.dropped.items()}
    journal.metrics(counts)
    journal.artifact(store / MANIFEST)
    return store, manifest


def run_training(
    spec: JobSpec,
    names: list[str],
    folder: Path,
    store: Path,
    made: dict[str, str],
    tags: dict[str, str],
    stopping: Stopping,
    note: Callable[[str], None],
) -> dict[str, str]:
    """Trains the stages, those that follow each other with one start of Ray Train. Returns the folders of the models
    that they export."""
    exported = {name: str(folder / name / MODEL_FOLDER) for name in names}
    models = {
        name: {
            field: resolve_model(spec, model, f"stages.{name}.{field}", made | exported)
            for field, model in spec.stages[name].models().items()
        }
        for name in names
    }

    def requests(num_workers: int) -> list[StageRequest]:
        return [StageRequest(spec, name, models[name], store, folder / name, tags, num_workers) for name in names]

    train_to_the_end(spec, requests, folder / "ray", stopping, note)
    return exported


def run_finetune(
    spec: JobSpec, name: str, section: Finetune, folder: Path, made: dict[str, str], tags: dict[str, str]
) -> dict[str, Any]:
    """Fine-tunes every model on every task, each in a Ray task of its own, then measures the models one by one.

    Returns the `cells` and the `footprints` as plain values.
    """
    cells = [
        Cell(
            model_name=model_name,
            model=resolve_model(spec, model, f"stages.{name}.models.{model_name}", made),
            task_name=task_name,
            task=task,
            tuning=section.tuning,
            seed=spec.seed,
            tags={**tags, **stage_tags(spec, name), "model": model_name, "student": lineage.model_name(spec, model)},
            threads=spec.cluster.cpus_per_worker,
            online=spec.online,
            folder=folder / f"{model_name}-{task_name}",
        )
        for model_name, model in section.models_.items()
        for task_name, task in section.tasks.items()
    ]
    waiting = [_run_cell.options(num_cpus=spec.cluster.cpus_per_worker).remote(cell) for cell in cells]
    results = ray.get(waiting)
    footprints = _measure_all(section, cells, spec.seed) if section.measuring else {}
    journal = Journal(folder)
    for model, found in footprints.items():
        figures = {figure: float(value) for figure, value in asdict(found).items() if value is not None}
        journal.metrics({f"footprint/{model}/{figure}": value for figure, value in figures.items()})
    return {
        "cells": [asdict(result) for result in results],
        "footprints": {model: asdict(found) for model, found in footprints.items()},
    }


@ray.remote
def _run_cell(cell: Cell) -> CellResult:
    if has_ended(cell.folder):
        return CellResult(**json.loads((cell.folder / RESULT_FILE).read_text()))
    journal = Journal(cell.folder)
    journal.start(f"{cell.model_name}-{cell.task_name}", {**cell.tags, "task": cell.task_name})
    journal.params({"task": cell.task_name, "seed": cell.seed, **cell.tuning.model_dump()})
    from compactbio.training.finetune import run_cell

    result = run_cell(cell)
    journal.end()
    return result


def _measure_all(section: Finetune, cells: list[Cell], seed: int) -> dict[str, Footprint]:
    """One model after the other, when nothing else of the job runs."""
    assert section.measuring is not None
    sentences = test_texts(next(iter(section.tasks.values())), seed)[: section.measuring.sentences]
    models = {cell.model_name: cell.model for cell in cells}
    task = _measure.options(num_cpus=section.measuring.threads)
    found: dict[str, Footprint] = ray.get(task.remote(models, sentences, section.measuring, section.tuning.max_tokens))
    return found


@ray.remote
def _measure(models: dict[str, str], sentences: list[str], section: Measuring, max_tokens: int) -> dict[str, Footprint]:
    return measure(models, sentences, section, max_tokens)
