from __future__ import annotations

from pathlib import Path

import pytest

from compactbio.launch.shipping import LARGEST_FILE, SPEC_NAME, packed
from compactbio.launch.submission import order_of, order_to_resume
from compactbio.spec.base import SpecError
from compactbio.spec.load import load, load_any
from compactbio.spec.sweep_load import load_sweep

JOBS = Path(__file__).parents[2] / "jobs"


def test_a_shipment_is_the_package_the_spec_and_what_is_not_large(tmp_path: Path) -> None:
    for name in ("text.txt", "runs/model", ".git/config", "sub/text.txt", "sub/__pycache__/x.pyc"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("a" * 1000)
    with (tmp_path / "sub" / "large").open("wb") as file:
        file.truncate(LARGEST_FILE + 1)
    spec = load(JOBS / "quickstart.yaml")
    with packed(spec, tmp_path) as shipment:
        sent = {str(path.relative_to(shipment.working_dir)) for path in shipment.working_dir.rglob("*")}
        assert sent == {"text.txt", "sub", "sub/text.txt", SPEC_NAME}
        assert load(shipment.working_dir / SPEC_NAME).digest() == spec.digest()
        assert (shipment.package / "launch" / "cli.py").is_file()
        assert not list(shipment.package.rglob("__pycache__"))
        assert 100_000 < shipment.num_bytes < 5_000_000
        assert sorted(shipment.left_out) == [".git", "runs", "sub/__pycache__", "sub/large"]
        gone = shipment.package
    assert not gone.exists()


def test_a_folder_beyond_what_is_shipped_is_refused(tmp_path: Path) -> None:
    for number in range(6):
        with (tmp_path / str(number)).open("wb") as file:
            file.truncate(LARGEST_FILE)
    with pytest.raises(SpecError, match="more than 268"), packed(None, tmp_path):
        pass
    with pytest.raises(SpecError, match="no folder"), packed(None, tmp_path / "gone"):
        pass


def test_every_kind_of_spec_has_its_command() -> None:
    job = order_of(load_any(JOBS / "quickstart.yaml", ["storage=/shared"]), "/data of all")
    assert job.command == f"run {SPEC_NAME} --name {{job}} --data '/data of all'"
    assert job.run == "/shared/{job}"
    assert job.stem.startswith("quickstart-")
    corpus = order_of(load_any(JOBS / "data" / "pubmed.yaml", ["storage=/shared"]), None)
    assert corpus.command == f"data build {SPEC_NAME}"
    sweep = order_of(load_sweep(JOBS / "sweeps" / "depth_width.yaml", ["scale.storage=/shared"]), None)
    assert sweep.command == f"sweep {SPEC_NAME} --name {{job}}" and sweep.run == "/shared/{job}"


def test_a_sweep_is_shipped_with_its_base_and_is_told_from_others(tmp_path: Path) -> None:
    path = JOBS / "sweeps" / "depth_width.yaml"
    sweep = load_sweep(path)
    with packed(sweep, None) as shipment:
        sent = load_sweep(shipment.working_dir / SPEC_NAME)
    assert sent.base == sweep.base and sent.digest() == sweep.digest()
    for change in ("budget.trials=31", "scale.seed=2"):
        assert load_sweep(path, [change]).digest() != sweep.digest()


def test_what_would_be_lost_is_not_ordered() -> None:
    with pytest.raises(SpecError, match="would lie in a folder that Ray deletes"):
        order_of(load(JOBS / "quickstart.yaml"), None)
    with pytest.raises(SpecError, match="by its whole path"):
        order_to_resume("runs/one", None)
    assert order_to_resume("/shared/runs/a b", None).command == "run --resume '/shared/runs/a b'"
