"""THE driver: one function runs a job, from its spec to its report."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from compactbio.launch import environment, preflight, stages
from compactbio.launch.failures import failures
from compactbio.launch.progress import Display, repeating
from compactbio.launch.ray_session import ray_session
from compactbio.launch.run_folder import create_run_folder, git_sha
from compactbio.models.load import quiet_transformers
from compactbio.reporting.collect import RESULTS_FILE
from compactbio.reporting.page import write_report
from compactbio.spec.job import Finetune, JobSpec
from compactbio.tracking.journal import Follower, Journal
from compactbio.tracking.store_uri import TrackingError, tracking_uri

if TYPE_CHECKING:
    from compactbio.tracking.mlflow_store import MlflowStore

log = logging.getLogger(__name__)

_DISPLAY_EVERY_SECONDS = 0.5
_TRACK_EVERY_SECONDS = 5.0


@dataclass(frozen=True)
class RunResult:
    """Where a finished job left things."""

    folder: Path
    tracking_uri: str
    experiment: str
    table: str
    """The results as text; empty where the job has no scores."""

    models: dict[str, str]
    """Training stage to the folder of its exported model."""

    ui_command: str


def run_job(spec: JobSpec, console: Console) -> RunResult:
    """Runs every stage of a job, tracks it, and writes its report.

    Raises SpecError before anything is written where the job cannot be run as it is, and JobFailedError later.
    """
    env_vars = environment.for_workers(use_gpu=spec.cluster.use_gpu, online=spec.online)
    quiet_transformers()
    preflight.check(spec)
    storage = Path(spec.storage).expanduser().resolve()
    uri, experiment = tracking_uri(spec.tracking, storage), spec.tracking.experiment or spec.name
    with ExitStack() as stack:
        stack.enter_context(ray_session(spec.cluster, env_vars))
        store = _open_store(uri, experiment, storage)
        folder = create_run_folder(spec)
        console.print(f"run folder {folder}", highlight=False, soft_wrap=True)
        stack.enter_context(_following(folder, store, console))
        table, models = _run_stages(spec, folder, storage)
    return RunResult(folder, uri, experiment, table, models, _ui_command(storage, uri))


def _open_store(uri: str, experiment: str, storage: Path) -> MlflowStore:
    from compactbio.tracking.mlflow_store import MlflowStore

    return MlflowStore(uri, experiment, storage / "mlartifacts")


@contextmanager
def _following(folder: Path, store: MlflowStore, console: Console) -> Iterator[None]:
    """Shows and tracks what the journals say, each in a thread of its own, until the end."""
    shown, sent = Follower(folder), Follower(folder)

    def track() -> None:
        try:
            store.catch_up(sent)
        except TrackingError as error:
            log.warning("MLflow did not take the latest metrics and will be tried again: %s", error)

    with Display(console) as display:
        try:
            with (
                repeating(track, _TRACK_EVERY_SECONDS),
                repeating(lambda: display.catch_up(shown), _DISPLAY_EVERY_SECONDS),
            ):
                yield
        except BaseException:
            store.fail_open_runs()
            raise


def _run_stages(spec: JobSpec, folder: Path, storage: Path) -> tuple[str, dict[str, str]]:
    """The stages in their order, then the report. Returns its table, and the models that were made."""
    journal = Journal(folder)
    tags = {"recipe": spec.name, "spec_digest": spec.digest(), "git_sha": git_sha(), "python": sys.version.split()[0]}
    tags |= {"teacher": spec.teacher} if spec.teacher else {}
    journal.start(folder.name, tags)
    journal.params(spec.flat())
    journal.artifact(folder / "spec.yaml")
    results: dict[str, object] = {"name": spec.name, "digest": spec.digest(), "git_sha": tags["git_sha"]}
    made: dict[str, str] = {}
    store: Path | None = None
    if spec.corpus is not None or spec.store is not None:
        with _tracked(folder / "corpus", "corpus", tags) as corpus_journal:
            store, manifest = stages.run_corpus(spec, corpus_journal, storage)
        tags["data_fingerprint"] = manifest.fingerprint
        results["corpus"] = asdict(manifest)
    for names in stages.groups(spec):
        section = spec.stages[names[0]]
        if isinstance(section, Finetune):
            with _tracked(folder / names[0], names[0], tags) as stage_journal:
                stage_journal.params(section.flat())
                results[names[0]] = stages.run_finetune(spec, names[0], section, folder / names[0], made)
        else:
            assert store is not None
            with failures(" + ".join(names), folder):
                made |= stages.run_training(spec, names, folder, store, made, tags)
    (folder / RESULTS_FILE).write_text(json.dumps(results))
    table = write_report(folder)
    journal.artifact(folder / "report")
    journal.end()
    return table, made


@contextmanager
def _tracked(folder: Path, name: str, tags: dict[str, str]) -> Iterator[Journal]:
    """The journal of a stage that the driver runs, begun and ended."""
    journal = Journal(folder)
    journal.start(name, {**tags, "stage": name})
    with failures(name, folder):
        yield journal
    journal.end()


def _ui_command(storage: Path, uri: str) -> str:
    if not uri.startswith("sqlite:"):
        return f"open {uri}"
    return "compactbio ui" if storage == Path("runs").resolve() else f"compactbio ui --storage '{storage}'"
