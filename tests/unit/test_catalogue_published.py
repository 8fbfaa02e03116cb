"""The catalogue names columns that the published tables have, under the same words for protocol and split."""

from __future__ import annotations

import pytest

from compactbio.evaluation.published import papers
from compactbio.launch.evaluate import study
from compactbio.spec.benchmarks import catalogue
from compactbio.spec.job import Finetune
from compactbio.spec.load import load_values
from compactbio.spec.task_base import Benchmark

SETTINGS = {
    (paper.key, column): (data_set.protocol, data_set.split)
    for paper in papers().values()
    for column, data_set in paper.data_sets.items()
}


@pytest.mark.parametrize("name", list(catalogue()))
def test_the_published_columns_of_a_benchmark_exist(name: str) -> None:
    values = study(models=["a=x"], tasks=[name], seeds=1, preset="rohanian-re", reference=None)
    [section] = load_values(values, []).stages.values()
    assert isinstance(section, Finetune)
    for task in section.tasks.values():
        for paper in task.papers if isinstance(task, Benchmark) else ():
            assert (paper.source, paper.column) in SETTINGS
            protocol, split = SETTINGS[paper.source, paper.column]
            assert (paper.protocol, paper.split) == (protocol, split)
