"""A connection to Ray: started inside the driver, or joined."""

from __future__ import annotations

import logging
import os
import shlex
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import ray

from compactbio.launch import fork_server
from compactbio.launch.environment import cluster_address
from compactbio.launch.preflight import check_cores
from compactbio.spec.base import SpecError
from compactbio.spec.job import Cluster

_REACH_SECONDS = 10.0


@contextmanager
def ray_session(cluster: Cluster, env_vars: dict[str, str]) -> Iterator[None]:
    """Ray for the length of the block. Raises SpecError when the cluster is not there or too small."""
    address = cluster_address(cluster)
    if address:
        _check_reachable(address)
    os.environ.update(env_vars)  # a Ray started here hands it on; a cluster gets it as a runtime environment
    try:
        ray.init(
            address=address or "local",
            log_to_driver=False,
            logging_level=logging.ERROR,
            runtime_env=_interpreter([sys.executable]) | {"env_vars": env_vars}
            if address
            else _interpreter(fork_server.interpreter()),
        )
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise SpecError.at("cluster.address", f"cannot join Ray at '{address}': {error}") from None
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


def _check_reachable(address: str) -> None:
    """Raises SpecError when nobody listens at host:port; Ray itself would wait for minutes, or for ever."""
    host, colon, port = address.rpartition(":")
    if not colon or not port.isdigit():
        return  # `auto`, which Ray looks up
    try:
        socket.create_connection((host, int(port)), _REACH_SECONDS).close()
    except OSError as error:
        raise SpecError.at(
            "cluster.address", f"cannot join Ray at '{address}': {error}; is the head node up, and the port Ray's?"
        ) from None


def _interpreter(command: list[str]) -> dict[str, str]:
    """What starts Ray's workers, where that is not what Ray would take: it does not quote the path either."""
    quoted = shlex.join(command)
    return {"py_executable": quoted} if quoted != sys.executable else {}
