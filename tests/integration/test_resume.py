"""A run that is cut in two at a checkpoint is the run that was not: real DeepSpeed, on as many workers or others."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from ranks import Found, distillation, on_ranks, without_dropout

from compactbio.data.build import build_store
from compactbio.models.load import load_tokenizer
from compactbio.spec.load import from_raw

STEPS, CUT, POISONED = 5, 2, 3


job = partial(distillation, steps=STEPS, schedule="cosine", warmup_steps=2)


def train(rank: int, folder: Path, values: dict[str, Any]) -> Found:
    """Trains the job, from the checkpoint in `resume` if that is given, and saves behind step CUT in `save`."""
    from compactbio.spec.training import Checkpoints
    from compactbio.training.checkpoint import CheckpointFolder, Position
    from compactbio.training.loop import Span, steps
    from compactbio.training.requests import StageRequest
    from compactbio.training.stage import build_stage

    def checkpoints(name: str) -> CheckpointFolder:
        return CheckpointFolder(folder / name, Checkpoints(), print)

    spec = from_raw(values["job"])
    store = Path(values["store"])
    request = StageRequest(spec, "distill", {"teacher": str(spec.teacher)}, store, store, {}, spec.cluster.num_workers)
    position, state = None, None
    if "resume" in values:
        position = checkpoints(values["resume"]).newest_whole()
        assert position is not None and position.step == CUT
        state = checkpoints(values["resume"]).tensors(position)
    stage = build_stage(request, rank=rank, device=torch.device("cpu"), state=state, position=position)
    if not values["dropout"]:
        without_dropout(stage.learner)
    span = Span(STEPS, position.step if position else 0)
    losses, norms, rates = [], [], []
    for report in steps(stage.engine, stage.learner, stage.targets, stage.batches, span, report_every=1, seed=1):
        losses.append(report.values["loss"])
        norms.append(report.values["gradient_norm"])
        rates.append(report.values["learning_rate"])
        if "save" in values and report.step == CUT:
            saved = stage.engine.state(keep=rank == 0)
            if rank == 0:
                folder_ = checkpoints(values["save"])
                folder_.save(Position(CUT, 0, spec.digest(), "data"), saved)
                folder_.wait()
    weights = stage.engine.full_weights(stage.learner)
    elements = stage.engine.optimiser_state_elements()
    stage.engine.close()
    if rank == 0:
        torch.save(weights, folder / f"{values['name']}.pt")
    return {"losses": losses, "norms": norms, "rates": rates, "elements": elements}


def poison(stage: Any, rank: int) -> tuple[Any, Any]:
    """The stage's batches and targets, with answers on worker 1 that are not finite in step POISONED."""
    unlucky: list[torch.Tensor] = []

    def batches(number: int) -> Any:
        read = stage.batches(number)
        if number + 1 == POISONED and rank == 1:
            unlucky.extend(batch.input_ids for batch in read)
        return read

    def targets(batch: Any) -> Any:
        said = stage.targets(batch)
        infinite = torch.full_like(said.logits, float("inf"))
        return replace(said, logits=infinite) if any(batch.input_ids is ids for ids in unlucky) else said

    return batches, targets


def poisoned(rank: int, folder: Path, values: dict[str, Any]) -> Found:
    """Trains with a teacher whose answers in step POISONED are not finite, under each ZeRO stage."""
    from compactbio.training.loop import DivergedError, Span, steps
    from compactbio.training.requests import StageRequest
    from compactbio.training.stage import build_stage

    found = {}
    for zero_stage, raw in enumerate(values["jobs"]):
        spec, store = from_raw(raw), Path(values["store"])
        models = {"teacher": str(spec.teacher)}
        request = StageRequest(spec, "distill", models, store, store, {}, spec.cluster.num_workers)
        stage = build_stage(request, rank=rank, device=torch.device("cpu"))
        batches, targets = poison(stage, rank)

        def run(max_skipped: int, stage=stage, batches=batches, targets=targets) -> list[Any]:
            span = Span(STEPS, max_skipped=max_skipped)
            return list(steps(stage.engine, stage.learner, targets, batches, span, report_every=1, seed=1))

        reports = run(1)
        state = stage.engine.state(keep=True)
        moved = {float(value) for name, value in state.items() if name.startswith("step/")}
        try:
            run(0)
            message = ""
        except DivergedError as error:
            message = str(error)
        found[zero_stage] = {
            "skipped": [report.step for report in reports if report.skipped],
            "losses": [report.values.get("loss") for report in reports],
            "finite": all(bool(value.isfinite().all()) for value in state.values()),
            "moved": sorted(moved),
            "message": message,
        }
        stage.engine.close()
    return found


def trainings(rank: int, folder: Path, values: dict[str, Any]) -> Found:
    return {each["name"]: train(rank, folder, each) for each in values["runs"]}


EXACT = {
    "ZeRO 0": {"zero_stage": 0},
    "ZeRO 1": {"zero_stage": 1},
    "ZeRO 2": {"zero_stage": 2},
    "ZeRO 3": {"zero_stage": 3},
    "bf16": {"zero_stage": 1, "precision": "bf16"},
    "offload": {"zero_stage": 2, "offload_optimiser": True},
    "head": {"zero_stage": 2, "trainable": "head"},
}
MOVED = [("2 to 1, ZeRO 0", 0, 0), ("2 to 1, ZeRO 1", 1, 1), ("2 to 1, ZeRO 2 to 3", 2, 3), ("2 to 1, ZeRO 3", 3, 3)]
BACK = [("1 to 2, ZeRO 2", 2, 2), ("1 to 2, ZeRO 3", 3, 3)]


@pytest.fixture(scope="module")
def found(tiny_model: Path, tiny_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Found]]:
    folder = tmp_path_factory.mktemp("resume")
    spec = from_raw(job(tiny_model, tiny_corpus, num_workers=2))
    assert spec.corpus is not None
    store = build_store(spec.corpus, load_tokenizer(str(tiny_model), "teacher", online=False), folder / "stores")
    everything: dict[str, list[Found]] = {"folder": folder}  # type: ignore[dict-item]

    def run(num_workers: int, runs: list[dict[str, Any]]) -> None:
        common = {"store": str(store), "dropout": True}
        ranks = on_ranks(trainings, num_workers, folder, {"runs": [common | each for each in runs]})
        everything.update({name: [of_rank[name] for of_rank in ranks] for name in ranks[0]})

    def of(num_workers: int, **training: Any) -> dict[str, Any]:
        raw = job(tiny_model, tiny_corpus, num_workers=num_workers, **training)
        if training.get("trainable") == "head":
            raw["stages"]["distill"]["objective"] = {"mlm": {}, "output": {}}
        return raw

    exact = []
    for name, options in EXACT.items():
        exact.append({"name": name, "job": of(2, **options), "save": f"at {name}"})
        exact.append({"name": f"{name} resumed", "job": of(2, **options), "resume": f"at {name}"})
    for name, before, _ in MOVED:
        exact.append({"name": f"{name} whole", "job": of(2, zero_stage=before), "save": f"at {name}", "dropout": False})
    run(2, exact)
    moved = [{"name": name, "job": of(1, zero_stage=after), "resume": f"at {name}"} for name, _, after in MOVED]
    moved += [
        {"name": f"{name} whole", "job": of(1, zero_stage=before), "save": f"at {name}"} for name, before, _ in BACK
    ]
    run(1, [each | {"dropout": False} for each in moved])
    back = [{"name": name, "job": of(2, zero_stage=after), "resume": f"at {name}"} for name, _, after in BACK]
    run(2, [each | {"dropout": False} for each in back])
    return everything


@pytest.mark.parametrize("name", EXACT)
def test_a_resumed_run_is_the_same_to_the_last_bit(found: dict[str, Any], name: str) -> None:
    for whole, resumed in zip(found[name], found[f"{name} resumed"], strict=True):
        for series in ("losses", "norms", "rates"):
            assert resumed[series] == whole[series][CUT:]
        assert resumed["elements"] == whole["elements"]
    weights, again = (torch.load(found["folder"] / f"{end}.pt") for end in (name, f"{name} resumed"))
    assert weights.keys() == again.keys()
    assert all(torch.equal(weights[key], again[key]) for key in weights)


@pytest.mark.parametrize("name", [name for name, _, _ in MOVED + BACK])
def test_another_number_of_workers_goes_on_as_if_it_were_the_same(found: dict[str, Any], name: str) -> None:
    expected = found[f"{name} whole"][0]["losses"][CUT:]
    for resumed in found[name]:
        assert resumed["losses"] == pytest.approx(expected, abs=1e-5, rel=0)
    weights, again = (torch.load(found["folder"] / f"{end}.pt") for end in (f"{name} whole", name))
    assert all(torch.allclose(weights[key], again[key], atol=2e-5) for key in weights)


def test_a_step_that_is_not_finite_moves_nothing(tiny_model: Path, tiny_corpus: Path, tmp_path: Path) -> None:
    jobs = [job(tiny_model, tiny_corpus, num_workers=2, zero_stage=stage) for stage in range(4)]
    corpus = from_raw(jobs[0]).corpus
    assert corpus is not None
    store = build_store(corpus, load_tokenizer(str(tiny_model), "teacher", online=False), tmp_path / "stores")
    for of_rank in on_ranks(poisoned, 2, tmp_path, {"jobs": jobs, "store": str(store)}):
        for found in of_rank.values():
            assert found["skipped"] == [POISONED]  # on both workers, although one alone saw it
            assert [number for number, loss in enumerate(found["losses"], 1) if loss is None] == [POISONED]
            assert found["finite"] and found["moved"] == [STEPS - 1]
            assert "step 3 is not finite, and max_skipped_steps is 0" in found["message"]
