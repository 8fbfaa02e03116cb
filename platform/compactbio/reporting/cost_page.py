"""What models cost to run as a table, CSV, JSON, and a page with scores against it."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path

from jinja2 import Environment, PackageLoader

from compactbio.reporting import plots
from compactbio.reporting.costs import Cost, TaskScore
from compactbio.reporting.grid import Grid, markdown

NOTES = (
    "Milliseconds: one forward pass over a batch, median of the rounds, without tokenisation. Of a masked language "
    "model its encoder is measured, of others the whole model; the parameters are those of the encoder.",
    "Peak memory: resident memory of a process of its own at its highest, with everything in it: interpreter, "
    "libraries (in brackets what was there before the model was loaded), weights, activations, and what loading the "
    "file takes for a moment. PyTorch maps the file: rows of the embeddings that no token asked for are not in it. "
    "On a GPU what PyTorch allocated at most; ONNX Runtime does not tell there.",
    "Agreement: percent of top predictions that are those of PyTorch, on 20 biomedical sentences; none for an encoder "
    "without a head.",
)


def rows(costs: Sequence[Cost]) -> tuple[list[str], list[list[str]]]:
    """Header and rows of the table."""
    header = ["model", "encoder", "runtime", "batch x tokens", "ms a batch", "texts/s", "peak memory", "agreement"]
    return header, [
        [
            cost.model,
            f"{cost.encoder_parameters / 1e6:.1f} M",
            cost.runtime,
            f"{cost.batch} x {cost.length}",
            f"{1000 * cost.seconds:.1f}",
            f"{cost.batch / cost.seconds:.1f}",
            "-" if cost.peak_mib is None else f"{cost.peak_mib:.0f} MiB ({cost.libraries_mib:.0f})",
            "-" if cost.agreement is None else f"{100 * cost.agreement:.1f} %",
        ]
        for cost in costs
    ]


def write(folder: Path, costs: Sequence[Cost], scores: Sequence[TaskScore], machine: str) -> str:
    """Writes `costs.csv`, `costs.json` and `index.html` into a new folder. Returns the table with its notes."""
    header, body = rows(costs)
    figures = [plots.score_fronts(costs, scores, quantity) for quantity in plots.QUANTITIES] if scores else []
    page = Environment(loader=PackageLoader("compactbio.reporting", "."), autoescape=True)
    html = page.get_template("costs.html.jinja").render(
        header=header, rows=body, notes=NOTES, machine=machine, plots=figures
    )
    folder.mkdir(parents=True)
    with (folder / "costs.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(Cost)])
        writer.writeheader()
        writer.writerows(asdict(cost) for cost in costs)
    content = {
        "machine": machine,
        "costs": [asdict(cost) for cost in costs],
        "scores": [asdict(each) for each in scores],
    }
    (folder / "costs.json").write_text(json.dumps(content, indent=1), encoding="utf-8")
    (folder / "index.html").write_text(html, encoding="utf-8")
    return markdown(Grid(tuple(header), tuple(map(tuple, body)), notes=(machine, *NOTES)))
