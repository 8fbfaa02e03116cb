"""The results as tables and sentences."""

from __future__ import annotations

from compactbio.evaluation.significance import CONFIDENCE, RESAMPLES, Difference
from compactbio.reporting.collect import Comparison, RunData
from compactbio.reporting.grid import Grid


def score_grid(data: RunData, comparison: Comparison) -> Grid:
    """The result table: one row a model."""
    tasks = comparison.tasks
    has_footprints = bool(comparison.footprints)
    header = ["model", "held-out MLM loss"]
    for task in tasks:
        header += [f"{task} {comparison.score(comparison.section.reference, task).metric}", "retained"]
    header += ["encoder", "ms a sentence", "peak memory"] if has_footprints else []
    rows = []
    for model, source in comparison.section.models_.items():
        row = [model, _number(_held_out(data, source), ".3f")]
        for task in tasks:
            score = comparison.score(model, task)
            row += [f"{score.value:.1f} ({score.low:.1f} to {score.high:.1f})"]
            row += ["-" if score.retention is None else f"{score.retention:.1f} %"]
        if has_footprints:
            cost = comparison.footprints[model]
            row += [f"{cost['parameters'] / 1e6:.1f} M", f"{1000 * cost['seconds_a_sentence']:.1f}"]
            row += [_number(cost["peak_mib"], ".0f", " MiB")]
        rows.append(tuple(row))
    return Grid(tuple(header), tuple(rows))


def findings(comparison: Comparison) -> list[str]:
    """What the scores say of each model against the control, and what they cannot say."""
    control = comparison.section.control
    sentences = []
    for score in comparison.scores:
        if score.against_control is not None:
            assert control is not None
            sentences.append(f"{score.task}: {_verdict(score.model, control, score.against_control)}")
    return sentences


def notes(comparison: Comparison) -> list[str]:
    """What the numbers are: protocol, sizes of the sets, intervals."""
    lines = []
    for task in comparison.tasks:
        score = comparison.score(comparison.section.reference, task)
        cut = f", {score.num_cut} test texts cut to the length limit" if score.num_cut else ""
        lines.append(
            f"{task}: {score.setting}; {score.sizes['train']} training, {score.sizes['dev']} development and "
            f"{score.sizes['test']} test examples{cut}."
        )
        lines += [f"{task}: {note}." for note in score.notes]
    lines.append(_brackets(comparison))
    lines += absences(comparison)
    lines.append(f"Retained: percent of the score of {comparison.section.reference}.")
    if comparison.footprints:
        measuring = comparison.section.measuring
        assert measuring is not None
        lines.append(
            f"Encoder: parameters without pooler and heads. Time: one sentence at a time, {measuring.threads} CPU "
            f"thread(s), median of {measuring.rounds} rounds over {measuring.sentences} test sentences. "
            "Peak memory: growth of a fresh process from before the model is loaded."
        )
    return lines


def absences(comparison: Comparison) -> list[str]:
    """The tasks that were left out, and why."""
    return [f"{task} is left out: {' '.join(why.split())}" for task, why in comparison.absent.items()]


def _brackets(comparison: Comparison) -> str:
    num_cells = max(len(score.values) for score in comparison.scores)
    if num_cells > 1:
        return f"The {comparison.section.summary} of {num_cells} fine-tunings; in brackets the lowest and the highest."
    return (
        f"In brackets: {CONFIDENCE:.0%} bootstrap intervals over the test examples ({RESAMPLES} resamples); "
        "they do not cover the spread between seeds."
    )


def _verdict(model: str, control: str, difference: Difference) -> str:
    interval = difference.interval
    bounds = f"difference {interval.low:+.1f} to {interval.high:+.1f} points"
    if interval.low > 0:
        return f"{model} is better than {control} ({bounds})"
    if interval.high < 0:
        return f"{control}, trained without a teacher, is better than {model} ({bounds})"
    return f"{model} and {control} cannot be told apart ({bounds})"


def _held_out(data: RunData, source: str) -> float | None:
    stage = source.removeprefix("stage:")
    return data.held_out(stage) if stage in data.curves else None


def _number(value: float | None, spec: str, unit: str = "") -> str:
    return "-" if value is None else f"{value:{spec}}{unit}"
