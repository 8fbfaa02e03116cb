from __future__ import annotations

import pytest
import torch
from torch import nn

from compactbio.spec.training import Optimiser
from compactbio.training.optimiser import build_optimiser, build_schedule, set_learning_rate


@pytest.mark.parametrize(
    ("schedule", "shares"),
    [
        ("linear", [0.5, 1.0, 1.0, 0.75, 0.5, 0.25]),
        ("cosine", [0.5, 1.0, 1.0, 0.8535534, 0.5, 0.1464466]),
        ("polynomial", [0.5, 1.0, 1.0, 0.75**3, 0.5**3, 0.25**3]),
        ("constant", [0.5, 1.0, 1.0, 1.0, 1.0, 1.0]),
    ],
)
def test_schedules(schedule: str, shares: list[float]) -> None:
    section = Optimiser.model_validate({"lr": 0.1, "schedule": schedule, "power": 3.0})
    share = build_schedule(section, steps=6, warmup_steps=2)
    assert [share(step) for step in range(6)] == pytest.approx(shares)
    if schedule != "constant":
        assert share(6) == share(7) == 0.0


def test_norms_and_biases_are_not_decayed_and_rates_are_shares_of_their_peak() -> None:
    module = nn.Sequential(nn.Linear(2, 3), nn.LayerNorm(3))
    section = Optimiser(lr=0.1, weight_decay=0.5)
    optimiser = build_optimiser(module, section, scales={"0.weight": 0.5})
    set_learning_rate(optimiser, 0.25)
    found = {
        id(parameter): (group["weight_decay"], group["lr"])
        for group in optimiser.param_groups
        for parameter in group["params"]
    }
    expected = {"0.weight": (0.5, 0.0125), "0.bias": (0.0, 0.025), "1.weight": (0.0, 0.025), "1.bias": (0.0, 0.025)}
    assert {name: found[id(parameter)] for name, parameter in module.named_parameters()} == expected


def test_layers_below_the_head_learn_more_slowly() -> None:
    from transformers import BertConfig, BertForTokenClassification

    from compactbio.objectives.tasks import ClassLoss
    from compactbio.spec.tuning import Tuning
    from compactbio.training.task_model import TaskLearner, learning_rates

    sizes = {"hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 8}
    with torch.device("meta"):
        model = BertForTokenClassification(BertConfig(vocab_size=9, **sizes))
    learner = TaskLearner(model, "tokens", ClassLoss("tags"))
    rates = learning_rates(learner, Tuning(lr=0.1, head_lr=0.3, layer_decay=0.5))
    assert rates["model.classifier.weight"] == rates["model.classifier.bias"] == pytest.approx(3.0)
    assert rates["model.bert.encoder.layer.1.output.dense.weight"] == 0.5
    assert rates["model.bert.encoder.layer.0.output.dense.weight"] == 0.25
    assert rates["model.bert.embeddings.word_embeddings.weight"] == 0.125


@pytest.mark.parametrize(
    ("kind", "auto", "last"),
    [
        ("bert", "SequenceClassification", "classifier"),  # below it: bert.pooler.dense
        ("distilbert", "SequenceClassification", "classifier"),  # below it: pre_classifier
        ("roberta", "SequenceClassification", "classifier.out_proj"),  # below it: classifier.dense
        ("electra", "SequenceClassification", "classifier.out_proj"),  # below it: classifier.dense
        ("bert", "TokenClassification", "classifier"),
        ("mobilebert", "QuestionAnswering", "qa_outputs"),
    ],
)
def test_the_layer_that_gives_the_logits_alone_learns_at_the_rate_of_the_head(kind: str, auto: str, last: str) -> None:
    import transformers

    from compactbio.objectives.tasks import ClassLoss
    from compactbio.spec.tuning import Tuning
    from compactbio.training.task_model import TaskLearner, learning_rates

    sizes = {"num_hidden_layers": 1, "num_labels": 2 if auto == "QuestionAnswering" else 5}
    with torch.device("meta"):
        model = getattr(transformers, f"AutoModelFor{auto}").from_config(
            transformers.AutoConfig.for_model(kind, **sizes)
        )
    rates = learning_rates(TaskLearner(model, "texts", ClassLoss("classes")), Tuning(lr=0.1, head_lr=0.3))
    faster = {name for name, rate in rates.items() if rate != 1.0}
    assert faster == {f"model.{last}.weight", f"model.{last}.bias"}
    assert rates[f"model.{last}.bias"] == pytest.approx(3.0)
