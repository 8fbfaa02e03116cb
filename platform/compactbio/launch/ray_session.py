"""A connection to Ray: started inside the driver, or joined."""

from __future__ import annotations

import logging
import os
import shlex
import socket
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import Any, TypeVar

import ray

from compactbio.launch import environment, fork_server
from compactbio.launch.environment import cluster_address
from compactbio.launch.preflight import check_cores
from compactbio.spec.base import SpecError
from compactbio.spec.job import Cluster

_T = TypeVar("_T")
_REACH_SECONDS = 10.0


@contextmanager
def ray_session(cluster: Cluster, env_vars: dict[str, str]) -> Iterator[None]:
    """Ray for the length of the block. Raises SpecError when the cluster is not there or too small."""
    address = cluster_address(cluster)
    if address:
        _check_reachable(address)
    os.environ.update(env_vars)  # a Ray started here hands it on; a cluster gets it as a runtime environment
    try:
        if address:
            _init(address=address, runtime_env=_quoted_interpreter() | {"env_vars": env_vars})
        else:
            with fork_server.starting_rays_workers() as runtime_env:
                dashboard = environment.wants_dashboard()
                _init(address="local", runtime_env=_quoted_interpreter() | runtime_env, include_dashboard=dashboard)
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


def ray_beside(stack: ExitStack, cluster: Cluster, env_vars: dict[str, str], opening: Callable[[], _T]) -> _T:
    """Ray for the length of `stack`, and what `opening` returns: both take seconds, and a Ray that is started here is
    waited for. One that is joined may refuse, and then nothing may have been opened."""
    if cluster_address(cluster) is not None:
        stack.enter_context(ray_session(cluster, env_vars))
        return opening()
    with ThreadPoolExecutor(1) as apart:
        opened = apart.submit(opening)
        stack.enter_context(ray_session(cluster, env_vars))
        return opened.result()


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


def _init(**options: Any) -> None:
    ray.init(log_to_driver=False, logging_level=logging.ERROR, **options)


def _quoted_interpreter() -> dict[str, str]:
    """The path of this interpreter where it has to be quoted, which Ray does not do when it starts workers."""
    quoted = shlex.quote(sys.executable)
    return {"py_executable": quoted} if quoted != sys.executable else {}
