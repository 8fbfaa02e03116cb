"""The environment of the driver and of every process that Ray starts for it."""

from __future__ import annotations

import os

from compactbio.launch import fork_server
from compactbio.spec.job import Cluster
from compactbio.spec.references import DATA_ROOT
from compactbio.storage.copies import SCRATCH, scratch

_DEFAULTS = {
    # No telemetry, of any dependency, unless the user's environment asks for it.
    "RAY_USAGE_STATS_ENABLED": "0",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "DO_NOT_TRACK": "1",
    "RAY_OVERRIDE_JOB_RUNTIME_ENV": "1",  # these settings stand beside those that a job was submitted with
    # Quieter and quicker.
    "RAY_prestart_worker_first_driver": "0",  # none of ours is one of those
    "RAY_TRAIN_ENABLE_PRINT_PATCH": "0",
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",  # an actor, so a process, a start
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5",
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "15",  # for a place on the nodes; the launch waits longer itself
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "TOKENIZERS_PARALLELISM": "false",
    "TRANSFORMERS_VERBOSITY": "error",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",  # the journal tries again
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_LOGGING_LEVEL": "ERROR",  # it warns of each model that it is not from a hub
}
DASHBOARD = "COMPACTBIO_RAY_DASHBOARD"
"""The environment variable that is 0 where a Ray that is started here is to do without its dashboard."""
_JOB_CONFIG = "RAY_JOB_CONFIG_JSON_ENV_VAR"  # which Ray sets for the driver of a submitted job
_CPU = {"DS_ACCELERATOR": "cpu"}


def is_submitted() -> bool:
    """Whether this process is the driver of a job that was submitted to a Ray cluster."""
    return _JOB_CONFIG in os.environ


def cluster_address(section: Cluster) -> str | None:
    """The Ray cluster to join: the spec's, or the one that this process is a job of. None: Ray is to be started."""
    return section.address or (os.environ.get("RAY_ADDRESS") if is_submitted() else None)


def prepare_driver() -> None:
    """Sets what is not set yet; to be called before ray, mlflow and transformers are imported."""
    for name, value in (_DEFAULTS | _CPU).items():
        os.environ.setdefault(name, value)


def allow_downloads(online: bool) -> None:
    """Lets the hub be asked, or not; to be called as early as `prepare_driver`, once the spec is known."""
    os.environ["HF_HUB_OFFLINE"] = "0" if online else "1"


def wants_dashboard() -> bool:
    """Whether a Ray that is started here gets its dashboard, which three seconds of the start go into."""
    return os.environ.get(DASHBOARD) != "0"


def start_fork_server(section: Cluster) -> None:
    """Has the processes of a Ray that is started here forked with their imports done; to be called as early as
    `allow_downloads`. On a cluster they start elsewhere, and what a GPU's libraries do in a fork was not tried."""
    if cluster_address(section) is None and not section.use_gpu:
        fork_server.start()


def for_workers(*, use_gpu: bool, online: bool) -> dict[str, str]:
    """The environment of Ray's workers. The driver itself computes nothing, and stays on the CPU."""
    settings = {name: os.environ.get(name, value) for name, value in _DEFAULTS.items()}
    settings["HF_HUB_OFFLINE"] = "0" if online else "1"
    settings[SCRATCH] = str(scratch())
    if DATA_ROOT in os.environ:
        settings[DATA_ROOT] = os.environ[DATA_ROOT]
    return settings | {"DS_ACCELERATOR": "cuda" if use_gpu else "cpu"}
