"""THE driver: one function runs a job, from its spec to its report."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from rich.console import Console

from compactbio.launch import environment, preflight, stages
from compactbio.launch.copying import Copying, sole_driver
from compactbio.launch.failures import failures
from compactbio.launch.following import Following, open_store
from compactbio.launch.progress import Display, say, say_absent
from compactbio.launch.ray_session import ray_beside
from compactbio.launch.run_folder import (
    StoredRun,
    changes,
    check_lasts,
    create_run_folder,
    git_sha,
    locked,
    new_storage,
    resumed_spec,
    stored_run,
    write_spec,
)
from compactbio.launch.stopping import Stopping
from compactbio.launch.stopping import stopping as listening
from compactbio.launch.sweep_folder import is_sweep_folder, resumed_sweep
from compactbio.models.load import quiet_transformers
from compactbio.reporting.collect import REPORT_FOLDER, RESULTS_FILE, SPEC_FILE, collect, headline
from compactbio.spec.job import Finetune, JobSpec
from compactbio.spec.lineage import stage_tags
from compactbio.spec.secrets import without_password
from compactbio.storage.copies import SCRATCH, Storage
from compactbio.tracking.journal import Follower, Journal
from compactbio.tracking.store_uri import tracking_uri
from compactbio.training.requests import MODEL_FOLDER


@dataclass(frozen=True)
class RunResult:
    """Where a finished job left things."""

    folder: Path
    address: str
    """The folder again, or where it is kept."""

    tracking_uri: str
    experiment: str
    table: str
    """The results as text; empty where the job has no scores."""

    models: dict[str, str]
    """Training stage to the folder of its exported model."""

    ui_command: str
    tracked: bool
    """Whether MLflow has everything."""


def run_job(spec: JobSpec, console: Console, *, resume: StoredRun | None = None, name: str | None = None) -> RunResult:
    """Runs every stage of a job, tracks it, and writes its report, in a new folder called `name` where that is given;
    with `resume` in the folder of a run that was stopped, from where that one came to.

    Raises SpecError before anything is written where the job cannot be run as it is, and later JobFailedError, or
    StoppedError where it was asked to stop.
    """
    env_vars = environment.for_workers(use_gpu=spec.cluster.use_gpu, online=spec.online)
    quiet_transformers()
    if environment.is_submitted() and resume is None:
        check_lasts(spec.storage)
    storage = resume.storage if resume is not None else new_storage(spec.storage)
    checked = preflight.check(spec)
    uri, experiment = tracking_uri(spec.tracking, storage.folder), spec.tracking.experiment or spec.name
    spoken = partial(say, console)
    with ExitStack() as lock, ExitStack() as stack:  # the lock is given up last, when no worker is left
        if resume is not None:
            lease = lock.enter_context(sole_driver(resume, spoken))
        store = ray_beside(stack, spec.cluster, env_vars, partial(open_store, uri, experiment, storage.folder))
        run = resume or StoredRun(storage, create_run_folder(spec, storage, name))
        folder = run.folder
        if resume is None:
            lease = lock.enter_context(sole_driver(run, spoken))
        _say_where(run, uri, spoken)
        stack.enter_context(Copying(run, lease, _own_folders(spec), spoken))
        stopping = stack.enter_context(listening(folder))
        display, training_stages = Display(console), spec.training_stages()
        following = stack.enter_context(
            Following(folder, store, console, display, recipe=spec.name, training_stages=training_stages)
        )
        if resume is not None:
            _take_changes(spec, folder)
        say_absent(console, checked.absent)
        table, models = _run_stages(spec, folder, storage, stopping, checked.absent)
    shown = without_password(uri)
    ui_command = _ui_command(storage.folder, shown)
    return RunResult(folder, run.address, shown, experiment, table, models, ui_command, following.complete)


def _say_where(run: StoredRun, uri: str, say: Callable[[str], None]) -> None:
    say(f"run folder {run.address}")
    if run.storage.url is None:
        return
    say(f"works in {run.folder} ({SCRATCH} names another place)")
    if uri.startswith("sqlite:"):
        say(
            f"MLflow's store is on this machine ({uri}): SQLite cannot lie in a bucket; MLFLOW_TRACKING_URI may name a "
            "server"
        )


def _own_folders(spec: JobSpec) -> list[str]:
    """The folders of a run in which the driver itself writes, not its workers."""
    return ["corpus", *(name for name, stage in spec.stages.items() if isinstance(stage, Finetune))]


def _take_changes(spec: JobSpec, folder: Path) -> None:
    """Makes the spec the run's own; says what it changes, and that what is finished stays."""
    if changed := changes(folder, spec):
        what = "; ".join(f"{problem.path} {problem.message}" for problem in changed)
        Journal(folder).note(f"goes on with another spec, what was finished keeps its results: {what}")
    write_spec(spec, folder)


def send_journals(name: str) -> str:
    """Sends to MLflow what the journals of a run or a sweep, a folder or an address, hold and MLflow does not. Returns
    where it was sent.

    Raises SpecError where there is no run, and TrackingError where MLflow does not take it.
    """
    run = stored_run(name)
    folder, storage = run.folder, run.storage.folder
    if is_sweep_folder(folder):
        sweep, _ = resumed_sweep(folder, storage)
        tracking, name = sweep.base.tracking, sweep.spec.name
    else:
        spec = resumed_spec(folder, None, [], allow_changes=False)
        tracking, name = spec.tracking, spec.name
    uri = tracking_uri(tracking, storage)
    with locked(folder):
        open_store(uri, tracking.experiment or name, storage, live=False).catch_up(Follower(folder))
    return without_password(uri)


def _run_stages(
    spec: JobSpec, folder: Path, storage: Storage, stopping: Stopping, absent: preflight.Absent
) -> tuple[str, dict[str, str]]:
    """The stages in their order, then the report. Returns its table, and the models that were made."""
    journal = Journal(folder)
    tags = {"recipe": spec.name, "spec_digest": spec.digest(), "git_sha": git_sha(), "python": sys.version.split()[0]}
    tags |= {"job": folder.name}
    journal.start(folder.name, tags | {"kind": "job", "seed": str(spec.seed)} | _teacher(spec))
    journal.params(spec.flat())
    journal.artifact(folder / "spec.yaml")
    results: dict[str, object] = {"name": spec.name, "digest": spec.digest(), "git_sha": tags["git_sha"]}
    made: dict[str, str] = {}
    store: Path | None = None
    if spec.corpus is not None or spec.store is not None:
        with _tracked(folder / "corpus", "corpus", tags | {"stage": "corpus", "kind": "corpus"}) as corpus_journal:
            store, manifest = stages.run_corpus(spec, corpus_journal, storage)
        tags["data_fingerprint"] = manifest.fingerprint
        journal.tags({"data_fingerprint": manifest.fingerprint})
        results["corpus"] = asdict(manifest)
    for names in stages.groups(spec):
        section = spec.stages[names[0]]
        if isinstance(section, Finetune):
            with _tracked(folder / names[0], names[0], tags | stage_tags(spec, names[0])) as stage_journal:
                stage_journal.params(section.flat())
                results[names[0]] = stages.run_finetune(
                    spec,
                    names[0],
                    section,
                    folder / names[0],
                    made,
                    tags,
                    absent[names[0]],
                    stopping=stopping,
                    storage=storage,
                )
        else:
            assert store is not None
            with failures(" + ".join(names), folder):
                made |= stages.run_training(spec, names, folder, store, made, tags, stopping, journal, storage)
    (folder / RESULTS_FILE).write_text(json.dumps(results))
    from compactbio.reporting.page import write_report  # matplotlib, scipy: two seconds that the start does without

    table = write_report(folder)
    _publish(spec, folder, journal)
    journal.end()
    return table, made


def _publish(spec: JobSpec, folder: Path, journal: Journal) -> None:
    """The report as an artifact of the job, and beside spec and card of each model; what came of it as metrics."""
    journal.artifact(folder / REPORT_FOLDER)
    journal.metrics(headline(collect(folder)))
    for name in spec.training_stages():
        made = Journal(folder / name)
        for path in (folder / SPEC_FILE, folder / name / MODEL_FOLDER / "README.md", folder / REPORT_FOLDER):
            made.artifact(path)


def _teacher(spec: JobSpec) -> dict[str, str]:
    return {"teacher": spec.teacher} if spec.teacher else {}


@contextmanager
def _tracked(folder: Path, name: str, tags: dict[str, str]) -> Iterator[Journal]:
    """The journal of a stage that the driver runs, begun and ended."""
    journal = Journal(folder)
    journal.start(name, tags)
    with failures(name, folder):
        yield journal
    journal.end()


def _ui_command(storage: Path, uri: str) -> str:
    if not uri.startswith("sqlite:"):
        return f"open {uri}"
    return "compactbio ui" if storage == Path("runs").resolve() else f"compactbio ui --storage '{storage}'"
