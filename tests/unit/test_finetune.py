"""Cells: fine-tuning a tiny model on small tasks, and what is left in the cell's folder."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import TypeAdapter
from task_files import make_labels, make_ner, make_pairs, make_questions, make_relations
from transformers import AutoModelForQuestionAnswering, AutoTokenizer, pipeline

from compactbio.evaluation.score import value
from compactbio.launch.cells import refuse_other_data, run_tracked
from compactbio.spec.base import SpecError
from compactbio.spec.tasks import AnyTask
from compactbio.spec.tuning import TaskDistillation, Tuning
from compactbio.tracking.journal import series
from compactbio.training.finetune import run_cell
from compactbio.training.predict import load_predictor
from compactbio.training.requests import Cell, CellResult

TUNING = {"lr": 3e-3, "epochs": 4, "batch": 8, "max_tokens": 40, "stride": 8}

MakeCell = Callable[..., Cell]


@pytest.fixture
def cell(tiny_model: Path, tmp_path: Path) -> MakeCell:
    def make(task: dict[str, Any], tuning: dict[str, Any], name: str = "cell", **changes: Any) -> Cell:
        made = Cell(
            model_name="tiny",
            model=str(tiny_model),
            task_name="task",
            task=TypeAdapter(AnyTask).validate_json(json.dumps(task)),
            tuning=Tuning.model_validate({**TUNING, **tuning}),
            seed=1,
            tags={},
            threads=1,
            use_gpu=False,
            online=False,
            folder=tmp_path / name,
        )
        return dataclasses.replace(made, **changes)

    return make


def lines(cell: Cell) -> list[list[str]]:
    return [line.split("\t") for line in (cell.folder / "predictions.tsv").read_text().splitlines()]


def same(first: CellResult, second: CellResult) -> bool:
    return dataclasses.replace(first, seconds=0) == dataclasses.replace(second, seconds=0)


def test_entities_are_learnt_and_the_pipeline_says_the_same(cell: MakeCell, tmp_path: Path) -> None:
    one = cell(make_ner(tmp_path / "ner"), {})
    result = run_cell(one)
    assert result.scores["f1"] > 90
    assert result.protocol == "ner-word"
    assert value(np.load(one.folder / "counts.npy"), result.main) == pytest.approx(result.scores["f1"])
    table = lines(one)
    assert table[0] == ["token", "gold", "predicted"]
    sentences = (tmp_path / "ner" / "test.tsv").read_text().split("\n\n")
    assert [line[:2] for line in table[1:] if line != [""]] == [
        line.split("\t") for text in sentences for line in text.strip().splitlines()
    ]
    text = "the heart of a patient was enlarged and a foot with pain"
    theirs = pipeline("token-classification", str(one.folder / "model"), aggregation_strategy="first")(text)
    [ours] = load_predictor(str(one.folder / "model"), question=None, online=False)([text])
    assert [(found.label, found.text, found.start, found.end) for found in ours] == [
        (found["entity_group"], found["word"], found["start"], found["end"]) for found in theirs
    ]
    assert [found.probability for found in ours] == pytest.approx([float(found["score"]) for found in theirs], abs=1e-5)
    assert ours


def test_sub_words_are_scored_under_their_own_protocol(cell: MakeCell, tmp_path: Path) -> None:
    task = make_ner(tmp_path / "ner")
    for name in ("train", "dev", "test"):
        path = tmp_path / "ner" / f"{name}.tsv"
        path.write_text(path.read_text().replace("heart\tB", "heartx\tB"))
    one = cell({**task, "protocol": "subword"}, {"epochs": 1})
    assert run_cell(one).protocol == "ner-subword"
    pieces = [line for line in lines(one)[1:] if line[0] in ("heart", "##x", "x")]
    words = [line[0] for line in lines(one)[1:]]
    assert pieces and "heartx" not in words
    assert {line[1] for line in pieces} == {"B-Part"}
    by_words = [line.split("\t") for line in (one.folder / "words.tsv").read_text().splitlines()[1:] if line]
    gold = [line.split("\t") for line in (tmp_path / "ner" / "test.tsv").read_text().splitlines() if line]
    assert [line[:2] for line in by_words] == gold
    firsts = [line[2] for line in lines(one)[1:] if line != [""] and not line[0].startswith("##")]
    assert [line[2] for line in by_words] == firsts


def test_classes_are_learnt_and_the_pipeline_says_the_same(cell: MakeCell, tmp_path: Path) -> None:
    one = cell(make_relations(tmp_path / "re"), {"class_weights": "balanced", "epochs": 20})
    result = run_cell(one)
    assert result.scores["macro_f1"] > 90
    text = "the heart heart with pain"
    [theirs] = pipeline("text-classification", str(one.folder / "model"))([text])
    [[ours]] = load_predictor(str(one.folder / "model"), question=None, online=False)([text])
    assert (ours.label, ours.probability) == (theirs["label"], pytest.approx(theirs["score"], abs=1e-5))


def test_pairs_are_asked_for_with_their_first_text(cell: MakeCell, tmp_path: Path) -> None:
    one = cell(make_pairs(tmp_path / "nli"), {"epochs": 1})
    assert run_cell(one).main == "accuracy"
    folder = str(one.folder / "model")
    first, second = "the heart was weak", "the foot with pain"
    theirs = pipeline("text-classification", folder)({"text": first, "text_pair": second})
    [[ours]] = load_predictor(folder, question=first, online=False)([second])
    assert (ours.label, ours.probability) == (theirs["label"], pytest.approx(theirs["score"], abs=1e-5))
    with pytest.raises(SpecError, match="reads pairs of texts; give the first one with --question"):
        load_predictor(folder, question=None, online=False)


def test_labels_of_abstracts(cell: MakeCell, tmp_path: Path) -> None:
    one = cell(make_labels(tmp_path / "cls"), {"epochs": 10})
    result = run_cell(one)
    assert result.sizes["test"] == 48
    assert len(np.load(one.folder / "counts.npy")) == 24
    text = "the heart of a patient with pain in the foot"
    [theirs] = pipeline("text-classification", str(one.folder / "model"), top_k=None)([text])
    [ours] = load_predictor(str(one.folder / "model"), question=None, online=False)([text])
    assert {(found.label, round(found.probability, 4)) for found in ours} == {
        (found["label"], round(found["score"], 4)) for found in theirs if found["score"] >= 0.5
    }


def test_answers_are_learnt_and_plain_transformers_say_the_same(cell: MakeCell, tmp_path: Path) -> None:
    one = cell(make_questions(tmp_path / "qa"), {"epochs": 20})
    result = run_cell(one)
    assert result.main == "mrr"
    assert set(result.scores) == {"strict", "lenient", "mrr", "exact_match", "overlap_f1"}
    assert result.scores["strict"] > 50
    folder = str(one.folder / "model")
    question, text = "a part in pain", "the patient was weak and the foot early"
    [ours] = load_predictor(folder, question=question, online=False)([text])
    tokens = AutoTokenizer.from_pretrained(folder)(question, text, return_offsets_mapping=True, return_tensors="pt")
    offsets = tokens.pop("offset_mapping")[0].tolist()
    with torch.inference_mode():
        said = AutoModelForQuestionAnswering.from_pretrained(folder)(**tokens)
    sums = said.start_logits[0][:, None] + said.end_logits[0][None, :]
    allowed = torch.tensor([part == 1 for part in tokens.sequence_ids(0)])
    sums = sums.masked_fill(~(allowed[:, None] & allowed[None, :]), -1e9).triu()
    first, last = divmod(int(sums.masked_fill(sums == 0, -1e9).argmax()), sums.shape[1])
    assert (ours[0].start, ours[0].end) == (offsets[first][0], offsets[last][1])


def test_a_seed_gives_the_same_result_and_another_seed_another(cell: MakeCell, tmp_path: Path) -> None:
    task = make_relations(tmp_path / "re")
    first, again, other = (
        run_cell(cell(task, {"epochs": 1}, name, seed=seed)) for name, seed in (("a", 1), ("b", 1), ("c", 2))
    )
    assert same(first, again)
    weights = [(tmp_path / name / "model" / "model.safetensors").read_bytes() for name in "abc"]
    assert weights[0] == weights[1] != weights[2]
    assert other.model_digest == first.model_digest  # of the same pretrained weights


def test_a_cell_that_has_ended_is_not_run_again_and_one_that_was_cut_gives_the_same(
    cell: MakeCell, tmp_path: Path
) -> None:
    task = make_relations(tmp_path / "re")
    one, cut = (cell(task, {"epochs": 2}, name) for name in ("one", "cut"))
    first = run_tracked(one)
    written = {path: path.stat().st_mtime_ns for path in one.folder.rglob("*")}
    assert same(run_tracked(one), first)
    assert {path: path.stat().st_mtime_ns for path in one.folder.rglob("*")} == written
    events = (one.folder / "journal.jsonl").read_text().splitlines()
    cut.folder.mkdir()
    (cut.folder / "journal.jsonl").write_text("\n".join([*events[:4], events[4][:20]]))  # killed while it wrote
    assert same(run_tracked(cut), first)
    assert (cut.folder / "predictions.tsv").read_text() == (one.folder / "predictions.tsv").read_text()
    steps = [step for step, _ in series(cut.folder)["loss"]]
    assert steps == [step for step, _ in series(one.folder)["loss"]]


def test_the_best_weights_are_kept_and_patience_stops(cell: MakeCell, tmp_path: Path) -> None:
    task = make_ner(tmp_path / "ner")
    tuning = {"epochs": 30, "schedule": "constant", "evaluate_every_steps": 4, "keep": "best", "patience": 2}
    one = cell(task, tuning)
    result = run_cell(one)
    curve = series(one.folder)["dev/f1"]
    best = max(score for _, score in curve)
    assert result.num_steps < 30 * 48 // 8
    assert result.dev_score == best
    assert result.kept_step == next(step for step, score in curve if score == best)
    assert [step for step, _ in curve][-1] == result.num_steps == result.kept_step + 2 * 4


@pytest.mark.parametrize("score_dev", [True, False])
def test_the_development_set_is_scored_where_it_is_asked_for(cell: MakeCell, tmp_path: Path, score_dev: bool) -> None:
    one = cell(make_ner(tmp_path / "ner"), {"epochs": 2, "score_dev": score_dev})
    result = run_cell(one)
    curve = [(result.num_steps, result.dev_score)] if score_dev else []
    assert series(one.folder).get("dev/f1", []) == curve
    assert (result.dev_score is not None) == score_dev


def test_frozen_parts_stay(cell: MakeCell, tmp_path: Path, tiny_model: Path) -> None:
    from safetensors.torch import load_file

    one = cell(make_relations(tmp_path / "re"), {"epochs": 1, "freeze_layers": 2, "freeze_embeddings": True})
    run_cell(one)
    before, after = load_file(tiny_model / "model.safetensors"), load_file(one.folder / "model" / "model.safetensors")
    changed = {name for name in before.keys() & after.keys() if not torch.equal(before[name], after[name])}
    assert changed
    assert not [name for name in changed if "embeddings" in name or ".layer.0." in name or ".layer.1." in name]
    assert any(".layer.2." in name for name in changed)


@pytest.mark.parametrize("loss", ["mse", "kl"])
def test_a_student_follows_its_fine_tuned_teacher(cell: MakeCell, tmp_path: Path, loss: str) -> None:
    task = make_ner(tmp_path / "ner")
    teacher = cell(task, {}, "teacher")
    taught = run_cell(teacher)
    section = TaskDistillation.model_validate({"teacher": "teacher", "alpha": 0.0, "loss": loss, "temperature": 2.0})
    student = cell(task, {}, "student", distillation=section, teacher=teacher.folder)
    result = run_cell(student)
    curve = series(student.folder)["loss/teacher"]
    assert curve[-1][1] < 0.2 * curve[0][1]
    assert result.scores["f1"] > 0.9 * taught.scores["f1"]  # without having seen a label
    loss_curve = dict(series(student.folder)["loss"])
    assert all(loss_curve[step] == pytest.approx(distance) for step, distance in curve)


def test_masked_words_of_held_out_text(cell: MakeCell, tmp_path: Path, tiny_corpus: Path) -> None:
    from transformers import BertConfig, BertForMaskedLM

    text = tmp_path / "text.txt"
    text.write_text(tiny_corpus.read_text().replace("\n", "\n\n"))
    folder = tmp_path / "longer"
    one = dataclasses.replace(cell({"kind": "mlm", "file": str(text)}, {}), tuning=None)
    config = BertConfig.from_pretrained(one.model)
    config.max_position_embeddings = 128
    torch.manual_seed(0)
    BertForMaskedLM(config).save_pretrained(folder)
    AutoTokenizer.from_pretrained(one.model).save_pretrained(folder)
    with pytest.raises(SpecError, match="reads fewer than 128 tokens"):
        run_cell(one)
    result = run_cell(dataclasses.replace(one, model=str(folder)))
    assert 0 <= result.scores["accuracy"] <= result.scores["top5_accuracy"] <= 100
    assert result.scores["perplexity"] == pytest.approx(config.vocab_size, rel=0.3)  # random weights know nothing
    assert result.num_steps == 0


def test_what_cannot_be_tuned_is_said(cell: MakeCell, tmp_path: Path) -> None:
    task = make_relations(tmp_path / "re")
    with pytest.raises(SpecError, match=r"models.tiny: it reads 64 tokens at most, tuning.max_tokens is 512"):
        run_cell(cell(task, {"max_tokens": 512}))
    with pytest.raises(SpecError, match="freeze_layers is 9, the model has 4 layers"):
        run_cell(cell(task, {"freeze_layers": 9}))


def test_cells_that_have_ended_on_other_data_are_refused(cell: MakeCell, tmp_path: Path) -> None:
    one = cell(make_ner(tmp_path / "ner"), {"epochs": 1})
    done = run_tracked(one)
    refuse_other_data([one], "stages.study.tasks")
    assert same(run_tracked(one), done)  # read, not done again
    path = tmp_path / "ner" / "test.tsv"
    path.write_text(path.read_text() + "\na\tO\n")
    with pytest.raises(SpecError, match=r"stages.study.tasks.task: its data have changed since cell was done"):
        refuse_other_data([one], "stages.study.tasks")


def test_a_model_without_a_head_predicts_nothing(tiny_model: Path, tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="answers no questions"):
        load_predictor(str(tiny_model), question="why?", online=False)
    words = load_predictor(str(tiny_model), question=None, online=False)
    [found] = words(["the [MASK] was weak"])
    assert len(found) == 5
    with pytest.raises(SpecError, match=r"write \[MASK\]"):
        words(["the heart"])
    with pytest.raises(SpecError, match="no file or folder"):
        load_predictor(str(tmp_path / "gone"), question=None, online=False)
