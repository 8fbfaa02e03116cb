"""One self-contained HTML page about a run, and its table as Markdown."""

from __future__ import annotations

from pathlib import Path

from jinja2 import Environment, PackageLoader

from compactbio.reporting import grid, plots, tables
from compactbio.reporting.collect import Comparison, RunData, collect
from compactbio.tracking import metrics

REPORT_FOLDER = "report"


def write_report(folder: Path) -> str:
    """Writes `report/index.html` and `report/table.md` into the run's folder. Returns the tables as text."""
    data = collect(folder)
    report = folder / REPORT_FOLDER
    report.mkdir(exist_ok=True)
    text = "\n\n".join(_text(data, comparison) for comparison in data.comparisons)
    environment = Environment(loader=PackageLoader("compactbio.reporting", "."), autoescape=True)
    page = environment.get_template("page.html.jinja").render(
        data=data,
        training={name: _training(data, name) for name in data.curves},
        comparisons=[_comparison(data, comparison) for comparison in data.comparisons],
    )
    (report / "table.md").write_text(text + "\n", encoding="utf-8")
    (report / "index.html").write_text(page, encoding="utf-8")
    return text


def _text(data: RunData, comparison: Comparison) -> str:
    lines = [
        grid.markdown(tables.score_grid(data, comparison)),
        "",
        *(f"- {line}" for line in tables.findings(comparison)),
    ]
    return "\n".join([*lines, *(f"- {line}" for line in tables.notes(comparison))])


def _training(data: RunData, name: str) -> dict[str, object]:
    curves = data.curves[name]
    tokens = sum(value for _, value in curves.get(metrics.TOKENS.name, []))
    speeds = [value for _, value in curves.get(metrics.TOKENS_PER_SECOND.name, [])]
    return {
        "plot": plots.loss_curves(curves),
        "training": data.spec.training_stages()[name].training,
        "kind": data.spec.stages[name].kind,
        "tokens": tokens,
        "speed": sorted(speeds)[len(speeds) // 2] if speeds else 0.0,
        "held_out": data.held_out(name),
        "perplexity": next(reversed(curves.get(metrics.HELD_OUT_PERPLEXITY.name, [(0, None)])))[1],
    }


def _comparison(data: RunData, comparison: Comparison) -> dict[str, object]:
    costs = (
        ("parameters", "encoder parameters, millions", 1e-6),
        ("seconds_a_sentence", "milliseconds a sentence", 1e3),
    )
    return {
        "table": grid.html(tables.score_grid(data, comparison)),
        "findings": tables.findings(comparison),
        "notes": tables.notes(comparison),
        "plots": [plots.score_against_cost(comparison, *cost) for cost in costs] if comparison.footprints else [],
    }
