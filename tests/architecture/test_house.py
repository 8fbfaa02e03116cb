"""The import rule, the owners of libraries, and the one file that must not exist."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "platform"
BELOW = {
    "spec": set(),
    "tracking": {"spec"},
    "storage": {"spec", "data"},
    "evaluation": {"spec"},
    "data": {"spec"},
    "models": {"spec", "data"},
    "objectives": {"spec", "data", "models"},
    "reporting": {"spec", "evaluation", "tracking"},
    "training": {"spec", "data", "models", "objectives", "evaluation", "tracking", "storage"},
    "launch": {"spec", "data", "models", "objectives", "evaluation", "tracking", "storage", "training", "reporting"},
}
OWNERS = {
    "ray": {"training/worker.py", "launch/*"},
    "ray.tune": {"launch/sweep_trials.py"},
    "optuna": {"launch/sweep_study.py", "launch/sweep_optuna.py"},
    "deepspeed": {"training/sharded.py"},
    "mlflow": {"tracking/*"},
    "seqeval": {"evaluation/*"},
    "scikit_posthocs": {"evaluation/ranking.py"},
    "torch": {"data/*", "models/*", "objectives/*", "training/*", "evaluation/*", "launch/doctor.py"},
}
FILES = sorted((SOURCE / "compactbio").rglob("*.py"))


def imported(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_imports_point_down_and_libraries_have_owners(path: Path) -> None:
    inside = path.relative_to(SOURCE / "compactbio")
    room = inside.parts[0]
    for module in imported(path):
        parts = module.split(".")
        if parts[0] == "compactbio" and len(parts) > 1 and room in BELOW:
            assert parts[1] == room or parts[1] in BELOW[room], f"{inside} imports {module}"
        for library, owners in OWNERS.items():
            if f"{module}.".startswith(f"{library}."):
                assert any(inside.match(pattern) for pattern in owners), f"{inside} imports {module}"


def test_the_source_root_is_no_package() -> None:
    assert not (SOURCE / "__init__.py").exists()  # it would shadow Python's own `platform`
