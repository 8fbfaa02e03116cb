"""A connection to Ray: started inside the driver, or joined."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager

import ray

from compactbio.launch.preflight import check_cores
from compactbio.spec.base import SpecError
from compactbio.spec.job import Cluster


@contextmanager
def ray_session(cluster: Cluster, env_vars: dict[str, str]) -> Iterator[None]:
    """Ray for the length of the block. Raises SpecError when the cluster is not there or too small."""
    os.environ.update(env_vars)  # a Ray started here hands it on; its runtime_env breaks on paths with a space
    try:
        ray.init(
            address=cluster.address or "local",
            log_to_driver=False,
            logging_level=logging.ERROR,
            runtime_env={"env_vars": env_vars} if cluster.address else None,
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
