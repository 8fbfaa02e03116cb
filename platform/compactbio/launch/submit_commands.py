"""The command line's part about jobs on a cluster."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from compactbio.launch.options import overrides_option
from compactbio.spec.load import load_any
from compactbio.spec.sweep_load import is_sweep, load_sweep

if TYPE_CHECKING:
    from compactbio.launch.shipping import Shipped

_address = click.option(
    "--address",
    envvar="RAY_API_SERVER_ADDRESS",
    default="http://127.0.0.1:8265",
    show_default=True,
    help="The dashboard of the cluster's head.",
)
_job = click.argument("job_id", metavar="JOB")
_LARGEST_LIST = 5


@click.command()
@click.argument("spec", type=click.Path(path_type=Path), required=False)
@overrides_option
@_address
@click.option("--follow", is_flag=True, help="Show the job's log until it ends, and end with its exit code.")
@click.option("--again", is_flag=True, help="Submit although the same is being done already.")
@click.option("--resume", metavar="RUN", help="Go on with the run or sweep in this folder on the cluster.")
@click.option("--data", metavar="DIR", help="The data root on the cluster.")
@click.option(
    "--working-dir",
    type=click.Path(path_type=Path),
    help="A folder that is sent along: relative paths in SPEC are looked for in it.",
)
def submit(
    spec: Path | None,
    overrides: tuple[str, ...],
    address: str,
    follow: bool,
    again: bool,
    resume: str | None,
    data: str | None,
    working_dir: Path | None,
) -> None:
    """Have a cluster do what SPEC describes, or with --resume go on with a run or sweep that it did before."""
    from compactbio.launch import submission
    from compactbio.launch.shipping import packed

    if (spec is None) == (resume is None):
        raise click.UsageError("name a SPEC, or the folder of a run with --resume")
    loaded = _on_that_cluster(spec, list(overrides)) if spec is not None else None
    order = submission.order_of(loaded, data) if loaded else submission.order_to_resume(resume or "", data)
    client = submission.connect(address)
    with packed(loaded, working_dir) as shipment:
        click.echo(f"sends     {shipment.num_bytes / 1e6:.2f} MB", err=True)
        for path in shipment.left_out[:_LARGEST_LIST]:
            click.echo(f"          without {path}", err=True)
        if len(shipment.left_out) > _LARGEST_LIST:
            click.echo(f"          and without {len(shipment.left_out) - _LARGEST_LIST} more", err=True)
        job_id = submission.submit(client, order, shipment, again=again)
    click.echo(f"job       {job_id}")
    if order.run is not None:
        click.echo(f"run       {order.run.replace('{job}', job_id)}")
    if follow:
        _follow(address, job_id)
    click.echo(f"log       compactbio jobs logs {job_id} --follow --address {address}", err=True)


def _on_that_cluster(spec: Path, overrides: list[str]) -> Shipped:
    """What a file describes, to be done by the cluster that it is submitted to."""
    if is_sweep(spec):
        return load_sweep(spec, [*overrides, "scale.cluster.address=null"])
    return load_any(spec, [*overrides, "cluster.address=null"])


@click.group()
def jobs() -> None:
    """Look after jobs that were submitted to a cluster."""


@jobs.command("list")
@_address
def list_jobs(address: str) -> None:
    """Print the cluster's jobs, the newest first."""
    from compactbio.launch import submission

    found = submission.listed(submission.connect(address))
    width = max((len(job.submission_id or "") for job in found), default=0)
    for job in found:
        started = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime((job.start_time or 0) / 1000))
        seconds = submission.elapsed(job)
        click.echo(f"{job.submission_id:<{width}}  {job.status:<9}  {started}  {seconds or 0:8,.0f} s")


@jobs.command()
@_job
@_address
@click.option("--follow", is_flag=True, help="Until the job ends, and end with its exit code.")
def logs(job_id: str, address: str, follow: bool) -> None:
    """Print the log of JOB."""
    from compactbio.launch import submission

    client = submission.connect(address)
    submission.find(client, job_id)
    if follow:
        _follow(address, job_id)
    click.echo(client.get_job_logs(job_id), nl=False)


@jobs.command()
@_job
@_address
def stop(job_id: str, address: str) -> None:
    """Ask JOB to save and to stop, and wait until it has."""
    from compactbio.launch import submission

    client = submission.connect(address)
    if submission.find(client, job_id).status.is_terminal():
        click.echo(f"{job_id} has ended already")
        return
    client.stop_job(job_id)
    click.echo(f"{job_id} saves and stops; Ctrl-C does not wait for it", err=True)
    click.echo(f"{job_id} is {submission.until_ended(client, job_id).status.lower()}")


def _follow(address: str, job_id: str) -> None:
    """Shows a job's log, and ends this process as the job ended."""
    from compactbio.launch import submission

    try:
        code = submission.follow(submission.connect(address), job_id, lambda text: click.echo(text, nl=False))
    except KeyboardInterrupt:
        click.echo(
            f"\nthe job goes on; to see more: compactbio jobs logs {job_id} --follow --address {address}", err=True
        )
        raise
    sys.exit(code)
