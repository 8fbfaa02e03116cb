"""A connection to Ray: started inside the driver, or joined."""

from __future__ import annotations

import logging
import os
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import ray

from compactbio.launch.preflight import check_cores
from compactbio.spec.base import SpecError
from compactbio.spec.job import Cluster


@contextmanager
def ray_session(cluster: Cluster, env_vars: dict[str, str]) -> Iterator[None]:
    """Ray for the length of the block. Raises SpecError when the cluster is not there or too small."""
    os.environ.update(env_vars)  # a Ray started here hands it on; a cluster gets it as a runtime environment
    try:
        ray.init(
            address=cluster.address or "local",
            log_to_driver=False,
            logging_level=logging.ERROR,
            runtime_env={"env_vars": env_vars} if cluster.address else _local_runtime_env(),
        )
    except (ConnectionError, ValueError) as error:
        raise SpecError.at("cluster.address", f"cannot join Ray at '{cluster.address}': {error}") from None
    try:
        resources = ray.cluster_resources()
        check_cores(cluster, resources.get("CPU", 0), "the cluster has")
        if cluster.use_gpu and resources.get("GPU", 0) < cluster.num_workers:
            raise SpecError.at(
                "cluster.use_gpu",
                f"{cluster.num_workers} workers need a GPU each, the cluster has {resources.get('GPU', 0):g}",
            )
        yield
    finally:
        ray.shutdown()


def _local_runtime_env() -> dict[str, str] | None:
    """What workers of an embedded Ray need besides: Ray does not quote the path of the interpreter."""
    quoted = shlex.quote(sys.executable)
    return {"py_executable": quoted} if quoted != sys.executable else None
