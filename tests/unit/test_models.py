from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from transformers import (
    AutoConfig,
    AutoModelForMaskedLM,
    BertConfig,
    DistilBertConfig,
    ElectraConfig,
    MobileBertConfig,
    PreTrainedConfig,
    RobertaConfig,
)

from compactbio.data.batches import Batch
from compactbio.models.attention import make_observable
from compactbio.models.forward import Needs, forward
from compactbio.models.load import load_masked_lm, load_shape
from compactbio.models.passes import checkpoint_activations
from compactbio.models.student import build_student, check_fit, random_student, student_config
from compactbio.objectives.objective import Objective
from compactbio.spec.base import SpecError
from compactbio.spec.job import Distill, Pretrain
from compactbio.training.learner import StudentLearner, Teacher
from compactbio.training.operations import forward_flops

SIZES = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 64, "vocab_size": 99}
CONFIGS = [
    BertConfig(**SIZES),
    RobertaConfig(**SIZES),
    ElectraConfig(**SIZES, embedding_size=16),
    DistilBertConfig(dim=32, n_layers=3, n_heads=4, hidden_dim=64, vocab_size=99),
    MobileBertConfig(**SIZES, embedding_size=16, intra_bottleneck_size=32, true_hidden_size=32),
]


@pytest.fixture
def batch() -> Batch:
    torch.manual_seed(0)
    real = torch.arange(9)[None, :] < torch.tensor([[9], [4], [6]])
    scored = real & (torch.rand(3, 9) < 0.5)
    return Batch(torch.randint(5, 99, (3, 9)), real, scored, torch.randint(5, 99, (int(scored.sum()),)))


def test_a_student_in_the_shape_of_a_published_model_needs_no_download() -> None:
    stage = Pretrain.model_validate(
        {
            "kind": "pretrain",
            "student": {"start": "random", "model": "google/mobilebert-uncased", "num_hidden_layers": 2},
            "training": {"steps": 1, "global_batch": 2, "lr": 1e-4},
        }
    )
    assert stage.student.model is not None
    shape = load_shape(stage.student.model, "student.model", online=False)
    student = random_student(student_config(stage, shape, "stages.a", 99), seed=1)
    assert (student.config.num_hidden_layers, student.config.intra_bottleneck_size) == (2, 128)
    with pytest.raises(SpecError, match="set online: true"):
        load_shape("some/unknown-model", "student.model", online=False)


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.model_type)
def test_forward_agrees_with_the_model_itself(config: PreTrainedConfig, batch: Batch) -> None:
    torch.manual_seed(1)
    model = AutoModelForMaskedLM.from_config(config, attn_implementation="eager").eval()
    with torch.no_grad():
        theirs = model(
            input_ids=batch.input_ids,
            attention_mask=batch.real.long(),
            output_hidden_states=True,
            output_attentions=True,
        )
        make_observable(model)
        ours = forward(model, batch, Needs(logits="masked", hidden=frozenset({0, 2}), attention=frozenset({0, 2})))
    assert ours.logits is not None
    torch.testing.assert_close(ours.logits, theirs.logits[batch.scored], atol=1e-4, rtol=1e-4)
    real = batch.real
    torch.testing.assert_close(ours.hidden[2][real], theirs.hidden_states[2][real], atol=1e-4, rtol=1e-4)
    assert set(ours.attention) == {0, 2}
    for layer in (0, 2):
        rows = ours.attention[layer].scores().softmax(-1).transpose(1, 2)[real]
        torch.testing.assert_close(rows, theirs.attentions[layer].transpose(1, 2)[real], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.model_type)
@pytest.mark.parametrize("observed", [frozenset(), frozenset({1})], ids=["nothing observed", "a layer observed"])
def test_activations_computed_again_give_the_same_gradients_and_take_less_memory(
    config: PreTrainedConfig, observed: frozenset[int], batch: Batch
) -> None:
    def passes(checkpointed: bool) -> tuple[list[torch.Tensor], int]:
        torch.manual_seed(1)
        model = AutoModelForMaskedLM.from_config(config).train()
        make_observable(model)
        if checkpointed:
            checkpoint_activations(model, kept=observed)
        kept = 0

        def keep(tensor: torch.Tensor) -> torch.Tensor:
            nonlocal kept
            kept += tensor.numel()
            return tensor

        torch.manual_seed(2)  # dropout is on
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            out = forward(model, batch, Needs(logits="masked", hidden=frozenset({1}), attention=observed))
        assert out.logits is not None
        seen = [out.logits, out.hidden[1], *(some.scores().clamp_min(-1e3) for some in out.attention.values())]
        sum(some.square().mean() for some in seen).backward()
        return [parameter.grad for parameter in model.parameters() if parameter.grad is not None], kept

    plain, everything = passes(False)
    again, less = passes(True)
    assert len(plain) == len(again)
    for expected, found in zip(plain, again, strict=True):
        torch.testing.assert_close(found, expected)
    assert less < 0.75 * everything


@pytest.mark.parametrize("config", [CONFIGS[0], CONFIGS[3]], ids=lambda config: config.model_type)
def test_operations_are_those_that_torch_counts(config: PreTrainedConfig) -> None:
    from torch.utils.flop_counter import FlopCounterMode

    ids = torch.randint(5, 99, (2, 7))
    everything = torch.ones_like(ids, dtype=torch.bool)
    batch = Batch(ids, everything, everything, ids.flatten())  # nothing padded and everything scored: the plain pass
    model = AutoModelForMaskedLM.from_config(config, attn_implementation="eager").eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counted:
        model(input_ids=ids)
    assert forward_flops(config, batch) == pytest.approx(counted.get_total_flops(), rel=1e-6)


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.model_type)
def test_no_map_of_attention_with_dropout_is_kept_for_the_backward_pass(config: PreTrainedConfig, batch: Batch) -> None:
    def passes(observable: bool) -> tuple[list[torch.Tensor], int]:
        torch.manual_seed(1)
        model = AutoModelForMaskedLM.from_config(config, attn_implementation="sdpa").train()
        if observable:
            make_observable(model)
        maps = 0

        def keep(tensor: torch.Tensor) -> torch.Tensor:
            nonlocal maps
            maps += tensor.is_floating_point() and tensor.shape[-2:] == (9, 9)
            return tensor

        torch.manual_seed(2)
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            logits = forward(model, batch, Needs(logits="masked")).logits
        assert logits is not None
        logits.square().mean().backward()
        return [parameter.grad for parameter in model.parameters() if parameter.grad is not None], maps

    plain, everything = passes(False)
    again, none = passes(True)
    assert len(plain) == len(again) > 0
    for expected, found in zip(plain, again, strict=True):
        torch.testing.assert_close(found, expected)
    assert none == 0 < everything


def test_attention_is_seen_before_dropout(batch: Batch) -> None:
    config = BertConfig(**SIZES, attention_probs_dropout_prob=0.5, hidden_dropout_prob=0.0)
    model = AutoModelForMaskedLM.from_config(config)
    make_observable(model)
    first = Needs(attention=frozenset({0}))  # the layer that no dropout comes before
    trained, evaluated = (forward(model.train(mode), batch, first).attention[0].scores() for mode in (True, False))
    torch.testing.assert_close(trained, evaluated)


def test_nothing_is_observed_that_nobody_needs(batch: Batch) -> None:
    model = AutoModelForMaskedLM.from_config(BertConfig(**SIZES))
    make_observable(model)
    out = forward(model, batch, Needs())
    assert (out.logits, out.hidden, out.attention) == (None, {}, {})


def distill(**changes: object) -> Distill:
    section = {
        "kind": "distill",
        "student": {"start": "teacher_layers", "layers": [1, 3]},
        "objective": {"mlm": {"lambda": 1}, "compact": {"lambda": 1, "layer_map": [1, 3]}},
        "training": {"steps": 1, "global_batch": 2, "lr": 0.1},
    }
    return Distill.model_validate_json(__import__("json").dumps(section | changes))


def test_a_student_of_teacher_layers_has_their_weights(tiny_model: Path) -> None:
    teacher = load_masked_lm(str(tiny_model), "teacher", online=False, seed=1)
    student = build_student(distill(), teacher, seed=1)
    theirs, ours = teacher.state_dict(), student.state_dict()
    assert student.config.num_hidden_layers == 2
    for name, tensor in ours.items():
        source = name.replace(".layer.1.", ".layer.3.").replace(".layer.0.", ".layer.1.")
        assert torch.equal(tensor, theirs[source]), name
    assert student.cls.predictions.decoder.weight is student.bert.embeddings.word_embeddings.weight


def test_a_head_that_is_not_copied_is_new(tiny_model: Path) -> None:
    teacher = load_masked_lm(str(tiny_model), "teacher", online=False, seed=1)
    section = distill(student={"start": "teacher_layers", "layers": [0, 1], "copy_head": False})
    student = build_student(section, teacher, seed=1)
    head = "cls.predictions.transform.dense.weight"
    assert not torch.equal(student.state_dict()[head], teacher.state_dict()[head])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"hidden_size": 16}, "compares equal widths"),
        ({"num_attention_heads": 2}, "head by head"),
        ({"vocab_size": 50}, "same tokenizer"),
        ({"num_hidden_layers": 3}, "3 layers"),
        ({"model_type": "t5"}, "not supported"),
    ],
)
def test_a_student_that_does_not_fit_is_refused(tiny_model: Path, change: dict[str, object], words: str) -> None:
    teacher = AutoConfig.from_pretrained(tiny_model)
    student = student_config(distill(), teacher, "stages.d")
    check_fit(distill(), student, teacher, "stages.d")
    if "model_type" in change:
        student = AutoConfig.for_model("t5", vocab_size=teacher.vocab_size, d_model=32, num_layers=2, num_heads=4)
    else:
        for name, value in change.items():
            setattr(student, name, value)
    with pytest.raises(SpecError, match=words):
        check_fit(distill(), student, teacher, "stages.d")


def test_layers_that_the_teacher_lacks_are_refused(tiny_model: Path) -> None:
    section = distill(student={"start": "teacher_layers", "layers": [1, 4]})
    with pytest.raises(SpecError, match="numbered 0 to 3"):
        student_config(section, AutoConfig.from_pretrained(tiny_model), "stages.d")


EVERY_TERM = {
    "mlm": {},
    "output": {},
    "soft_labels": {},
    "logits": {},
    "align": {"projection": "own"},
    "embed": {"projection": "shared"},
    "compact": {"layer_map": [0, 2]},
    "layer": {"layer_map": [1, 2], "attention": "scores"},
}


@pytest.mark.parametrize("teacher", CONFIGS, ids=lambda config: f"teacher {config.model_type}")
@pytest.mark.parametrize("student", CONFIGS, ids=lambda config: f"student {config.model_type}")
def test_every_architecture_teaches_and_learns_under_every_term(
    student: PreTrainedConfig, teacher: PreTrainedConfig, batch: Batch
) -> None:
    start = AutoModelForMaskedLM.from_config(student)
    stage = Distill.model_validate_json(
        json.dumps(
            {
                "kind": "distill",
                "student": {"start": "teacher_layers", "layers": [0, 2], "model": "another"},
                "objective": EVERY_TERM,
                "training": {"steps": 1, "global_batch": 3, "lr": 1e-3},
            }
        )
    )
    model = build_student(stage, start, seed=0)
    check_fit(stage, model.config, teacher, "stages.distill")
    objective = Objective(stage.objective, model.config, teacher)
    learner = StudentLearner(model, objective)
    targets = Teacher(AutoModelForMaskedLM.from_config(teacher), objective)(batch)
    totals = learner(batch, targets)
    assert torch.isfinite(totals).all()
    objective.loss(totals, objective.count(batch)).backward()
    silent = [name for name, value in learner.named_parameters() if value.grad is None]
    assert not [name for name in silent if "pooler" not in name]
    assert all(torch.isfinite(value.grad).all() for value in learner.parameters() if value.grad is not None)


def test_a_student_of_random_weights_takes_on_its_shape_and_the_vocabulary(tiny_model: Path) -> None:
    shape = {"start": "random", "hidden_size": 24, "num_attention_heads": 3, "num_hidden_layers": 2}
    raw = {"kind": "pretrain", "student": shape, "training": {"steps": 1, "global_batch": 1, "lr": 1e-3}}
    stage = Pretrain.model_validate_json(json.dumps(raw))
    config = student_config(stage, AutoConfig.from_pretrained(tiny_model), "stages.a", 77)
    first, again = (random_student(config, seed=3) for _ in range(2))
    assert (config.hidden_size, config.num_hidden_layers, config.intermediate_size, config.vocab_size) == (
        24,
        2,
        64,
        77,
    )
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True))
    bad = Pretrain.model_validate_json(json.dumps({**raw, "student": {**shape, "num_attention_heads": 5}}))
    with pytest.raises(SpecError, match=r"student.num_attention_heads: 5 heads do not divide a width of 24"):
        student_config(bad, AutoConfig.from_pretrained(tiny_model), "stages.a")
