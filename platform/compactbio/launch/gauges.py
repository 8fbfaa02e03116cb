"""Gauges for Prometheus, published through Ray: they appear on the metrics port of this process's node."""

from __future__ import annotations

from collections.abc import Mapping

import ray.util.metrics

from compactbio.tracking.prometheus import Gauge


class RayGauges:
    """Publishes values under the name `ray_` and that of their gauge."""

    def __init__(self) -> None:
        self._gauges: dict[str, ray.util.metrics.Gauge] = {}

    def publish(self, gauge: Gauge, labels: Mapping[str, str], value: float) -> None:
        """Sets a gauge to a value."""
        if gauge.name not in self._gauges:
            self._gauges[gauge.name] = ray.util.metrics.Gauge(gauge.name, gauge.description, tag_keys=gauge.labels)
        self._gauges[gauge.name].set(value, tags=dict(labels))
