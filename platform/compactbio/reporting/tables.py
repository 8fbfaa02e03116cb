"""The results as tables and sentences."""

from __future__ import annotations

from compactbio.evaluation import f1
from compactbio.reporting.collect import Comparison, RunData


def score_rows(data: RunData, comparison: Comparison) -> tuple[list[str], list[list[str]]]:
    """Header and rows of the result table: one row a model."""
    tasks = list(comparison.section.tasks)
    has_footprints = bool(comparison.footprints)
    header = ["model", "held-out MLM loss"]
    for task in tasks:
        header += [f"{task} F1", "retained"]
    header += ["encoder", "ms a sentence", "peak memory"] if has_footprints else []
    rows = []
    for model, source in comparison.section.models_.items():
        row = [model, _number(_held_out(data, source), ".3f")]
        for task in tasks:
            score = comparison.score(model, task)
            row += [f"{100 * score.value:.1f} ({100 * score.low:.1f} to {100 * score.high:.1f})"]
            row += ["-" if score.retention is None else f"{score.retention:.1f} %"]
        if has_footprints:
            cost = comparison.footprints[model]
            row += [f"{cost['parameters'] / 1e6:.1f} M", f"{1000 * cost['seconds_a_sentence']:.1f}"]
            row += [_number(cost["peak_mib"], ".0f", " MiB")]
        rows.append(row)
    return header, rows


def markdown(data: RunData, comparison: Comparison) -> str:
    """The result table in Markdown, aligned so that it can be read as it is."""
    return aligned(*score_rows(data, comparison))


def aligned(header: list[str], rows: list[list[str]]) -> str:
    """A table in Markdown that can be read as it is."""
    widths = [max(len(line[column]) for line in [header, *rows]) for column in range(len(header))]

    def line(cells: list[str]) -> str:
        return "| " + " | ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)) + " |"

    return "\n".join([line(header), "|" + "|".join("-" * (width + 2) for width in widths) + "|", *map(line, rows)])


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
    for task in comparison.section.tasks:
        score = comparison.score(comparison.section.reference, task)
        cut = f", {score.num_cut} test texts cut to the length limit" if score.num_cut else ""
        lines.append(
            f"{task}: {score.protocol}; {score.num_train} training and {score.num_test} test examples, one seed{cut}."
        )
    lines.append(
        f"In brackets: {f1.CONFIDENCE:.0%} bootstrap intervals over the test examples ({f1.RESAMPLES} resamples); "
        "they do not cover the spread between seeds."
    )
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


def _verdict(model: str, control: str, interval: f1.Interval) -> str:
    bounds = f"difference {100 * interval.low:+.1f} to {100 * interval.high:+.1f} points"
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
