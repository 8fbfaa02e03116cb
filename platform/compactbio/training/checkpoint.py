"""Where the state of a training stage is saved, and that it is there whole or not at all."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

from safetensors.torch import load_file, save_file
from torch import Tensor

from compactbio.data.whole import whole_folder
from compactbio.spec.base import SpecError
from compactbio.spec.training import Checkpoints as Section

CHECKPOINTS_FOLDER = "checkpoints"
_MANIFEST, _TENSORS = "manifest.json", "state.safetensors"
_NAME = re.compile(r"^step-(\d+)$")
_FORMAT = 1


@dataclass(frozen=True)
class Position:
    """Where a run stands, beside its tensors.

    There are no generators in it: order, masks and dropout are functions of the seed and the step.
    """

    step: int
    """Steps done."""

    num_skipped: int
    """Of these, how many moved nothing."""

    spec_digest: str
    data_fingerprint: str
    """Of the token store."""

    score: float | None = None
    """Held-out loss behind this very step, if it was taken and is a number; lower is better."""

    loss_scale: dict[str, float] = field(default_factory=dict)
    """fp16's."""


class CheckpointFolder:
    """The checkpoints of one stage, each in a folder `step-N`. Only one worker may write."""

    def __init__(
        self,
        folder: Path,
        section: Section,
        warn: Callable[[str], None],
        saved: Callable[[int], None] = lambda step: None,
        keep: Callable[[list[Path]], None] = lambda checkpoints: None,
    ) -> None:
        """From the thread that writes, `saved` is told of each step whose checkpoint is on disk, and behind that `keep`
        of all checkpoints that stay, the newest first."""
        self._saved = saved
        self._keep = keep
        self._folder = folder
        self._section = section
        self._warn = warn
        self._writing: threading.Thread | None = None

    def newest_whole(self) -> Position | None:
        """The newest checkpoint that is what it was when it was written; damaged ones are renamed, and said."""
        for half in self._folder.glob(".step-*"):
            shutil.rmtree(half, ignore_errors=True)
        steps = self._steps()
        while steps:
            step = steps.pop()
            try:
                return _verified(self.path(step))
            except SpecError:
                raise  # whole, but not for this version
            except (FileNotFoundError, ValueError, KeyError) as error:
                aside = self._folder / f"damaged-step-{step}"
                shutil.rmtree(aside, ignore_errors=True)
                self.path(step).rename(aside)
                back = f"that of step {steps[-1]}" if steps else "the first step: THERE IS NO OTHER ONE"
                self._warn(f"the checkpoint of step {step} is damaged ({error}); going back to {back}")
        return None

    def path(self, step: int) -> Path:
        """Where the checkpoint of a step lies."""
        return self._folder / f"step-{step}"

    def best_score(self) -> float:
        """The lowest held-out loss that a checkpoint has; infinity without one."""
        return min((score for _, score in self._scores()), default=float("inf"))

    def tensors(self, position: Position) -> dict[str, Tensor]:
        """The state that was saved at a position."""
        return load_file(self.path(position.step) / _TENSORS)

    def save(self, position: Position, tensors: Mapping[str, Tensor]) -> None:
        """Writes a checkpoint from a thread of its own, and then deletes those that need not be kept.

        The tensors must not change any more. A checkpoint that cannot be written is a warning: those before it stay.
        """
        self.wait()
        self._writing = threading.Thread(target=self._write, args=(position, tensors))
        self._writing.start()

    def wait(self) -> int:
        """Waits until what is being written is on disk. Returns the step of the newest checkpoint, 0 without one."""
        if self._writing is not None:
            self._writing.join()
            self._writing = None
        return max(self._steps(), default=0)

    def _write(self, position: Position, tensors: Mapping[str, Tensor]) -> None:
        try:
            with whole_folder(self.path(position.step)) as making:
                save_file(dict(tensors), making / _TENSORS)
                manifest = {
                    "format": _FORMAT,
                    "position": asdict(position),
                    "files": {_TENSORS: _fingerprint(making / _TENSORS)},
                }
                (making / _MANIFEST).write_text(json.dumps(manifest, indent=2))
        except Exception as error:  # safetensors has errors of its own for a full disk
            kept = self._steps()
            last = f"the newest whole one is that of step {kept[-1]}" if kept else "there is none before it"
            self._warn(f"the checkpoint of step {position.step} cannot be written ({error}); {last}; the run goes on")
            return
        self._saved(position.step)
        self._retain()
        self._keep([self.path(step) for step in reversed(self._steps())])

    def _retain(self) -> None:
        steps = self._steps()
        keep = set(steps[-self._section.keep_last :])
        if self._section.keep_best:
            keep |= {step for step, score in self._scores() if score == self.best_score()}
        for step in set(steps) - keep:
            shutil.rmtree(self.path(step), ignore_errors=True)

    def _scores(self) -> list[tuple[int, float]]:
        found = []
        for step in self._steps():
            with suppress(FileNotFoundError, ValueError, KeyError):
                score = _read(self.path(step))[0].score
                found += [(step, score)] if score is not None else []
        return found

    def _steps(self) -> list[int]:
        return _steps_in(self._folder)


def newest_step(stage_folder: Path) -> int:
    """The step of a stage's newest checkpoint, whole or not; 0 where there is none."""
    return max(_steps_in(stage_folder / CHECKPOINTS_FOLDER), default=0)


def _steps_in(folder: Path) -> list[int]:
    names = (_NAME.match(path.name) for path in folder.glob("step-*"))
    return sorted(int(name[1]) for name in names if name)


def _read(folder: Path) -> tuple[Position, dict[str, dict[str, object]]]:
    manifest = json.loads((folder / _MANIFEST).read_text())
    if manifest["format"] != _FORMAT:
        raise SpecError.at("--resume", f"{folder} has format {manifest['format']}, this version reads {_FORMAT}")
    return Position(**manifest["position"]), manifest["files"]


def _verified(folder: Path) -> Position:
    position, files = _read(folder)
    for name, expected in files.items():
        if _fingerprint(folder / name) != expected:
            raise ValueError(f"{name} is not what was written")
    return position


def _fingerprint(path: Path) -> dict[str, object]:
    with path.open("rb") as file:
        return {"bytes": path.stat().st_size, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}
