"""A run that a real MLflow server on a real PostgreSQL tracks, and hands out the artifacts of; and a study on it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from mlflow import MlflowClient
from mlflow_server import PASSWORD, mlflow_server, postgres, postgres_programs
from sweeps import make

from compactbio.launch.sweep_study import SearchStudy
from compactbio.spec.base import SpecError
from compactbio.spec.sweep_load import load_sweep

Compactbio = Callable[..., Any]


@pytest.fixture(scope="module")
def database() -> Iterator[str]:
    programs = postgres_programs()
    if programs is None:
        pytest.skip("PostgreSQL is not installed (apt-get install postgresql)")
    pytest.importorskip("psycopg")
    with postgres(programs) as uri:
        yield uri


@pytest.fixture(scope="module")
def server(database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with mlflow_server(tmp_path_factory.mktemp("mlflow"), database) as address:
        yield address


def test_a_run_and_its_model_are_found_on_a_server(
    compactbio: Compactbio, server: str, tmp_path: Path, tiny_model: Path, tiny_corpus: Path
) -> None:
    training = {"steps": 2, "global_batch": 8, "lr": 1e-3, "report_every_steps": 1, "held_out_rows": 8}
    spec = {
        "name": "served",
        "teacher": str(tiny_model),
        "corpus": {"sources": [{"format": "lines", "files": str(tiny_corpus)}], "max_tokens": 32, "held_out": 0.1},
        "tracking": {"uri": server},
        "stages": {
            "distill": {
                "kind": "distill",
                "student": {"start": "teacher_layers", "layers": [1, 3]},
                "objective": {"mlm": {}, "output": {"lambda": 5}},
                "training": training,
            }
        },
    }
    (tmp_path / "job.yaml").write_text(yaml.safe_dump(spec, sort_keys=False))
    done = compactbio(tmp_path, "run", "job.yaml")
    assert done.returncode == 0, done.stderr
    assert f"open {server}" in done.stdout

    client = MlflowClient(server)
    [version] = client.search_model_versions(f"tags.teacher = '{tiny_model}'")
    assert (version.name, version.tags["starts_from"]) == ("served-distill", str(tiny_model))
    assert client.get_model_version_by_alias("served-distill", "candidate").version == version.version
    assert version.run_id is not None
    stage = client.get_run(version.run_id)
    parent = client.get_run(stage.data.tags["mlflow.parentRunId"])
    assert parent.info.run_name == stage.data.tags["job"]
    assert parent.data.metrics.keys() == {"held_out_mlm/distill"}
    assert [point.step for point in client.get_metric_history(stage.info.run_id, "loss/output")] == [1, 2]
    assert stage.info.artifact_uri is not None
    assert stage.info.artifact_uri.startswith("mlflow-artifacts:")
    spec_file = client.download_artifacts(stage.info.run_id, "spec.yaml", str(tmp_path))
    [run] = (tmp_path / "runs").glob("served-*")
    assert Path(spec_file).read_text() == (run / "spec.yaml").read_text()
    page = client.download_artifacts(parent.info.run_id, "report/index.html", str(tmp_path))
    assert Path(page).read_text() == (run / "report" / "index.html").read_text()
    assert not list((tmp_path / "runs").glob("mlflow.db"))


def test_a_study_goes_on_in_a_database_with_a_password(
    database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import psycopg

    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("CREATE DATABASE studies")  # MLflow's has tables of the same names
    url = database.replace(f":{PASSWORD}@", "@").replace("/postgres", "/studies")
    sweep = load_sweep(make(tmp_path, search={"study": url}))
    with pytest.raises(SpecError, match="no password supplied"):
        SearchStudy(sweep, "served", url)
    monkeypatch.setenv("PGPASSWORD", PASSWORD)
    study = SearchStudy(sweep, "served", url)
    first, second = study.next(), study.next()
    assert first is not None and second is not None
    study.report(first.number, 4, 3.0)
    study.finish(first.number, (2.0,))

    again = SearchStudy(sweep, "served", url)  # of another driver
    assert again.next() == second
    states = [(outcome.state, outcome.scores, outcome.curve) for outcome in again.outcomes()]
    assert states == [("finished", (2.0,), {4: 3.0}), ("running", (), {})]
