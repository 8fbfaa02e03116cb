"""Gauges for Prometheus, published through Ray: they appear on the metrics port of this process's node."""

from __future__ import annotations

from collections.abc import Mapping

import ray.util.metrics

from compactbio.tracking.prometheus import Gauge


class RayGauges:
    """The newest values of gauges, under the name `ray_` and that of their gauge."""

    def __init__(self) -> None:
        self._gauges: dict[str, ray.util.metrics.Gauge] = {}
        self._values: dict[tuple[str, tuple[tuple[str, str], ...]], float] = {}

    def publish(self, gauge: Gauge, labels: Mapping[str, str], value: float) -> None:
        """Sets a gauge to a value, from the next `send` on."""
        if gauge.name not in self._gauges:
            self._gauges[gauge.name] = ray.util.metrics.Gauge(gauge.name, gauge.description, tag_keys=gauge.labels)
        self._values[gauge.name, tuple(labels.items())] = value

    def send(self) -> None:
        """Hands Ray every value, new or not: it forgets those that it has not been told for a while (20 s)."""
        for (name, labels), value in self._values.items():
            self._gauges[name].set(value, tags=dict(labels))
