from __future__ import annotations

import json
from pathlib import Path

import pytest
from sweeps import BATCH, MLM

from compactbio.reporting.sweep_page import write_sweep_report
from compactbio.spec.base import SpecError


def test_the_report_shows_every_kind_of_trial(tmp_path: Path) -> None:
    space = {MLM: {"kind": "log_uniform", "low": 0.1, "high": 10}, BATCH: {"kind": "choice", "values": [16, 32]}}
    trials = [
        {
            "number": number,
            "state": "finished",
            "values": {MLM: 0.1 * (number + 1), BATCH: 16 if number % 2 else 32},
            "scores": [4.0 - 0.1 * number, 1.0 + number],
            "reason": "",
        }
        for number in range(6)
    ]
    curve = {"4": 7.5, "12": 6.25}
    trials += [
        {"number": 6, "state": "pruned", "values": {MLM: 9.0, BATCH: 16}, "scores": [], "reason": "", "curve": curve}
    ]
    trials += [{"number": 7, "state": "failed", "values": {MLM: 8.0, BATCH: 16}, "scores": [], "reason": "<nan>"}]
    results = {
        "name": "small",
        "digest": "abc",
        "objectives": ["a loss", "a time"],
        "directions": ["minimize", "minimize"],
        "space": space,
        "base": {MLM: 1.0, BATCH: 32},
        "trials": trials,
        "best": [0, 5],
        "importances": [{MLM: 0.9, BATCH: 0.1}, {}],
        "confirmed": {"base": [[4.0, 1.0], [4.2, 1.0]], "best": [[3.5, 1.0], [3.6, 1.0]]},
    }
    (tmp_path / "trials.json").write_text(json.dumps(results))
    table = write_sweep_report(tmp_path)
    assert table.splitlines()[2].startswith("| 5 (front) | 3.5")
    assert "8 trials: 6 finished, 1 pruned, 1 failed\n- Pareto front: trials 0, 5" in table
    assert "a loss on fresh seeds: base 4.1 ± 0.14 (2 seeds), best 3.55 ± 0.071 (2 seeds)" in table
    page = (tmp_path / "report" / "index.html").read_text()
    assert "<td>12</td><td>6.25</td>" in page.replace(' class="number"', "")
    assert page.count("<svg") == 8 and "trial 7 failed: &lt;nan&gt;" in page
    with pytest.raises(SpecError, match="not the folder of a finished sweep"):
        write_sweep_report(tmp_path / "report")
