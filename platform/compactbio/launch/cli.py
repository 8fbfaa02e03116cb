"""The command line. Each command reads its input, calls one function, and prints what came of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import click

from compactbio import __version__
from compactbio.launch import environment
from compactbio.launch.data_commands import data, vocab
from compactbio.launch.exit_codes import BAD_INPUT, FAILED, INTERRUPTED, STOPPED, run_and_exit
from compactbio.launch.failures import JobFailedError
from compactbio.launch.job_commands import bench, evaluate, plan, run, sweep
from compactbio.launch.measure_command import measure
from compactbio.launch.options import storage_option
from compactbio.launch.run_commands import models, runs
from compactbio.launch.stopping import StoppedError
from compactbio.launch.submit_commands import jobs, submit
from compactbio.launch.sweep_folder import is_sweep_folder
from compactbio.spec.base import Section, SpecError
from compactbio.spec.job import CorpusJob, JobSpec, Tracking
from compactbio.spec.secrets import without_password
from compactbio.spec.sweep import SweepSpec
from compactbio.tracking.store_uri import TrackingError


class _Commands(click.Group):
    """Commands whose foreseeable errors are a message and an exit code, not a traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except SpecError as error:
            click.echo(f"compactbio: {error}", err=True)
            sys.exit(BAD_INPUT)
        except (JobFailedError, TrackingError) as error:
            click.echo(f"compactbio: {error}", err=True)
            sys.exit(FAILED)
        except StoppedError:
            click.echo(
                "compactbio: stopped as asked; to go on: compactbio run --resume RUN, or sweep --resume NAME",
                err=True,
            )
            sys.exit(STOPPED)
        except KeyboardInterrupt:
            click.echo("compactbio: interrupted", err=True)
            sys.exit(INTERRUPTED)


_run_argument = click.argument("run", metavar="RUN")


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__)
def main() -> None:
    """Distil, pretrain, fine-tune and score compact biomedical language models."""
    environment.prepare_driver()


@main.command()
def doctor() -> None:
    """Print what this machine has and what will be used of it."""
    from compactbio.launch.doctor import describe

    click.echo(describe())


@main.command()
@_run_argument
def report(run: str) -> None:
    """Write the report of a finished run or sweep anew, and print its table. RUN is a folder, or an address."""
    from compactbio.launch.run_folder import stored_run
    from compactbio.reporting.collect import REPORT_FOLDER
    from compactbio.reporting.page import write_report
    from compactbio.reporting.sweep_page import write_sweep_report

    found = stored_run(run)
    folder = found.folder.resolve()  # pages are named after it
    click.echo(write_sweep_report(folder) if is_sweep_folder(folder) else write_report(folder))
    click.echo(f"\nreport    {folder / REPORT_FOLDER / 'index.html'}")
    if found.storage.url is not None:
        found.storage.push(folder / REPORT_FOLDER)
        click.echo(f"stored    {found.storage.address(folder / REPORT_FOLDER)}")


@main.command()
@_run_argument
def track(run: str) -> None:
    """Send to MLflow what it did not take while the run lasted. RUN is a folder, or an address."""
    from compactbio.launch.run import send_journals

    click.echo(f"MLflow at {send_journals(run)} has everything of {run}")


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
@click.argument("model")
@click.argument("text")
@click.option("--question", help="For a model of questions or pairs of texts: the question, or the first text.")
@click.option("--online", is_flag=True, help="Let the model be downloaded by hub name.")
def predict(model: str, text: str, question: str | None, online: bool) -> None:
    """Print what MODEL says of TEXT: entities, labels or answers.

    TEXT may also be a file of one text a line, or - for standard input.
    """
    environment.allow_downloads(online)
    from compactbio.launch.predict import predictions

    for line in predictions(model, text, question=question, online=online):
        click.echo(line)


@main.command()
@click.argument("kind", type=click.Choice(["job", "corpus", "sweep"]), default="job")
def schema(kind: str) -> None:
    """Print the JSON schema of specs, for editors that complete and check YAML."""
    kinds: dict[str, type[Section]] = {"job": JobSpec, "corpus": CorpusJob, "sweep": SweepSpec}
    click.echo(json.dumps(kinds[kind].model_json_schema(by_alias=True), indent=2))


@main.command()
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
def dashboards(folder: Path) -> None:
    """Write the Grafana dashboard, the Prometheus configuration and its alert rules into FOLDER."""
    from compactbio.reporting.dashboards import write

    for path in write(folder):
        click.echo(path)


for _command in (run, plan, evaluate, measure, sweep, bench, data, vocab, submit, jobs, runs, models):
    main.add_command(_command)


def run_main() -> None:
    """The program `compactbio`."""
    run_and_exit(main)


if __name__ == "__main__":
    run_main()
