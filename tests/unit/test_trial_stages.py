from __future__ import annotations

import json
from pathlib import Path

from task_files import make_ner

from compactbio.launch.stopping import Stopping
from compactbio.launch.trial import TrialRun, fail_trial
from compactbio.launch.trial_scores import scores
from compactbio.launch.trial_stages import TrialRequest, run_stages
from compactbio.spec.load import from_raw
from compactbio.spec.sweep import Latency, Score
from compactbio.tracking.journal import Journal


def a_trial(tmp_path: Path, tiny_model: Path) -> TrialRequest:
    stage = {
        "kind": "finetune",
        "models": {"student": str(tiny_model)},
        "reference": "student",
        "tasks": {"ner": make_ner(tmp_path / "ner")},
        "tuning": {"lr": 1e-3, "epochs": 1, "batch": 8, "max_tokens": 32, "score_dev": True},
        "measuring": {"sentences": 4, "rounds": 1},
    }
    return TrialRequest(
        spec=from_raw({"name": "tried", "cluster": {"num_workers": 1}, "stages": {"finetune": stage}}),
        values={},
        objectives=(
            Score(kind="score", stage="finetune", model="student"),
            Latency(kind="latency", stage="finetune", model="student"),
        ),
        folder=tmp_path / "trial-0000",
        tags={"sweep": "tried"},
        absent={"finetune": {}},
    )


def test_a_fine_tuned_trial_scores_by_the_development_set_and_is_tracked(tmp_path: Path, tiny_model: Path) -> None:
    request = a_trial(tmp_path, tiny_model)
    request.folder.mkdir()
    found = run_stages(request, Stopping(request.folder), Journal(request.folder))
    [cell] = found["finetune"]["cells"]
    score, seconds = scores(request, found)
    assert score == cell["dev_score"] and seconds > 0
    events = [json.loads(line) for line in (request.folder / "finetune" / "journal.jsonl").read_text().splitlines()]
    assert [event["kind"] for event in events] == ["start", "metrics", "end"]


def test_a_trial_that_has_failed_is_not_run_again(tmp_path: Path, tiny_model: Path) -> None:
    request = a_trial(tmp_path, tiny_model)
    Journal(request.folder / "finetune").start("finetune", {})
    fail_trial(request.folder, request.tags, request.values, "DivergedError: no number")
    again = TrialRun(request)  # after a driver that was killed before it had noted that
    report = again.next_report()
    again.stop()
    assert report.over and report.failure == "DivergedError: no number"
    assert not (request.folder / "result.json").exists()
