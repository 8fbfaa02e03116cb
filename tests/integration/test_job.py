"""A whole job through the command line: real Ray, real DeepSpeed on two workers, real MLflow."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import commands
import pytest
import yaml

Compactbio = Callable[..., Any]

OBO_HEAD = """format-version: 1.2

[Term]
id: X:1
name: All

[Term]
id: X:2
name: heart
def: "The heart." []
is_a: X:1

[Term]
id: X:3
name: muscle
def: "The muscles." []
is_a: X:1
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("a folder with spaces")


@pytest.fixture(scope="module")
def ontology(folder: Path) -> Path:
    """Sixty concepts in two branches, with definitions that name their parents."""
    terms = [OBO_HEAD]
    for number in range(60):
        branch, name = (("X:2", "heart"), ("X:3", "muscle"))[number % 2]
        text = f"A weak {name} with pain in the {name} or hand of a patient {'a ' * (number % 7)}."
        terms.append(
            f'\n[Term]\nid: X:{100 + number}\nname: pain {number}\ndef: "{text} {number}" []\nis_a: {branch}\n'
        )
    path = folder / "signs.obo"
    path.write_text("".join(terms))
    return path


@pytest.fixture(scope="module")
def job(folder: Path, ontology: Path, tiny_model: Path) -> Path:
    training = {"steps": 3, "global_batch": 8, "lr": 1e-3, "zero_stage": 2, "report_every_steps": 1, "held_out_rows": 8}
    layers = {"start": "teacher_layers", "layers": [1, 3]}
    task = {"text": str(ontology), "test_share": 0.3}
    spec = {
        "name": "small",
        "teacher": str(tiny_model),
        "corpus": {"sources": [{"format": "obo", "files": str(ontology)}], "max_tokens": 32, "held_out": 0.3},
        "stages": {
            "adapt": {"kind": "pretrain", "student": {"start": "checkpoint", "model": "teacher"}, "training": training},
            "distill": {
                "kind": "distill",
                "teacher": "stage:adapt",
                "student": layers,
                "objective": {"mlm": {"lambda": 1}, "compact": {"layer_map": [1, 3]}, "output": {"lambda": 5}},
                "training": {**training, "evaluate_every_steps": 2, "export_at_steps": [1]},
            },
            "control": {"kind": "pretrain", "student": {**layers, "model": "stage:adapt"}, "training": training},
            "finetune": {
                "kind": "finetune",
                "models": {"teacher": "stage:adapt", "student": "stage:distill", "control": "stage:control"},
                "reference": "teacher",
                "control": "control",
                "tasks": {
                    "mentions": {"kind": "concept_mentions", **task},
                    "branches": {"kind": "concept_branches", "root": "X:1", **task},
                },
                "tuning": {"lr": 1e-3, "head_lr": 1e-2, "epochs": 4, "batch": 8, "max_tokens": 32},
                "measuring": {"sentences": 4, "rounds": 1},
            },
        },
    }
    path = folder / "job.yaml"
    path.write_text(yaml.safe_dump(spec, sort_keys=False))
    return path


@pytest.fixture(scope="module")
def finished(hermetic_environment: dict[str, str], folder: Path, job: Path) -> tuple[Path, str]:
    """The run's folder and what the command printed, in an interpreter that does its imports and starts its own fork
    server."""
    done = commands.as_typed(["run", str(job)], folder, hermetic_environment)
    assert done.returncode == 0, done.stderr
    [run] = [path for path in (folder / "runs").iterdir() if path.name.startswith("small-")]
    return run, done.stdout


def test_the_table_and_the_places_to_look_are_printed(finished: tuple[Path, str]) -> None:
    run, printed = finished
    for words in (
        "| teacher",
        "| student",
        "| control",
        "retained",
        "mentions: student",
        str(run / "report"),
        "compactbio ui",
    ):
        assert words in printed
    assert (run / "report" / "table.md").read_text().strip() in printed


def test_the_report_is_one_self_contained_page(finished: tuple[Path, str]) -> None:
    page = (finished[0] / "report" / "index.html").read_text()
    assert page.count("<svg") == 5  # three loss curves, score against size and against time
    assert "<script" not in page
    assert 'src="http' not in page and 'href="http' not in page


def test_the_exported_student_loads_with_plain_transformers(finished: tuple[Path, str]) -> None:
    import torch
    from transformers import AutoModelForMaskedLM, AutoTokenizer

    model_folder = finished[0] / "distill" / "model"
    model, info = AutoModelForMaskedLM.from_pretrained(model_folder, output_loading_info=True)
    assert not any(info.values())
    assert model.config.num_hidden_layers == 2
    assert {path.suffix for path in model_folder.iterdir()} <= {".safetensors", ".json", ".txt", ".md"}
    card = (model_folder / "README.md").read_text()
    assert "small-distill" in card
    [snippet] = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    exec(snippet.replace("PATH", str(model_folder)))  # what the card tells people to do
    tokens = AutoTokenizer.from_pretrained(model_folder)("the [MASK] was weak", return_tensors="pt")
    assert torch.isfinite(model(**tokens).logits).all()


def test_a_student_is_exported_along_the_run_as_it_was_then(finished: tuple[Path, str]) -> None:
    import torch
    from transformers import AutoModelForMaskedLM

    folders = [finished[0] / "distill" / name for name in ("model-step-1", "model")]
    early, late = (AutoModelForMaskedLM.from_pretrained(folder) for folder in folders)
    assert "1 of 3 steps" in (folders[0] / "README.md").read_text()
    assert any(not torch.equal(a, b) for a, b in zip(early.parameters(), late.parameters(), strict=True))


def test_mlflow_has_every_run_metric_and_model(finished: tuple[Path, str]) -> None:
    import mlflow

    run, _ = finished
    client = mlflow.MlflowClient(f"sqlite:///{run.parent / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("small")
    runs = {found.info.run_name: found for found in client.search_runs([experiment.experiment_id])}
    assert {found.info.status for found in runs.values()} == {"FINISHED"}
    parent = runs[run.name]
    stages = {"corpus", "adapt", "distill", "control", "finetune"}
    assert {
        name for name, found in runs.items() if found.data.tags.get("mlflow.parentRunId") == parent.info.run_id
    } == stages
    cells = {f"{model}-{task}-s1" for model in ("teacher", "student", "control") for task in ("mentions", "branches")}
    assert set(runs) == {run.name} | stages | cells

    distill = runs["distill"]
    series = client.get_metric_history(distill.info.run_id, "loss/compact.attention")
    assert [point.step for point in series] == [1, 2, 3]
    points = client.get_metric_history(distill.info.run_id, "held_out/agreement")
    assert [point.step for point in points] == [0, 2, 3]
    assert all(0 <= point.value <= 1 for point in points)
    held_out = distill.data.metrics
    assert held_out["held_out/perplexity"] == pytest.approx(math.exp(held_out["held_out/loss/mlm"]))
    assert distill.data.params["training.zero_stage"] == "2"
    manifest = json.loads(next((run.parent / "stores").iterdir()).joinpath("manifest.json").read_text())
    assert distill.data.tags["data_fingerprint"] == manifest["fingerprint"]
    assert {"git_sha", "spec_digest", "teacher"} <= set(parent.data.tags)
    tagged = [found.data.tags for name, found in runs.items() if name != "corpus"]
    assert {(tags["seed"], tags["data_fingerprint"]) for tags in tagged} == {("1", manifest["fingerprint"])}
    assert set(parent.data.metrics) == {f"held_out_mlm/{stage}" for stage in ("adapt", "distill", "control")} | {
        f"score/{model}/{task}" for model in ("teacher", "student", "control") for task in ("mentions", "branches")
    }
    assert runs["student-mentions-s1"].data.tags["student"] == "small-distill"
    wanted = {"spec.yaml", "README.md", "report/index.html", "report/table.md"}
    assert wanted <= set(_artifacts(client, distill.info.run_id))
    assert {"spec.yaml", "report/index.html"} <= set(_artifacts(client, parent.info.run_id))

    students = client.search_model_versions("tags.teacher = 'small-adapt'")
    assert [version.name for version in students] == ["small-distill"]
    assert client.get_model_version_by_alias("small-distill", "candidate").version == students[0].version
    assert students[0].tags["starts_from"] == "small-adapt"
    assert students[0].tags["job"] == parent.info.run_name
    assert students[0].tags["data_fingerprint"] == manifest["fingerprint"]
    assert "# small-distill" in students[0].description

    mlflow.set_tracking_uri(f"sqlite:///{run.parent / 'mlflow.db'}")
    model = mlflow.pyfunc.load_model("models:/small-distill/1")
    assert model.metadata.signature is not None
    assert len(model.predict(["the [MASK] was weak"])) == 1


def _artifacts(client: Any, run_id: str, folder: str | None = None) -> list[str]:
    """The paths of a run's files."""
    found = client.list_artifacts(run_id, folder)
    return [path for item in found for path in (_artifacts(client, run_id, item.path) if item.is_dir else [item.path])]


def test_a_score_can_be_computed_again_from_its_counts(finished: tuple[Path, str]) -> None:
    import numpy as np

    from compactbio.evaluation.score import value

    results = json.loads((finished[0] / "results.json").read_text())
    for cell in results["finetune"]["cells"]:
        folder = finished[0] / "finetune" / f"{cell['model_name']}-{cell['task_name']}-s1"
        counts = np.load(folder / "counts.npy")
        assert cell["scores"][cell["main"]] == pytest.approx(value(counts, cell["main"]))
        assert len(counts) == cell["sizes"]["test"]


def test_report_writes_the_same_page_again(compactbio: Compactbio, folder: Path, finished: tuple[Path, str]) -> None:
    page = finished[0] / "report" / "index.html"
    before = page.read_text()
    page.unlink()
    done = compactbio(folder, "report", str(finished[0]))
    assert done.returncode == 0, done.stderr
    assert page.read_text().count("<svg") == before.count("<svg")


def test_plan_prints_the_arithmetic(compactbio: Compactbio, folder: Path, job: Path) -> None:
    done = compactbio(folder, "plan", str(job))
    assert done.returncode == 0, done.stderr
    for words in ("8 rows = 2 workers x 1 micro-batches x 4 rows", "0 <- 1, 1 <- 3", "ZeRO 2", "1 Ray Train starts"):
        assert words in done.stdout


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["stages.distill.objectve={}"], "stages.distill.objectve: unknown key; did you mean 'objective'?"),
        (["teacher=./nowhere"], "teacher: there is no file or folder './nowhere'"),
        (["teacher=package:no_such_package/model"], "teacher: the Python package 'no_such_package' is not installed"),
        (["teacher=some/hub-name"], "to download it set online: true"),
        (["corpus.sources=[{format: obo, files: gone.txt}]"], "corpus.sources.0.files: there is no file 'gone.txt'"),
        (["corpus.sources=[{format: lines, files: empty.txt}]"], "corpus.sources: 'empty.txt' holds no text"),
        (["corpus.sources=[{format: obo, files: empty.txt}]"], "no [Term] in it"),
        (["stages.distill.student.layers=[1, 9]"], "stages.distill.student.layers: [1, 9]"),
        (["stages.distill.objective.compact.layer_map=[1, 7]"], "the teacher has 4 layers"),
        (["cluster.num_workers=4", "cluster.cpus_per_worker=99"], "cluster.num_workers: 4 workers x 99 CPUs"),
        (["cluster.address=127.0.0.1:9"], "cluster.address: cannot join Ray at '127.0.0.1:9'"),
    ],
)
def test_bad_input_is_one_message_and_leaves_nothing(
    refused: Callable[..., str], folder: Path, job: Path, overrides: list[str], words: str
) -> None:
    (folder / "empty.txt").write_text("\n\n")
    before = sorted(folder.rglob("*"))
    arguments = [part for override in [*overrides, "storage=elsewhere"] for part in ("--set", override)]
    assert words in refused(folder, "run", str(job), *arguments)
    assert [path for path in sorted(folder.rglob("*")) if path not in before] == []


def test_bad_input_is_an_exit_code_of_the_process(compactbio: Compactbio, folder: Path, job: Path) -> None:
    done = compactbio(folder, "run", str(job), "--set", "teacher=./nowhere", "--set", "storage=elsewhere")
    assert done.returncode == 2, done.stderr
    assert "teacher: there is no file or folder './nowhere'" in done.stderr
    assert "Traceback" not in done.stderr
