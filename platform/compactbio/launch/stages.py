"""Running one stage of a job on Ray."""

from __future__ import annotations

import json
import uuid
from dataclasses import asdict
from pathlib import Path
from typing import Any

import ray

from compactbio.data.build import ensure_store
from compactbio.data.ontology_tasks import test_texts
from compactbio.data.store import Manifest, read_manifest
from compactbio.evaluation.footprint import Footprint, measure
from compactbio.launch.preflight import resolve_model
from compactbio.models.load import load_tokenizer, quiet_transformers
from compactbio.spec.evaluation import Measuring
from compactbio.spec.job import Finetune, JobSpec
from compactbio.tracking.journal import Journal
from compactbio.training.finetune import Cell, CellResult, run_cell

FOOTPRINTS_FILE = "footprints.json"


def run_corpus(spec: JobSpec, folder: Path, storage: Path) -> tuple[Path, Manifest]:
    """The token store of the job's corpus, built by a Ray task unless it is there."""
    journal = Journal(folder)
    store = Path(ray.get(_build_store.remote(spec, storage / "stores")))
    manifest = read_manifest(store)
    journal.params({name: value for name, value in asdict(manifest).items() if not isinstance(value, dict)})
    counts = {f"{split}_rows": float(count) for split, count in manifest.num_rows.items()}
    counts |= {f"{split}_tokens": float(count) for split, count in manifest.num_tokens.items()}
    journal.metrics(counts)
    journal.artifact(store / "manifest.json")
    return store, manifest


@ray.remote(num_cpus=1)
def _build_store(spec: JobSpec, folder: Path) -> str:
    quiet_transformers()
    assert spec.corpus is not None
    source = spec.corpus.tokenizer or spec.teacher
    assert source is not None
    tokenizer = load_tokenizer(source, "corpus.tokenizer", online=spec.online)
    return str(ensure_store(spec.corpus, tokenizer, folder))


def run_training(spec: JobSpec, name: str, folder: Path, store: Path, made: dict[str, str]) -> Path:
    """Trains the stage with Ray Train. Returns the folder of the exported model."""
    from ray.train import RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer

    from compactbio.training.stage import StageTask
    from compactbio.training.worker import MODEL_FOLDER, train

    section = spec.training_stages()[name]
    models = {
        field: resolve_model(spec, model, f"stages.{name}.{field}", made) for field, model in section.models().items()
    }
    trainer = TorchTrainer(
        train,
        train_loop_config={"task": StageTask(spec, name, models, store, folder)},
        scaling_config=ScalingConfig(
            num_workers=spec.cluster.num_workers,
            use_gpu=spec.cluster.use_gpu,
            resources_per_worker={"CPU": spec.cluster.cpus_per_worker} | ({"GPU": 1} if spec.cluster.use_gpu else {}),
        ),
        run_config=RunConfig(name="ray", storage_path=str(folder)),
    )
    trainer.fit()
    return folder / MODEL_FOLDER


def run_finetune(
    spec: JobSpec, name: str, section: Finetune, folder: Path, made: dict[str, str]
) -> tuple[list[CellResult], dict[str, Footprint]]:
    """Fine-tunes every model on every task, each in a Ray task of its own, then measures the models one by one."""
    cells = [
        Cell(
            model_name=model_name,
            model=resolve_model(spec, model, f"stages.{name}.models.{model_name}", made),
            task_name=task_name,
            task=task,
            tuning=section.tuning,
            seed=spec.seed,
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
    (folder / FOOTPRINTS_FILE).write_text(json.dumps({model: asdict(found) for model, found in footprints.items()}))
    journal = Journal(folder)
    for model, found in footprints.items():
        figures = {figure: float(value) for figure, value in asdict(found).items() if value is not None}
        journal.metrics({f"footprint/{model}/{figure}": value for figure, value in figures.items()})
    return results, footprints


@ray.remote
def _run_cell(cell: Cell) -> CellResult:
    journal = Journal(cell.folder)
    journal.start(f"{cell.model_name}-{cell.task_name}", {"stage": "finetune", "model": cell.model_name})
    journal.params({"task": cell.task_name, "seed": cell.seed, **cell.tuning.model_dump()})
    result = run_cell(cell)
    journal.end()
    return result


def _measure_all(section: Finetune, cells: list[Cell], seed: int) -> dict[str, Footprint]:
    """One model after the other on an otherwise idle machine, each in a fresh process."""
    assert section.measuring is not None
    sentences = test_texts(next(iter(section.tasks.values())), seed)[: section.measuring.sentences]
    footprints = {}
    for model_name, model in {cell.model_name: cell.model for cell in cells}.items():
        fresh: dict[str, Any] = {"env_vars": {"COMPACTBIO_FRESH_PROCESS": uuid.uuid4().hex}}
        task = _measure.options(num_cpus=section.measuring.threads, runtime_env=fresh)
        waiting = task.remote(Path(model), sentences, section.measuring, section.tuning.max_tokens)
        footprints[model_name] = ray.get(waiting)
    return footprints


@ray.remote(max_calls=1)
def _measure(model: Path, sentences: list[str], section: Measuring, max_tokens: int) -> Footprint:
    quiet_transformers()
    return measure(model, sentences, section, max_tokens)
