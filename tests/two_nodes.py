"""Two simulated Ray nodes of one CPU each beside a head without any; told on standard input to `kill` or `add` one."""

from __future__ import annotations

import sys

from ray.cluster_utils import Cluster


def main() -> None:
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    nodes = [cluster.add_node(num_cpus=1) for _ in range(2)]
    print(cluster.address, flush=True)
    for line in sys.stdin:
        if line.strip() == "kill":
            nodes.pop().kill_raylet()  # SIGKILL
        elif line.strip() == "add":
            nodes.append(cluster.add_node(num_cpus=1))
        print("done", flush=True)
    cluster.shutdown()


if __name__ == "__main__":
    main()
