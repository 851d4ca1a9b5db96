"""The spans and the numbers of a worker, as OpenTelemetry's SDK gets them."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from perago.ports import TaskStatus, trace_of
from perago.settings import Mask
from perago.worker import events
from perago.worker.events import AttemptEnded, AttemptReceived, Ending, Event, Usage
from perago.worker.metrics import Metrics
from tests.deliveries import make_delivery

export = pytest.importorskip("opentelemetry.sdk.trace.export")  # the extra `otel`
memory = pytest.importorskip("opentelemetry.sdk.trace.export.in_memory_span_exporter")
if TYPE_CHECKING:
    from opentelemetry.sdk.resources import Resource

    from perago.worker.telemetry import MOST_STEPS, Tracing, as_otel
else:
    from opentelemetry.sdk.resources import Resource

    from perago.worker.telemetry import MOST_STEPS, Tracing, as_otel

IDENTITY = ("t1", 1, 7)
TRACE = trace_of("w1", IDENTITY, None)
DELIVERY = make_delivery(
    task_id="t1", start_time=7, task_name="build", workflow_id="w1", reference_name="step", trace=TRACE
)
SECOND = 1_000_000_000


def spans(*told: Event) -> Sequence[Any]:
    kept = memory.InMemorySpanExporter()
    tracing = Tracing(export.SimpleSpanProcessor(kept), Resource({}), Mask(["password"]))
    for event in told:
        tracing(event)
    return kept.get_finished_spans()  # type: ignore[no-any-return]


def ended(seconds: float = 3.0, **more: Any) -> AttemptEnded:
    return AttemptEnded(DELIVERY, "w0001", Ending.REPORTED, seconds, **{"status": TaskStatus.COMPLETED, **more})


def test_steps_follow_each_other_from_the_hand_over_to_the_report() -> None:
    before = time.time_ns()
    found = spans(AttemptReceived(DELIVERY, "w0001"), ended(0.0, steps=(("Fetch", 0.0), ("RunFunction", 0.0))))
    fetch, function, report, attempt = found
    assert [span.name for span in found] == ["Fetch", "RunFunction", "Report", "build"]
    assert before <= attempt.start_time == fetch.start_time <= fetch.end_time == function.start_time
    assert function.end_time == report.start_time <= report.end_time == attempt.end_time <= time.time_ns()
    assert f"{attempt.context.trace_id:032x}" == TRACE.trace_id
    assert f"{attempt.context.span_id:016x}" == TRACE.span_id
    assert {span.parent.span_id for span in (fetch, function, report)} == {attempt.context.span_id}


@pytest.mark.parametrize("seconds", [math.nan, math.inf, -1.0, 1e308])
def test_what_a_slot_tells_cannot_make_spans_that_are_none(seconds: float) -> None:
    steps = (("made up\n", seconds), *[("Fetch", 0.0)] * 2 * MOST_STEPS)
    usage = Usage(downloaded=2**999, uploaded=-1)
    found = spans(AttemptReceived(DELIVERY, "w0001"), ended(0.001, steps=steps, usage=usage))
    *inner, attempt = found
    assert len(inner) == MOST_STEPS + 1
    assert inner[0].name == "other"
    for span in inner:
        assert attempt.start_time <= span.start_time <= span.end_time <= attempt.end_time
    assert attempt.attributes["perago.downloaded_bytes"] == 2**63 - 1
    assert attempt.attributes["perago.uploaded_bytes"] == 0


def test_a_lost_attempt_is_an_error_without_a_report_and_without_secrets() -> None:
    lost = replace(ended(), ending=Ending.LOST, status=None, reason="the password \udc80" + "x" * 5000)
    (attempt,) = spans(AttemptReceived(DELIVERY, "w0001"), lost)
    assert attempt.status.description.startswith("the *** \\udc80xxx")
    assert len(attempt.status.description) == 1000
    assert attempt.attributes["perago.outcome"] == "lost"


def test_an_attempt_without_a_trace_or_a_beginning_has_no_span() -> None:
    untraced = replace(DELIVERY, trace=None)
    assert spans(AttemptReceived(untraced, "w"), replace(ended(), delivery=untraced), ended()) == ()


def test_numbers_are_those_that_prometheus_gets() -> None:
    metrics = Metrics(["build"])
    for event in (ended(0.3), ended(3.0), ended(99_999.0), events.Draining(0)):
        metrics(event)
    (part,) = as_otel(metrics, Resource({"service.name": "mine"}), 5).resource_metrics
    found: dict[str, Any] = {metric.name: metric for metric in part.scope_metrics[0].metrics}
    seconds = found["perago_attempt_seconds"]
    (point,) = seconds.data.data_points
    assert (seconds.unit, dict(point.attributes), point.start_time_unix_nano) == ("s", {"task": "build"}, 5)
    assert (point.count, point.sum) == (3, 100_002.3)
    assert len(point.bucket_counts) == len(point.explicit_bounds) + 1
    counted = dict(zip((*point.explicit_bounds, math.inf), point.bucket_counts, strict=True))
    assert {bound for bound, count in counted.items() if count} == {0.5, 5, math.inf}
    outcomes = {each.attributes["outcome"]: each.value for each in found["perago_attempts"].data.data_points}
    assert outcomes == {"completed": 3, "failed": 0, "terminal": 0, "lost": 0, "unreported": 0, "handed_back": 0}
    (draining,) = found["perago_draining"].data.data_points
    assert draining.value == 1
    assert "perago_task_gauge" not in found  # it has no points
