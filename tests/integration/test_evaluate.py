"""`compactbio evaluate` as a person types it: killed, resumed, reported; and predictions of the models that it made."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import commands
import pytest
import yaml
from task_files import make_ner, make_relations

Compactbio = Callable[..., Any]

CELLS = 2 * 2 * 2
"""Models, tasks with data, seeds."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("studies")


@pytest.fixture(scope="module")
def arguments(folder: Path, tiny_model: Path) -> list[str]:
    tasks = {
        "parts": make_ner(folder / "ner"),
        "about": make_relations(folder / "re"),
        "BC4CHEMD": {"benchmark": "BC4CHEMD"},  # nobody has it here
    }
    tuning = {"lr": 3e-3, "epochs": 3, "batch": 8, "max_tokens": 40}
    changes = {
        "tasks": tasks,
        "tuning": {"all": tuning, "ner": {**tuning, "keep": "best", "evaluate_every_steps": 9}},
        "distillation": {"student": {"teacher": "teacher", "alpha": 0.5, "loss": "mse"}},
    }
    models = ["--models", f"teacher={tiny_model}", f"student={tiny_model}"]
    words = ["evaluate", *models, "--tasks", "ner", "re", "--seeds", "2", "--name", "study"]
    for name, value in changes.items():
        words += ["--set", f"stages.finetune.{name}={json.dumps(value)}"]
    return words


@pytest.fixture(scope="module")
def undisturbed(compactbio: Compactbio, folder: Path, arguments: list[str]) -> tuple[Path, Any]:
    done = compactbio(folder, *arguments, "--set", "storage=undisturbed")
    assert done.returncode == 0, done.stderr
    return next((folder / "undisturbed").glob("study-*")), done


@pytest.fixture(scope="module")
def killed(hermetic_environment: dict[str, str], folder: Path, arguments: list[str]) -> Path:
    """The run of a driver that was killed when some cells had ended and others had not."""
    with Path(os.devnull).open("w") as nowhere:
        driver = commands.start([*arguments, "--set", "storage=killed"], folder, hermetic_environment, nowhere)
    try:
        commands.until(lambda: len(_ended(folder / "killed")) >= 2, "two cells", alive=driver)
    finally:
        driver.kill()
        driver.wait()
    assert 2 <= len(_ended(folder / "killed")) < CELLS
    return next((folder / "killed").glob("study-*"))


def _ended(storage: Path) -> dict[str, int]:
    """Cells that have ended, and when their journal was written last."""
    journals = storage.glob("study-*/finetune/*/journal.jsonl")
    return {path.parent.name: path.stat().st_mtime_ns for path in journals if '"kind": "end"' in path.read_text()}


def _results(run: Path) -> dict[str, dict[str, Any]]:
    found = {}
    for path in sorted(run.glob("finetune/*/result.json")):
        found[path.parent.name] = json.loads(path.read_text())
        del found[path.parent.name]["seconds"]
    return found


def test_a_study_that_was_killed_goes_on_cell_by_cell(
    compactbio: Compactbio, folder: Path, killed: Path, undisturbed: tuple[Path, Any]
) -> None:
    before = _ended(folder / "killed")
    done = compactbio(folder, "run", "--resume", str(killed))
    assert done.returncode == 0, done.stderr
    after = _ended(folder / "killed")
    assert len(after) == CELLS
    assert {name: after[name] for name in before} == before  # nothing was written to what had ended
    assert _results(killed) == _results(undisturbed[0])
    for cell in _results(killed):
        same = [(run / "finetune" / cell / "predictions.tsv").read_text() for run in (killed, undisturbed[0])]
        assert same[0] == same[1]


def test_sigterm_stops_a_study(hermetic_environment: dict[str, str], folder: Path, arguments: list[str]) -> None:
    with (folder / "stopped.log").open("w") as log:
        driver = commands.start([*arguments, "--set", "storage=stopped"], folder, hermetic_environment, log)
    commands.until(lambda: _ended(folder / "stopped"), "a cell", alive=driver)
    driver.terminate()
    driver.wait(120)
    told = (folder / "stopped.log").read_text()
    assert driver.returncode == 75, told
    assert "stopped as asked" in told
    assert len(_ended(folder / "stopped")) < CELLS


def test_what_is_missing_is_said_and_the_rest_goes_on(undisturbed: tuple[Path, Any]) -> None:
    run, done = undisturbed
    assert "task BC4CHEMD is left out" in done.stderr
    assert "cambridgeltl/MTL-Bioinformatics-2016" in done.stderr
    assert "BC4CHEMD is left out" in (run / "report" / "table.md").read_text()


def test_the_report_has_the_tables_of_a_study(undisturbed: tuple[Path, Any]) -> None:
    run, done = undisturbed
    report = run / "report"
    assert (report / "table.md").read_text().strip() in done.stdout
    assert "| student |" in done.stdout
    tables = {path.name for path in (report / "tables" / "finetune").iterdir()}
    names = ("scores", "parts", "about", "significance")
    assert tables == {f"{name}{suffix}" for name in names for suffix in (".md", ".tex", ".csv", ".html")}
    assert "student - teacher" in (report / "tables" / "finetune" / "significance.md").read_text()
    assert "- [a]" in (report / "tables" / "finetune" / "parts.md").read_text()  # no published number for a tiny model
    page = (report / "index.html").read_text()
    for cell in _results(run):
        link = f"../finetune/{cell}/predictions.tsv"
        assert f'href="{link}"' in page
        assert (report / link).resolve().is_file()
    assert "Mistakes by kind" in (report / "errors.md").read_text()


def test_mlflow_has_a_run_for_each_cell(undisturbed: tuple[Path, Any]) -> None:
    import mlflow

    run, _ = undisturbed
    client = mlflow.MlflowClient(f"sqlite:///{run.parent / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("study")
    runs = {found.info.run_name: found for found in client.search_runs([experiment.experiment_id])}
    results = _results(run)
    assert len(results) == CELLS
    for name, result in results.items():
        tracked = runs[name]
        assert tracked.data.tags["mlflow.parentRunId"] == runs["finetune"].info.run_id
        assert tracked.data.metrics[f"score/{result['main']}"] == pytest.approx(result["scores"][result["main"]])
        assert tracked.data.params["seed"] == str(result["seed"])
        assert len(client.get_metric_history(tracked.info.run_id, "loss")) > 1
        files = {found.path for found in client.list_artifacts(tracked.info.run_id)}
        assert {"result.json", "predictions.tsv"} <= files
    assert "loss/teacher" in runs["student-parts-s1"].data.metrics
    assert "dev/f1" in runs["teacher-parts-s1"].data.metrics


def test_what_the_command_line_said_is_a_spec(undisturbed: tuple[Path, Any]) -> None:
    spec = yaml.safe_load((undisturbed[0] / "spec.yaml").read_text())
    assert spec["stages"]["finetune"]["seeds"] == [1, 2]
    assert spec["stages"]["finetune"]["tasks"]["BC4CHEMD"]["train"] == "ner/BC4CHEMD/train.tsv"


def test_its_models_predict(compactbio: Compactbio, folder: Path, undisturbed: tuple[Path, Any]) -> None:
    cells = undisturbed[0] / "finetune"
    done = compactbio(folder, "predict", str(cells / "teacher-parts-s1" / "model"), "the heart was weak")
    assert done.returncode == 0, done.stderr
    assert done.stdout.split("\t")[1:] == ["Part", "heart", "4-9\n"]
    (folder / "texts.txt").write_text("the heart\n\nthe foot\n")
    done = compactbio(folder, "predict", str(cells / "teacher-about-s1" / "model"), "texts.txt")
    assert done.stdout.count("\t") == 2
    assert "the foot" in done.stdout


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["predict", "./nowhere", "text"], "MODEL: there is no file or folder './nowhere'"),
        (["predict", "MODEL", ""], "TEXT: there is no text in it"),
        (["predict", "MODEL", "text", "--question", "why?"], "answers no questions"),
        (["evaluate", "--models", "a=b", "--tasks", "nerr"], "'nerr' is no benchmark and no group of them"),
        (["evaluate", "--models", "a=./b", "a=./c", "--tasks", "ner"], "--models: 'a' stands twice"),
        (["evaluate", "--models", "a=./b", "--tasks", "ner", "--preset", "x"], "--preset: 'x' is not known"),
        (["evaluate", "--models", "a=./b", "--tasks", "ner", "--reference", "z"], "'z' is not one of its models (a)"),
        (["evaluate", "--models", "a=./b", "--tasks", "BC4CHEMD"], "there is no file or folder './b'"),
        (["evaluate", "--models", "a=MODEL", "--tasks", "BC4CHEMD"], "ner/BC4CHEMD"),
    ],
)
def test_bad_input_is_one_message(
    refused: Callable[..., str], folder: Path, tiny_model: Path, words: list[str], message: str
) -> None:
    assert message in refused(folder, *(word.replace("MODEL", str(tiny_model)) for word in words))
    assert not (folder / "runs").exists()
