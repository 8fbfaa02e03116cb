"""What models cost, in processes of their own; and passes that a C++ compiler makes faster."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import transformers
from click.testing import CliRunner
from transformers import AutoModelForMaskedLM, BertConfig

from compactbio.data.batches import Batch
from compactbio.evaluation.footprint import Case, measure
from compactbio.launch.cli import main
from compactbio.launch.fork_server import interpreter
from compactbio.launch.measure import footprints
from compactbio.models.attention import make_observable
from compactbio.models.count import encoder_parameters
from compactbio.models.forward import Needs, forward
from compactbio.models.passes import compile_encoder, why_not_compile
from compactbio.spec.evaluation import Measuring

SIZES = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4, "intermediate_size": 64, "vocab_size": 99}


def test_memory_is_that_of_the_process_and_grows_with_the_batch(tiny_model: Path) -> None:
    rows = [[2, *[7] * 62, 3]]
    small = measure(Case(str(tiny_model), "torch", "cpu", 1, 2, [rows]), interpreter())
    large = measure(Case(str(tiny_model), "torch", "cpu", 1, 2, [rows * 2048]), interpreter())
    assert small.peak_mib is not None and large.peak_mib is not None and small.libraries_mib is not None
    assert small.libraries_mib > 100  # PyTorch alone is more
    hidden_mib = 2048 * 64 * 32 * 4 / 1024**2
    assert large.peak_mib - small.peak_mib > 8 * hidden_mib  # 16 here; what is left at the end is 5
    assert large.seconds > small.seconds > 0


def test_a_case_that_fails_says_why(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match=r"measuring .*gone\.onnx under onnx failed: .*gone\.onnx"):
        measure(Case(str(tmp_path / "gone.onnx"), "onnx", "cpu", 1, 1, [[[2, 3]]]))


def test_the_footprints_of_a_stage(tiny_model: Path) -> None:
    section = Measuring(sentences=2, rounds=1)
    [(name, found)] = footprints({"tiny": str(tiny_model)}, ["the heart was weak", "pain"], section, 8).items()
    assert name == "tiny"
    config = transformers.AutoConfig.from_pretrained(tiny_model)
    assert found["parameters"] == encoder_parameters(config)
    assert found["seconds_a_sentence"] > 0
    assert 0 < found["peak_mib"] < 200  # without the libraries


def test_the_command_measures_each_shape(tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    options = ["--batch", "1", "2", "--length", "8", "--runtime", "onnx", "onnx-int8", "--output", "out"]
    done = CliRunner().invoke(main, ["measure", f"tiny={tiny_model}", *options])
    assert done.exit_code == 0, done.output
    costs = json.loads((tmp_path / "out" / "costs.json").read_text())["costs"]
    assert [(cost["runtime"], cost["batch"], cost["length"]) for cost in costs] == [
        ("onnx", 1, 8),
        ("onnx", 2, 8),
        ("onnx-int8", 1, 8),
        ("onnx-int8", 2, 8),
    ]
    assert all(cost["seconds"] > 0 and cost["peak_mib"] > cost["libraries_mib"] > 10 for cost in costs)
    assert costs[0]["agreement"] == 1.0


@pytest.mark.skipif(why_not_compile() is not None, reason=str(why_not_compile()))
def test_a_compiled_encoder_says_the_same_for_batches_of_any_length() -> None:
    torch.manual_seed(1)
    real = torch.arange(9)[None, :] < torch.tensor([[9], [4], [6]])
    scored = real & (torch.rand(3, 9) < 0.5)
    batch = Batch(torch.randint(5, 99, (3, 9)), real, scored, torch.randint(5, 99, (int(scored.sum()),)))
    model = AutoModelForMaskedLM.from_config(BertConfig(**SIZES)).eval()
    make_observable(model)
    shorter = Batch(batch.input_ids[:, :7], batch.real[:, :7], batch.scored[:, :7], batch.labels)
    needs = Needs(logits="all", hidden=frozenset({1}))
    with torch.no_grad():
        plain = [forward(model, some, needs).logits for some in (batch, shorter)]
        names = set(model.state_dict())
        compile_encoder(model)
        compiled = [forward(model, some, needs).logits for some in (batch, shorter)]
    assert set(model.state_dict()) == names
    for expected, found in zip(plain, compiled, strict=True):
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
