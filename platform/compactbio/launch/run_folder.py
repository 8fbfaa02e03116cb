"""The folder of a run: made anew for every run, never written over."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import yaml

from compactbio.reporting.collect import SPEC_FILE
from compactbio.spec.base import Problem, SpecError
from compactbio.spec.job import JobSpec
from compactbio.spec.load import load
from compactbio.spec.storage import is_url, local_folder
from compactbio.storage.copies import Storage
from compactbio.storage.filesystem import check_usable, reason

_LOCK_FILE = "lock"
GIT_SHA = "COMPACTBIO_GIT_SHA"


def check_lasts(storage: str) -> None:
    """Raises SpecError where what a submitted job makes would lie in the folder that it was shipped into."""
    if not is_url(storage) and not local_folder(storage).is_absolute():
        raise SpecError.at(
            "storage",
            f"'{storage}' would lie in a folder that Ray deletes; name one that all nodes see by its whole path "
            "(--set storage=/...), or a bucket",
        )


def folder_stem(name: str, digest: str) -> str:
    """NAME-TIME-DIGEST: what a new run is called."""
    return f"{name}-{time.strftime('%Y%m%d-%H%M%S')}-{digest[:6]}"


def create_run_folder(spec: JobSpec, storage: Storage, name: str | None = None) -> Path:
    """A new folder, NAME-TIME-DIGEST unless it is named, with the resolved spec in it, here and where it is kept.

    Raises SpecError where it cannot be made; then nothing is left here.
    """
    stem = name or folder_stem(spec.name, spec.digest())
    folder = create_folder(storage.folder, stem, is_free=lambda path: not storage.exists(path))
    write_spec(spec, folder)
    try:
        storage.push(folder)
    except OSError as error:
        shutil.rmtree(folder, ignore_errors=True)
        raise SpecError.at("storage", f"cannot write to {storage.address(folder)}: {reason(error)}") from None
    return folder


def create_folder(storage: Path, stem: str, is_free: Callable[[Path], bool] = lambda path: not path.exists()) -> Path:
    """A new, empty folder of this name, with a number behind it where that is not free. Raises SpecError where it
    cannot be made."""
    for attempt in range(100):
        folder = storage / (stem if attempt == 0 else f"{stem}-{attempt}")
        if not is_free(folder):
            continue
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            continue
        except OSError as error:
            raise SpecError.at("storage", f"cannot make the folder {folder}: {error.strerror}") from None
        return folder
    raise SpecError.at("storage", f"no free name for a run folder like {stem} in {storage}")


def write_spec(spec: JobSpec, folder: Path) -> None:
    """Writes the resolved spec into a run's folder."""
    text = yaml.safe_dump(spec.resolved(), sort_keys=False, allow_unicode=True)
    (folder / SPEC_FILE).write_text(text, encoding="utf-8")


@dataclass(frozen=True)
class StoredRun:
    """A run that there is already: where it is kept, and its folder here."""

    storage: Storage
    folder: Path

    @property
    def address(self) -> str:
        """What people call it."""
        return self.storage.address(self.folder)


def new_storage(storage: str) -> Storage:
    """Where a new run is to be kept. Raises SpecError where nothing can be kept there."""
    if is_url(storage):
        check_usable(storage, "storage")
    return Storage.of(storage)


def stored_run(name: str) -> StoredRun:
    """The run whose folder or address is `name`, brought here as far as another machine has it.

    Raises SpecError where there is none. Checkpoints are not brought here: workers do that.
    """
    if not is_url(name):
        folder = local_folder(name).resolve()
        return StoredRun(Storage(folder.parent), folder)
    check_usable(name, "RUN")
    url, _, run = name.rstrip("/").rpartition("/")
    storage = Storage.of(url)
    folder = storage.folder / run
    try:
        if storage.read(folder / SPEC_FILE) is None:
            raise SpecError.at("RUN", f"{name} is not the folder of a run: it has no {SPEC_FILE}")
        storage.pull(folder, checkpoints=False)
    except OSError as error:
        raise SpecError.at("RUN", f"{name} cannot be read: {reason(error)}") from None
    return StoredRun(storage, folder)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keeps every other process from running the job in this folder. Raises SpecError where one does."""
    with (folder / _LOCK_FILE).open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SpecError.at("--resume", f"another process is running the job in {folder}") from None
        yield


def resumed_spec(folder: Path, spec: Path | None, overrides: list[str], *, allow_changes: bool) -> JobSpec:
    """The spec that a run goes on with: its own, or the one at `spec`, with overrides.

    Raises SpecError where there is no run, and where the spec differs from the run's unless that is allowed.
    """
    own = folder / SPEC_FILE
    if not own.is_file():
        raise SpecError.at("--resume", f"{folder} is not the folder of a run: it has no {SPEC_FILE}")
    after = load(spec or own, overrides)
    changed = changes(folder, after)
    if changed and not allow_changes:
        advice = Problem("--resume", f"the spec is not that of {folder}; --allow-changes goes on with these changes")
        raise SpecError([*changed, advice])
    return after


def changes(folder: Path, after: JobSpec) -> list[Problem]:
    """What a spec says otherwise than that of the run in this folder."""
    old, new = load(folder / SPEC_FILE).flat(), after.flat()
    return [
        Problem(path, f"{json.dumps(new.get(path))} instead of {json.dumps(old.get(path))}")
        for path in sorted({*old, *new})
        if old.get(path) != new.get(path)
    ]


def git_sha() -> str:
    """The commit of the code that runs, `-dirty` behind it where files differ; `unknown` outside a checkout.

    Code that was sent to a cluster has left its checkout; then the environment says it.
    """
    here = Path(__file__).parent

    def git(*arguments: str) -> str:
        done = subprocess.run(["git", *arguments], cwd=here, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    if GIT_SHA in os.environ:
        return os.environ[GIT_SHA]
    try:
        return git("rev-parse", "HEAD") + ("-dirty" if git("status", "--porcelain", "--", ".") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
