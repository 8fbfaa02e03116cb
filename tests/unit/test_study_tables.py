"""A study's tables: what may stand in one column, and what may stand beside a published number."""

from __future__ import annotations

import csv
import io
from dataclasses import replace

import numpy as np
import pytest
from lxml import etree, html

from compactbio.evaluation.published import papers, published
from compactbio.evaluation.ranking import rank_models
from compactbio.reporting import grid
from compactbio.reporting.grid import Grid
from compactbio.reporting.ranks import rank_chart, rank_table
from compactbio.reporting.study_tables import Result, gather, score_table, setting_tables, why_not_beside

TEACHER, STUDENT = "BioBERT-v1.1", "CompactBioBERT"


def result(
    model: str, value: float, seed: int = 1, task: str = "NCBI-disease", protocol: str = "ner-subword"
) -> Result:
    return Result(
        model=model,
        task=task,
        metric="f1",
        protocol=protocol,
        split="train / dev / test",
        subsets="",
        seed=seed,
        fold=None,
        value=value,
        comparable_to=published("rohanian2023", model, task, "f1"),
    )


RESULTS = [
    *(result(TEACHER, value, seed) for seed, value in enumerate((88.0, 89.0, 91.0))),
    *(result(STUDENT, value, seed) for seed, value in enumerate((80.0, 80.1, 86.0))),
    result("control", 70.0),
]


def test_ours_stands_beside_the_papers_where_protocol_and_split_are_its() -> None:
    (table,) = setting_tables(gather(RESULTS), "median", TEACHER)
    assert table.header[:6] == ("model", "runs", "median", "range", "published", "difference")
    assert table.rows == (
        (TEACHER, "3", "89.00", "88.00 to 91.00", "88.62", "+0.38", "100.00 %", "100.00 %"),
        (STUDENT, "3", "80.10", "80.00 to 86.00", "88.67", "-8.57", "90.00 %", "100.06 %"),
        ("control", "1", "70.00", "-", "- [a]", "-", "78.65 %", "-"),
    )
    assert "[a] not compared: the papers have no number for this model" in table.notes
    assert "Published: Rohanian et al. 2023, table 2." in table.notes


def test_mean_and_variance_over_seeds() -> None:
    (table,) = setting_tables(gather(RESULTS), "mean")
    assert table.header == ("model", "runs", "mean", "variance", "published", "difference")
    assert table.rows[0][2:] == ("89.33", "2.333", "88.62", "+0.71")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"protocol": "ner-word"}, "our protocol is ner-word, the paper's ner-subword"),
        ({"split": "train+dev / test"}, "our split is train+dev / test, the paper's train / dev / test"),
        ({"subsets": "test at most 200 (subset seed 1)"}, "we use subsets: test at most 200 (subset seed 1)"),
        ({"metric": "accuracy"}, "our metric is accuracy, the paper's f1"),
        ({"comparable_to": None}, "the papers have no number for this model"),
    ],
)
def test_otherwise_a_dash_and_the_reason(change: dict[str, str], words: str) -> None:
    other = replace(RESULTS[0], **change)  # type: ignore[arg-type]
    assert why_not_beside(other) == words
    (table,) = setting_tables(gather([other]), "median")
    assert table.rows[0][4:] == ("- [a]", "-")
    assert table.notes[-1] == f"[a] not compared: {words}"
    assert not any("Rohanian" in note for note in table.notes)


def test_two_protocols_are_two_columns() -> None:
    word = [replace(one, protocol="ner-word", value=one.value - 5) for one in RESULTS]
    table = score_table(gather([*RESULTS, *word]), "median", TEACHER)
    assert table.header == (
        "model",
        "NCBI-disease (ner-subword; train / dev / test)",
        "NCBI-disease (ner-word; train / dev / test)",
        "kept",
    )
    assert table.rows[1] == (STUDENT, "80.10", "75.10", f"{100 * (80.1 + 75.1) / (89 + 84):.2f} %")
    assert len(setting_tables(gather([*RESULTS, *word]), "median")) == 2


def test_a_model_without_a_score_gets_a_dash_and_no_overall_retention() -> None:
    table = score_table(gather([*RESULTS, result(TEACHER, 86.0, task="BC5CDR-disease")]), "median", TEACHER)
    assert table.header == ("model", "NCBI-disease", "BC5CDR-disease", "kept")
    assert table.rows[1] == (STUDENT, "80.10", "-", "-")


def test_of_perplexity_nothing_is_kept_in_percent() -> None:
    (table,) = setting_tables(gather([replace(one, metric="perplexity") for one in RESULTS]), "median", TEACHER)
    assert [row[6:] for row in table.rows] == [("-", "-")] * 3
    assert table.notes[1] == "Lower is better, median over seeds and folds."


def test_macro_f1_says_what_becomes_of_classes_that_the_test_set_lacks() -> None:
    (table,) = setting_tables(gather([replace(one, metric="macro_f1") for one in RESULTS]), "median")
    assert "a class that neither has does not count" in " ".join(table.notes)


def test_results_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(ValueError, match="seed 0 is there twice"):
        gather([RESULTS[0], replace(RESULTS[0], value=1.0)])
    with pytest.raises(ValueError, match="fold 2 is there twice"):
        gather([replace(RESULTS[0], fold=2), replace(RESULTS[0], fold=2)])
    with pytest.raises(ValueError, match="different published numbers"):
        gather([RESULTS[0], replace(RESULTS[1], comparable_to=None)])


def test_folds_are_runs() -> None:
    study = gather([replace(RESULTS[0], fold=fold, value=80.0 + fold) for fold in range(1, 10)])
    assert setting_tables(study, "median")[0].rows[0][1:3] == ("9", "85.00")


AWKWARD = Grid(("name", "F1"), (("a & b_c <i>", "90 %"), ('say "x", y|z', "-")), caption="50 % #1", notes=("x < y_2",))


def test_markdown_is_aligned() -> None:
    lines = grid.markdown(AWKWARD).splitlines()
    assert lines[0] == "50 % #1"
    assert {len(line) for line in lines[2:6]} == {len(lines[2])}
    assert r"y\|z" in lines[5]
    assert lines[-1] == "- x < y_2"


def test_latex_is_escaped() -> None:
    text = grid.latex(AWKWARD)
    assert r"a \& b\_c <i> & 90 \% \\" in text
    assert r"\caption{50 \% \#1}" in text
    assert text.count(r"\begin") == text.count(r"\end") == 2
    assert r"\begin{tabular}{lr}" in text


def test_csv_reads_back() -> None:
    assert list(csv.reader(io.StringIO(grid.comma_separated(AWKWARD)))) == [
        list(AWKWARD.header),
        *map(list, AWKWARD.rows),
    ]


def test_html_reads_back() -> None:
    root = html.fragment_fromstring(grid.html(AWKWARD), create_parent=True)
    cells = [[cell.text_content() for cell in row] for row in root.iter("tr")]
    assert cells == [list(AWKWARD.header), *map(list, AWKWARD.rows)]
    assert [note.text for note in root.iter("li")] == ["x < y_2"]


def test_texts_begin_on_the_left() -> None:
    texts = replace(AWKWARD, is_text=True)
    assert r"\begin{tabular}{ll}" in grid.latex(texts)
    assert grid.html(texts).count('class="text"') == 6
    assert 'class="text"' not in grid.html(AWKWARD)


def test_ragged_rows_are_refused() -> None:
    with pytest.raises(ValueError, match="1 cells under a header of 2"):
        Grid(("a", "b"), (("x",),))


def test_the_rank_chart_of_mehmoods_tables_has_the_papers_arrows() -> None:
    """Section 5: students of the ensemble are significantly better than all others, and do not differ among each other;
    students of one teacher do not differ significantly from it."""
    one, other = papers()["mehmood2020"].tables[:2]
    models = [*one.models, *other.models[2:]]
    rows = [
        [*first.scores, *second.scores[2:]]
        for first, second in zip(one.rows, other.rows, strict=True)
        if first.data_set != "average"
    ]
    ranking = rank_models(models, np.array(rows, dtype=np.float64))
    ensemble, single = other.models[2:], one.models[2:]
    pairs = set(ranking.better(0.001))
    assert {(best, rest) for best in ensemble for rest in one.models} <= pairs
    assert not {(best, rest) for best in ensemble for rest in ensemble} & pairs
    assert not {pair for pair in pairs if "MTM" in pair and set(pair) & set(single)}
    assert ("student alpha 1", "STM") in pairs

    table = rank_table(ranking)
    assert [float(row[1]) for row in table.rows] == sorted(round(rank, 2) for rank in ranking.average_ranks)
    best, worst = table.header[2].removeprefix("p, "), table.header[-1].removeprefix("p, ")
    pair = ranking.pairwise[ranking.models.index(best), ranking.models.index(worst)]
    assert table.rows[0][-1] == table.rows[-1][2] == f"{pair:.4f}"

    root = etree.fromstring(rank_chart(ranking).encode())
    arrows = [element.get("id") for element in root.iter() if " better than " in (element.get("id") or "")]
    assert sorted(arrows) == sorted(f"{best} better than {worst}" for best, worst in pairs)
