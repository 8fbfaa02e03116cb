from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import transformers
from click.testing import CliRunner
from transformers import AutoTokenizer

from compactbio.evaluation.agreement import top_agreement
from compactbio.evaluation.inference import export_onnx, is_masked_lm, load_model, open_onnx, open_torch
from compactbio.launch.cli import main
from compactbio.launch.measure import filled_batch
from compactbio.reporting import cost_page
from compactbio.reporting.costs import Cost, TaskScore, pareto_front, read_scores
from compactbio.spec.base import SpecError

SMALL = {
    "vocab_size": 60,
    "hidden_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": 80,
}
MOBILE = {**SMALL, "embedding_size": 16, "true_hidden_size": 16, "intra_bottleneck_size": 16}
KINDS = {
    "masked language model": lambda: transformers.BertForMaskedLM(transformers.BertConfig(**SMALL)),
    "tokens": lambda: transformers.ElectraForTokenClassification(transformers.ElectraConfig(**SMALL)),
    "texts": lambda: transformers.RobertaForSequenceClassification(transformers.RobertaConfig(**SMALL)),
    "questions": lambda: transformers.DistilBertForQuestionAnswering(
        transformers.DistilBertConfig(
            vocab_size=60, dim=32, hidden_dim=64, n_layers=1, n_heads=4, max_position_embeddings=80
        )
    ),
    "encoder": lambda: transformers.MobileBertModel(transformers.MobileBertConfig(**MOBILE), add_pooling_layer=False),
}


@pytest.mark.parametrize("kind", KINDS)
def test_onnx_runtime_gives_what_pytorch_gives_for_any_batch(kind: str, tmp_path: Path) -> None:
    transformers.set_seed(0)
    KINDS[kind]().save_pretrained(tmp_path / "model")
    model = load_model(str(tmp_path / "model"))
    files = export_onnx(model, tmp_path, ("torch", "onnx", "onnx-int8"))
    exact, quantised = (open_onnx(files[name], threads=1) for name in ("onnx", "onnx-int8"))
    batches = [np.random.default_rng(0).integers(5, 60, shape) for shape in ((1, 1), (1, 9), (3, 64))]
    for ids in batches:
        expected = open_torch(model)(ids).numpy()
        assert expected.shape[0] == len(ids)
        assert np.abs(exact(ids) - expected).max() < 1e-4
        assert 0 < np.abs(quantised(ids) - expected).max() < 0.5
    assert files["onnx-int8"].stat().st_size < 0.8 * files["onnx"].stat().st_size
    if kind == "encoder":
        assert top_agreement(model, quantised, batches) is None
    else:
        assert top_agreement(model, exact, batches) == 1.0


def test_agreement_counts_the_predictions_that_differ(tiny_model: Path) -> None:
    model = load_model(str(tiny_model))
    assert is_masked_lm(model)
    right = open_torch(model)
    ids = np.array([[2, 10, 11, 12, 3]])

    def half(batch: np.ndarray) -> np.ndarray:
        hidden = right(batch).numpy().copy()
        hidden[:, 1:] = hidden[:, :1]
        return hidden

    top = model(input_ids=right_ids(ids)).logits.argmax(-1)[0]
    assert top_agreement(model, half, [ids]) == (top == top[0]).double().mean().item() < 1.0


def right_ids(ids: np.ndarray) -> object:
    import torch

    return torch.from_numpy(ids)


def test_a_model_under_a_head_that_cannot_be_measured_is_refused(tmp_path: Path) -> None:
    transformers.BertForMultipleChoice(transformers.BertConfig(**SMALL)).save_pretrained(tmp_path)
    with pytest.raises(SpecError, match="BertForMultipleChoice"):
        load_model(str(tmp_path))


def test_batches_are_full_of_text(tiny_model: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    rows = filled_batch(tokenizer, ["the heart was weak", "with pain"], 3, 7)
    assert rows.shape == (3, 7)
    assert tokenizer.decode(rows[0]) == "[CLS] the heart was weak with [SEP]"
    assert tokenizer.decode(rows[1]) == "[CLS] pain the heart was weak [SEP]"


def test_the_front_is_what_nothing_beats() -> None:
    points = [(3.0, 80.0), (1.0, 70.0), (2.0, 69.0), (4.0, 80.0), (1.0, 60.0), (9.0, 81.0)]
    assert pareto_front(points) == [(1.0, 70.0), (3.0, 80.0), (9.0, 81.0)]


def test_scores_are_read_from_a_run_and_from_csv(tmp_path: Path) -> None:
    cell = {"model_name": "a", "task_name": "ner", "main": "f1", "scores": {"f1": 50.0}}
    (tmp_path / "results.json").write_text(json.dumps({"name": "x", "corpus": None, "finetune": {"cells": [cell]}}))
    assert read_scores(tmp_path / "results.json") == [TaskScore("a", "ner", 50.0)]
    (tmp_path / "scores.csv").write_text("model,score,task,runtime\r\na,50,ner,\r\na,48.5,ner,onnx-int8\r\n")
    assert read_scores(tmp_path / "scores.csv") == [
        TaskScore("a", "ner", 50.0),
        TaskScore("a", "ner", 48.5, ("onnx-int8",)),
    ]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("scores.csv", "name,score\na,1\n", "scores.csv:1: there is no column 'model'"),
        ("scores.csv", "model,score\na,1\nb,high\n", "scores.csv:3: 'high' is not a number"),
        ("results.json", "{", "is not the results.json of a run"),
        ("results.json", '{"name": "x"}', "has no scores of a fine-tuning stage"),
    ],
)
def test_scores_that_cannot_be_read_are_refused(tmp_path: Path, name: str, text: str, message: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(SpecError, match=message.replace("(", r"\(")):
        read_scores(tmp_path / name)


def test_the_page_draws_what_has_a_score(tmp_path: Path) -> None:
    costs = [
        Cost(model, runtime, "cpu", 1, 1, 64, 1_000_000, seconds, 300.0, 200.0, None if runtime == "torch" else 0.97)
        for model, seconds in (("large", 0.02), ("small", 0.01))
        for runtime in ("torch", "onnx-int8")
    ]
    scores = [TaskScore("large", "ner", 80.0), TaskScore("small", "ner", 75.0)]
    text = cost_page.write(tmp_path / "out", costs, scores, "1 thread of a machine")
    assert "| large | 1.0 M   | onnx-int8 | 1 x 64         | 20.0       | 50.0    | 300 MiB (200) | 97.0 %    |" in text
    page = (tmp_path / "out" / "index.html").read_text()
    assert page.count("<svg") == 2
    assert page.count("<!-- large, torch -->") == page.count("<!-- Pareto front -->") == 2
    assert "<!-- large, onnx-int8 -->" not in page  # the score is not that of int8
    assert "src=" not in page and 'href="http' not in page  # self-contained
    assert (tmp_path / "out" / "costs.csv").read_text().startswith("model,runtime,device,threads,batch,length,")
    assert len(json.loads((tmp_path / "out" / "costs.json").read_text())["costs"]) == 4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{empty}"], "no model of transformers can be loaded from"),
        (["{model}", "--runtime", "tflite"], "'tflite' is not one of"),
        (["{model}", "--device", "cuda"], "no GPU that PyTorch can use"),
        (["{model}", "--length", "64", "512"], "takes 64 tokens at most, not 512"),
        (["{model}", "--length", "8", "--scores", "{scores}"], "scores are there for other"),
        (["{model}", "{model}", "--length", "8"], "two models are called"),
        (["{model}", "--output", "{empty}"], "is there already"),
    ],
)
def test_bad_input_is_one_message_and_exit_code_2(
    tiny_model: Path, tmp_path: Path, arguments: list[str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "scores.csv").write_text("model,score\nother,50\n")
    places = {"model": tiny_model, "empty": tmp_path / "empty", "scores": tmp_path / "scores.csv"}
    done = CliRunner().invoke(main, ["measure", *(argument.format(**places) for argument in arguments)])
    assert done.exit_code == 2
    assert message in done.output
    assert "Traceback" not in done.output
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "scores.csv"]
