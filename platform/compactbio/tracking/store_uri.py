"""Where runs are recorded. Apart from the store itself, whose imports take seconds."""

from __future__ import annotations

import os
from pathlib import Path

from compactbio.spec.job import Tracking


class TrackingError(RuntimeError):
    """The tracking store did not take what was sent."""


def tracking_uri(section: Tracking, storage: Path) -> str:
    """The MLflow tracking URI: the spec's, else the environment's, else a SQLite file under `storage`."""
    return section.uri or os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{storage.resolve() / 'mlflow.db'}"
