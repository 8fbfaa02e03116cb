"""The papers' tables, as data files in `published/`, and retention: the student's score in percent of the teacher's."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

import yaml
from pydantic import Field

from compactbio.spec.base import Section


@dataclass(frozen=True)
class Published:
    """A number of a paper, and what it stands for."""

    value: float
    """In percent."""

    paper: str
    """For example `rohanian2023`."""

    model: str
    """As the paper writes it."""

    data_set: str
    metric: str
    """As `evaluation/score.py` calls it."""

    named: str
    """What the paper calls the metric."""

    protocol: str
    split: str
    citation: str
    """Paper and table; and page, where the file names one."""

    decimals: int
    """How many the paper prints."""


class DataSet(Section):
    """A data set, or a group of them that the paper averages over."""

    named: str
    """The paper's name for it."""

    metrics: dict[str, str]
    """Our name of each metric to the paper's."""

    protocol: str
    split: str


class Row(Section):
    """The scores of a table's models on one data set; null where the paper has none."""

    data_set: str
    metric: str
    scores: list[float | None]
    note: str = ""


class Table(Section):
    """A table of scores."""

    table: int
    page: int | None = None
    caption: str
    models: list[str]
    rows: list[Row]


class Paper(Section):
    """The tables of one paper."""

    key: str
    short: str
    citation: str
    decimals: int
    data_sets: dict[str, DataSet]
    sizes: dict[str, int] = Field(default_factory=dict)
    """Texts or questions in all, where the paper says so."""

    groups: dict[str, list[str]] = Field(default_factory=dict)
    """Data sets that the paper averages over."""

    tables: list[Table]


@cache
def papers() -> dict[str, Paper]:
    """Every paper by its key."""
    folder = files("compactbio.evaluation") / "published"
    found = [Paper.model_validate(yaml.safe_load(file.read_text("utf-8"))) for file in folder.iterdir()]
    return {paper.key: paper for paper in sorted(found, key=lambda paper: paper.key)}


def published(paper: str, model: str, data_set: str, metric: str) -> Published | None:
    """A model's published score, or None if the paper has none. Raises ValueError for an unknown paper.

    Case, spaces and hyphens in the model's name do not matter: `compact-biobert` is CompactBioBERT.
    """
    if paper not in papers():
        raise ValueError(f"there is no paper {paper!r}; there are {', '.join(papers())}")
    return _index(paper).get((_plain(model), data_set, metric))


def retention(student: float, teacher: float) -> float | None:
    """The student's score in percent of the teacher's; None where the teacher's is 0."""
    return 100 * student / teacher if teacher else None


def overall_retention(students: Sequence[float], teachers: Sequence[float]) -> float | None:
    """The mean score over data sets in percent of the teacher's mean (98.99 for CompactBioBERT over the NER sets of
    Rohanian et al. 2023, table 2; the mean of the eight retentions would be 98.96)."""
    if len(students) != len(teachers):
        raise ValueError(f"{len(students)} scores of the student and {len(teachers)} of the teacher")
    return retention(sum(students), sum(teachers))


@cache
def _index(key: str) -> dict[tuple[str, str, str], Published]:
    paper = papers()[key]
    numbers: dict[tuple[str, str, str], Published] = {}
    for table in paper.tables:
        citation = f"{paper.short}, table {table.table}" + (f", page {table.page}" if table.page else "")
        for row in table.rows:
            data_set = paper.data_sets[row.data_set]
            for model, score in zip(table.models, row.scores, strict=True):
                if score is not None:
                    number = Published(
                        value=score,
                        paper=key,
                        model=model,
                        data_set=row.data_set,
                        metric=row.metric,
                        named=data_set.metrics[row.metric],
                        protocol=data_set.protocol,
                        split=data_set.split,
                        citation=citation,
                        decimals=paper.decimals,
                    )
                    # Papers repeat baselines: the first table that has a number is cited.
                    numbers.setdefault((_plain(model), row.data_set, row.metric), number)
    return numbers


def _plain(model: str) -> str:
    return re.sub(r"[^a-z0-9.+]", "", model.lower())
