"""The command line's part about what models cost to run."""

from __future__ import annotations

import time
from pathlib import Path
from typing import get_args

import click
from rich.console import Console

from compactbio.launch import environment
from compactbio.launch.options import ManyValues
from compactbio.spec.base import SpecError
from compactbio.spec.evaluation import CostGrid, Runtime

_GRID = CostGrid()
_COUNT = click.IntRange(min=1)


@click.command(cls=ManyValues)
@click.argument("models", metavar="MODEL...", nargs=-1, required=True)
@click.option("--batch", "batches", type=_COUNT, multiple=True, default=_GRID.batches, show_default=True, help="Rows.")
@click.option(
    "--length",
    "lengths",
    type=click.IntRange(min=3),
    multiple=True,
    default=_GRID.lengths,
    show_default=True,
    help="Tokens of each row.",
)
@click.option("--threads", type=_COUNT, default=_GRID.threads, show_default=True, help="CPU threads.")
@click.option("--device", type=click.Choice(["cpu", "cuda"]), default=_GRID.device, show_default=True)
@click.option(
    "--runtime",
    "runtimes",
    type=click.Choice(get_args(Runtime)),
    multiple=True,
    help="On a GPU torch unless told, otherwise all three.",
)
@click.option("--scores", type=click.Path(path_type=Path), help="A run's results.json, or CSV: model, score, task.")
@click.option("--output", type=click.Path(path_type=Path), help="A new folder for CSV, JSON and the page.")
@click.option("--online", is_flag=True, help="Let models be downloaded.")
def measure(
    models: tuple[str, ...],
    batches: tuple[int, ...],
    lengths: tuple[int, ...],
    threads: int,
    device: str,
    runtimes: tuple[str, ...],
    scores: Path | None,
    output: Path | None,
    online: bool,
) -> None:
    """Measure seconds and peak memory of each MODEL: a folder, a hub name, or NAME=FOLDER.

    An option that takes several values takes them one after the other: --batch 1 8.
    """
    runtimes = runtimes or (("torch",) if device == "cuda" else _GRID.runtimes)
    grid = CostGrid.model_validate(
        {"batches": batches, "lengths": lengths, "runtimes": runtimes, "device": device, "threads": threads}
    )
    output = output or Path(time.strftime("measured-%Y%m%d-%H%M%S"))
    if output.exists():
        raise SpecError.at("--output", f"'{output}' is there already; name a new folder")
    environment.allow_downloads(online)
    from compactbio.launch.measure import machine, measure_models
    from compactbio.reporting import cost_page
    from compactbio.reporting.costs import check_names, read_scores

    found_scores = read_scores(scores) if scores is not None else []
    if found_scores:
        check_names(found_scores, [model.partition("=")[0] for model in models])
    screen = Console(stderr=True)
    costs = []
    for cost in measure_models(list(models), grid, online=online):
        costs.append(cost)
        shape = f"{cost.batch} x {cost.length}"
        screen.print(f"{cost.model}, {cost.runtime}, {shape}: {1000 * cost.seconds:.1f} ms", highlight=False)
    click.echo(cost_page.write(output, costs, found_scores, machine(grid)))
    click.echo(f"\npage      {output / 'index.html'}")
