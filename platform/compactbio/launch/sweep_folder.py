"""The folder of a sweep: its spec, its base, a folder for each trial, and what they came to."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from compactbio.launch.run_folder import create_folder, folder_stem
from compactbio.reporting.sweep_results import SWEEP_RESULTS_FILE
from compactbio.spec.base import Problem, SpecError
from compactbio.spec.sweep_load import load_sweep
from compactbio.spec.trials import Sweep

SWEEP_FILE = "sweep.yaml"
BASE_FILE = "base.yaml"
SHARED_FOLDER = "shared"
"""The stages that are the same in every trial."""


def create_sweep_folder(sweep: Sweep, name: str | None = None) -> Path:
    """A new folder, NAME-TIME-DIGEST unless it is named, with the sweep's spec in it, and its base: what a resume goes
    by, whatever becomes of the files that they were read from."""
    storage = Path(sweep.storage).expanduser().resolve()
    folder = create_folder(storage, name or folder_stem(sweep.name, sweep.digest()))
    _write(folder / BASE_FILE, sweep.base.resolved())
    _write(folder / SWEEP_FILE, sweep.alone(BASE_FILE))
    return folder


def resumed_sweep(name: Path, storage: Path) -> tuple[Sweep, Path]:
    """The sweep in a folder, or in the newest folder of a sweep of that name under `storage`.

    Raises SpecError where there is none.
    """
    folder = name.expanduser()
    if not is_sweep_folder(folder):
        found = [path.parent for path in storage.glob(f"{name.name}-*/{SWEEP_FILE}")]
        found += [path.parent for path in storage.glob(f"{name.name}/{SWEEP_FILE}")]
        if not found:
            raise SpecError.at("--resume", f"there is no sweep '{name}', neither a folder nor a name under {storage}")
        folder = max(found, key=lambda path: (path / SWEEP_FILE).stat().st_mtime)
    return load_sweep(folder / SWEEP_FILE), folder.resolve()


def is_sweep_folder(folder: Path) -> bool:
    """Whether a sweep lies there, rather than a run."""
    return (folder / SWEEP_FILE).is_file()


def trial_folder(folder: Path, number: int) -> Path:
    """Where a trial runs."""
    return folder / f"trial-{number:04d}"


def write_job(path: Path, job: dict[str, Any], comment: str) -> None:
    """A job as a file that `compactbio run` takes."""
    _write(path, job, f"# {comment}\n")


def read_results(folder: str, field: str) -> dict[str, Any]:
    """What a sweep's trials came to. Raises SpecError under `field` where there is no sweep."""
    path = Path(folder).expanduser() / SWEEP_RESULTS_FILE
    try:
        results: dict[str, Any] = json.loads(path.read_text())
    except OSError as error:
        raise SpecError([Problem(field, f"'{folder}' is no sweep with results: {error.strerror}")]) from None
    return results


def _write(path: Path, values: dict[str, Any], head: str = "") -> None:
    path.write_text(head + yaml.safe_dump(values, sort_keys=False, allow_unicode=True), encoding="utf-8")
