"""One self-contained HTML page about a sweep, and its table as Markdown."""

from __future__ import annotations

import json
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from jinja2 import Environment, PackageLoader

from compactbio.reporting import sweep_plots
from compactbio.reporting.collect import REPORT_FOLDER
from compactbio.reporting.grid import Grid, html, markdown
from compactbio.reporting.sweep_results import SweepResults, read_sweep, short_names

_FEWEST = 2  # finished trials for a plot
_ROWS_IN_THE_TABLE = 10


def write_sweep_report(folder: Path) -> str:
    """Writes `report/index.html` and `report/table.md` into the sweep's folder. Returns the table as text."""
    results = read_sweep(folder)
    report = folder / REPORT_FOLDER
    report.mkdir(exist_ok=True)
    findings = "\n".join(f"- {line}" for line in notes(results))
    text = f"{markdown(_table(results, _ROWS_IN_THE_TABLE))}\n\n{findings}"
    environment = Environment(loader=PackageLoader("compactbio.reporting", "."), autoescape=True)
    page = environment.get_template("sweep.html.jinja").render(
        results=results,
        notes=notes(results),
        table=html(_table(results, None)),
        stopped=html(_stopped(results)),
        plots=_plots(results),
    )
    (report / "table.md").write_text(text + "\n", encoding="utf-8")
    (report / "index.html").write_text(page, encoding="utf-8")
    return text


def notes(results: SweepResults) -> list[str]:
    """What came of the trials, in sentences."""
    states = [trial["state"] for trial in results.raw["trials"]]
    counts = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))
    lines = [f"{len(states)} trials: {counts}", _winner(results)]
    lines += [
        f"trial {trial['number']} failed: {trial['reason']}"
        for trial in results.raw["trials"]
        if trial["state"] == "failed"
    ]
    for objective, shares in zip(results.objectives, results.raw["importances"], strict=True):
        names = short_names(results.paths)
        told = ", ".join(f"{names[path]} {share:.0%}" for path, share in shares.items())
        if told:
            lines.append(f"{objective}: variance explained by {told} (fANOVA)")
    return lines + [_confirmed(results, index) for index in range(len(results.objectives)) if results.raw["confirmed"]]


def _winner(results: SweepResults) -> str:
    """The best trial and its values beside the base's score, or the front."""
    if not results.best:
        return "no trial came to its end"
    if len(results.objectives) > 1:
        return f"Pareto front: trials {', '.join(str(trial['number']) for trial in results.best)}"
    [best], names = results.best, short_names(results.paths)
    told = ", ".join(f"{names[path]} {_number(results.value(best, path))}" for path in results.paths)
    base = [trial for trial in results.finished if _is_base(results, trial) and trial != best]
    beside = f" (the base's own values: {base[0]['scores'][0]:.5g})" if base else ""
    return f"best: trial {best['number']} with {results.objectives[0]} {best['scores'][0]:.5g}{beside}: {told}"


def _is_base(results: SweepResults, trial: dict[str, Any]) -> bool:
    return all(results.value(trial, path) == results.raw["base"][path] for path in results.paths)


def _confirmed(results: SweepResults, objective: int) -> str:
    told = []
    for who, scores in results.raw["confirmed"].items():
        values = [of_seed[objective] for of_seed in scores]
        spread = f" ± {stdev(values):.2g}" if len(values) > 1 else ""
        seeds = "1 seed" if len(values) == 1 else f"{len(values)} seeds"
        told.append(f"{who} {mean(values):.4g}{spread} ({seeds})" if values else f"{who}: all failed")
    return f"{results.objectives[objective]} on fresh seeds: {', '.join(told)}"


def _table(results: SweepResults, most: int | None) -> Grid:
    """A row for each finished trial, the best first, the base's own marked."""
    names = short_names(results.paths)
    sign = 1 if results.raw["directions"][0] == "minimize" else -1
    ordered = sorted(results.finished, key=lambda trial: sign * trial["scores"][0])
    rows = []
    for trial in ordered[:most]:
        mark = (
            " (base)"
            if _is_base(results, trial)
            else " (front)"
            if len(results.objectives) > 1 and trial in results.best
            else ""
        )
        values = [_number(results.value(trial, path)) for path in results.paths]
        rows.append((f"{trial['number']}{mark}", *(f"{score:.5g}" for score in trial["scores"]), *values))
    return Grid(("trial", *results.objectives, *names.values()), tuple(rows))


def _stopped(results: SweepResults) -> Grid:
    """A row for each trial that was stopped early: how far it came, and what it had reached there."""
    names = short_names(results.paths)
    rows = []
    for trial in results.raw["trials"]:
        if trial["state"] == "pruned" and trial["curve"]:
            last = max(trial["curve"], key=int)
            values = [_number(results.value(trial, path)) for path in results.paths]
            rows.append((str(trial["number"]), f"{int(last):,}", f"{trial['curve'][last]:.5g}", *values))
    return Grid(("trial", "stopped at", results.objectives[0], *names.values()), tuple(rows))


def _plots(results: SweepResults) -> list[tuple[str, str]]:
    if len(results.finished) < _FEWEST:
        return []
    plots = []
    for index, objective in enumerate(results.objectives):
        plots.append((f"History: {objective}", sweep_plots.history(results, index)))
        if results.raw["importances"][index]:
            plots.append((f"Importance for {objective}", sweep_plots.importance(results, index)))
        plots.append((f"Slices: {objective}", sweep_plots.slices(results, index)))
        plots.append((f"Parallel coordinates: {objective} (the best are dark)", sweep_plots.parallel(results, index)))
    if len(results.objectives) > 1:
        plots.insert(0, ("Pareto front", sweep_plots.front(results)))
    return plots


def _number(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else value if isinstance(value, str) else json.dumps(value)
