"""A small sweep over the quickstart, as files that tests change."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from compactbio.spec.base import SpecError
from compactbio.spec.sweep_load import load_sweep

JOBS = Path(__file__).parents[1] / "jobs"
DISTILL = "stages.distill"
MLM, OUTPUT, COMPACT = (f"{DISTILL}.objective.{term}.lambda" for term in ("mlm", "output", "compact"))
LR, BATCH = f"{DISTILL}.training.lr", f"{DISTILL}.training.global_batch"


def make(folder: Path, **changes: Any) -> Path:
    """A sweep over the quickstart."""
    values = {
        "name": "small",
        "base": str(JOBS / "quickstart.yaml"),
        "scale": {"cluster.num_workers": 1, f"{DISTILL}.training.evaluate_every_steps": 4},
        "space": {
            MLM: {"kind": "log_uniform", "low": 0.1, "high": 10},
            OUTPUT: {"kind": "log_uniform", "low": 0.5, "high": 50},
            BATCH: {"kind": "choice", "values": [16, 32, 64]},
        },
        "objectives": [{"kind": "held_out", "stage": "distill"}],
        "budget": {"trials": 6},
        **changes,
    }
    path = folder / "sweep.yaml"
    path.write_text(yaml.safe_dump(values, sort_keys=False))
    return path


def refused(folder: Path, **changes: Any) -> str:
    with pytest.raises(SpecError) as caught:
        load_sweep(make(folder, **changes))
    return str(caught.value)


def url(folder: Path) -> str:
    return f"sqlite:///{folder / 'study.db'}"
