"""Where runs are recorded. Apart from the store itself, whose imports take seconds."""

from __future__ import annotations

import os
from pathlib import Path

from compactbio.spec.base import SpecError
from compactbio.spec.job import Tracking

SQLITE_FILE = "mlflow.db"


class TrackingError(RuntimeError):
    """The tracking store did not take what was sent."""


def tracking_uri(section: Tracking, storage: Path) -> str:
    """The MLflow tracking URI: the spec's, else the environment's, else a SQLite file under `storage`."""
    return section.uri or os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{storage.resolve() / SQLITE_FILE}"


def existing_store(section: Tracking, storage: Path) -> str:
    """As `tracking_uri`. Raises SpecError where it is a SQLite file under `storage` that is not there."""
    uri = tracking_uri(section, storage)
    if uri == f"sqlite:///{storage.resolve() / SQLITE_FILE}" and not (storage / SQLITE_FILE).exists():
        raise SpecError.at("--storage", f"there is no MLflow store in {storage}; run a job first, or name its storage")
    return uri
