"""What a submitted job takes along: the package, its spec in one file, and files that the spec names."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import yaml

import compactbio
from compactbio.spec.base import SpecError
from compactbio.spec.job import CorpusJob, JobSpec
from compactbio.spec.trials import Sweep

SPEC_NAME = "submitted-spec.yaml"
_BASE_NAME = "submitted-base.yaml"
LARGEST_FILE = 50 * 1024**2
LARGEST_SHIPMENT = 256 * 1024**2
_LEFT_OUT = frozenset({"__pycache__", "venv", "node_modules", "runs"})  # and what begins with a dot

Shipped = JobSpec | CorpusJob | Sweep
"""What a cluster can be given to do."""


@dataclass
class Shipment:
    """Folders that are ready to be sent."""

    package: Path
    working_dir: Path
    num_bytes: int = 0
    left_out: list[str] = field(default_factory=list)
    """Paths below the folder that was asked for which are too large, or made by machines."""


@contextmanager
def packed(spec: Shipped | None, files: Path | None) -> Iterator[Shipment]:
    """Copies of the package, of the spec where there is one, and of the folder `files`, for the length of the block.

    Raises SpecError where there is no such folder, or where it is larger than what is shipped.
    """
    if files is not None and not files.is_dir():
        raise SpecError.at("--working-dir", f"there is no folder '{files}'")
    with TemporaryDirectory() as scratch:
        shipment = Shipment(Path(scratch) / "modules" / "compactbio", Path(scratch) / "files")
        _copy(Path(compactbio.__file__).parent, shipment.package, Shipment(shipment.package, shipment.working_dir))
        shipment.working_dir.mkdir()
        if files is not None:
            _copy(files, shipment.working_dir, shipment)
        for name, values in _spec_files(spec).items():
            text = yaml.safe_dump(values, sort_keys=False, allow_unicode=True)
            (shipment.working_dir / name).write_text(text, encoding="utf-8")
        shipment.num_bytes = sum(path.stat().st_size for path in Path(scratch).rglob("*") if path.is_file())
        if shipment.num_bytes > LARGEST_SHIPMENT:
            raise SpecError.at(
                "--working-dir",
                f"{files} comes to {shipment.num_bytes / 1e6:,.0f} MB, more than {LARGEST_SHIPMENT / 1e6:,.0f}; put it "
                "where the cluster sees it, and name it by its path there",
            )
        yield shipment


def _spec_files(spec: Shipped | None) -> dict[str, dict[str, object]]:
    """The spec as files that need no others."""
    match spec:
        case None:
            return {}
        case Sweep():
            return {_BASE_NAME: spec.base.resolved(), SPEC_NAME: spec.alone(_BASE_NAME)}
        case _:
            return {SPEC_NAME: spec.resolved()}


def _copy(source: Path, target: Path, shipment: Shipment) -> None:
    """Copies a folder without what is hidden, generated or large, and notes what that was."""

    def ignored(folder: str, names: list[str]) -> set[str]:
        found = {name for name in names if name in _LEFT_OUT or name.startswith(".")}
        found |= {name for name in names if _is_large(Path(folder) / name) or not (Path(folder) / name).exists()}
        shipment.left_out += [str((Path(folder) / name).relative_to(source)) for name in sorted(found)]
        return found

    shutil.copytree(source, target, ignore=ignored, dirs_exist_ok=True)


def _is_large(path: Path) -> bool:
    return path.is_file() and path.stat().st_size > LARGEST_FILE
