"""The cells of a fine-tuning stage as a study: results beside the papers', significance, ranks, errors."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from compactbio.evaluation.errors import analyse
from compactbio.evaluation.published import Published, published
from compactbio.evaluation.ranking import Ranking, rank_models
from compactbio.evaluation.significance import CONFIDENCE, Difference, approximate_randomisation, paired_bootstrap
from compactbio.reporting import study_tables
from compactbio.reporting.cells import CellValues, Study
from compactbio.reporting.errors import error_tables
from compactbio.reporting.grid import Grid
from compactbio.reporting.ranks import rank_chart, rank_table
from compactbio.reporting.study_tables import Result
from compactbio.spec.benchmarks import column_name
from compactbio.spec.relation_tasks import RelationFoldTask
from compactbio.spec.task_base import Benchmark
from compactbio.spec.tasks import AnyTask
from compactbio.tracking.cell_files import MENTIONS_FILE, PREDICTIONS_FILE, WORDS_FILE

_ALSO = ("strict", "lenient", "mrr", "exact_match", "overlap_f1", "top5_accuracy", "perplexity")
"""Scores that have tables of their own beside the main one, where a task has them."""
_EXAMPLES = 5


def results(study: Study) -> list[Result]:
    """Every cell's scores that stand in tables, the main one first."""
    found = []
    for cell in study.cells:
        metrics = dict.fromkeys((cell["main"], *(name for name in _ALSO if name in cell["scores"])))
        found += [_result(cell, study.task(cell), metric) for metric in metrics]
    return found


def tables(study: Study) -> dict[str, Grid]:
    """The tables of a study by the name of their file: main scores, one for each score of each task, significance."""
    section = study.section
    mains = {column_name(cell["task_name"]): cell["main"] for cell in study.cells}
    gathered = study_tables.gather(results(study))
    main_scores = {setting: cells for setting, cells in gathered.items() if setting.metric == mains[setting.task]}
    score_table = study_tables.score_table(main_scores, section.summary, section.reference)
    made = {"scores": replace(score_table, notes=(*score_table.notes, *_notes(study)))}
    for setting, grid in zip(
        gathered, study_tables.setting_tables(gathered, section.summary, section.reference), strict=True
    ):
        several = sum(other.task == setting.task for other in gathered) > 1
        made[f"{setting.task}-{setting.metric}" if several else setting.task] = grid
    rows = tuple(_significance(study))
    if rows:
        made["significance"] = Grid(
            ("task", "models", "difference", f"{CONFIDENCE:.0%} interval", "p, bootstrap", "p, randomisation"),
            rows,
            caption="Differences between models on the same test examples",
            notes=(
                "Points of the main score, from the answers of all seeds together; the interval and the first p value "
                "are those of the paired bootstrap, the second of approximate randomisation. They are about the test "
                "examples, not about the spread between seeds.",
            ),
        )
    ranking = _ranking(study)
    if ranking is not None:
        made["ranks"] = rank_table(ranking)
    return made


def ranks(study: Study) -> str | None:
    """The chart of average ranks over the tasks, where there are ranks."""
    ranking = _ranking(study)
    return None if ranking is None else rank_chart(ranking)


def _ranking(study: Study) -> Ranking | None:
    """Of the models over the tasks, where there are enough of both, and any difference."""
    models = list(study.section.models_)
    scores = np.array([[_mean(study.of(model, column)) for model in models] for column in study.columns])
    if len(models) < 3 or len(scores) < 2 or (scores == scores[:, :1]).all():
        return None
    return rank_models(models, scores)


def errors(study: Study) -> dict[str, list[Grid]]:
    """The error analysis of each model on each NER task by the first seed; by cell.

    It is of words: under protocol `subword` the tag of a word's first sub-word stands for the word.
    """
    found = {}
    first_seed = study.cells[0]["seed"]
    for cell in study.cells:
        folder = study.cell_folder(cell)
        if cell["seed"] == first_seed and (folder / MENTIONS_FILE).is_file():
            by_words = next(path for path in (folder / WORDS_FILE, folder / PREDICTIONS_FILE) if path.is_file())
            tokens, gold, predicted = _read_tags(by_words)
            trained = frozenset((words, kind) for words, kind in json.loads((folder / MENTIONS_FILE).read_text()))
            numbers = [f"sentence {number}" for number in range(1, len(tokens) + 1)]
            analysis = analyse(numbers, tokens, gold, predicted, trained)
            found[folder.name] = error_tables(analysis, examples=_EXAMPLES)
    return found


def _result(cell: CellValues, task: AnyTask, metric: str) -> Result:
    return Result(
        model=cell["model_name"],
        task=column_name(cell["task_name"]),
        metric=metric,
        protocol=cell["protocol"],
        split=cell["split"],
        subsets=task.subsets,
        seed=cell["seed"],
        fold=task.fold if isinstance(task, RelationFoldTask) else None,
        value=cell["scores"][metric],
        comparable_to=_published(cell["model_name"], task, metric),
    )


def _published(model: str, task: AnyTask, metric: str) -> Published | None:
    """The model's number in the papers that have this data set, rather one that may stand beside ours."""
    if not isinstance(task, Benchmark):
        return None
    numbers = [published(paper.source, model, paper.column, metric) for paper in task.papers]
    known = [number for number in numbers if number is not None]
    fitting = [one for one in known if (one.protocol, one.split) == (task.protocol_name, task.split)]
    return next(iter(fitting or known), None)


def _notes(study: Study) -> Iterator[str]:
    """What readers of the tables should know of the data."""
    told = set()
    for cell in study.cells:
        for note in cell["notes"]:
            told.add((column_name(cell["task_name"]), note))
        if cell["num_cut"]:
            told.add((column_name(cell["task_name"]), f"{cell['num_cut']} test texts cut to the length limit"))
    yield from (f"{column}: {note}." for column, note in sorted(told))


def _significance(study: Study) -> Iterator[tuple[str, ...]]:
    """Every model against the reference and the control."""
    section = study.section
    for column in study.columns:
        for model in section.models_:
            for other in dict.fromkeys((section.reference, section.control)):
                if other is None or model in (other, section.reference) or (model, other) == (section.control, model):
                    continue
                yield _difference(study, column, model, other)


def _difference(study: Study, column: str, model: str, other: str) -> tuple[str, ...]:
    main = study.of(model, column)[0]["main"]
    counts = study.counts(model, column), study.counts(other, column)
    bootstrap: Difference = paired_bootstrap(*counts, main, study.seed)
    randomised = approximate_randomisation(*counts, main, study.seed)
    bounds = f"{bootstrap.interval.low:+.2f} to {bootstrap.interval.high:+.2f}"
    p_values = (f"{bootstrap.p_value:.4f}", f"{randomised.p_value:.4f}")
    return (column, f"{model} - {other}", f"{bootstrap.points:+.2f}", bounds, *p_values)


def _mean(cells: list[CellValues]) -> float:
    return float(np.mean([cell["scores"][cell["main"]] for cell in cells]))


def _read_tags(path: Path) -> tuple[list[list[str]], list[list[str]], list[list[str]]]:
    """Tokens, gold and predicted tags of each sentence."""
    blocks = path.read_text(encoding="utf-8").partition("\n")[2].split("\n\n")
    sentences = [[line.split("\t") for line in block.strip("\n").split("\n")] for block in blocks if block.strip("\n")]
    tokens, gold, predicted = ([[line[column] for line in lines] for lines in sentences] for column in range(3))
    return tokens, gold, predicted
