"""Files and folders that are there whole or not at all."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """A folder to write to that gets the name `path` at the end of the block, when its files are on disk.

    Where another process was first, its folder stays. After an error nothing is left.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    making = Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=path.parent))
    try:
        yield making
        making.chmod(0o755)
        for file in making.rglob("*"):
            if file.is_file():
                sync(file)
        try:
            making.rename(path)
            sync(path.parent)
        except OSError:
            if not path.is_dir():
                raise
    finally:
        shutil.rmtree(making, ignore_errors=True)


def save_array(path: Path, array: NDArray[Any]) -> None:
    """As numpy.save, whose own error for a full disk has neither the number of the error nor the file's name."""
    buffer = BytesIO()
    np.save(buffer, array)
    path.write_bytes(buffer.getbuffer())


def sync(path: Path) -> None:
    """Waits until the file, or the names in the folder, are on disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
