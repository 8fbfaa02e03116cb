from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from compactbio.reporting import dashboards
from compactbio.tracking import prometheus

needs_promtool = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="promtool is not here: apt-get install prometheus"
)
LABELS = 'recipe="small", run="small-1", stage="distill", WorkerId="{worker}"'


def test_the_committed_files_are_what_the_generator_gives(root: Path, tmp_path: Path) -> None:
    for path in dashboards.write(tmp_path):
        committed = root / "dashboards" / path.name
        assert committed.read_text() == path.read_text(), "run: compactbio dashboards dashboards"


def test_every_gauge_is_drawn_and_every_query_names_a_gauge() -> None:
    queries = [panel.query for panel in dashboards.panels()] + [alert.expression for alert in dashboards.alerts()]
    used = {name for query in queries for name in re.findall(r"ray_(compactbio_\w+)", query)}
    assert used == {gauge.name for gauge in prometheus.ALL}


def test_panels_do_not_overlap(tmp_path: Path) -> None:
    dashboards.write(tmp_path)
    places = [panel["gridPos"] for panel in json.loads((tmp_path / dashboards.DASHBOARD).read_text())["panels"]]
    assert len({(place["x"], place["y"]) for place in places}) == len(places) == len(dashboards.panels())
    assert all(place["x"] + place["w"] <= 24 for place in places)


@needs_promtool
def test_promtool_accepts_configuration_and_rules(root: Path) -> None:
    for kind, name in (("config", dashboards.CONFIG), ("rules", dashboards.RULES)):
        done = subprocess.run(
            ["promtool", "check", kind, str(root / "dashboards" / name)], capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr


def series(name: str, values: str, worker: str = "a") -> dict[str, str]:
    return {"series": f"ray_compactbio_{name}{{{LABELS.format(worker=worker)}}}", "values": values}


@needs_promtool
def test_alerts_fire_when_they_should_and_only_then(root: Path, tmp_path: Path) -> None:
    """Time starts at 0: for 30 minutes steps are reported and saved, then neither; at 60 minutes a step is skipped, at
    180 the stage ends. The driver starts anew at 20 minutes, so that there is another WorkerId from then on."""
    inputs = [
        series("running", "1+0x20 _x300"),
        series("running", "_x20 1+0x160 0+0x120", "b"),
        series("report_time_seconds", "0+60x20 _x300"),
        series("report_time_seconds", "_x20 1200+60x10 1800+0x300", "b"),
        series("checkpoint_time_seconds", "_x20 1200+60x10 1800+0x300", "b"),
        series("skipped_steps", "0+0x59 1+0x300", "b"),
    ]
    labels = {"recipe": "small", "run": "small-1", "stage": "distill", "severity": "warning"}
    expected = {
        "CompactbioStalled": {29: False, 40: False, 48: True, 179: True, 185: False},
        "CompactbioNotFinite": {59: False, 60: True, 70: True, 90: False},
        "CompactbioNoCheckpoint": {100: False, 150: False, 153: True, 185: False},
    }
    text = (root / "dashboards" / dashboards.RULES).read_text()
    summaries = {rule["alert"]: rule for rule in yaml.safe_load(text)["groups"][0]["rules"]}
    assert summaries.keys() == expected.keys()
    tests = [
        {"eval_time": f"{minute}m", "alertname": name, "exp_alerts": [{"exp_labels": labels}] if fires else []}
        for name, minutes in expected.items()
        for minute, fires in minutes.items()
    ]
    bare = yaml.safe_load(text)
    for rule in bare["groups"][0]["rules"]:
        del rule["annotations"]  # their values change from minute to minute
    (tmp_path / "alerts.yml").write_text(yaml.safe_dump(bare))
    case = {"interval": "1m", "input_series": inputs, "alert_rule_test": tests}
    (tmp_path / "test.yml").write_text(yaml.safe_dump({"rule_files": ["alerts.yml"], "tests": [case]}))
    done = subprocess.run(["promtool", "test", "rules", str(tmp_path / "test.yml")], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
