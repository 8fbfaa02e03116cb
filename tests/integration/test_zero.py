"""Two processes under real DeepSpeed: the same losses at every stage, and state that is really split."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from ranks import Found, distillation, on_ranks

from compactbio.data.build import build_store
from compactbio.models.load import load_tokenizer
from compactbio.spec.load import from_raw

STEPS = 3


def trainings(rank: int, folder: Path, values: dict[str, Any]) -> Found:
    """Of each job its losses, gradient norms, the size of its optimiser state, and the final weights."""
    return {name: train(raw, rank, Path(values["store"])) for name, raw in values["jobs"].items()}


def train(raw: dict[str, object], rank: int, store: Path) -> dict[str, object]:
    from compactbio.training.loop import Span, evaluate, steps
    from compactbio.training.requests import StageRequest
    from compactbio.training.stage import build_stage

    spec = from_raw(raw)
    request = StageRequest(spec, "distill", {"teacher": str(spec.teacher)}, store, store, {}, spec.cluster.num_workers)
    stage = build_stage(request, rank=rank, device=torch.device("cpu"))
    for module in stage.learner.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    reports = list(
        steps(stage.engine, stage.learner, stage.targets, stage.batches, Span(STEPS), report_every=1, seed=1)
    )
    held_out = evaluate(stage.engine, stage.learner, stage.targets, stage.batches.held_out(16), STEPS - 1)
    weights = stage.engine.full_weights(stage.learner.student)
    found = {
        "losses": [report.values["loss"] for report in reports],
        "norms": [report.values["gradient_norm"] for report in reports],
        "held_out": held_out["loss"],
        "state": stage.engine.optimiser_state_elements(),
        "parameters": sum(tensor.numel() for tensor in stage.learner.parameters()),
        "weights": sum(float(tensor.double().square().sum()) for tensor in weights.values()),
    }
    stage.engine.close()
    return found


LAYOUTS = {
    "1 worker x 8 rows, ZeRO 0": (1, 8, 0),
    "1 x 4 x 2 accumulation, ZeRO 1": (1, 4, 1),
    "2 x 4, ZeRO 0": (2, 4, 0),
    "2 x 4, ZeRO 1": (2, 4, 1),
    "2 x 2 x 2, ZeRO 2": (2, 2, 2),
    "2 x 2 x 2, ZeRO 3": (2, 2, 3),
}


@pytest.fixture(scope="module")
def runs(tiny_model: Path, tiny_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[dict]]:
    folder = tmp_path_factory.mktemp("zero")
    jobs = {
        name: distillation(
            tiny_model,
            tiny_corpus,
            num_workers=num_workers,
            steps=STEPS,
            micro_batch=micro_batch,
            zero_stage=zero_stage,
        )
        for name, (num_workers, micro_batch, zero_stage) in LAYOUTS.items()
    }
    spec = from_raw(next(iter(jobs.values())))
    store = build_store(spec.corpus, load_tokenizer(str(tiny_model), "teacher", online=False), folder)
    found = {}
    for world in (1, 2):
        mine = {name: raw for name, raw in jobs.items() if LAYOUTS[name][0] == world}
        ranks = on_ranks(trainings, world, folder, {"jobs": mine, "store": str(store)})
        found |= {name: [of_rank[name] for of_rank in ranks] for name in mine}
    return found


@pytest.mark.parametrize("name", list(LAYOUTS)[1:])
def test_losses_gradients_and_weights_are_those_of_one_worker(runs: dict[str, list[dict]], name: str) -> None:
    expected = runs["1 worker x 8 rows, ZeRO 0"][0]
    for found in runs[name]:
        assert found["losses"] == pytest.approx(expected["losses"], abs=1e-5, rel=0)
        assert found["norms"] == pytest.approx(expected["norms"], rel=1e-3)
        assert found["held_out"] == pytest.approx(expected["held_out"], abs=1e-5, rel=0)
        assert found["weights"] == pytest.approx(expected["weights"], rel=1e-4)


def test_the_loss_falls(runs: dict[str, list[dict]]) -> None:
    losses = runs["1 worker x 8 rows, ZeRO 0"][0]["losses"]
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("name", list(LAYOUTS))
def test_the_optimiser_state_is_split_between_workers(runs: dict[str, list[dict]], name: str) -> None:
    num_workers, _, zero_stage = LAYOUTS[name]
    moments = 2 * runs["1 worker x 8 rows, ZeRO 0"][0]["parameters"]
    share = moments / num_workers if zero_stage >= 1 else moments
    for found in runs[name]:
        assert found["state"] == pytest.approx(share, rel=0.05)
