"""A Grafana dashboard, a Prometheus configuration and its alert rules, made from the names of the gauges.

Ray puts `ray_` before a gauge's name and adds labels of its own, among them WorkerId, which is new at every start of
the driver: every query aggregates it away.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from compactbio.tracking import prometheus
from compactbio.tracking.prometheus import Gauge

DASHBOARD, CONFIG, RULES = "grafana-training.json", "prometheus.yml", "alerts.yml"
SERVICE_DISCOVERY = "/tmp/ray/prom_metrics_service_discovery.json"
"""Where Ray writes the addresses of its nodes' metrics ports, on the head node."""

STALLED_SECONDS = 15 * 60
NO_CHECKPOINT_SECONDS = 2 * 60 * 60
_CHOSEN = 'recipe=~"$recipe",run=~"$run"'
_WIDTH, _HEIGHT, _PANELS_A_ROW = 8, 8, 3
_SOURCE = {"type": "prometheus", "uid": "${datasource}"}


@dataclass(frozen=True)
class Panel:
    """One plot over time. `unit` is Grafana's name for it."""

    title: str
    query: str
    unit: str = "short"
    legend: str = "{{run}} {{stage}}"
    logarithmic: bool = False


@dataclass(frozen=True)
class Alert:
    """A condition under which somebody should look."""

    name: str
    expression: str
    hold: str
    summary: str


def of(gauge: Gauge, selector: str = "") -> str:
    """A PromQL expression for the gauge, one series for each combination of its own labels."""
    return f"max by ({', '.join(gauge.labels)}) ({_raw(gauge, selector)})"


def _raw(gauge: Gauge, selector: str) -> str:
    return f"ray_{gauge.name}{{{selector}}}" if selector else f"ray_{gauge.name}"


def since(gauge: Gauge, selector: str = "") -> str:
    """Seconds since the time that the gauge holds, while its stage runs."""
    running = f"{of(prometheus.RUNNING, selector)} == 1"
    return f"(time() - {of(gauge, selector)}) and on (recipe, run, stage) ({running})"


def panels() -> list[Panel]:
    """The plots of the dashboard, in their order."""
    term = "{{run}} {{stage}} {{term}}"
    return [
        Panel("Loss by term", of(prometheus.LOSS_BY_TERM, _CHOSEN), legend=term, logarithmic=True),
        Panel("Loss on held-out rows, by term", of(prometheus.HELD_OUT_BY_TERM, _CHOSEN), legend=term),
        Panel("Loss of the objective", of(prometheus.LOSS, _CHOSEN)),
        Panel("Tokens a second", of(prometheus.TOKENS_PER_SECOND, _CHOSEN)),
        Panel("Model FLOPs utilisation", of(prometheus.UTILISATION, _CHOSEN), unit="percentunit"),
        Panel("Steps done", of(prometheus.STEPS, _CHOSEN)),
        Panel("Gradient norm", of(prometheus.GRADIENT_NORM, _CHOSEN), logarithmic=True),
        Panel("Learning rate", of(prometheus.LEARNING_RATE, _CHOSEN), unit="sci"),
        Panel("Skipped steps", of(prometheus.SKIPPED_STEPS, _CHOSEN)),
        Panel("Since the newest checkpoint", since(prometheus.CHECKPOINT_TIME, _CHOSEN), unit="s"),
        Panel("Since the last report", since(prometheus.REPORT_TIME, _CHOSEN), unit="s"),
        Panel("Restarts of workers", of(prometheus.RESTARTS, _CHOSEN), legend="{{run}}"),
    ]


def alerts() -> list[Alert]:
    """The alert rules."""
    skipped = f"ray_{prometheus.SKIPPED_STEPS.name}[15m]"
    grown = f"max by ({', '.join(prometheus.LABELS)}) (max_over_time({skipped}) - min_over_time({skipped}))"
    return [
        Alert(
            "CompactbioStalled",
            f"({since(prometheus.REPORT_TIME)}) > {STALLED_SECONDS}",
            "1m",
            "{{ $labels.run }} {{ $labels.stage }} has reported no step for {{ $value | humanizeDuration }}",
        ),
        Alert(
            "CompactbioNotFinite",
            f"{grown} > 0",
            "0m",
            "{{ $labels.run }} {{ $labels.stage }}: {{ $value }} steps of the last 15 minutes were not finite",
        ),
        Alert(
            "CompactbioNoCheckpoint",
            f"({since(prometheus.CHECKPOINT_TIME)}) > {NO_CHECKPOINT_SECONDS}",
            "1m",
            "{{ $labels.run }} {{ $labels.stage }} has saved nothing for {{ $value | humanizeDuration }}",
        ),
    ]


def write(folder: Path) -> list[Path]:
    """Writes the three files into the folder, over older ones. Returns them."""
    folder.mkdir(parents=True, exist_ok=True)
    texts = {
        DASHBOARD: json.dumps(_dashboard(), indent=2) + "\n",
        CONFIG: yaml.safe_dump(_config(), sort_keys=False, width=200),
        RULES: yaml.safe_dump(_rules(), sort_keys=False, width=200),
    }
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")
    return [folder / name for name in texts]


def _dashboard() -> dict[str, Any]:
    variables = [{"name": "datasource", "type": "datasource", "query": "prometheus"}]
    return {
        "title": "compactbio training",
        "uid": "compactbio-training",
        "schemaVersion": 39,
        "refresh": "10s",
        "time": {"from": "now-3h", "to": "now"},
        "templating": {"list": [*variables, _variable("recipe"), _variable("run", 'recipe=~"$recipe"')]},
        "panels": [_panel(index, panel) for index, panel in enumerate(panels())],
    }


def _variable(label: str, selector: str = "") -> dict[str, Any]:
    return {
        "name": label,
        "type": "query",
        "datasource": _SOURCE,
        "query": f"label_values({_raw(prometheus.RUNNING, selector)}, {label})",
        "refresh": 2,
        "includeAll": True,
        "allValue": ".+",
        "multi": True,
        "current": {"text": "All", "value": "$__all"},
    }


def _panel(index: int, panel: Panel) -> dict[str, Any]:
    scale = {"type": "log", "log": 10} if panel.logarithmic else {"type": "linear"}
    row, column = divmod(index, _PANELS_A_ROW)
    return {
        "id": index + 1,
        "type": "timeseries",
        "title": panel.title,
        "datasource": _SOURCE,
        "gridPos": {"x": column * _WIDTH, "y": row * _HEIGHT, "w": _WIDTH, "h": _HEIGHT},
        "fieldConfig": {"defaults": {"unit": panel.unit, "custom": {"scaleDistribution": scale}}, "overrides": []},
        "targets": [{"refId": "A", "datasource": _SOURCE, "expr": panel.query, "legendFormat": panel.legend}],
    }


def _config() -> dict[str, Any]:
    return {
        "global": {"scrape_interval": "10s", "evaluation_interval": "10s"},
        "rule_files": [RULES],
        "scrape_configs": [{"job_name": "ray", "file_sd_configs": [{"files": [SERVICE_DISCOVERY]}]}],
    }


def _rules() -> dict[str, Any]:
    rules = [
        {
            "alert": alert.name,
            "expr": alert.expression,
            "for": alert.hold,
            "labels": {"severity": "warning"},
            "annotations": {"summary": alert.summary},
        }
        for alert in alerts()
    ]
    return {"groups": [{"name": "compactbio", "rules": rules}]}
