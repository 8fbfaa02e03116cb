"""A real Prometheus that finds a live run through Ray's service discovery, and answers every query of the dashboard."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from faults import Job, end, job

from compactbio.launch.environment import DASHBOARD
from compactbio.reporting import dashboards

pytestmark = pytest.mark.skipif(
    shutil.which("prometheus") is None, reason="Prometheus is not here: apt-get install prometheus"
)


@pytest.fixture
def temporary_folder() -> Iterator[Path]:
    """Ray's, apart from that of other jobs on this machine, and short: the paths of its sockets may not be long."""
    with tempfile.TemporaryDirectory(prefix="cb", dir="/tmp", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


@pytest.fixture
def live(
    hermetic_environment: dict[str, str], temporary_folder: Path, tmp_path: Path, tiny_model: Path, tiny_corpus: Path
) -> Iterator[Job]:
    """A job that would take an hour, behind its second checkpoint."""
    environment = {
        **hermetic_environment,
        DASHBOARD: "1",  # it writes the file in which Prometheus finds the nodes
        "RAY_TMPDIR": str(temporary_folder),
        "RAY_metrics_report_interval_ms": "1000",
    }
    running = Job(tmp_path / "job", environment, job(tiny_model, tiny_corpus, steps=100_000))
    running.start()
    try:
        running.until_saved(40)
        yield running
    finally:
        running.close()


@pytest.fixture
def prometheus(live: Job, temporary_folder: Path, tmp_path: Path) -> Iterator[str]:
    """The address of a Prometheus under the generated configuration, on Ray's file in the folder of this test."""
    folder = tmp_path / "prometheus"
    dashboards.write(folder)
    config = yaml.safe_load((folder / dashboards.CONFIG).read_text())
    [discovery] = config["scrape_configs"][0]["file_sd_configs"]
    inside = Path(dashboards.SERVICE_DISCOVERY).relative_to("/tmp")
    discovery["files"] = [str(temporary_folder / inside)]
    config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    (folder / dashboards.CONFIG).write_text(yaml.safe_dump(config))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    command = ["prometheus", f"--config.file={folder / dashboards.CONFIG}", f"--web.listen-address={address}"]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen([*command, f"--storage.tsdb.path={folder / 'data'}"], stdout=log, stderr=log)
        try:
            yield f"http://{address}"
        finally:
            end(process)


def ask(address: str, path: str, **parameters: str) -> Any:
    """Prometheus' answer; None while it does not answer. A query that is not understood is an HTTP error."""
    try:
        with urllib.request.urlopen(f"{address}/api/v1/{path}?{urllib.parse.urlencode(parameters)}") as reply:
            answer = json.load(reply)
    except urllib.error.HTTPError as error:
        if error.code == 503:  # it is starting
            return None
        raise AssertionError(error.read()) from None
    except (urllib.error.URLError, ConnectionError):
        return None
    assert answer["status"] == "success"
    return answer["data"]


def test_every_panel_has_data_of_a_live_run_and_every_rule_is_evaluated(live: Job, prometheus: str) -> None:
    committed = json.loads((Path(__file__).parents[2] / "dashboards" / dashboards.DASHBOARD).read_text())
    waiting = {panel["title"]: panel["targets"][0]["expr"] for panel in committed["panels"]}
    found: dict[str, list[dict[str, Any]]] = {}
    give_up = time.monotonic() + 180
    while waiting:
        assert time.monotonic() < give_up, f"no data for {waiting}\n{live.log}"
        for title, query in list(waiting.items()):
            everything = query.replace("$recipe", ".+").replace("$run", ".+")
            answer = ask(prometheus, "query", query=everything)
            if answer is not None and answer["result"]:
                found[title] = answer["result"]
                del waiting[title]
        time.sleep(0.5)
    for title, result in found.items():
        for one in result:
            assert one["metric"]["recipe"] == "faulty" and one["metric"]["run"] == live.run.name, title
            assert set(one["metric"]) <= {"recipe", "run", "stage", "term"}, title
    terms = {one["metric"]["term"] for one in found["Loss by term"]}
    assert terms == {"mlm", "output"}
    values = {title: float(result[0]["value"][1]) for title, result in found.items()}
    assert values["Steps done"] >= 40
    assert values["Tokens a second"] > 0
    assert 0 < values["Model FLOPs utilisation"] < 1
    assert values["Restarts of workers"] == values["Skipped steps"] == 0
    assert 0 <= values["Since the newest checkpoint"] < 180

    [group] = ask(prometheus, "rules")["groups"]
    assert {rule["name"] for rule in group["rules"]} == {alert.name for alert in dashboards.alerts()}
    while any(rule["health"] == "unknown" for rule in group["rules"]):
        [group] = ask(prometheus, "rules")["groups"]
    assert [(rule["health"], rule["state"]) for rule in group["rules"]] == [("ok", "inactive")] * 3
