"""The command line. Each command reads its input, calls one function, and prints what came of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from compactbio import __version__
from compactbio.launch import environment
from compactbio.launch.data_commands import data, vocab
from compactbio.launch.exit_codes import BAD_INPUT, FAILED, INTERRUPTED, STOPPED
from compactbio.launch.failures import JobFailedError
from compactbio.launch.options import data_option, overrides_option, spec_argument, storage_option
from compactbio.launch.run_commands import models, runs
from compactbio.launch.stopping import StoppedError
from compactbio.launch.submit_commands import jobs, submit
from compactbio.spec.base import SpecError
from compactbio.spec.job import CorpusJob, JobSpec, Tracking
from compactbio.spec.load import load
from compactbio.spec.secrets import without_password


class _Commands(click.Group):
    """Commands whose foreseeable errors are a message and an exit code, not a traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except SpecError as error:
            click.echo(f"compactbio: {error}", err=True)
            sys.exit(BAD_INPUT)
        except JobFailedError as error:
            click.echo(f"compactbio: {error}", err=True)
            sys.exit(FAILED)
        except StoppedError:
            click.echo("compactbio: stopped as asked; to go on: compactbio run --resume RUN", err=True)
            sys.exit(STOPPED)
        except KeyboardInterrupt:
            click.echo("compactbio: interrupted", err=True)
            sys.exit(INTERRUPTED)


_run_argument = click.argument("run_folder", type=click.Path(path_type=Path))


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__)
def main() -> None:
    """Distil, pretrain, fine-tune and score compact biomedical language models."""
    environment.prepare_driver()


@main.command()
@click.argument("spec", type=click.Path(path_type=Path), required=False)
@overrides_option
@data_option
@click.option("--resume", type=click.Path(path_type=Path), metavar="RUN", help="Go on with the run in this folder.")
@click.option("--allow-changes", is_flag=True, help="Go on although SPEC or --set changes the run's spec.")
@click.option("--name", help="What the new run's folder is called; NAME-TIME-DIGEST when left out.")
def run(
    spec: Path | None, overrides: tuple[str, ...], resume: Path | None, allow_changes: bool, name: str | None
) -> None:
    """Run the job that SPEC describes, or with --resume go on with a run that was stopped or killed."""
    from compactbio.launch.run_folder import resumed_spec

    if resume is not None:
        resume = resume.expanduser().resolve()
        job = resumed_spec(resume, spec, list(overrides), allow_changes=allow_changes)
    elif spec is not None:
        job = load(spec, list(overrides))
    else:
        raise click.UsageError("name a SPEC, or the folder of a run with --resume")
    environment.allow_downloads(job.online)
    from compactbio.launch.run import run_job

    result = run_job(job, Console(stderr=True), resume=resume, name=name)
    if result.table:
        click.echo(f"\n{result.table}\n")
    click.echo(f"report    {result.folder / 'report' / 'index.html'}")
    for name, folder in result.models.items():
        click.echo(f"model     {name}: {folder}")
    click.echo(f"tracking  {result.tracking_uri}, experiment {result.experiment}; to browse it: {result.ui_command}")
    if not result.tracked:
        click.echo(f"MLflow has not taken everything; when it is back: compactbio track {result.folder}", err=True)


@main.command()
@spec_argument
@overrides_option
@data_option
def plan(spec: Path, overrides: tuple[str, ...]) -> None:
    """Resolve SPEC and print what it comes to, without training."""
    job = load(spec, list(overrides))
    environment.allow_downloads(False)
    from compactbio.launch.plan import describe

    click.echo(describe(job))


@main.command()
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


@main.command()
def doctor() -> None:
    """Print what this machine has and what will be used of it."""
    from compactbio.launch.doctor import describe

    click.echo(describe())


@main.command()
@_run_argument
def report(run_folder: Path) -> None:
    """Write the report of a finished run anew, and print its table."""
    from compactbio.reporting.page import write_report

    click.echo(write_report(run_folder))
    click.echo(f"\nreport    {run_folder / 'report' / 'index.html'}")


@main.command()
@_run_argument
def track(run_folder: Path) -> None:
    """Send to MLflow what it did not take while the run lasted."""
    from compactbio.launch.run import send_journals

    click.echo(f"MLflow at {send_journals(run_folder)} has everything of {run_folder}")


@main.command()
@storage_option
@click.option("--port", type=int, default=5000, show_default=True)
def ui(storage: Path, port: int) -> None:
    """Start the MLflow UI on the store of these runs, and say where else to look."""
    from compactbio.launch.neighbours import neighbours
    from compactbio.tracking.store_uri import existing_store

    uri = existing_store(Tracking(), storage)
    for line in neighbours(storage):
        click.echo(line)
    if uri.startswith(("http://", "https://")):
        click.echo(f"MLflow UI on {without_password(uri)}")
        return
    page = f"http://127.0.0.1:{port}/#/experiments?workflowType=machine_learning"  # else it opens on traces of agents
    click.echo(f"MLflow UI on {page} (store {without_password(uri)}); stop it with Ctrl-C")
    settings = {"MLFLOW_BACKEND_STORE_URI": uri, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    command = [sys.executable, "-m", "mlflow", "server", "--port", str(port)]
    sys.exit(subprocess.call(command, env={**os.environ, **settings}))


@main.command()
@click.argument("kind", type=click.Choice(["job", "corpus"]), default="job")
def schema(kind: str) -> None:
    """Print the JSON schema of specs, for editors that complete and check YAML."""
    described = JobSpec if kind == "job" else CorpusJob
    click.echo(json.dumps(described.model_json_schema(by_alias=True), indent=2))


main.add_command(data)
main.add_command(vocab)
main.add_command(submit)
main.add_command(jobs)
main.add_command(runs)
main.add_command(models)


if __name__ == "__main__":
    main()
