"""The catalogue of benchmarks, and what tasks say of themselves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from compactbio.spec.base import SpecError
from compactbio.spec.benchmarks import benchmark_tasks, catalogue, column_name, expand_tasks, groups
from compactbio.spec.entity_tasks import EntityTask
from compactbio.spec.load import from_raw, load
from compactbio.spec.relation_tasks import RelationFoldTask
from compactbio.spec.task_base import Benchmark

STUDY: dict[str, Any] = {
    "name": "study",
    "stages": {
        "score": {
            "kind": "finetune",
            "models": {"small": "some/model"},
            "reference": "small",
            "tasks": ["chemprot-13"],
            "tuning": {"lr": 1e-4},
        }
    },
    "teacher": "some/model",
}


def study(tasks: object) -> dict[str, Any]:
    return {**STUDY, "stages": {"score": {**STUDY["stages"]["score"], "tasks": tasks}}}


def tasks_of(tasks: object) -> dict[str, Any]:
    return dict(from_raw(study(tasks)).stages["score"].tasks)  # type: ignore[union-attr]


def test_every_benchmark_is_a_task_and_in_a_group() -> None:
    assert set(groups()) == {"ner", "re", "cls", "qa", "mlm"}
    assert sum(len(names) for names in groups().values()) == len(catalogue())
    assert {column_name(name) for name in benchmark_tasks(groups())} == set(catalogue())


def test_table_1_is_the_sum_of_the_sets() -> None:
    for name, task in benchmark_tasks(["ner", "chemprot-13"]).items():
        assert isinstance(task, Benchmark)
        sizes = task.sizes
        if sizes is not None and sizes.total is not None:
            assert sizes.total == (sizes.train or 0) + (sizes.dev or 0) + (sizes.test or 0), name


def test_a_list_names_benchmarks_and_groups_each_once() -> None:
    tasks = tasks_of(["cls", "hoc-sentence", "LINNAEUS"])
    assert list(tasks) == ["hoc-sentence", "hoc-abstract", "mednli", "LINNAEUS"]


def test_a_benchmark_with_changes_stands_beside_a_task_in_full() -> None:
    own = {"kind": "ner", "train": "a.tsv", "test": "b.tsv"}
    tasks = tasks_of({"quick": {"benchmark": "BC2GM", "max_train": 100, "protocol": "subword"}, "own": own})
    assert tasks_of({"a": {"benchmark": "hoc-sentence", "unit": "abstract"}})["a"].unit == "abstract"
    assert tasks["quick"].setting == "ner-subword; train / dev / test; train at most 100 (subset seed 1)"
    assert tasks["quick"].types == ("GENE",)
    assert tasks["own"].setting == "ner-word; train / test"


def test_folds_become_tasks_of_one_column() -> None:
    tasks = tasks_of(["gad-folds10"])
    assert {name: task.fold for name, task in tasks.items()} == {f"gad-folds10-fold{n}": n for n in range(2, 11)}
    assert {column_name(name) for name in tasks} == {"gad-folds10"}
    assert len({task.setting for task in tasks.values()}) == 1
    one = tasks_of({"one": {"benchmark": "gad-folds10", "fold": 3}})["one"]
    assert isinstance(one, RelationFoldTask)
    assert one.fold == 3


@pytest.mark.parametrize(
    ("tasks", "message"),
    [
        (["linaeus"], "stages.score.tasks: there is no benchmark 'linaeus'; did you mean 'LINNAEUS'?"),
        (["re", "xyzzy"], "stages.score.tasks: there is no benchmark 'xyzzy'; known: ner, re, cls, qa, mlm, AnatEM"),
        ({"a": {"benchmark": "hoc"}}, "stages.score.tasks.a.benchmark: there is no benchmark 'hoc'"),
        ({"a": {"benchmark": "hoc-abstract", "units": "x"}}, "stages.score.tasks.a.units: unknown key; did you mean"),
        ({"a": {"benchmark": "mlm", "max_test": 0}}, "stages.score.tasks.a.max_test: Input should be greater"),
        ({"a": {"kind": "ner", "train": "a", "test": "b", "training": "train+dev"}}, "needs a `dev` file"),
    ],
)
def test_wrong_names_and_keys_are_told(tasks: object, message: str) -> None:
    with pytest.raises(SpecError) as caught:
        from_raw(study(tasks))
    assert message in str(caught.value)


def test_an_unknown_benchmark_in_a_file_has_its_line(tmp_path: Path) -> None:
    path = tmp_path / "study.yaml"
    path.write_text(
        "name: study\nteacher: some/model\nstages:\n  score:\n    kind: finetune\n    models: {small: some/model}\n"
        "    reference: small\n    tuning: {lr: 1e-4}\n    tasks:\n      a:\n        benchmark: BC2GN\n"
    )
    with pytest.raises(SpecError, match=r"study.yaml:11: .*a.benchmark: .*did you mean 'BC2GM'"):
        load(path)


def test_what_is_no_tasks_section_is_left_to_the_spec() -> None:
    assert expand_tasks(3, "tasks") == 3
    assert expand_tasks(["ner", 3], "tasks") == ["ner", 3]


def test_shares_that_differ_make_settings_that_differ() -> None:
    task = benchmark_tasks(["mlm"])["mlm"]
    settings = [task.model_copy(update={"held_out": share}).setting for share in (0.05, 0.004, 0.001, 0.29)]
    assert settings[0] == "mlm; 5% of the documents"
    assert settings[1:3] == ["mlm; 0.4% of the documents", "mlm; 0.1% of the documents"]
    assert settings[3] == "mlm; 29% of the documents"


def test_changes_to_a_benchmark_change_its_setting() -> None:
    """What a paper's column is compared with (`reporting/study_tables.why_not_beside`)."""
    task = benchmark_tasks(["NCBI-disease"])["NCBI-disease"]
    assert isinstance(task, EntityTask)
    assert task.setting == "ner-word; train / dev / test"
    subword = task.model_copy(update={"protocol": "subword"})
    assert subword.setting == "ner-subword; train / dev / test"
    joined = task.model_copy(update={"training": "train+dev"})
    assert joined.setting == "ner-word; train+dev / test"
    cut = task.model_copy(update={"max_test": 50})
    assert cut.setting == "ner-word; train / dev / test; test at most 50 (subset seed 1)"
