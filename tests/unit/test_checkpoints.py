from __future__ import annotations

from pathlib import Path

import pytest
import torch

from compactbio.spec.base import SpecError
from compactbio.spec.training import Checkpoints
from compactbio.training.checkpoint import CheckpointFolder, Position, newest_step
from compactbio.training.sharded import moving_scale


def saved(folder: Path, steps: dict[int, float | None], **section: object) -> tuple[CheckpointFolder, list[str]]:
    """A folder with checkpoints of these steps and scores, and what it warned of."""
    said: list[str] = []
    made = CheckpointFolder(folder, Checkpoints.model_validate(section), said.append)
    for step, score in steps.items():
        made.save(Position(step, 0, "digest", "data", score), {"weight/a": torch.full((3,), float(step))})
    made.wait()
    return made, said


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_what_is_saved_comes_back(tmp_path: Path) -> None:
    made, _ = saved(tmp_path, {4: None})
    made.save(Position(8, 2, "digest", "data", 1.5, {"cur_scale": 4.0}), {"weight/a": torch.tensor([0.1, -0.0])})
    made.wait()
    position = made.newest_whole()
    assert position == Position(8, 2, "digest", "data", 1.5, {"cur_scale": 4.0})
    assert torch.equal(made.tensors(position)["weight/a"], torch.tensor([0.1, -0.0]))


def test_the_last_and_the_best_stay(tmp_path: Path) -> None:
    saved(tmp_path, {1: 3.0, 2: 1.0, 3: 2.0, 4: None, 5: 4.0}, keep_last=2)
    assert names(tmp_path) == ["step-2", "step-4", "step-5"]


def test_without_the_best_only_the_last_stay(tmp_path: Path) -> None:
    saved(tmp_path, {1: 0.5, 9: None, 10: 2.0}, keep_last=1, keep_best=False)
    assert names(tmp_path) == ["step-10"]


@pytest.mark.parametrize("damage", ["flipped byte", "cut off", "no tensors", "no manifest", "empty manifest"])
def test_a_damaged_checkpoint_is_left_for_the_one_before(tmp_path: Path, damage: str) -> None:
    made, said = saved(tmp_path, {1: None, 2: None})
    tensors, manifest = tmp_path / "step-2" / "state.safetensors", tmp_path / "step-2" / "manifest.json"
    match damage:
        case "flipped byte":
            data = bytearray(tensors.read_bytes())
            data[-1] ^= 1
            tensors.write_bytes(data)
        case "cut off":
            tensors.write_bytes(tensors.read_bytes()[:-1])
        case "no tensors":
            tensors.unlink()
        case "no manifest":
            manifest.unlink()
        case "empty manifest":
            manifest.write_text("")
    position = made.newest_whole()
    assert position is not None and position.step == 1
    assert len(said) == 1 and "the checkpoint of step 2 is damaged" in said[0]
    assert names(tmp_path) == ["damaged-step-2", "step-1"]  # kept for people, and out of the way of a new one
    made.save(Position(2, 0, "digest", "data"), {"weight/a": torch.zeros(1)})
    made.wait()
    assert made.newest_whole() == Position(2, 0, "digest", "data")


def test_where_none_is_whole_there_is_none(tmp_path: Path) -> None:
    made, said = saved(tmp_path, {1: None})
    (tmp_path / "step-1" / "state.safetensors").unlink()
    assert made.newest_whole() is None
    assert len(said) == 1 and "going back to the first step: THERE IS NO OTHER ONE" in said[0]


def test_one_of_another_version_is_not_thrown_away(tmp_path: Path) -> None:
    made, said = saved(tmp_path, {1: None})
    manifest = tmp_path / "step-1" / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"format": 1', '"format": 7'))
    with pytest.raises(SpecError, match="has format 7, this version reads 1"):
        made.newest_whole()
    assert names(tmp_path) == ["step-1"] and not said


def test_the_newest_step_of_a_stage(tmp_path: Path) -> None:
    assert newest_step(tmp_path) == 0
    saved(tmp_path / "checkpoints", {9: None, 10: None})
    assert newest_step(tmp_path) == 10


def test_the_loss_scale_of_deepspeed_comes_back(tmp_path: Path) -> None:
    from deepspeed.runtime.fp16.loss_scaler import DynamicLossScaler

    scaler = DynamicLossScaler(2.0**16, 2.0, 1000, 1.0, 2, False, dtype=torch.half)
    scaler.cur_scale, scaler.cur_iter, scaler.last_overflow_iter, scaler.cur_hysteresis = 2.0**15, 7, 5, 1
    made, said = saved(tmp_path, {})
    made.save(Position(1, 0, "digest", "data", None, moving_scale(scaler)), {"weight/a": torch.zeros(1)})
    made.wait()
    again = DynamicLossScaler(2.0**16, 2.0, 1000, 1.0, 2, False, dtype=torch.half)
    position = made.newest_whole()
    assert position is not None and not said
    vars(again).update(position.loss_scale)
    assert vars(again) == vars(scaler)


def test_what_a_killed_writer_left_is_not_taken_and_goes_away(tmp_path: Path) -> None:
    made, said = saved(tmp_path, {1: None})
    (tmp_path / ".step-2-abc").mkdir()
    (tmp_path / ".step-2-abc" / "state.safetensors").touch()
    assert made.newest_whole() == Position(1, 0, "digest", "data")
    assert names(tmp_path) == ["step-1"] and not said


def test_one_that_cannot_be_written_is_said_and_leaves_the_others(tmp_path: Path) -> None:
    made, said = saved(tmp_path, {1: None}, keep_last=1)
    made.save(Position(2, 0, "digest", "data"), {"weight/a": torch.zeros(4, device="meta")})  # as a disk would fail
    made.wait()
    assert "step 2 cannot be written" in said[0] and "newest whole one is that of step 1" in said[0]
    assert names(tmp_path) == ["step-1"]
