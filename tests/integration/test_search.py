"""Weights of single layers (lambda_l of eq. 5 of Rohanian et al. 2023) are values that a search can set."""

from __future__ import annotations

from pathlib import Path

import optuna
import pytest
import torch
import yaml
from ranks import without_dropout

from compactbio.data.build import build_store
from compactbio.models.load import load_tokenizer
from compactbio.spec.load import load
from compactbio.training.alone import group_of_one
from compactbio.training.loop import Span, evaluate, steps
from compactbio.training.requests import StageRequest
from compactbio.training.stage import build_stage

PLACE = "stages.distill.objective.layer.layer_lambdas"


@pytest.fixture
def base(tiny_model: Path, tiny_corpus: Path, tmp_path: Path) -> Path:
    spec = {
        "name": "searched",
        "teacher": str(tiny_model),
        "corpus": {"sources": [{"format": "lines", "files": str(tiny_corpus)}], "max_tokens": 24, "held_out": 0.1},
        "cluster": {"num_workers": 1},
        "stages": {
            "distill": {
                "kind": "distill",
                "student": {"start": "teacher_layers", "layers": [1, 3]},
                "objective": {"mlm": {}, "layer": {"layer_map": [1, 3], "layer_lambdas": [1.0, 1.0]}},
                "training": {"steps": 3, "global_batch": 8, "lr": 0.01},
            }
        },
    }
    path = tmp_path / "base.yaml"
    path.write_text(yaml.safe_dump(spec))
    return path


def test_layer_lambdas_are_searched_through_the_loader_of_every_job(base: Path, tmp_path: Path) -> None:
    spec = load(base)
    assert spec.corpus is not None
    store = build_store(spec.corpus, load_tokenizer(str(spec.teacher), "teacher", online=False), tmp_path / "stores")

    def held_out_loss(trial: optuna.Trial) -> float:
        lambdas = [trial.suggest_float(f"{PLACE}.{layer}", 1e-2, 1e2, log=True) for layer in range(2)]
        trial_spec = load(base, [f"{PLACE}.{layer}={value}" for layer, value in enumerate(lambdas)])
        layer = trial_spec.training_stages()["distill"].objective.layer
        assert layer is not None and layer.layer_lambdas == pytest.approx(lambdas)
        request = StageRequest(trial_spec, "distill", {"teacher": str(spec.teacher)}, store, tmp_path, {}, 1)
        stage = build_stage(request, rank=0, device=torch.device("cpu"))
        without_dropout(stage.learner)
        for _ in steps(stage.engine, stage.learner, stage.targets, stage.batches, Span(3), report_every=3, seed=1):
            pass
        found = evaluate(stage.engine, stage.learner, stage.targets, stage.batches.held_out(16), 2)
        stage.engine.close()
        return found["loss/mlm"]

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=1, multivariate=True))
    study.enqueue_trial({f"{PLACE}.{layer}": 1.0 for layer in range(2)})  # the paper's
    with group_of_one("gloo"):
        study.optimize(held_out_loss, n_trials=4)
    values = [trial.value for trial in study.trials]
    assert len(set(values)) == 4  # they make a difference
    assert study.best_value <= values[0]
