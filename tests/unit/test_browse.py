from __future__ import annotations

from pathlib import Path

import pytest
from mlflow import MlflowClient

from compactbio.spec.base import SpecError
from compactbio.tracking.browse import Browser


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Two jobs and a sweep of two recipes, the sweep with a stage and a registered student."""
    folder = tmp_path_factory.mktemp("store")
    uri = f"sqlite:///{folder / 'mlflow.db'}"
    client = MlflowClient(uri)
    for number, (recipe, score) in enumerate((("tiny", 0.4), ("tiny", 0.7), ("other", 0.9))):
        experiment = client.get_experiment_by_name(recipe)
        identity = experiment.experiment_id if experiment else client.create_experiment(recipe)
        tags = {"kind": "job" if recipe == "tiny" else "sweep", "recipe": recipe, "seed": str(number)}
        run = client.create_run(identity, run_name=f"{recipe}-{number}", tags=tags, start_time=1000 * (number + 1))
        client.log_metric(run.info.run_id, "score/a/b", score)
        client.log_param(run.info.run_id, "seed", number)
    tags = {"kind": "distill", "teacher": "big", "mlflow.parentRunId": run.info.run_id}
    stage = client.create_run(identity, run_name="distill", tags=tags).info.run_id
    for step in (2, 1):
        client.log_metric(stage, "loss", float(step), step=step)
    client.create_registered_model("other-distill")
    for _ in range(2):
        client.create_model_version("other-distill", str(folder), stage, tags={"teacher": "big"})
    return uri


def test_jobs_are_found_by_recipe_tag_and_score(store: str) -> None:
    browser = Browser(store)

    def names(recipe: str | None = None, tags: dict[str, str] | None = None, *scores: str) -> list[str]:
        return [run.name for run in browser.jobs(recipe=recipe, tags=tags or {}, scores=list(scores), most=10)]

    assert names() == ["other-2", "tiny-1", "tiny-0"]
    assert names("tiny") == ["tiny-1", "tiny-0"]
    assert names(None, {"seed": "0"}) == ["tiny-0"]
    assert names(None, None, "score/a/b>=0.5", "score/a/b<0.8") == ["tiny-1"]
    assert names(None, {"kind": "distill"}) == ["distill"]
    for wrong in ("score/a/b", "score/a/b>=much"):
        with pytest.raises(SpecError, match="NAME>=NUMBER"):
            names(None, None, wrong)


def test_a_job_is_named_by_the_beginning_of_its_name(store: str) -> None:
    browser = Browser(store)
    assert browser.job("other").name == browser.job("other-2").name == "other-2"
    assert browser.job("tiny-1").params == {"seed": "1"}
    with pytest.raises(SpecError, match="there are 2: tiny-1, tiny-0"):
        browser.job("tiny")
    with pytest.raises(SpecError, match="there is none"):
        browser.job("gone")


def test_parts_curves_and_students_of_a_teacher(store: str) -> None:
    browser = Browser(store)
    [part] = browser.children(browser.job("other"))
    assert browser.curve(part, "loss") == [(1, 1.0), (2, 2.0)]
    assert browser.curve(part, "nothing") == []
    assert {found.version for found in browser.versions({"teacher": "big"})} == {"1", "2"}
    assert browser.versions({"teacher": "small"}) == []
    browser.promote("other-distill", "2", "champion")
    browser.promote("other-distill", "1", "champion")
    assert {found.version: found.aliases for found in browser.versions({})} == {"1": ("champion",), "2": ()}
    with pytest.raises(SpecError, match="no version 7"):
        browser.promote("other-distill", "7", "champion")


def test_a_store_that_is_none_is_one_message(tmp_path: Path) -> None:
    path = tmp_path / "mlflow.db"
    path.write_text("no database")
    with pytest.raises(SpecError, match="MLflow cannot be read"):
        Browser(f"sqlite:///{path}")
