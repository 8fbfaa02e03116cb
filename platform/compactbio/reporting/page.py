"""One self-contained HTML page about a run, and its table as Markdown."""

from __future__ import annotations

from pathlib import Path

from jinja2 import Environment, PackageLoader

from compactbio.reporting import grid, plots, study, tables
from compactbio.reporting.collect import REPORT_FOLDER, Comparison, RunData, collect
from compactbio.reporting.grid import Grid
from compactbio.tracking import metrics
from compactbio.tracking.cell_files import PREDICTIONS_FILE


def write_report(folder: Path) -> str:
    """Writes `report/index.html`, `report/table.md` and the files of every table into the run's folder. Returns the
    tables of results as text."""
    data = collect(folder)
    report = folder / REPORT_FOLDER
    report.mkdir(exist_ok=True)
    made = {comparison.study.folder.name: study.tables(comparison.study) for comparison in data.comparisons}
    errors = [study.errors(comparison.study) for comparison in data.comparisons]
    text = "\n\n".join(_text(data, comparison, made) for comparison in data.comparisons)
    environment = Environment(loader=PackageLoader("compactbio.reporting", "."), autoescape=True)
    page = environment.get_template("page.html.jinja").render(
        data=data,
        training={name: _training(data, name) for name in data.curves},
        comparisons=[
            {**_comparison(data, comparison, made), "has_errors": bool(some)}
            for comparison, some in zip(data.comparisons, errors, strict=True)
        ],
    )
    for stage, grids in made.items():
        _write_tables(report / "tables" / stage, grids)
    _write_errors(report, environment, data, {name: grids for some in errors for name, grids in some.items()})
    (report / "table.md").write_text(text + "\n", encoding="utf-8")
    (report / "index.html").write_text(page, encoding="utf-8")
    return text


Made = dict[str, dict[str, Grid]]
"""The tables of a study by name, by stage."""


def _write_tables(folder: Path, grids: dict[str, Grid]) -> None:
    """Every table in Markdown, LaTeX, CSV and HTML."""
    folder.mkdir(parents=True, exist_ok=True)
    formats = {".md": grid.markdown, ".tex": grid.latex, ".csv": grid.comma_separated, ".html": grid.html}
    for name, table in grids.items():
        for suffix, write in formats.items():
            (folder / f"{name}{suffix}").write_text(write(table) + "\n", encoding="utf-8")


Errors = dict[str, list[Grid]]
"""The tables of an error analysis by cell."""


def _write_errors(report: Path, environment: Environment, data: RunData, found: Errors) -> None:
    """`errors.html` and `errors.md`, where there is named entity recognition."""
    if not found:
        return
    pages = {name: [grid.html(table) for table in grids] for name, grids in found.items()}
    html = environment.get_template("errors.html.jinja").render(data=data, pages=pages)
    (report / "errors.html").write_text(html, encoding="utf-8")
    texts = [f"# {name}\n\n" + "\n\n".join(map(grid.markdown, grids)) for name, grids in found.items()]
    (report / "errors.md").write_text("\n\n".join(texts) + "\n", encoding="utf-8")


def _results(data: RunData, comparison: Comparison, made: Made) -> Grid:
    """Of benchmarks the study's table; else one with what the models cost beside their scores."""
    if comparison.study.is_of_benchmarks:
        return made[comparison.study.folder.name]["scores"]
    return tables.score_grid(data, comparison)


def _text(data: RunData, comparison: Comparison, made: Made) -> str:
    lines = [
        grid.markdown(_results(data, comparison, made)),
        "",
        *(f"- {line}" for line in tables.findings(comparison)),
    ]
    return "\n".join([*lines, *(f"- {line}" for line in _notes(comparison))])


def _notes(comparison: Comparison) -> list[str]:
    return tables.absences(comparison) if comparison.study.is_of_benchmarks else tables.notes(comparison)


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


def _comparison(data: RunData, comparison: Comparison, made: Made) -> dict[str, object]:
    costs = (
        ("parameters", "encoder parameters, millions", 1e-6),
        ("seconds_a_sentence", "milliseconds a sentence", 1e3),
    )
    return {
        "table": grid.html(_results(data, comparison, made)),
        # of benchmarks the table of significance says it
        "findings": [] if comparison.study.is_of_benchmarks else tables.findings(comparison),
        "notes": _notes(comparison),
        "grids": [grid.html(one) for name, one in made[comparison.study.folder.name].items() if name != "scores"]
        if comparison.study.is_of_benchmarks
        else [],
        "ranks": study.ranks(comparison.study) if comparison.study.is_of_benchmarks else None,
        "predictions": _predictions(comparison),
        "plots": [plots.score_against_cost(comparison, *cost) for cost in costs] if comparison.footprints else [],
    }


def _predictions(comparison: Comparison) -> dict[str, str]:
    """Cell to its predictions, seen from the report's folder."""
    folders = [comparison.study.cell_folder(cell) for cell in comparison.study.cells]
    return {
        folder.name: f"../{comparison.study.folder.name}/{folder.name}/{PREDICTIONS_FILE}"
        for folder in folders
        if (folder / PREDICTIONS_FILE).is_file()
    }
