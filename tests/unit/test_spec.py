from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml

from compactbio.launch.plan import describe
from compactbio.launch.run_folder import locked, resumed_spec, write_spec
from compactbio.spec.base import SpecError
from compactbio.spec.job import Cluster, CorpusJob, JobSpec
from compactbio.spec.lineage import model_name, stage_tags
from compactbio.spec.load import load, load_any, load_corpus_job
from compactbio.spec.plan import Precision, plan_batch, plan_precision, plan_workers
from compactbio.spec.secrets import without_password
from compactbio.spec.sweep_load import is_sweep
from compactbio.spec.training import Training

QUICKSTART = Path(__file__).parents[2] / "jobs" / "quickstart.yaml"
TRAINING = "stages.distill.training"
SHORT = "steps: 1, global_batch: 8, lr: 0.1"


@pytest.mark.parametrize(
    "path",
    [path for path in sorted(QUICKSTART.parent.rglob("*.yaml")) if not is_sweep(path)],  # those: test_sweep.py
    ids=lambda path: path.name,
)
def test_every_shipped_job_loads(path: Path) -> None:
    if path.parent.name == "data":
        assert load_corpus_job(path).corpus.sources
    else:
        assert load(path).stages


@pytest.mark.parametrize(
    ("recipe", "millions", "paper"),
    [
        ("distill/distilbiobert", "65.2", "65 M"),
        ("distill/compactbiobert", "65.2", "65 M"),
        ("distill/tinybiobert", "13.8", "15 M"),
        ("pretrain/biodistilbert-cased", "65.2", "65 M"),
        ("pretrain/biodistilbert-uncased", "66.4", "65 M"),
        ("pretrain/biotinybert", "14.25", "15 M"),
        ("pretrain/biomobilebert", "24.6", "25 M"),
    ],
)
def test_the_seven_recipes_plan_to_the_sizes_of_their_paper(recipe: str, millions: str, paper: str) -> None:
    spec = load(QUICKSTART.parent / f"{recipe}.yaml", ["online=false"])
    planned = describe(spec)
    [size] = re.findall(r"([\d.]+) M parameters without pooler and head \(paper: (.*)\)", planned)
    digits = len(millions.partition(".")[2])
    assert (f"{float(size[0]):.{digits}f}", size[1]) == (millions, paper)
    assert "192 rows = 8 workers x 1 micro-batches x 24 rows" in planned
    assert "not ready to run here:" in planned  # neither PubMed nor eight GPUs are


def test_a_plan_says_how_layers_and_classes_are_weighed() -> None:
    changes = ["layer_decay=0.9", "freeze_layers=2", "freeze_embeddings=true", "class_weights=balanced", "patience=3"]
    overrides = [f"stages.finetune.tuning.{change}" for change in changes]
    tasks = [f"stages.finetune.tasks.{name}.dev_share=0.1" for name in ("mentions", "systems")]
    [tuning] = re.findall(r"tuning +all: (.*)", describe(load(QUICKSTART, overrides + tasks)))
    assert tuning == (
        "1 epochs of batch 4, lr 0.0001, the last layer's 0.03, times 0.9 for each layer down, cosine, the lowest 2 "
        "layers frozen, embeddings frozen, balanced class weights, at most 96 tokens, the last weights, scored on dev "
        "every epoch, stopped after 3 without gain"
    )


@pytest.mark.parametrize(
    ("override", "field", "words"),
    [
        (f"{TRAINING}.stpes=3", f"{TRAINING}.stpes", "did you mean 'steps'"),
        ("storage=ftp://bucket/runs", "storage", "is nothing that runs are kept in"),
        (f"{TRAINING}.lr=7", f"{TRAINING}.lr", "less than or equal to 1"),
        (f"{TRAINING}.steps=1.5", f"{TRAINING}.steps", "1.5"),
        (f"{TRAINING}.steps=true", f"{TRAINING}.steps", "integer"),
        (f"{TRAINING}.zero_stage=4", f"{TRAINING}.zero_stage", "less than or equal to 3"),
        (f"{TRAINING}.global_batch=63", f"{TRAINING}.global_batch", "2 workers"),
        (f"{TRAINING}.micro_batch=5", f"{TRAINING}.micro_batch", "5 rows x 2 workers"),
        (f"{TRAINING}.warmup_steps=99999", f"{TRAINING}.warmup_steps", "more than"),
        (f"{TRAINING}.precision=fp16", f"{TRAINING}.precision", "on CPUs use fp32 or bf16"),
        (f"{TRAINING}={{{SHORT}, precision: bf16, zero_stage: 0}}", f"{TRAINING}.zero_stage", "ZeRO 1"),
        (f"{TRAINING}={{{SHORT}, offload_optimiser: true, zero_stage: 0}}", f"{TRAINING}.offload_optimiser", "ZeRO 1"),
        (f"{TRAINING}.compile=true", f"{TRAINING}.compile", "hide their attention"),
        ("cluster.min_workers=3", "cluster.min_workers", "more than num_workers 2"),
        (
            "stages.distill.objective.alignment={lambda: 1}",
            "stages.distill.objective.alignment",
            "did you mean 'align'",
        ),
        ("stages.distill.objective.output=null", "", None),
        (
            "stages.distill.objective.compact.layer_map=[1, 3]",
            "stages.distill.objective.compact.layer_map",
            "3 student",
        ),
        ("stages.distill.teacher=stage:nothing", "stages.distill.teacher", "stage:adapt"),
        ("stages.finetune.reference=nobody", "stages.finetune.reference", "teacher, student, control"),
        ("corpus=null", "corpus", "text"),
        ("corpus.min_tokens=900", "corpus.min_tokens", "more than max_tokens 96"),
        ("seed=-1", "seed", "greater than or equal to 0"),
        ("stages.distill.kind=distil", "stages.distill", "pretrain"),
    ],
)
def test_what_is_wrong_is_named_with_its_field(override: str, field: str, words: str | None) -> None:
    if words is None:
        load(QUICKSTART, [override])
        return
    with pytest.raises(SpecError) as caught:
        load(QUICKSTART, [override])
    [problem] = caught.value.problems
    assert problem.path == field
    assert words in problem.message


def test_every_problem_is_named_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "job.yaml"
    path.write_text("name: x\nsede: 1\nteacher: t\nstages:\n  a:\n    kind: pretrain\n    studnet: 1\n")
    with pytest.raises(SpecError) as caught:
        load(path)
    text = str(caught.value)
    assert f"{path}:2: sede: unknown key; did you mean 'seed'?" in text
    assert f"{path}:7: stages.a.studnet: unknown key; did you mean 'student'?" in text
    assert f"{path}:5: stages.a.training: missing" in text


@pytest.mark.parametrize("text", ["", "- a\n- b\n", "name: [", "name: a\nname: b\n"])
def test_what_is_no_spec_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "job.yaml"
    path.write_text(text)
    with pytest.raises(SpecError, match=str(path)):
        load(path)


def test_scientific_notation_is_a_number() -> None:
    assert load(QUICKSTART, [f"{TRAINING}.lr=5e-4"]) == load(QUICKSTART, [f"{TRAINING}.lr=0.0005"])


def test_a_number_in_a_path_is_a_place_in_a_list() -> None:
    place = "stages.distill.objective.compact"
    spec = load(
        QUICKSTART, [f"{place}.layer_lambdas=[1, 1, 1]", f"{place}.layer_lambdas.2=0.25", f"{place}.layer_map.0=0"]
    )
    compact = spec.resolved()["stages"]["distill"]["objective"]["compact"]  # type: ignore[index]
    assert (compact["layer_lambdas"], compact["layer_map"]) == ([1, 1, 0.25], [0, 3, 5])
    for wrong in ("3", "last", "-1"):
        with pytest.raises(SpecError, match=f"'{wrong}' is not one of the list's places, 0 to 2"):
            load(QUICKSTART, [f"{place}.layer_map.{wrong}=1"])


def test_the_digest_changes_with_any_value_and_a_resolved_spec_is_the_same_spec(tmp_path: Path) -> None:
    spec = load(QUICKSTART)
    assert spec.digest() != load(QUICKSTART, ["seed=2"]).digest()
    resolved = tmp_path / "spec.yaml"
    resolved.write_text(spec.canonical())
    assert load(resolved) == spec


def test_every_field_is_described_in_the_schema() -> None:
    schema = JobSpec.model_json_schema(by_alias=True)
    undescribed = [
        f"{section}.{name}"
        for section, definition in schema["$defs"].items()
        for name, field in definition.get("properties", {}).items()
        if "description" not in json.dumps(field) and "$ref" not in json.dumps(field)
    ]
    assert undescribed == []


def test_batch_arithmetic() -> None:
    spec = load(QUICKSTART, [f"{TRAINING}.global_batch=96", f"{TRAINING}.micro_batch=null"])
    plan = plan_batch(spec.training_stages()["distill"].training, spec.cluster.num_workers)
    assert (plan.num_workers, plan.accumulation, plan.micro_batch) == (2, 2, 24)


@pytest.mark.parametrize(
    ("available", "fewest", "micro", "workers"),
    [
        (8, None, None, 8),
        (9, None, None, 8),
        (7, None, None, None),
        (7, 1, None, 6),
        (7, 1, 8, 6),
        (5, 1, 24, 4),
        (3, 4, None, None),
    ],
)
def test_how_many_workers_a_job_goes_on_with(
    available: int, fewest: int | None, micro: int | None, workers: int | None
) -> None:
    training = Training(steps=1, global_batch=192, lr=0.1, micro_batch=micro)
    assert plan_workers(available, [training], Cluster(num_workers=8, min_workers=fewest)) == workers


@pytest.mark.parametrize(
    ("given", "gpu", "stage", "precision"),
    [(None, True, 1, "bf16"), (None, True, 0, "fp32"), (None, False, 1, "fp32"), ("fp32", True, 1, "fp32")],
)
def test_precision_is_that_of_the_hardware_unless_told(
    given: Precision | None, gpu: bool, stage: int, precision: Precision
) -> None:
    training = Training(steps=1, global_batch=8, lr=0.1, precision=given, zero_stage=stage)
    assert plan_precision(training, Cluster(use_gpu=gpu)) == precision


def test_a_resumed_run_keeps_its_spec_unless_changes_are_allowed(tmp_path: Path) -> None:
    spec = load(QUICKSTART)
    write_spec(spec, tmp_path)
    assert resumed_spec(tmp_path, None, [], allow_changes=False) == spec
    assert resumed_spec(tmp_path, QUICKSTART, [], allow_changes=False) == spec
    changes = [f"{TRAINING}.lr=0.5", "seed=2"]
    with pytest.raises(
        SpecError, match=r"seed: 2 instead of 1\nstages.distill.training.lr: 0.5 instead of 0.0005\n.*allow"
    ):
        resumed_spec(tmp_path, None, changes, allow_changes=False)
    assert resumed_spec(tmp_path, None, changes, allow_changes=True) == load(QUICKSTART, changes)
    with pytest.raises(SpecError, match="not the folder of a run"):
        resumed_spec(tmp_path / "nothing", None, [], allow_changes=False)
    with locked(tmp_path), pytest.raises(SpecError, match="another process is running"), locked(tmp_path):
        pass


def test_a_scaled_job_is_its_base_with_what_stands_in(tmp_path: Path) -> None:
    base = {"name": "large", "teacher": "some/teacher", "corpus": {"sources": [{"format": "lines", "files": "a"}]}}
    training = {"steps": 1000, "global_batch": 8, "lr": 1e-3}
    student = {"start": "checkpoint", "model": "teacher"}
    base["stages"] = {"main": {"kind": "pretrain", "student": student, "training": training}}
    (tmp_path / "large.yaml").write_text(yaml.safe_dump(base))
    path = tmp_path / "small.yaml"
    path.write_text(
        "base: large.yaml\nname: small\n"
        "stages:\n  first: {kind: pretrain, student: {start: checkpoint, model: teacher}, "
        "training: {steps: 1, global_batch: 2, lr: 1e-3}}\n"
        "scale:\n  stages.main.training.steps: 10\n  seed: 7\n"
    )
    spec = load(path, ["seed=8"])
    assert (spec.name, spec.teacher, spec.seed, list(spec.stages)) == ("small", "some/teacher", 8, ["first", "main"])
    assert spec.training_stages()["main"].training.steps == 10
    assert spec.scale == {"stages.main.training.steps": "10 instead of 1000", "seed": "7 instead of null"}
    path.write_text(path.read_text().replace("steps: 10", "stpes: 10"))
    with pytest.raises(SpecError, match=r"small.yaml:6: stages.main.training.stpes: unknown key; did you mean 'steps'"):
        load(path)
    (tmp_path / "third.yaml").write_text("base: small.yaml\nscale: {}\n")
    with pytest.raises(SpecError, match=r"third.yaml:1: base: 'small.yaml' stands on a base itself"):
        load(tmp_path / "third.yaml")
    (tmp_path / "fourth.yaml").write_text("base: gone.yaml\nscale: {}\n")
    with pytest.raises(SpecError, match=r"fourth.yaml:1: base: cannot read"):
        load(tmp_path / "fourth.yaml")


def test_an_address_with_a_password_is_refused_and_not_shown() -> None:
    with pytest.raises(SpecError, match=r"tracking\.uri: an address with a password") as caught:
        load(QUICKSTART, ["tracking.uri=https://me:hunter2@host/x"])
    assert "hunter2" not in str(caught.value)
    assert without_password("cannot reach postgresql://me:hunter2@host:5/x, https://host/a:b@c") == (
        "cannot reach postgresql://***@host:5/x, https://host/a:b@c"
    )


def test_lineage_names_hold_outside_the_job() -> None:
    spec = load(QUICKSTART)
    tags = stage_tags(spec, "distill")
    assert tags["student"] == "quickstart-distill"
    assert tags["teacher"] == "quickstart-adapt"  # in the spec `stage:adapt`
    assert stage_tags(spec, "adapt")["starts_from"] == spec.teacher
    assert "teacher" not in stage_tags(spec, "adapt")
    assert model_name(spec, "some/model") == "some/model"


def test_the_kind_of_a_spec_shows_in_its_sections() -> None:
    assert isinstance(load_any(QUICKSTART, ["cluster.address=null"]), JobSpec)
    assert isinstance(load_any(QUICKSTART.parent / "data" / "pubmed.yaml"), CorpusJob)
