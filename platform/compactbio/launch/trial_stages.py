"""What is run of a trial: the stages of its job, by the same functions as those of a single run."""

from __future__ import annotations

import gc
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from compactbio.launch import stages
from compactbio.launch.failures import is_out_of_memory
from compactbio.launch.preflight import Absent
from compactbio.launch.run_folder import write_spec
from compactbio.launch.stopping import StoppedError, Stopping
from compactbio.models.load import quiet_transformers
from compactbio.reporting.collect import SPEC_FILE
from compactbio.spec.job import Finetune, JobSpec
from compactbio.spec.lineage import stage_tags
from compactbio.spec.load import from_raw, load
from compactbio.spec.plan import plan_batch
from compactbio.spec.sweep import Values, Yardstick
from compactbio.tracking.journal import Journal, has_ended


@dataclass(frozen=True)
class TrialRequest:
    """A trial, as it travels to where it runs."""

    spec: JobSpec
    """What is run, on a token store and models that are there."""

    values: Values
    """What it has in place of the base's values."""

    objectives: tuple[Yardstick, ...]
    folder: Path
    tags: dict[str, str]
    absent: Absent
    until: int | None = None
    """The step behind whose checkpoint it ends, before the end of its stage."""


def run_stages(request: TrialRequest, stopping: Stopping, journal: Journal) -> dict[str, Any]:
    """Runs the stages of a trial, those with a single worker in this process. Returns what fine-tunings came to."""
    quiet_transformers()
    folder, spec = request.folder, _own_spec(request)
    write_spec(spec, folder)
    made: dict[str, str] = {}
    results: dict[str, Any] = {}
    for names in stages.groups(spec):
        section = spec.stages[names[0]]
        if isinstance(section, Finetune):
            results[names[0]] = _fine_tune(spec, names[0], section, request, made)
            continue
        while True:
            try:
                made |= _train(spec, names, request, made, stopping, journal)
                break
            except Exception as error:
                smaller = with_less_memory(spec, [name for name in names if not has_ended(folder / name)])
                if not is_out_of_memory(error) or smaller is None:
                    raise
                spec = smaller
            journal.note("out of memory: goes on with half the micro-batch and twice the accumulation")
            gc.collect()
            write_spec(spec, folder)
    return results


def _own_spec(request: TrialRequest) -> JobSpec:
    """The trial's spec, with the micro-batch that it was given when it ran before."""
    path = request.folder / SPEC_FILE
    return load(path) if path.is_file() else request.spec


def _fine_tune(
    spec: JobSpec, name: str, section: Finetune, request: TrialRequest, made: dict[str, str]
) -> dict[str, Any]:
    folder, tags = request.folder / name, request.tags | stage_tags(spec, name)
    journal = Journal(folder)
    journal.start(name, tags)
    here = spec.cluster.num_workers == 1
    found = stages.run_finetune(spec, name, section, folder, made, tags, request.absent[name], here=here)
    journal.end()
    return found


def _train(
    spec: JobSpec,
    names: list[str],
    request: TrialRequest,
    made: dict[str, str],
    stopping: Stopping,
    journal: Journal,
) -> dict[str, str]:
    assert spec.store is not None
    if spec.cluster.num_workers > 1:
        return stages.run_training(spec, names, request.folder, Path(spec.store), made, request.tags, stopping, journal)
    from compactbio.training.alone import train_alone

    requests, exported = stages.training_requests(spec, names, request.folder, Path(spec.store), made, request.tags)
    train_alone(requests(1))
    if not all(has_ended(request.folder / name) for name in names):
        raise StoppedError
    return exported


def with_less_memory(spec: JobSpec, names: list[str]) -> JobSpec | None:
    """The job with half the micro-batch in the first of these stages, of the same global batch; None where that is a
    single row."""
    for name in names:
        training = spec.training_stages()[name].training
        plan = plan_batch(training, spec.cluster.num_workers)
        rows = plan.micro_batch * plan.accumulation
        if plan.micro_batch == 1:
            return None
        raw: dict[str, Any] = spec.resolved()
        half = max(size for size in range(1, plan.micro_batch // 2 + 1) if rows % size == 0)
        raw["stages"][name]["training"]["micro_batch"] = half
        return from_raw(raw)
    return None
