from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from compactbio.tracking import metrics, prometheus
from compactbio.tracking.journal import Follower, Journal
from compactbio.tracking.prometheus import Gauge, GaugeSink

Published = dict[tuple[str, str, str], float]


class Run:
    """A run's folder with journals, and what was published of it: (gauge, stage, term) to value."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "small-1"
        self.job, self.stage, self.task = (
            Journal(self.folder / part) for part in ("", "distill", "finetune/student-ner")
        )
        self.job.start("small-1", {"recipe": "small"})
        self.stage.start("distill", {"recipe": "small", "stage": "distill"})
        self.task.start("student-ner", {"stage": "finetune"})
        self.published: Published = {}
        self.sink = GaugeSink("small", self.folder, ["distill"], self._publish)
        self.follower = Follower(self.folder)

    def _publish(self, gauge: Gauge, labels: Mapping[str, str], value: float) -> None:
        assert set(labels) == set(gauge.labels)
        assert (labels["recipe"], labels["run"]) == ("small", "small-1")
        self.published[gauge.name, labels["stage"], labels.get("term", "")] = value

    def seen(self) -> Published:
        self.sink.catch_up(self.follower)
        return self.published


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(tmp_path)


def test_names_have_their_unit_once() -> None:
    assert prometheus.LOSS.name == "compactbio_loss_nats"
    assert prometheus.TOKENS_PER_SECOND.name == "compactbio_tokens_per_second"
    assert prometheus.GRADIENT_NORM.name == "compactbio_gradient_norm"
    assert prometheus.CHECKPOINT_TIME.name == "compactbio_checkpoint_time_seconds"
    assert prometheus.LOSS_BY_TERM.name == "compactbio_loss_by_term"
    assert prometheus.HELD_OUT_BY_TERM.name == "compactbio_held_out_loss_by_term"
    assert len({gauge.name for gauge in prometheus.ALL}) == len(prometheus.ALL)


def test_what_rules_compare_with_is_there_from_the_start(run: Run) -> None:
    seen = run.seen()
    assert seen["compactbio_running", "distill", ""] == 1.0
    assert seen["compactbio_skipped_steps", "distill", ""] == 0.0
    assert seen["compactbio_restarts", "", ""] == 0.0
    started = seen["compactbio_report_time_seconds", "distill", ""]
    assert seen["compactbio_checkpoint_time_seconds", "distill", ""] == started
    assert ("compactbio_running", "finetune/student-ner", "") not in seen  # it saves no checkpoints


def test_a_report_is_published_under_its_terms(run: Run) -> None:
    values = {"loss": 3.5, "loss/mlm": 2.0, "held_out/loss/mlm": 2.5, "agreement": 0.5, "tokens_per_second": 100.0}
    run.stage.metrics(values, 7, num_steps=10)
    run.task.metrics({"loss": 1.0}, 3, num_steps=5)
    seen = run.seen()
    assert seen["compactbio_loss_nats", "distill", ""] == 3.5
    assert seen["compactbio_loss_by_term", "distill", "mlm"] == 2.0
    assert seen["compactbio_held_out_loss_by_term", "distill", "mlm"] == 2.5
    assert seen["compactbio_tokens_per_second", "distill", ""] == 100.0
    assert seen["compactbio_steps", "distill", ""] == 7.0
    assert seen["compactbio_loss_nats", "finetune/student-ner", ""] == 1.0
    assert not [name for name, _, _ in seen if "agreement" in name]


def test_the_trials_of_a_sweep_are_published_each_under_its_own_stage(run: Run) -> None:
    trial = Journal(run.folder / "trial-0003" / "distill")
    trial.start("distill", {})
    trial.metrics({"loss": 2.0}, 4, num_steps=10)
    run.stage.metrics({"loss": 3.0}, 5, num_steps=10)
    seen = run.seen()
    stage = "trial-0003/distill"
    assert (seen["compactbio_running", stage, ""], seen["compactbio_steps", stage, ""]) == (1.0, 4.0)
    assert (seen["compactbio_loss_nats", stage, ""], seen["compactbio_loss_nats", "distill", ""]) == (2.0, 3.0)
    trial.end("KILLED")
    assert run.seen()["compactbio_running", stage, ""] == 0.0
    assert run.seen()["compactbio_running", "distill", ""] == 1.0


def test_times_restarts_and_the_end(run: Run) -> None:
    later = 4e9
    run.stage.metrics({metrics.CHECKPOINT_TIME.name: later}, 7)
    for _ in range(2):
        run.job.count(metrics.RESTARTS.name)
    run.stage.end()
    seen = run.seen()
    assert seen["compactbio_checkpoint_time_seconds", "distill", ""] == later
    assert ("compactbio_steps", "distill", "") not in seen  # a checkpoint is no report
    assert seen["compactbio_restarts", "", ""] == 2.0
    assert seen["compactbio_running", "distill", ""] == 0.0


def test_a_run_that_goes_on_has_not_been_stalled_meanwhile(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.time", lambda: 4e9)
    published: Published = {}
    sink = GaugeSink(
        "small", run.folder, ["distill"], lambda gauge, labels, value: published.update({(gauge.name, "", ""): value})
    )
    sink.catch_up(Follower(run.folder))
    assert published["compactbio_report_time_seconds", "", ""] == 4e9


def test_restarts_are_counted_on_when_a_run_is_resumed(tmp_path: Path) -> None:
    for _ in range(3):
        Journal(tmp_path).count("restarts")
    [(_, events)] = Follower(tmp_path).new_events()
    assert [event["values"]["restarts"] for event in events] == [1.0, 2.0, 3.0]
