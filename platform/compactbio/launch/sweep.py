"""The driver of a sweep: its trials, what is the same in all of them, and what comes after the last."""

from __future__ import annotations

import json
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import ray
from rich.console import Console

from compactbio.launch import environment, preflight, stages
from compactbio.launch.failures import failures
from compactbio.launch.following import Following, open_store
from compactbio.launch.preflight import Absent
from compactbio.launch.progress import say, say_absent
from compactbio.launch.ray_session import ray_beside
from compactbio.launch.run_folder import check_lasts, git_sha, locked
from compactbio.launch.stopping import Stopping
from compactbio.launch.stopping import stopping as listening
from compactbio.launch.sweep_fit import Fit, fit_trials
from compactbio.launch.sweep_folder import SHARED_FOLDER, create_sweep_folder, write_job
from compactbio.launch.sweep_preflight import check_sweep
from compactbio.launch.sweep_sources import Common, Confirming, Searching, trial_request
from compactbio.models.load import quiet_transformers
from compactbio.reporting.sweep_results import SWEEP_RESULTS_FILE
from compactbio.spec.job import STAGE_PREFIX, Finetune
from compactbio.spec.points import num_trials
from compactbio.spec.secrets import without_password
from compactbio.spec.sweep import Population
from compactbio.spec.trials import Sweep
from compactbio.storage.copies import Storage
from compactbio.tracking.journal import Journal, has_ended
from compactbio.tracking.store_uri import tracking_uri

if TYPE_CHECKING:
    from compactbio.launch.sweep_study import SearchStudy
    from compactbio.launch.sweep_trials import TrialSource

STUDY_FILE = "study.db"


@dataclass(frozen=True)
class SweepResult:
    """Where a finished sweep left things."""

    folder: Path
    jobs: list[Path]
    """The best trial as a job, or those of the Pareto front."""

    table: str
    tracking_uri: str
    experiment: str
    study: str
    tracked: bool


def run_sweep(sweep: Sweep, console: Console, *, resume: Path | None = None, name: str | None = None) -> SweepResult:
    """Runs the trials of a sweep, in a new folder called `name` where that is given; with `resume` in the folder of one
    that was stopped or killed, those that it lacks.

    Raises SpecError before anything is written where the sweep cannot be run as it is, and later JobFailedError, or
    StoppedError where it was asked to stop.
    """
    base = sweep.base
    env_vars = environment.for_workers(use_gpu=base.cluster.use_gpu, online=base.online)
    quiet_transformers()
    if environment.is_submitted() and resume is None:
        check_lasts(sweep.storage)
    absent = check_sweep(sweep)
    storage = resume.parent if resume is not None else Path(base.storage).expanduser().resolve()
    uri, experiment = tracking_uri(base.tracking, storage), base.tracking.experiment or sweep.spec.name
    with ExitStack() as lock, ExitStack() as stack:
        if resume is not None:
            lock.enter_context(locked(resume))
        mlflow = ray_beside(stack, base.cluster, env_vars, partial(open_store, uri, experiment, storage))
        fit = _fit(sweep)
        folder = resume or create_sweep_folder(sweep, name)
        if resume is None:
            lock.enter_context(locked(folder))
        say(console, f"sweep folder {folder}\n{fit.arithmetic}")
        say_absent(console, absent)
        stopping = stack.enter_context(listening(folder))
        following = stack.enter_context(
            Following(folder, mlflow, console, None, recipe=sweep.spec.name, training_stages=base.training_stages())
        )
        url = sweep.spec.search.study or f"sqlite:///{folder / STUDY_FILE}"
        with failures("the sweep", folder):
            running = _Running(sweep, folder, storage, fit, url, absent, stopping, console)
            jobs, table = running.to_the_end()
    return SweepResult(folder, jobs, table, without_password(uri), experiment, url, following.complete)


def _fit(sweep: Sweep) -> Fit:
    resources = ray.cluster_resources()
    budget = sweep.spec.budget
    return fit_trials(
        sweep.base.cluster,
        budget.concurrent,
        num_trials(sweep),
        num_cpus=resources.get("CPU", 0),
        num_gpus=resources.get("GPU", 0),
    )


class _SpokenJournal(Journal):
    """A journal whose notes a person reads at once: a sweep has no display."""

    def __init__(self, folder: Path, console: Console) -> None:
        super().__init__(folder)
        self._console = console

    def note(self, text: str) -> None:
        say(self._console, text)
        super().note(text)


class _Running:
    """A sweep on its way."""

    def __init__(
        self,
        sweep: Sweep,
        folder: Path,
        storage: Path,
        fit: Fit,
        url: str,
        absent: Absent,
        stopping: Stopping,
        console: Console,
    ) -> None:
        self._sweep = sweep
        self._folder = folder
        self._storage = storage
        self._fit = fit
        self._url = url
        self._absent = absent
        self._stopping = stopping
        self._journal = _SpokenJournal(folder, console)

    def to_the_end(self) -> tuple[list[Path], str]:
        """Everything, from the text to the report. Returns the files of the best jobs, and the table."""
        from compactbio.launch.sweep_study import SearchStudy

        sweep = self._sweep
        tags = {
            "recipe": sweep.base.name,
            "sweep": sweep.spec.name,
            "spec_digest": sweep.base.digest(),
            "git_sha": git_sha(),
        }
        self._journal.start(self._folder.name, tags | {"kind": "sweep"})
        self._journal.params({**sweep.spec.flat(), "base_digest": sweep.base.digest()})
        study = SearchStudy(sweep, self._folder.name, self._url)
        common = self._common(tags)
        if isinstance(sweep.spec.stopping, Population):
            from compactbio.launch.sweep_population import Evolving

            searching: Searching | Evolving = Evolving(sweep, study, self._folder, common, tags, self._journal.note)
        else:
            searching = Searching(sweep, study, self._folder, common, tags, self._journal.note)
        self._run(searching, searching.num_runs)
        searching.tidy()
        jobs = self._write_jobs(study)
        self._write_results(study, self._confirm(study, common, tags))
        from compactbio.reporting.sweep_page import write_sweep_report  # seconds that the start does without

        table = write_sweep_report(self._folder)
        self._journal.artifact(self._folder / "report")
        self._journal.end()
        return jobs, table

    def _run(self, source: TrialSource, most: int) -> None:
        from compactbio.launch.sweep_trials import run_trials

        run_trials(
            source,
            self._folder,
            self._fit.resources,
            most=most,
            concurrent=self._fit.concurrent,
            max_failures=self._sweep.spec.budget.max_failures,
            stopping=self._stopping,
        )

    def _common(self, tags: dict[str, str]) -> Common:
        """The text, and the stages that are the same in every trial, which are run here, once."""
        sweep, base = self._sweep, self._sweep.base
        store = None
        if base.corpus is not None or base.store is not None:
            journal = Journal(self._folder / "corpus")
            journal.start("corpus", tags | {"stage": "corpus", "kind": "corpus"})
            store, _ = stages.run_corpus(base, journal, Storage(self._storage))
            journal.end()
        made: dict[str, str] = {}
        names = sweep.shared()
        if names:
            spec = base.model_copy(update={"stages": {name: base.stages[name] for name in names}})
            for group in stages.groups(spec):
                if isinstance(spec.stages[group[0]], Finetune):
                    continue
                assert store is not None
                if not all(has_ended(self._folder / SHARED_FOLDER / name) for name in group):
                    self._journal.note(f"{', '.join(group)}: the same in every trial, run once")
                made |= stages.run_training(
                    spec, group, self._folder / SHARED_FOLDER, store, made, tags, self._stopping, self._journal
                )
        models = {f"{STAGE_PREFIX}{name}": model for name, model in made.items()}
        for name in sweep.needed():
            for field, model in base.stages[name].models().items():
                if not model.startswith(STAGE_PREFIX):
                    models[model] = preflight.resolve_model(base, model, f"stages.{name}.{field}", made)
        return Common(None if store is None else str(store), models, self._absent)

    def _write_jobs(self, study: SearchStudy) -> list[Path]:
        """The best trial, or each of the front, as a job with all stages of the base."""
        best = study.best()
        single = len(self._sweep.spec.objectives) == 1
        paths = []
        for outcome in best:
            stem = "best" if single else f"best-{outcome.number:04d}"
            job = self._sweep.job(outcome.values, name=f"{self._sweep.base.name}-{stem}")
            path = self._folder / f"{stem}.yaml"
            write_job(path, job.resolved(), f"Trial {outcome.number} of the sweep {self._sweep.spec.name}.")
            paths.append(path)
        return paths

    def _confirm(self, study: SearchStudy, common: Common, tags: dict[str, str]) -> dict[str, list[list[float]]]:
        """Scores of the best trial's values and of the base's with seeds that no trial had."""
        seeds = [self._sweep.base.seed + 1 + number for number in range(self._sweep.spec.confirm_seeds)]
        best = study.best()[:1]
        if not seeds or not best:
            return {}
        requests = [
            trial_request(self._sweep, values, self._folder / f"confirm-{name}-{seed}", common, tags, seed=seed)
            for seed in seeds
            for name, values in (("base", {}), ("best", best[0].values))
        ]
        confirming = Confirming(requests, self._journal.note)
        self._run(confirming, len(requests))
        found: dict[str, list[list[float]]] = {"base": [], "best": []}
        for folder, scores in sorted(confirming.found.items()):
            found[folder.name.split("-")[1]].append(list(scores))
        return found

    def _write_results(self, study: SearchStudy, confirmed: dict[str, list[list[float]]]) -> None:
        objectives = self._sweep.spec.objectives
        results = {
            "name": self._sweep.spec.name,
            "digest": self._sweep.base.digest(),
            "objectives": [objective.name() for objective in objectives],
            "directions": [objective.direction for objective in objectives],
            "space": self._sweep.spec.model_dump(mode="json")["space"],
            "base": self._sweep.base_values(),
            "trials": [asdict(outcome) for outcome in study.outcomes()],
            "best": [outcome.number for outcome in study.best()],
            "importances": study.importances(),
            "confirmed": confirmed,
        }
        (self._folder / SWEEP_RESULTS_FILE).write_text(json.dumps(results))
