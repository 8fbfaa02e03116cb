"""The command line's part about what was done before: runs, and the models that they made."""

from __future__ import annotations

import gc
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from compactbio.launch.options import storage_option
from compactbio.spec.base import SpecError
from compactbio.spec.job import Tracking
from compactbio.tracking import metrics
from compactbio.tracking.store_uri import existing_store

if TYPE_CHECKING:
    from compactbio.tracking.browse import Browser

_MOST_RESULTS = 4
_LONGEST_LINE = 400
_HELD_OUT = metrics.HELD_OUT_PREFIX + metrics.LOSS_PART_PREFIX + "mlm"
_run = click.argument("run", metavar="RUN")


@click.group()
@click.pass_context
def runs(context: click.Context) -> None:
    """Find runs again, and set them side by side."""
    # Up to a quarter of their time was the collector's, over what MLflow's import and a store's rows make.
    gc.disable()
    context.call_on_close(gc.enable)


@runs.command("list")
@storage_option
@click.option("--recipe", help="Only those of this recipe, the `name` of their job's spec.")
@click.option("--tag", "tags", multiple=True, metavar="NAME=VALUE", help="Only those with this tag.")
@click.option("--score", "scores", multiple=True, metavar="NAME>=VALUE", help="Only those with such a metric.")
@click.option("--most", type=click.IntRange(1, 1000), default=50, show_default=True, help="How many at most.")
def list_runs(storage: Path, recipe: str | None, tags: tuple[str, ...], scores: tuple[str, ...], most: int) -> None:
    """Print jobs and sweeps, the newest first; with a tag such as kind=distill or kind=trial their parts."""
    found = _open(storage).jobs(recipe=recipe, tags=_tags(tags), scores=list(scores), most=most)
    table = Table("run", "recipe", "status", "started", "took", "spec", "seed", "results", box=None, pad_edge=False)
    for run in found:
        table.add_row(
            run.name,
            run.tags.get("recipe", ""),
            run.status.lower(),
            time.strftime("%Y-%m-%d %H:%M", time.localtime(run.started)),
            _duration(run.seconds),
            run.tags.get("spec_digest", "")[:6],
            run.tags.get("seed", ""),
            _results(run.metrics),
        )
    _print(table)


@runs.command()
@_run
@storage_option
def show(run: str, storage: Path) -> None:
    """Print what RUN is, what it consists of, what it came to, and the curves of its training stages."""
    browser = _open(storage)
    job = browser.job(run)
    click.echo(f"{job.name}: {job.status.lower()}, {_duration(job.seconds)}\n")
    for name, value in sorted(job.tags.items()):
        click.echo(f"  {name:<18} {value}")
    parts = browser.children(job)
    table = Table("part", "kind", "status", "took", "teacher", "student", box=None, pad_edge=False)
    for part in parts:
        lineage = [part.tags.get(name, "") for name in ("kind", "teacher", "student")]
        table.add_row(part.name, lineage[0], part.status.lower(), _duration(part.seconds), *lineage[1:])
    click.echo("")
    _print(table)
    for name, number in sorted(job.metrics.items()):
        click.echo(f"  {name:<40} {number:.4f}")
    for part in parts:
        _plot(part.name, {"loss": browser.curve(part, metrics.LOSS.name), "held out": browser.curve(part, _HELD_OUT)})


@runs.command()
@click.argument("names", metavar="RUN RUN ...", nargs=-1, required=True)
@storage_option
def compare(names: tuple[str, ...], storage: Path) -> None:
    """Print where the specs of RUNs differ, what they came to, and the losses of stages of the same name."""
    if len(names) < 2:
        raise click.UsageError("name two runs at least")
    browser = _open(storage)
    jobs = [browser.job(name) for name in names]
    marks = [f"[{number}]" for number in range(1, len(jobs) + 1)]
    for mark, job in zip(marks, jobs, strict=True):
        click.echo(f"{mark} {job.name}")
    click.echo("")
    _print(_differences([job.params for job in jobs], marks))
    click.echo("")
    _print(_beside([job.metrics for job in jobs], marks))
    curves: dict[str, dict[str, list[tuple[int, float]]]] = {}
    for mark, job in zip(marks, jobs, strict=True):
        for part in browser.children(job):
            if points := browser.curve(part, metrics.LOSS.name):
                curves.setdefault(part.name, {})[mark] = points
    for stage, series in curves.items():
        _plot(f"{stage}, loss", series)


@click.group()
def models() -> None:
    """Registered models, and where they come from."""


@models.command("list")
@storage_option
@click.option("--tag", "tags", multiple=True, metavar="NAME=VALUE", help="Only those with this tag, as teacher=NAME.")
def list_models(storage: Path, tags: tuple[str, ...]) -> None:
    """Print registered models: teacher=NAME shows all students of a teacher."""
    table = Table("model", "version", "alias", "job", "spec", "data", "teacher", box=None, pad_edge=False)
    for found in _open(storage).versions(_tags(tags)):
        lineage = [found.tags.get(name, "") for name in ("job", "spec_digest", "data_fingerprint", "teacher")]
        table.add_row(found.name, found.version, ", ".join(found.aliases), *lineage)
    _print(table)


@models.command()
@click.argument("model")
@click.argument("version")
@storage_option
def promote(model: str, version: str, storage: Path) -> None:
    """Make VERSION of MODEL its champion: `models:/MODEL@champion` is that one from now on."""
    _open(storage).promote(model, version, "champion")
    click.echo(f"models:/{model}@champion is version {version}")


def _open(storage: Path) -> Browser:
    uri = existing_store(Tracking(), storage)
    from compactbio.tracking.browse import Browser

    return Browser(uri)


def _tags(given: tuple[str, ...]) -> dict[str, str]:
    pairs = [tag.partition("=") for tag in given]
    for (name, equals, _), tag in zip(pairs, given, strict=True):
        if not name or not equals:
            raise SpecError.at("--tag", f"'{tag}' is not of the form NAME=VALUE")
    return {name: value for name, _, value in pairs}


def _results(values: dict[str, float]) -> str:
    """Scores before held-out losses, as many as there is room for."""
    ordered = sorted(values.items(), key=lambda item: (not item[0].startswith(metrics.SCORE_PREFIX), item[0]))
    shown = [f"{name.removeprefix(metrics.SCORE_PREFIX)} {value:.3f}" for name, value in ordered[:_MOST_RESULTS]]
    return ", ".join(shown) + (f", {len(ordered) - _MOST_RESULTS} more" if len(ordered) > _MOST_RESULTS else "")


def _differences(specs: list[dict[str, str]], marks: list[str]) -> Table:
    """The values that are not the same everywhere; those unlike the first run's stand out."""
    table = Table("spec", *marks, box=None, pad_edge=False)
    paths = sorted({path for spec in specs for path in spec})
    for path in paths:
        values = [spec.get(path, "-") for spec in specs]
        if len(set(values)) > 1:
            cells = [Text(value, style="bold yellow" if value != values[0] else "") for value in values]
            table.add_row(path, *cells)
    if not table.row_count:
        table.add_row("no difference", *("" for _ in marks))
    return table


def _beside(results: list[dict[str, float]], marks: list[str]) -> Table:
    table = Table("result", *marks, box=None, pad_edge=False)
    for name in sorted({name for result in results for name in result}):
        table.add_row(name, *(f"{result[name]:.4f}" if name in result else "-" for result in results))
    return table


def _plot(title: str, curves: dict[str, list[tuple[int, float]]]) -> None:
    from compactbio.reporting.terminal import plot

    shown = {name: points for name, points in curves.items() if points}
    if shown:
        click.echo("\n".join(["", title, *plot(shown)]))


def _print(table: Table) -> None:
    console = Console()
    if not console.is_terminal:
        console = Console(width=_LONGEST_LINE)  # for a file or a pipe a row is one line
    console.print(table)


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    if seconds < 600:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 36_000 else f"{seconds / 3600:.1f} h"
