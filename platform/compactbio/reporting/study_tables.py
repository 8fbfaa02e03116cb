"""A study's results as tables: ours, the papers' beside them where that is fair, and what of the teacher is kept.

A column holds results of one setting: task, metric, protocol, split and subsets. A difference to a published number is
there only where protocol and split are the paper's and no subset stands in for a whole set; otherwise a dash and why.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, median, variance
from typing import Literal, NamedTuple

from compactbio.evaluation.published import Published, overall_retention, retention
from compactbio.reporting.grid import Grid

Summary = Literal["median", "mean"]
"""Over seeds: `median` with the range (Lewis et al. 2020), `mean` with the variance (Mehmood et al. 2020)."""

_LOWER_IS_BETTER = {"perplexity"}
"""Scores that are no share of anything: nothing is kept of them in percent."""

_MEANINGS = {
    "macro_f1": "macro_f1: the mean over classes that the test set or the predictions have, as scikit-learn has it; a "
    "class that neither has does not count. macro_f1_gold and macro_f1_all in result.json treat it otherwise.",
    "positive_f1": "positive_f1: the F1 of the positive class.",
    "strict": "strict: the first answer is right.",
    "lenient": "lenient: one of the first five answers is right.",
    "mrr": "mrr: mean reciprocal rank of the first right answer among five.",
    "overlap_f1": "overlap_f1: words that the first answer shares with the best fitting gold answer (SQuAD).",
    "perplexity": "perplexity: comparable only between models of one vocabulary.",
}
"""What a reader has to know of a score."""

_NO_NUMBER = "the papers have no number for this model"


@dataclass(frozen=True)
class Result:
    """One score of one model, fine-tuned once."""

    model: str
    task: str
    metric: str
    protocol: str
    split: str
    subsets: str
    """The subsets that stand in for whole sets; nothing where there are none."""

    seed: int
    fold: int | None
    """Where the task has folds: the test fold."""

    value: float
    """In percent."""

    comparable_to: Published | None
    """The model's number in a paper, if there is one. Whether it may stand beside ours is decided here."""


class Setting(NamedTuple):
    """Everything that has to be equal for two results to stand in one column."""

    task: str
    metric: str
    protocol: str
    split: str
    subsets: str


@dataclass(frozen=True)
class Cell:
    """The results of one model in one setting."""

    values: tuple[float, ...]
    published: Published | None
    why_not: str
    """Why no published number stands beside; nothing where one does."""

    def summary(self, summary: Summary) -> float:
        """Median or mean over seeds and folds."""
        return median(self.values) if summary == "median" else fmean(self.values)

    def spread(self, summary: Summary) -> str:
        """The range, or the sample variance."""
        if len(self.values) == 1:
            return "-"
        if summary == "median":
            return f"{min(self.values):.2f} to {max(self.values):.2f}"
        return f"{variance(self.values):.3f}"


Study = dict[Setting, dict[str, Cell]]
"""Settings and models in the order of the results."""


def gather(results: Sequence[Result]) -> Study:
    """Results by setting and model. Raises ValueError for a result that is there twice."""
    found: dict[Setting, dict[str, dict[tuple[int, int | None], Result]]] = {}
    for result in results:
        runs = found.setdefault(_setting(result), {}).setdefault(result.model, {})
        if (result.seed, result.fold) in runs:
            fold = "" if result.fold is None else f", fold {result.fold}"
            raise ValueError(
                f"{result.model} on {result.task} ({result.protocol}): seed {result.seed}{fold} is there twice"
            )
        runs[result.seed, result.fold] = result
    return {setting: {model: _cell(runs) for model, runs in models.items()} for setting, models in found.items()}


def score_table(study: Study, summary: Summary, teacher: str | None = None) -> Grid:
    """Models in rows, settings in columns; with a teacher the retention over all of them, mean over mean."""
    names = _column_names(study)
    models = list(dict.fromkeys(model for cells in study.values() for model in cells))
    rows = []
    for model in models:
        cells = [study[setting].get(model) for setting in study]
        row = [model, *("-" if cell is None else f"{cell.summary(summary):.2f}" for cell in cells)]
        rows.append((*row, *([_overall(study, model, teacher, summary)] if teacher else [])))
    notes = [f"{names[setting]}: {_describe(setting)}" for setting in study]
    notes.append(f"Scores in percent, {summary} over seeds and folds.")
    if teacher:
        notes.append(f"Kept: mean over the columns in percent of that of {teacher}, where both have every score.")
    return Grid(("model", *names.values(), *(["kept"] if teacher else [])), tuple(rows), notes=tuple(notes))


def setting_tables(study: Study, summary: Summary, teacher: str | None = None) -> list[Grid]:
    """A table a setting: ours, spread over seeds, published, difference, and retention of both."""
    return [_setting_table(setting, cells, summary, teacher) for setting, cells in study.items()]


def why_not_beside(result: Result) -> str:
    """Why the published number may not stand beside ours; nothing where it may."""
    paper = result.comparable_to
    if paper is None:
        return _NO_NUMBER
    if result.metric != paper.metric:
        return f"our metric is {result.metric}, the paper's {paper.metric}"
    if result.protocol != paper.protocol:
        return f"our protocol is {result.protocol}, the paper's {paper.protocol}"
    if result.split != paper.split:
        return f"our split is {result.split}, the paper's {paper.split}"
    return f"we use subsets: {result.subsets}" if result.subsets else ""


def _setting(result: Result) -> Setting:
    return Setting(result.task, result.metric, result.protocol, result.split, result.subsets)


def _cell(runs: dict[tuple[int, int | None], Result]) -> Cell:
    first = next(iter(runs.values()))
    if any(run.comparable_to != first.comparable_to for run in runs.values()):
        raise ValueError(f"{first.model} on {first.task}: its runs name different published numbers")
    why_not = why_not_beside(first)
    return Cell(tuple(run.value for run in runs.values()), None if why_not else first.comparable_to, why_not)


def _setting_table(setting: Setting, cells: dict[str, Cell], summary: Summary, teacher: str | None) -> Grid:
    header = ["model", "runs", summary, "range" if summary == "median" else "variance", "published", "difference"]
    header += ["kept", "kept, published"] if teacher else []
    marks: dict[str, str] = {}
    rows = []
    for model, cell in cells.items():
        ours = cell.summary(summary)
        row = [model, str(len(cell.values)), f"{ours:.2f}", cell.spread(summary), *_published(cell, ours, marks)]
        rows.append((*row, *(_kept(setting, cells, model, teacher, summary) if teacher else ())))
    sources = dict.fromkeys(cell.published.citation for cell in cells.values() if cell.published)
    unit = "Lower is better" if setting.metric in _LOWER_IS_BETTER else "Scores in percent"
    notes = [_describe(setting), f"{unit}, {summary} over seeds and folds."]
    notes += [_MEANINGS[setting.metric]] if setting.metric in _MEANINGS else []
    notes += [f"Published: {', '.join(sources)}."] if sources else []
    notes += [f"[{mark}] not compared: {reason}" for reason, mark in marks.items()]
    notes += [f"Kept: percent of the score of {teacher}."] if teacher else []
    return Grid(tuple(header), tuple(rows), caption=f"{setting.task}, {setting.metric}", notes=tuple(notes))


def _published(cell: Cell, ours: float, marks: dict[str, str]) -> tuple[str, str]:
    """The published number and the difference in points, or a dash with the mark of the reason."""
    if cell.published is None:
        mark = marks.setdefault(cell.why_not, chr(ord("a") + len(marks)))
        return f"- [{mark}]", "-"
    return f"{cell.published.value:.{cell.published.decimals}f}", f"{ours - cell.published.value:+.2f}"


def _kept(setting: Setting, cells: dict[str, Cell], model: str, teacher: str, summary: Summary) -> tuple[str, str]:
    """Retention of our scores, and of the published ones."""
    if teacher not in cells or setting.metric in _LOWER_IS_BETTER:
        return "-", "-"
    student, reference = cells[model], cells[teacher]
    ours = retention(student.summary(summary), reference.summary(summary))
    papers = None
    if student.published and reference.published and student.published.paper == reference.published.paper:
        papers = retention(student.published.value, reference.published.value)
    return _percent(ours), _percent(papers)


def _overall(study: Study, model: str, teacher: str, summary: Summary) -> str:
    if any(name not in cells for cells in study.values() for name in (model, teacher)):
        return "-"
    scores = [[cells[name].summary(summary) for cells in study.values()] for name in (model, teacher)]
    return _percent(overall_retention(*scores))


def _column_names(study: Study) -> dict[Setting, str]:
    """The task; with its metric and then its protocol and all where a task has several columns."""
    names = {}
    for setting in study:
        others = [other for other in study if other.task == setting.task and other != setting]
        name = setting.task
        if any(other.metric != setting.metric for other in others):
            name += f" {setting.metric}"
        if any(other[2:] != setting[2:] for other in others):
            name += f" ({_described(setting)})"
        names[setting] = name
    return names


def _describe(setting: Setting) -> str:
    return f"{setting.metric}; {_described(setting)}"


def _described(setting: Setting) -> str:
    return "; ".join(filter(None, setting[2:]))


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.2f} %"
