"""How many trials fit a cluster at once: found before the first one starts."""

from __future__ import annotations

from dataclasses import dataclass

from compactbio.spec.base import SpecError
from compactbio.spec.job import Cluster


@dataclass(frozen=True)
class Fit:
    """How a sweep is spread over a cluster."""

    concurrent: int
    """Trials at once."""

    resources: dict[str, float]
    """What Ray Tune reserves for a trial: all that it needs, or nothing where Ray Train reserves its workers."""

    arithmetic: str
    """The same for people."""


def fit_trials(cluster: Cluster, asked: int | None, trials: int, *, num_cpus: float, num_gpus: float) -> Fit:
    """As many trials at once as there is room for, or as are asked for.

    Raises SpecError, with the arithmetic, where there is no room for so many: trials that wait for each other's
    workers would wait for ever.
    """
    each = cluster.num_workers * cluster.cpus_per_worker
    needs = f"{cluster.num_workers} workers x {cluster.cpus_per_worker} CPUs"
    room = int(num_cpus // each)
    if cluster.use_gpu:
        needs += f" and {cluster.num_workers} GPUs"
        room = min(room, int(num_gpus // cluster.num_workers))
    has = f"{num_cpus:g} CPUs" + (f" and {num_gpus:g} GPUs" if cluster.use_gpu else "")
    wanted = asked or min(max(room, 1), trials)
    if wanted > room:
        raise SpecError.at(
            "budget.concurrent" if asked else "base",
            f"{wanted} trials at once x {needs} = {wanted * each} CPUs, the cluster has {has}: room for {room}; ask "
            "for fewer at once, or set cluster.num_workers under `scale`",
        )
    alone = cluster.num_workers == 1
    resources: dict[str, float] = {"CPU": cluster.cpus_per_worker} if alone else {"memory": 1}
    if alone and cluster.use_gpu:
        resources["GPU"] = 1
    return Fit(wanted, resources, f"{wanted} trials at once x {needs} of {has}")
