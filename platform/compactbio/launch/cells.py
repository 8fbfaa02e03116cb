"""The cells of a fine-tuning stage: every model on every task for every seed, each a Ray task."""

from __future__ import annotations

import itertools
import json
from collections.abc import Collection, Mapping
from contextlib import suppress
from pathlib import Path

import ray
from ray.exceptions import RayTaskError

from compactbio.data.benchmarks import read_task
from compactbio.launch.failures import ERROR_FILE, JobFailedError, causes
from compactbio.launch.preflight import resolve_model
from compactbio.launch.stopping import StoppedError, Stopping
from compactbio.spec import lineage
from compactbio.spec.base import SpecError
from compactbio.spec.job import Finetune, JobSpec
from compactbio.spec.lineage import stage_tags
from compactbio.tracking.cell_files import RESULT_FILE, cell_name
from compactbio.tracking.journal import Journal, has_ended
from compactbio.training.requests import Cell, CellResult
from compactbio.training.uploads import Uploads

_LOOK_EVERY_SECONDS = 1.0


def list_cells(
    spec: JobSpec,
    name: str,
    section: Finetune,
    folder: Path,
    made: Mapping[str, str],
    tags: Mapping[str, str],
    absent: Collection[str] = (),
) -> list[Cell]:
    """The cells of stage `name` but for those of absent tasks; teachers before their students, and one seed behind the
    other, so that a study that is looked at on its way has whole tables."""
    models = {
        model_name: resolve_model(spec, model, f"stages.{name}.models.{model_name}", made)
        for model_name, model in section.models_.items()
    }
    taught_last = sorted(models, key=lambda model_name: model_name in section.distillation)
    tasks = {task_name: task for task_name, task in section.tasks.items() if task_name not in absent}
    cells = []
    for seed, (task_name, task), model_name in itertools.product(seeds(spec, section), tasks.items(), taught_last):
        tuning = section.tuning_of(task)
        distillation = section.distillation.get(model_name) if tuning is not None else None
        teacher = None if distillation is None else folder / cell_name(distillation.teacher, task_name, seed)
        cells.append(
            Cell(
                model_name=model_name,
                model=models[model_name],
                task_name=task_name,
                task=task,
                tuning=tuning,
                seed=seed,
                tags={**tags, **_tags(spec, name, section, model_name), "task": task_name, "seed": str(seed)},
                threads=spec.cluster.cpus_per_worker,
                use_gpu=spec.cluster.use_gpu,
                online=spec.online,
                folder=folder / cell_name(model_name, task_name, seed),
                distillation=distillation,
                teacher=teacher,
            )
        )
    return cells


def _tags(spec: JobSpec, name: str, section: Finetune, model: str) -> dict[str, str]:
    """What all cells of a model are found by."""
    tags = {**stage_tags(spec, name), "model": model, "student": lineage.model_name(spec, section.models_[model])}
    distillation = section.distillation.get(model)
    if distillation is not None:
        tags["teacher"] = lineage.model_name(spec, section.models_[distillation.teacher])
    return tags


def seeds(spec: JobSpec, section: Finetune) -> tuple[int, ...]:
    """The seeds of the stage."""
    return section.seeds or (spec.seed,)


def refuse_other_data(cells: list[Cell], place: str) -> None:
    """Raises SpecError below the dotted path `place` where cells have ended before on other data than there are now:
    their results and those of the cells that are left could not stand in one column."""
    now: dict[str, str] = {}
    for cell in (cell for cell in cells if has_ended(cell.folder)):
        name = cell.task_name
        if name not in now:
            now[name] = read_task(cell.task, f"{place}.{name}").fingerprint
        if _read_result(cell).data_fingerprint != now[name]:
            told = f"its data have changed since {cell.folder.name} was done; put them back, or start a new run"
            raise SpecError.at(f"{place}.{name}", told)


def _read_result(cell: Cell) -> CellResult:
    values = json.loads((cell.folder / RESULT_FILE).read_text(encoding="utf-8"))
    return CellResult(**{**values, "notes": tuple(values["notes"])})


def run_cells(cells: list[Cell], *, num_cpus: int, use_gpu: bool, stopping: Stopping | None = None) -> list[CellResult]:
    """The results of all cells, computed where there is room; those of cells that have ended before are read.

    A cell that fails does not stop the others; its error is in its folder. Raises JobFailedError when they are done,
    or the SpecError that a cell raised; StoppedError where `stopping` was asked for while they ran.
    """
    task = ray.remote(_behind_teacher).options(num_cpus=num_cpus, num_gpus=1 if use_gpu else 0)
    waiting: dict[Path, ray.ObjectRef] = {}
    for cell in cells:
        waiting[cell.folder] = task.remote(cell, waiting[cell.teacher] if cell.teacher is not None else None)
    _wait(list(waiting.values()), stopping)
    results, failed = [], {}
    for folder, reference in waiting.items():
        try:
            results.append(ray.get(reference))
        except RayTaskError as error:
            failed[folder] = error
    if failed:
        raise _failure(failed)
    return results


def _wait(references: list[ray.ObjectRef], stopping: Stopping | None) -> None:
    """Until all are done. Ray swallows what a signal handler raises while it waits, so it is asked again and again."""
    left = references
    while left:
        if stopping is not None and stopping.requested:
            raise StoppedError
        _, left = ray.wait(left, num_returns=len(left), timeout=_LOOK_EVERY_SECONDS)


def _failure(failed: Mapping[Path, RayTaskError]) -> Exception:
    for folder, error in failed.items():
        folder.mkdir(parents=True, exist_ok=True)  # the cell may have run on another machine
        (folder / ERROR_FILE).write_text(str(error), encoding="utf-8")
    first = causes(next(iter(failed.values())))[0]
    if isinstance(first, SpecError):
        return first
    names = ", ".join(folder.name for folder in failed)
    reason = f"{type(first).__name__}: {first}"
    return JobFailedError(f"cells failed: {names}; the first of {reason}; each has the whole error in its {ERROR_FILE}")


def _behind_teacher(cell: Cell, teacher: CellResult | None) -> CellResult:
    """`teacher` makes Ray wait for the teacher's cell. What the cell needs of the run is brought here, and what comes
    of it is stored."""
    with suppress(OSError):  # where the store is away, the cell says itself what it lacks
        cell.storage.pull(cell.folder, checkpoints=False)
        cell.storage.fetch(Path(cell.model).absolute())
        if cell.teacher is not None:
            cell.storage.pull(cell.teacher, checkpoints=False)
    result = run_tracked(cell)
    Uploads(cell.storage, cell.folder, Journal(cell.folder).note).all()
    return result


def run_tracked(cell: Cell) -> CellResult:
    """The result of a cell, computed in this process under a journal of its own; read where it has ended before."""
    if has_ended(cell.folder):
        return _read_result(cell)
    journal = Journal(cell.folder)
    journal.start(cell.folder.name, cell.tags)
    journal.params(_params(cell))
    from compactbio.training.finetune import run_cell

    result = run_cell(cell)
    journal.end()
    return result


def _params(cell: Cell) -> dict[str, object]:
    params: dict[str, object] = {"model": cell.model, "task": cell.task_name, "seed": cell.seed}
    params["setting"] = cell.task.setting
    params |= cell.tuning.model_dump() if cell.tuning is not None else {}
    if cell.distillation is not None:
        params |= {f"distillation.{name}": value for name, value in cell.distillation.model_dump().items()}
    return params
