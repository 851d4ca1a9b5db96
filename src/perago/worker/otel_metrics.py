"""The numbers of a worker as OpenTelemetry has them, read from those for Prometheus: they are declared once.

Names stay, so what a collector hands on to Prometheus is called as on `/metrics`. Needs the extra `otel`.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Gauge,
    Histogram,
    HistogramDataPoint,
    Metric,
    MetricsData,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
    Sum,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from prometheus_client.core import Metric as Family
from prometheus_client.samples import Sample

import perago

_UNITS = {"seconds": "s", "bytes": "By"}
"""By the last word of a name."""


def as_otel(families: Iterable[Family], resource: Resource, begin: int) -> MetricsData:
    """What `families` hold now. `begin`: since when they count, in nanoseconds since the epoch."""
    scope, now = InstrumentationScope("perago", perago.__version__), time.time_ns()
    metrics = [
        Metric(family.name, family.documentation, _UNITS.get(family.name.rpartition("_")[2], ""), data)
        for family in families
        if (data := _data(family, begin, now)).data_points
    ]
    return MetricsData([ResourceMetrics(resource, [ScopeMetrics(scope, metrics, "")], "")])


def _data(family: Family, begin: int, now: int) -> Sum | Gauge | Histogram:
    cumulative = AggregationTemporality.CUMULATIVE
    if family.type == "histogram":
        return Histogram(_histogram_points(family.samples, begin, now), cumulative)
    points = [NumberDataPoint(sample.labels, begin, now, sample.value) for sample in family.samples]
    return Sum(points, cumulative, is_monotonic=True) if family.type == "counter" else Gauge(points)


def _histogram_points(samples: Iterable[Sample], begin: int, now: int) -> Sequence[HistogramDataPoint]:
    """One for each set of labels. Prometheus counts in each bucket what is in the lower ones, too."""
    found: dict[tuple[tuple[str, str], ...], dict[str, Any]] = {}
    for sample in samples:
        labels = {name: value for name, value in sample.labels.items() if name != "le"}
        part = found.setdefault(tuple(labels.items()), {"bounds": [], "sums": [0], "sum": 0.0})
        if sample.name.endswith("_bucket"):
            part["bounds"].append(float(sample.labels["le"]))
            part["sums"].append(int(sample.value))
        elif sample.name.endswith("_sum"):
            part["sum"] = sample.value
    return [
        HistogramDataPoint(
            dict(labels),
            begin,
            now,
            count=part["sums"][-1],
            sum=part["sum"],
            bucket_counts=[upper - lower for lower, upper in pairwise(part["sums"])],
            explicit_bounds=part["bounds"][:-1],
            min=None,  # type: ignore[arg-type] # Prometheus does not keep them
            max=None,  # type: ignore[arg-type]
        )
        for labels, part in found.items()
    ]
