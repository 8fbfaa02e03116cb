"""Hyper-parameters, presets, and what a study's spec says of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from compactbio.data.batches import Batch
from compactbio.launch.evaluate import study
from compactbio.objectives.tasks import ClassLoss, MultiLabelLoss, TeacherLoss, balanced_weights, read_logits
from compactbio.spec.base import SpecError
from compactbio.spec.job import Finetune, JobSpec
from compactbio.spec.load import from_raw, load, load_values
from compactbio.spec.tuning import PAPERS, PRESETS, Tuning

TASK = {"benchmark": "NCBI-disease"}


def job(tuning: dict[str, Any], **changes: Any) -> JobSpec:
    stage = {
        "kind": "finetune",
        "models": {"a": "./a", "b": "./b"},
        "reference": "a",
        "tasks": {"disease": TASK, "hoc": {"benchmark": "hoc-sentence"}},
        "tuning": tuning,
        **changes,
    }
    return from_raw({"name": "x", "stages": {"finetune": stage}})


def stage(spec: JobSpec) -> Finetune:
    found = spec.stages["finetune"]
    assert isinstance(found, Finetune)
    return found


def test_presets_are_the_papers_and_single_values_replace_theirs() -> None:
    section = stage(job({"preset": "rohanian-ner", "lr": 3e-5}))
    tuning = section.tuning_of(section.tasks["disease"])
    assert tuning is not None
    assert (tuning.lr, tuning.epochs, tuning.batch, tuning.schedule) == (3e-5, 5, 16, "cosine")
    assert (tuning.weight_decay, tuning.keep) == (0.01, "last")
    sequence = Tuning.model_validate({"preset": "lewis-sequence"})
    assert (sequence.lr, sequence.batch, sequence.epochs) == (1e-5, 32, 20)
    assert (sequence.evaluate_every_steps, sequence.keep) == (500, "best")
    for name in PRESETS:
        Tuning.model_validate({"preset": name})


def test_a_section_for_each_group_of_tasks() -> None:
    section = stage(job({"ner": {"lr": 1e-5}, "all": {"lr": 2e-5}}))
    found = [section.tuning_of(task) for task in section.tasks.values()]
    assert [tuning.lr for tuning in found if tuning] == [1e-5, 2e-5]


def test_a_resolved_spec_loads_as_itself() -> None:
    spec = job({"preset": "lewis-sequence", "epochs": 3})
    again = from_raw(json.loads(spec.canonical()))
    assert again.digest() == spec.digest()


@pytest.mark.parametrize(
    ("tuning", "changes", "words"),
    [
        ({"preset": "rohanian"}, {}, r"tuning.all: preset 'rohanian' is not known; known: rohanian-ner"),
        ({"lr": 1e-5, "epoch": 3}, {}, r"tuning.epoch: unknown key; did you mean 'epochs'\?"),
        ({"ner": {"lr": 1e-5}}, {}, r"tuning: has nothing for task 'hoc'; add `cls` or `all`"),
        ({"lr": 1e-5}, {"distillation": {"c": {"teacher": "a"}}}, r"distillation.c: 'c' is not one of its models"),
        ({"lr": 1e-5}, {"distillation": {"b": {"teacher": "b"}}}, r"'b' is fine-tuned against a teacher itself"),
        ({"lr": 1e-5}, {"seeds": []}, r"seeds"),
        (
            {"lr": 1e-5, "keep": "best"},
            {"tasks": {"disease": {**TASK, "training": "train+dev"}}},
            r"trains on its development set",
        ),
        ({"lr": 1e-5, "class_weights": "balanced"}, {"tasks": {"qa": {"benchmark": "covidqa"}}}, r"has no classes"),
    ],
)
def test_what_cannot_go_together_is_said(tuning: dict[str, Any], changes: dict[str, Any], words: str) -> None:
    with pytest.raises(SpecError, match=words):
        job(tuning, **changes)


def test_the_command_line_becomes_a_study() -> None:
    values = study(models=["a=./a", "/models/b"], tasks=["ner", "qa"], seeds=3, preset="lewis", reference="b")
    section = stage(load_values(values, ["stages.finetune.summary=median"]))
    assert section.models_ == {"a": "./a", "b": "/models/b"}
    assert (section.reference, section.seeds, section.summary) == ("b", (1, 2, 3), "median")
    assert {"NCBI-disease", "covidqa"} <= set(section.tasks)
    assert {group: tuning.preset for group, tuning in section.tuning.items()} == PAPERS["lewis"]
    single = study(models=["a=./a"], tasks=["ner"], seeds=1, preset="rohanian-qa", reference=None)
    assert stage(load_values(single, [])).tuning["all"].max_tokens == 384


@pytest.mark.parametrize("name", ["rohanian", "lewis", "small"])
def test_the_studies_load(root: Path, name: str) -> None:
    stages = load(root / "jobs" / "studies" / f"{name}.yaml").stages.values()
    [section] = [one for one in stages if isinstance(one, Finetune)]
    columns = {"rohanian": 11, "lewis": 16 + 9 + 9, "small": 8}
    assert len(section.tasks) == columns[name]


def batch(labels: torch.Tensor, *, scored: list[list[int]], real: list[list[int]]) -> Batch:
    ids = torch.zeros(len(real), len(real[0]), dtype=torch.long)
    return Batch(ids, torch.tensor(real).bool(), torch.tensor(scored).bool(), labels)


def test_logits_are_read_where_the_labels_are() -> None:
    logits = torch.arange(12.0).view(2, 3, 2)
    some = batch(torch.tensor([0, 1]), scored=[[0, 1, 0], [1, 0, 0]], real=[[1, 1, 1], [1, 1, 0]])
    assert read_logits(logits, some, "tokens").tolist() == [[2, 3], [6, 7]]
    spans = read_logits(logits, some, "spans")
    assert spans[:2].tolist() == [[0, 2, 4], [1, 3, 5]]
    assert spans[2:].softmax(-1)[:, 2].tolist() == [0, 0]  # padding is no answer


def test_balanced_classes_weigh_the_same() -> None:
    weights = balanced_weights(torch.tensor([6, 3, 0]))
    assert weights.tolist() == pytest.approx([9 / 12, 9 / 6, 0])
    loss = ClassLoss("classes", weights)
    some = batch(torch.tensor([0] * 6 + [1] * 3), scored=[[1]] * 9, real=[[1]] * 9)
    logits = torch.randn(9, 3, generator=torch.Generator().manual_seed(0))
    expected = torch.nn.functional.cross_entropy(logits, some.labels, weights)
    assert loss.total(logits, some) / loss.count(some) == pytest.approx(float(expected))


def test_distances_to_a_teacher() -> None:
    draw = torch.Generator().manual_seed(0)
    ours, theirs = torch.randn(4, 3, generator=draw), torch.randn(4, 3, generator=draw)
    some = batch(torch.zeros(4).long(), scored=[[1, 1], [1, 1]], real=[[1, 1], [1, 1]])
    mse = TeacherLoss("mse", 1.0, "tokens", 3)
    assert mse.total(ours, theirs) / mse.count(some) == pytest.approx(float(((ours - theirs) ** 2).mean()))
    kl = TeacherLoss("kl", 2.0, "tokens", 3)
    p, q = (theirs / 2).softmax(-1), (ours / 2).softmax(-1)
    expected = 4 * (p * (p.log() - q.log())).sum(-1).mean()
    assert kl.total(ours, theirs) / kl.count(some) == pytest.approx(float(expected), rel=1e-5)
    several = TeacherLoss("kl", 1.0, "texts", 3, multi_label=True)
    assert several.total(theirs, theirs) == pytest.approx(0, abs=1e-5)
    assert several.total(ours, theirs) > 0


def test_labels_that_few_texts_have_weigh_more() -> None:
    logits, labels = torch.zeros(2, 2), torch.tensor([[1.0, 0.0], [0.0, 0.0]])
    some = batch(labels, scored=[[1], [1]], real=[[1], [1]])
    plain, weighed = MultiLabelLoss(), MultiLabelLoss(torch.tensor([3.0, 1.0]))
    assert weighed.total(logits, some) - plain.total(logits, some) == pytest.approx(2 * 0.6931, abs=1e-3)
    assert plain.count(some) == 4
