"""The papers' tables: what they say of themselves has to come out of them again."""

from __future__ import annotations

from statistics import fmean

import pytest

from compactbio.evaluation.published import Paper, overall_retention, papers, published, retention

NER = [
    "NCBI-disease",
    "BC5CDR-disease",
    "BC5CDR-chem",
    "BC4CHEMD",
    "BC2GM",
    "JNLPBA",
    "LINNAEUS",
    "Species-800",
]
REST = [
    ("GAD", "positive_f1"),
    ("ChemProt", "macro_f1"),
    *(("BioASQ-7b", name) for name in ("strict", "lenient", "mrr")),
]


def score(paper: str, model: str, data_set: str, metric: str) -> float:
    found = published(paper, model, data_set, metric)
    assert found is not None, (paper, model, data_set, metric)
    return found.value


def kept(model: str, cells: list[tuple[str, str]]) -> float | None:
    """The model's mean score in percent of BioBERT-v1.1's."""
    students = [score("rohanian2023", model, *cell) for cell in cells]
    return overall_retention(students, [score("rohanian2023", "BioBERT-v1.1", *cell) for cell in cells])


def test_compactbiobert_keeps_98_99_percent_of_biobert_over_ner() -> None:
    ner = [(data_set, "f1") for data_set in NER]
    assert kept("CompactBioBERT", ner) == pytest.approx(98.99, abs=0.005)
    assert kept("CompactBioBERT", [*ner, *REST]) == pytest.approx(98.01, abs=0.005)


def test_a_number_comes_with_what_it_stands_for() -> None:
    found = published("rohanian2023", "compact-biobert", "NCBI-disease", "f1")
    assert found is not None
    assert (found.value, found.model, found.citation) == (88.67, "CompactBioBERT", "Rohanian et al. 2023, table 2")
    assert (found.protocol, found.split, found.named) == ("ner-subword", "train / dev / test", "F1")
    assert published("rohanian2023", "CompactBioBERT", "NCBI-disease", "accuracy") is None
    assert published("rohanian2023", "CompactBioBERT", "AnatEM", "f1") is None
    assert published("mehmood2020", "Wang et al.", "average", "variance") is None  # not in tables 3 and 4
    with pytest.raises(ValueError, match="there is no paper 'smith2020'; there are lewis2020, mehmood2020"):
        published("smith2020", "BERT", "NCBI-disease", "f1")


def test_retention_of_a_teacher_without_a_score_is_none() -> None:
    assert retention(45.0, 90.0) == 50.0
    assert retention(45.0, 0.0) is None
    with pytest.raises(ValueError, match="1 scores of the student and 2 of the teacher"):
        overall_retention([1.0], [1.0, 2.0])


@pytest.mark.parametrize("paper", papers().values(), ids=lambda paper: paper.key)
def test_rows_are_whole_and_known(paper: Paper) -> None:
    expected = {"rohanian2023": [2, 3, 4, 5, 6, 7], "lewis2020": [2, 3, 5, 6], "mehmood2020": [1, 2, 3, 4]}
    assert [table.table for table in paper.tables] == expected[paper.key]
    used = {(row.data_set, row.metric) for table in paper.tables for row in table.rows}
    assert used == {(name, metric) for name, one in paper.data_sets.items() for metric in one.metrics}
    assert all(len(row.scores) == len(table.models) for table in paper.tables for row in table.rows)
    numbers = [number for table in paper.tables for row in table.rows for number in row.scores if number is not None]
    assert all(round(number, paper.decimals) == number < 100 for number in numbers)


@pytest.mark.parametrize("paper", papers().values(), ids=lambda paper: paper.key)
def test_tables_that_repeat_a_number_agree(paper: Paper) -> None:
    # Lewis et al. print 81.7 for the mean over classification in table 2 (which the scores above it give), then 81.8.
    misprints = [(table, "classification", "ours-base") for table in (3, 6)]
    for table in paper.tables:
        for row in table.rows:
            for model, number in zip(table.models, row.scores, strict=True):
                if number is not None and (table.table, row.data_set, model) not in misprints:
                    assert score(paper.key, model, row.data_set, row.metric) == number


def test_lewis_means_are_those_of_their_groups() -> None:
    """Means were taken of unrounded scores, so the last digit may differ."""
    paper = papers()["lewis2020"]
    table = paper.tables[0]
    groups = {**paper.groups, "all": [row.data_set for row in table.rows if row.metric != "mean"]}
    assert len(groups["all"]) == 18
    for model in table.models:
        for group, members in groups.items():
            mean = fmean(score("lewis2020", model, name, next(iter(paper.data_sets[name].metrics))) for name in members)
            assert mean == pytest.approx(score("lewis2020", model, group, "mean"), abs=0.11), (model, group)


def test_mehmood_averages_are_those_of_the_15_data_sets() -> None:
    paper = papers()["mehmood2020"]
    for table in paper.tables:
        for model in table.models:
            mean = fmean(score("mehmood2020", model, name, "f1") for name in paper.data_sets if name != "average")
            assert mean == pytest.approx(score("mehmood2020", model, "average", "f1"), abs=0.011), (table.table, model)
