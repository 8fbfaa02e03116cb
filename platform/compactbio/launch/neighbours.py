"""What else there is to look at in a browser beside MLflow."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

_DASHBOARD = "http://127.0.0.1:8265"
_REACH_SECONDS = 1.0


def neighbours(storage: Path) -> Iterator[str]:
    """Lines about the Ray dashboard, where one answers, and about the studies of sweeps under `storage`."""
    address = os.environ.get("RAY_API_SERVER_ADDRESS", _DASHBOARD)
    if _answers(address):
        yield f"Ray dashboard {address}"
    else:
        yield f"Ray dashboard: none answers at {address} (RAY_API_SERVER_ADDRESS names another)"
    studies = sorted(storage.glob("*/study.db"))
    if studies and shutil.which("optuna-dashboard") is None:
        yield "to browse sweeps: pip install optuna-dashboard, then"
    for study in studies:
        yield f"optuna-dashboard sqlite:///{study.resolve()}"


def _answers(address: str) -> bool:
    place = urlsplit(address)
    try:
        socket.create_connection((place.hostname or "", place.port or 80), _REACH_SECONDS).close()
    except (OSError, ValueError):
        return False
    return True
