"""The command line's part that does what a spec describes: jobs, studies, sweeps, plans, measured steps."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import Console

from compactbio.launch import environment
from compactbio.launch.options import ManyValues, data_option, overrides_option, spec_argument, storage_option
from compactbio.launch.sweep_folder import is_sweep_folder, resumed_sweep
from compactbio.spec.load import load, load_values
from compactbio.spec.sweep_load import is_sweep, load_sweep

if TYPE_CHECKING:
    from compactbio.launch.run import RunResult
    from compactbio.spec.trials import Sweep


@click.command()
@click.argument("spec", type=click.Path(path_type=Path), required=False)
@overrides_option
@data_option
@click.option("--resume", metavar="RUN", help="Go on with what is in this folder, or at this address.")
@click.option("--allow-changes", is_flag=True, help="Go on although SPEC or --set changes the run's spec.")
@click.option("--name", help="What the new run's folder is called; NAME-TIME-DIGEST when left out.")
def run(
    spec: Path | None, overrides: tuple[str, ...], resume: str | None, allow_changes: bool, name: str | None
) -> None:
    """Run the job that SPEC describes, or with --resume go on with a run or sweep that was stopped or killed."""
    from compactbio.launch.run_folder import resumed_spec, stored_run

    if resume is not None and is_sweep_folder(Path(resume).expanduser()):
        sweep_folder = Path(resume)
        _resume_sweep(sweep_folder, sweep_folder.parent, changed=spec is not None or bool(overrides))
        return
    before = None
    if resume is not None:
        before = stored_run(resume)
        job = resumed_spec(before.folder, spec, list(overrides), allow_changes=allow_changes)
    elif spec is not None:
        job = load(spec, list(overrides))
    else:
        raise click.UsageError("name a SPEC, or the folder of a run with --resume")
    environment.allow_downloads(job.online)
    environment.start_fork_server(job.cluster)
    from compactbio.launch.run import run_job

    _say_where(run_job(job, Console(stderr=True), resume=before, name=name))


def _say_where(result: RunResult) -> None:
    if result.table:
        click.echo(f"\n{result.table}\n")
    click.echo(f"report    {result.folder / 'report' / 'index.html'}")
    if result.address != str(result.folder):
        click.echo(f"stored    {result.address}")
    for name, folder in result.models.items():
        click.echo(f"model     {name}: {folder}")
    click.echo(f"tracking  {result.tracking_uri}, experiment {result.experiment}; to browse it: {result.ui_command}")
    if not result.tracked:
        click.echo(f"MLflow has not taken everything; when it is back: compactbio track {result.address}", err=True)


@click.command(cls=ManyValues)
@click.option("--models", multiple=True, required=True, metavar="NAME=PATH ...", help="Models: folders or hub names.")
@click.option(
    "--tasks", multiple=True, required=True, metavar="NAME ...", help="Benchmarks or groups (ner re cls qa mlm)."
)
@click.option("--seeds", type=click.IntRange(min=1), default=5, show_default=True, help="Fine-tune with seeds 1 to N.")
@click.option("--preset", default="rohanian", show_default=True, help="Hyper-parameters of a paper, or one preset.")
@click.option("--reference", metavar="NAME", help="The model that others are divided by; the first when left out.")
@click.option("--name", default="evaluation", show_default=True, help="Names the run.")
@overrides_option
@data_option
def evaluate(
    models: tuple[str, ...],
    tasks: tuple[str, ...],
    seeds: int,
    preset: str,
    reference: str | None,
    name: str,
    overrides: tuple[str, ...],
) -> None:
    """Fine-tune every model on every task for every seed, and score them: a study without a spec."""
    from compactbio.launch.evaluate import study

    values = study(models=models, tasks=tasks, seeds=seeds, preset=preset, reference=reference, name=name)
    job = load_values(values, list(overrides))
    environment.allow_downloads(job.online)
    environment.start_fork_server(job.cluster)
    from compactbio.launch.run import run_job

    _say_where(run_job(job, Console(stderr=True)))


@click.command()
@click.argument("spec", type=click.Path(path_type=Path), required=False)
@overrides_option
@data_option
@storage_option
@click.option(
    "--resume", type=click.Path(path_type=Path), metavar="NAME", help="Go on with this sweep: folder or name."
)
@click.option("--name", help="What the new sweep's folder is called; NAME-TIME-DIGEST when left out.")
def sweep(spec: Path | None, overrides: tuple[str, ...], storage: Path, resume: Path | None, name: str | None) -> None:
    """Search the values that SPEC lets vary, or with --resume go on with a sweep that was stopped or killed."""
    if resume is not None:
        _resume_sweep(resume, storage, changed=spec is not None or bool(overrides))
    elif spec is not None:
        _sweep(load_sweep(spec, list(overrides)), name=name)
    else:
        raise click.UsageError("name a SPEC, or a sweep with --resume")


def _resume_sweep(name: Path, storage: Path, *, changed: bool) -> None:
    if changed:
        raise click.UsageError("a sweep goes on as it is; leave out SPEC and --set")
    searched, folder = resumed_sweep(name, storage)
    _sweep(searched, resume=folder)


def _sweep(searched: Sweep, *, resume: Path | None = None, name: str | None = None) -> None:
    environment.allow_downloads(searched.base.online)
    environment.start_fork_server(searched.base.cluster)
    from compactbio.launch.sweep import run_sweep

    result = run_sweep(searched, Console(stderr=True), resume=resume, name=name)
    click.echo(f"\n{result.table}\n")
    click.echo(f"report    {result.folder / 'report' / 'index.html'}")
    for job in result.jobs:
        click.echo(f"job       compactbio run {job}")
    click.echo(f"study     optuna-dashboard {result.study}")
    click.echo(f"tracking  {result.tracking_uri}, experiment {result.experiment}")
    if not result.tracked:
        click.echo(f"MLflow has not taken everything; when it is back: compactbio track {result.folder}", err=True)


@click.command()
@spec_argument
@overrides_option
@data_option
def plan(spec: Path, overrides: tuple[str, ...]) -> None:
    """Resolve SPEC, a job or a sweep, and print what it comes to, without training."""
    if is_sweep(spec):
        searched = load_sweep(spec, list(overrides))
        environment.allow_downloads(False)
        from compactbio.launch.sweep_plan import describe_sweep

        click.echo(describe_sweep(searched))
        return
    job = load(spec, list(overrides))
    environment.allow_downloads(False)
    from compactbio.launch.plan import describe

    click.echo(describe(job))


@click.command()
@spec_argument
@overrides_option
@data_option
@click.option("--stage", help="The training stage; the first one when left out.")
@click.option("--steps", type=click.IntRange(min=1), default=5, show_default=True, help="Steps, after one to warm up.")
def bench(spec: Path, overrides: tuple[str, ...], stage: str | None, steps: int) -> None:
    """Measure the training step of SPEC on this machine: speed, utilisation, memory, where the time goes."""
    job = load(spec, list(overrides))
    environment.allow_downloads(job.online)
    from compactbio.launch.bench import bench as lines

    for line in lines(job, stage, steps):
        click.echo(line)
