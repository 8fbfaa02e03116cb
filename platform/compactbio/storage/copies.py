"""A folder that is worked in, and the place in an object store where what comes of it is kept.

Files are copied one by one, and an object is there whole or not at all. A folder that has to be whole is known by a
file that is copied behind all others: without it, it is not there. Journals only grow, and are copied last of all.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from compactbio.data.whole import whole_folder
from compactbio.spec.storage import is_url, local_folder
from compactbio.storage.filesystem import opened

SCRATCH = "COMPACTBIO_SCRATCH"
"""The environment variable that names the folder under which nodes work on what is kept in an object store."""

_JOURNAL = "journal.jsonl"
_CHECKPOINT = re.compile(r"step-\d+")
_MODEL = re.compile(r"model(-step-\d+)?")
_LEFT_OUT = re.compile(r"\..*|ray|lock|writer|stop|damaged-step-\d+|lease\.json")
_CHUNK_BYTES = 8 * 2**20


@dataclass(frozen=True)
class Storage:
    """Where runs are kept. Without a `url` that is the folder itself, and there is nothing to copy.

    Every method raises OSError where the store cannot be reached or does not take something.
    """

    folder: Path = Path()
    """The same on every node."""

    url: str | None = None

    @classmethod
    def of(cls, storage: str) -> Storage:
        """What a spec's `storage` names: a folder, or an address and the folder here that goes with it."""
        if not is_url(storage):
            return cls(local_folder(storage).resolve())
        url = storage.rstrip("/")
        return cls(scratch() / url.replace("://", "/"), url)

    def address(self, path: Path) -> str:
        """What people call the path: where it is kept."""
        return str(path) if self.url is None else f"{self.url}/{path.relative_to(self.folder).as_posix()}"

    def exists(self, path: Path) -> bool:
        """Whether there is anything at the path, here or where it is kept."""
        return path.exists() or (self.url is not None and bool(self._stored(path)))

    def push(self, folder: Path) -> None:
        """Stores what is in a folder and not stored as it is, journals behind all else; but no checkpoints."""
        if self.url is None:
            return
        stored = self._stored(folder)
        files = sorted(_files(folder), key=lambda path: (_rank(path), path))
        wholes = [path.parent for path in files if _marks_whole(path)]
        for whole in wholes:
            self._push_whole(whole, stored)
        self._push_each([path for path in files if not any(_is_whole_kind(above) for above in path.parents)], stored)

    def push_whole(self, folder: Path) -> None:
        """Stores a token store, or another folder with a `manifest.json`, so that it is there whole or not at all."""
        if self.url is not None and folder.is_relative_to(self.folder):
            self._push_whole(folder, self._stored(folder))

    def push_files(self, folder: Path) -> None:
        """As `push`, but only the files in the folder itself."""
        if self.url is None or not folder.is_dir():
            return
        stored = self._stored(folder, recursive=False)
        files = [path for path in folder.iterdir() if path.is_file() and not _LEFT_OUT.fullmatch(path.name)]
        self._push_each(sorted(files, key=lambda path: (_rank(path), path)), stored)

    def push_journal(self, path: Path) -> None:
        """Stores a journal's whole lines unless as much is stored: so what is stored is never ahead of the file."""
        if self.url is None or not path.exists():
            return
        data = path.read_bytes()
        data = data[: data.rfind(b"\n") + 1]
        system, name = self._place(path)
        [known] = system.get_file_info([name])
        if (known.size or 0) < len(data):
            with self._writing(path) as target:
                target.write(data)

    def match(self, checkpoints: Sequence[Path]) -> None:
        """Stores checkpoints of one folder, in this order, and then deletes others that are kept of it: never before
        those that stay are whole."""
        if self.url is None or not checkpoints:
            return
        folder, names = checkpoints[0].parent, {path.name for path in checkpoints}
        stored = self._stored(folder)
        for checkpoint in checkpoints:
            self._push_whole(checkpoint, stored)
        there = {relative.relative_to(folder).parts[0] for relative in stored if relative != folder}
        for name in sorted(there - names):
            if _CHECKPOINT.fullmatch(name):
                self._delete_whole(folder / name)

    def fetch(self, folder: Path) -> None:
        """Brings a whole folder here, unless it is here, does not lie in this storage, or is not kept there whole."""
        if self.url is None or folder.exists() or not folder.is_relative_to(self.folder):
            return
        stored = self._stored(folder)
        if folder / _marker(folder) in stored:
            with whole_folder(folder) as making:
                for path, info in stored.items():
                    if info.is_file:
                        self._download(path, making / path.relative_to(folder), info)

    def pull(self, folder: Path, *, checkpoints: bool) -> None:
        """Brings here what is kept of a run or of a part of it and is not here, or older; journals behind all else.

        Where a journal here is no continuation of the one that is kept, another machine went on with the run since:
        then the checkpoints and models beside it here are dropped.
        """
        if self.url is None:
            return
        stored = {path: info for path, info in self._stored(folder).items() if info.is_file}
        journals = {path: self._read(path) for path in stored if path.name == _JOURNAL}
        newer = {path: data for path, data in journals.items() if not _continues(path, data)}
        for path, data in newer.items():
            if path.exists() and not data.startswith(_whole_lines(path)):
                _drop_stale(path.parent)
        wholes = {path.parent for path in stored if _is_whole_kind(path.parent)}
        for whole in wholes:
            if checkpoints or not _CHECKPOINT.fullmatch(whole.name):
                self.fetch(whole)
        for path, info in stored.items():
            inside = any(whole in path.parents for whole in wholes)
            if not inside and path.name != _JOURNAL and not _LEFT_OUT.fullmatch(path.name) and _is_older(path, info):
                self._download(path, path, info)
        for path, data in newer.items():
            _replace(path, data)

    def catch_up(self, folder: Path) -> None:
        """Brings here the parts of a run whose journal another machine has written further than it is here."""
        if self.url is None:
            return
        for path, info in self._stored(folder).items():
            here = path.stat().st_size if path.exists() else 0
            if path.name == _JOURNAL and path.parent != folder and info.size > here:
                self.pull(path.parent, checkpoints=False)

    def read(self, path: Path) -> bytes | None:
        """What is kept at a path; None where nothing is."""
        try:
            return self._read(path)
        except FileNotFoundError:
            return None

    def write(self, path: Path, data: bytes) -> None:
        """Keeps something at a path."""
        with self._writing(path) as target:
            target.write(data)

    def delete(self, path: Path) -> None:
        """Deletes a file that is kept, if it is there."""
        system, name = self._place(path)
        with suppress(FileNotFoundError):
            system.delete_file(name)

    def _push_each(self, files: Sequence[Path], stored: dict[Path, Any]) -> None:
        for path in files:
            if path.name == _JOURNAL:
                self.push_journal(path)
            elif not _is_stored(path, stored):
                self._upload(path)

    def _push_whole(self, folder: Path, stored: dict[Path, Any]) -> None:
        marker = folder / _marker(folder)
        files = [path for path in _files(folder) if path != marker]
        if _is_stored(marker, stored) and all(_is_stored(path, stored) for path in files):
            return
        if marker in stored:
            self.delete(marker)  # while its files are exchanged it is not whole
        for path in files:
            if not _is_stored(path, stored):
                self._upload(path)
        self._upload(marker)

    def _delete_whole(self, folder: Path) -> None:
        self.delete(folder / _marker(folder))
        system, name = self._place(folder)
        with suppress(FileNotFoundError):
            system.delete_dir(name)

    def _upload(self, path: Path) -> None:
        with path.open("rb") as source, self._writing(path) as target:
            shutil.copyfileobj(source, target, _CHUNK_BYTES)

    def _download(self, path: Path, to: Path, info: Any) -> None:
        system, name = self._place(path)
        to.parent.mkdir(parents=True, exist_ok=True)
        handle, half = tempfile.mkstemp(prefix=f".{to.name}-", dir=to.parent)
        try:
            with os.fdopen(handle, "wb") as target, system.open_input_stream(name) as source:
                shutil.copyfileobj(source, target, _CHUNK_BYTES)
            os.utime(half, ns=(info.mtime_ns, info.mtime_ns))  # so it is as old as what is kept
            Path(half).chmod(0o644)
            Path(half).replace(to)
        finally:
            Path(half).unlink(missing_ok=True)

    def _read(self, path: Path) -> bytes:
        system, name = self._place(path)
        with system.open_input_stream(name) as source:
            data: bytes = source.read()
        return data

    def _writing(self, path: Path) -> Any:
        system, name = self._place(path)
        if system.type_name == "local":  # which alone has folders to make
            system.create_dir(str(PurePosixPath(name).parent))
        return system.open_output_stream(name)

    def _stored(self, folder: Path, *, recursive: bool = True) -> dict[Path, Any]:
        """What is kept below a folder, by the path that it has here."""
        from pyarrow.fs import FileSelector

        system, name = self._place(folder)
        found = system.get_file_info(FileSelector(name, allow_not_found=True, recursive=recursive))
        return {folder / PurePosixPath(info.path).relative_to(name): info for info in found}

    def _place(self, path: Path) -> tuple[Any, str]:
        assert self.url is not None
        system, base = opened(self.url)
        return system, f"{base}/{path.relative_to(self.folder).as_posix()}"


IN_PLACE = Storage()
"""Where nothing has to be copied."""


def scratch() -> Path:
    """The folder under which this machine works on what is kept in an object store."""
    return Path(os.environ.get(SCRATCH) or "~/.cache/compactbio").expanduser().absolute()


def _marker(folder: Path) -> str:
    return "config.json" if _MODEL.fullmatch(folder.name) else "manifest.json"


def _is_whole_kind(folder: Path) -> bool:
    return bool(_MODEL.fullmatch(folder.name) or _CHECKPOINT.fullmatch(folder.name))


def _marks_whole(path: Path) -> bool:
    return _is_whole_kind(path.parent) and path.name == _marker(path.parent)


def _rank(path: Path) -> int:
    return {_JOURNAL: 2, "manifest.json": 1, "config.json": 1}.get(path.name, 0)


def _files(folder: Path) -> Iterator[Path]:
    """The files in and below a folder that are stored, but for those of checkpoints further down."""
    for path in sorted(folder.iterdir()):
        if _LEFT_OUT.fullmatch(path.name):
            continue
        if path.is_file():
            yield path
        elif path.is_dir() and not _CHECKPOINT.fullmatch(path.name):
            yield from _files(path)


def _is_stored(path: Path, stored: dict[Path, Any]) -> bool:
    """Whether a file is stored as it is here, as far as size and time say; stores know whole seconds."""
    info = stored.get(path)
    if info is None or not info.is_file:
        return False
    status = path.stat()
    return info.size == status.st_size and info.mtime_ns // 10**9 >= status.st_mtime_ns // 10**9


def _is_older(path: Path, info: Any) -> bool:
    """Whether a file is not here, or was changed elsewhere since."""
    if not path.exists():
        return True
    status = path.stat()
    return info.size != status.st_size and info.mtime_ns > status.st_mtime_ns


def _whole_lines(path: Path) -> bytes:
    data = path.read_bytes() if path.exists() else b""
    return data[: data.rfind(b"\n") + 1]


def _continues(path: Path, data: bytes) -> bool:
    """Whether a journal here begins with what is kept of it."""
    return _whole_lines(path).startswith(data)


def _drop_stale(folder: Path) -> None:
    for path in [*folder.glob("model*"), folder / "checkpoints"]:
        shutil.rmtree(path, ignore_errors=True)


def _replace(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    half = path.with_name(f".{path.name}-{os.getpid()}")
    half.write_bytes(data)
    half.replace(path)
