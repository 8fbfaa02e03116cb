"""The workers of a Ray that is started here have their imports when they start."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

from commands import Forked

from compactbio.launch.fork_setup_worker import ADDRESS

SCRIPT = """
import os, sys
from compactbio.launch import environment
from compactbio.launch.ray_session import ray_session
from compactbio.spec.job import Cluster

environment.prepare_driver()
with ray_session(Cluster(num_workers=1), environment.for_workers(use_gpu=False, online=False)):
    import ray

    @ray.remote
    class Worker:
        def parent(self):
            return os.getppid()

        def has(self, module):
            return module in sys.modules

        def variable(self):
            return os.environ.get("SOME")

    worker = Worker.options(runtime_env={"env_vars": {"SOME": "a value"}}).remote()
    print(ray.get([worker.parent.remote(), worker.has.remote("deepspeed"), worker.variable.remote()]))
"""


def test_rays_workers_are_forked_with_their_imports(hermetic_environment: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    environment = {**hermetic_environment, ADDRESS: os.environ[ADDRESS], "PYTHONPATH": os.pathsep.join(sys.path)}
    with tempfile.TemporaryFile("w+") as said:
        process = Forked([str(tmp_path / "script.py")], tmp_path, environment, said.fileno(), said.fileno())
        code = process.wait(120)
        said.seek(0)
        text = said.read()
    assert code == 0, text
    parent, imported, variable = eval(text.strip().splitlines()[-1])
    assert parent == int(process.parent)
    assert (imported, variable) == (True, "a value")
