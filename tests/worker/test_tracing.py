"""The spans and the numbers of a worker, as OpenTelemetry's SDK gets them."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from perago.ports import TaskStatus, WorkflowEnd, trace_of, workflow_span
from perago.settings import Mask
from perago.worker import events
from perago.worker.events import AttemptEnded, AttemptReceived, Ending, Event, Usage
from perago.worker.metrics import Metrics
from tests.deliveries import make_delivery

export = pytest.importorskip("opentelemetry.sdk.trace.export")  # the extra `otel`
memory = pytest.importorskip("opentelemetry.sdk.trace.export.in_memory_span_exporter")
if TYPE_CHECKING:
    from opentelemetry.sdk.resources import Resource

    from perago.worker.telemetry import MOST_STEPS, Tracing, WorkflowSpans, as_otel
else:
    from opentelemetry.sdk.resources import Resource

    from perago.worker.telemetry import MOST_STEPS, Tracing, WorkflowSpans, as_otel

IDENTITY = ("t1", 1, 7)
WORKFLOW = workflow_span("w1")
TRACE = trace_of(IDENTITY, WORKFLOW)
DELIVERY = make_delivery(
    task_id="t1", start_time=7, task_name="build", workflow_id="w1", reference_name="step", trace=TRACE
)
SECOND = 1_000_000_000


def spans(*worker_events: Event, takes: float = 0.0) -> Sequence[Any]:
    """The spans of an attempt that takes so many seconds at least."""
    exporter = memory.InMemorySpanExporter()
    tracing = Tracing(export.SimpleSpanProcessor(exporter), Resource({}), Mask(["password"]))
    for event in worker_events:
        tracing(event)
        time.sleep(takes)
    return exporter.get_finished_spans()  # type: ignore[no-any-return]


def ended(seconds: float = 3.0, **more: Any) -> AttemptEnded:
    return AttemptEnded(DELIVERY, "w0001", Ending.REPORTED, seconds, **{"status": TaskStatus.COMPLETED, **more})


def test_steps_follow_each_other_from_the_hand_over_to_the_report() -> None:
    before = time.time_ns()
    steps = (("Fetch", 0.002), ("ReadBranch", 0.0005), ("RunFunction", 0.003))
    made = spans(AttemptReceived(DELIVERY, "w0001"), ended(0.0055, steps=steps), takes=0.006)
    fetch, function, report, attempt = made
    assert [span.name for span in made] == ["Fetch", "RunFunction", "Report", "build"]
    assert before <= attempt.start_time == fetch.start_time <= fetch.end_time == function.start_time - 500_000
    assert function.end_time == report.start_time <= report.end_time == attempt.end_time <= time.time_ns()
    assert f"{attempt.context.trace_id:032x}" == TRACE.trace_id
    assert f"{attempt.context.span_id:016x}" == TRACE.span_id
    assert f"{attempt.parent.span_id:016x}" == WORKFLOW.span_id
    assert {span.parent.span_id for span in (fetch, function, report)} == {attempt.context.span_id}


@pytest.mark.parametrize("seconds", [math.nan, math.inf, -1.0, 1e308])
def test_invalid_reports_of_a_slot_cannot_make_invalid_spans(seconds: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("perago.worker.telemetry.SHORTEST_STEP", 0.0)
    steps = (("made up\n", seconds), *[("Fetch", 0.0)] * 2 * MOST_STEPS)
    usage = Usage(downloaded=2**999, uploaded=-1)
    made = spans(AttemptReceived(DELIVERY, "w0001"), ended(0.001, steps=steps, usage=usage))
    *inner, attempt = made
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


def test_the_step_that_failed_and_those_that_moved_files_say_so() -> None:
    steps = (("Fetch", 0.002), ("CheckDelivery", 0.002), ("CheckDelivery", 0.0))
    usage = Usage(objects=3, downloaded=50, failed_step="CheckDelivery", error_type="ValueError")
    failed = ended(0.005, status=TaskStatus.FAILED, reason="no", steps=steps, usage=usage)
    fetch, first, second, _, attempt = spans(AttemptReceived(DELIVERY, "w0001"), failed, takes=0.006)
    assert dict(fetch.attributes) == {"perago.files": 3, "perago.bytes": 50}
    assert (first.status.is_ok, second.status.status_code.name) == (True, "ERROR")
    assert second.attributes["error.type"] == attempt.attributes["error.type"] == "ValueError"


def test_a_retry_links_to_the_attempt_before_it() -> None:
    again = replace(DELIVERY, trace=trace_of(("t2", 1, 9), WORKFLOW, IDENTITY))
    (*_, attempt) = spans(AttemptReceived(again, "w0001"), replace(ended(), delivery=again))
    (link,) = attempt.links
    assert (f"{link.context.trace_id:032x}", f"{link.context.span_id:016x}") == (TRACE.trace_id, TRACE.span_id)


END = WorkflowEnd("nightly", "FAILED", "the password was wrong", 5000, 9000, IDENTITY)


def workflow_spans(*worker_events: Event, **ends: WorkflowEnd) -> Sequence[Any]:
    """The spans of workflows that one worker makes until its end."""
    exporter = memory.InMemorySpanExporter()
    tracing = Tracing(export.SimpleSpanProcessor(exporter), Resource({}), Mask(["password"]))
    workflows = WorkflowSpans(tracing, lambda workflow_id, _: ends.get(workflow_id))
    for event in worker_events:
        workflows(event)
    workflows.end()
    return exporter.get_finished_spans()  # type: ignore[no-any-return]


def test_the_worker_of_the_last_delivery_makes_both_workflow_spans() -> None:
    above = workflow_span("w0", f"00-{'4b' * 16}-{'0a' * 8}-01")
    delivery = replace(DELIVERY, trace=trace_of(IDENTITY, replace(WORKFLOW, parent=above)))
    span, parent = workflow_spans(replace(ended(), delivery=delivery), w1=END, w0=replace(END, name="above"))
    assert f"{span.context.trace_id:032x}" == TRACE.trace_id
    assert f"{span.context.span_id:016x}" == WORKFLOW.span_id
    assert span.parent is None
    assert (span.name, span.start_time, span.end_time) == ("nightly", 5 * SECOND, 9 * SECOND)
    assert (span.status.status_code.name, span.status.description) == ("ERROR", "the *** was wrong")
    assert span.attributes["error.type"] == "failed"
    (link,) = span.links
    assert (link.context.trace_id, link.context.span_id) == (parent.context.trace_id, parent.context.span_id)
    assert (parent.name, f"{parent.context.span_id:016x}") == ("above", above.span_id)
    assert f"{parent.parent.span_id:016x}" == "0a" * 8


@pytest.mark.parametrize("ending", [ending for ending in Ending if ending is not Ending.REPORTED])
def test_a_last_attempt_without_a_report_makes_the_workflow_span(ending: Ending) -> None:
    (span,) = workflow_spans(replace(ended(), ending=ending), w1=replace(END, status="TERMINATED"))
    assert span.attributes["error.type"] == "terminated"


def test_each_run_of_a_workflow_has_a_span_of_its_own() -> None:
    again = workflow_span("w1", created=1, run_before=9000)
    assert len({span.span_id for span in (workflow_span("w1", created=1), workflow_span("w1", created=2), again)}) == 3
    delivery = replace(DELIVERY, start_time=8, trace=trace_of(("t1", 1, 8), again))
    end = replace(END, last=("t1", 1, 8))
    (span,) = workflow_spans(ended(), replace(ended(), delivery=delivery), w1=end)
    assert f"{span.context.span_id:016x}" == again.span_id


@pytest.mark.parametrize(
    ("events", "ends"),
    [
        ([ended()], {"w1": replace(END, last=("t2", 1, 7))}),
        ([ended()], {"w1": replace(END, last=("t1", 2, 7))}),
        ([ended()], {"w1": replace(END, last=None)}),
        ([ended()], {}),
        ([AttemptReceived(DELIVERY, "w0001")], {"w1": END}),
    ],
)
def test_no_other_worker_makes_the_span_of_the_workflow(events: list[Event], ends: dict[str, WorkflowEnd]) -> None:
    assert workflow_spans(*events, **ends) == ()


def test_an_attempt_without_a_trace_or_a_beginning_has_no_span() -> None:
    untraced = replace(DELIVERY, trace=None)
    assert spans(AttemptReceived(untraced, "w"), replace(ended(), delivery=untraced), ended()) == ()


def test_numbers_are_those_that_prometheus_gets() -> None:
    metrics = Metrics(["build"])
    for event in (ended(0.3), ended(3.0), ended(99_999.0), events.Draining(0)):
        metrics(event)
    (part,) = as_otel(metrics, Resource({"service.name": "mine"}), 5).resource_metrics
    metrics_by_name: dict[str, Any] = {metric.name: metric for metric in part.scope_metrics[0].metrics}
    seconds = metrics_by_name["perago_attempt_seconds"]
    (point,) = seconds.data.data_points
    assert (seconds.unit, dict(point.attributes), point.start_time_unix_nano) == ("s", {"task": "build"}, 5)
    assert (point.count, point.sum) == (3, 100_002.3)
    assert len(point.bucket_counts) == len(point.explicit_bounds) + 1
    counted = dict(zip((*point.explicit_bounds, math.inf), point.bucket_counts, strict=True))
    assert {bound for bound, count in counted.items() if count} == {0.5, 5, math.inf}
    outcomes = {
        point.attributes["outcome"]: point.value for point in metrics_by_name["perago_attempts"].data.data_points
    }
    assert outcomes == {"completed": 3, "failed": 0, "terminal": 0, "lost": 0, "unreported": 0, "handed_back": 0}
    (draining,) = metrics_by_name["perago_draining"].data.data_points
    assert draining.value == 1
    assert "perago_task_gauge" not in metrics_by_name  # it has no points
