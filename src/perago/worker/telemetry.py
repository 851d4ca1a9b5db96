"""Send the spans and the metrics of a worker to a collector of OpenTelemetry.

OpenTelemetry's SDK reads the variables (`OTEL_*`) for addresses and options. Separate threads send from limited queues.
Data that a collector does not accept is lost, and no attempt waits for it. No other process has these threads:
the fork server begins as a new program, and slots are forked from it.

The metrics have the names of `/metrics`, so a collector that feeds Prometheus shows the same. This needs the extra
`otel`.
"""

from __future__ import annotations

import math
import os
import platform
import socket
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.metrics import export
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExportResult
from opentelemetry.sdk.trace.id_generator import IdGenerator, RandomIdGenerator
from opentelemetry.sdk.trace.sampling import Decision
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    StatusCode,
    TraceFlags,
    set_span_in_context,
)
from opentelemetry.util.re import parse_env_headers

import perago
from perago.hanging import done_within
from perago.ports import Identity, Trace, WorkflowEnd, WorkflowSpan
from perago.settings import Mask, whole_environment
from perago.text import one_line
from perago.worker import events
from perago.worker.events import Event, Listener
from perago.worker.health import LakeFSCheck
from perago.worker.logs import cleaned, delivery_ids
from perago.worker.metrics import Family, Metrics, Numbers, countable, outcome_of, step_of
from perago.worker.plan import ExportContext
from perago.worker.sending import END_LIMIT, ClientMessages, Say, Watch

METRIC_INTERVAL = 60.0


@contextmanager
def telemetry(context: ExportContext, say: Say) -> Iterator[list[Listener]]:
    """Send the events inside the block, and unsent data at its end.

    Args:
        context: names the signals, `traces`, `metrics` or both.
        say: takes a warning for the operator, and never waits. Several threads call it.

    Yields:
        the listener of the worker.

    Raises:
        ValueError: a variable of OpenTelemetry has an invalid value.
    """
    listeners: list[Listener] = []
    ends: list[Callable[[], object]] = []
    plan = context.plan
    messages = ClientMessages(plan.mask, "opentelemetry")
    try:
        resource = _resource()
        if "traces" in context.signals:
            processor = BatchSpanProcessor(_SpanExporter(Watch("OpenTelemetry: the collector", "spans", messages, say)))
            tracing = Tracing(processor, resource, plan.mask)
            workflows = WorkflowSpans(tracing, context.read_end or (lambda *_: None))

            def end_spans() -> None:
                workflows.end()
                processor.shutdown()  # type: ignore[no-untyped-call]

            ends.append(end_spans)
            listeners += [tracing, workflows]
        if "metrics" in context.signals:
            check = context.lakefs or LakeFSCheck(None)
            metrics = Metrics((task.name for task in plan.tasks), check.is_up, context.incidents)
            listeners.append(metrics)
            watch = Watch("OpenTelemetry: the collector", "metrics", messages, say)
            ends.append(_MetricSender(metrics, resource, watch).end)
        if log_lines := messages.take():
            say(f"OpenTelemetry: {one_line(log_lines)}")
        yield listeners
    finally:
        if done_within(END_LIMIT, "perago-traces-end", ends):
            messages.end()
        else:  # what still sends still logs
            say(f"OpenTelemetry: the collector did not take the last spans or metrics within {END_LIMIT:g} s")


_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
"""Names of the semantic conventions that differ from those of the machine."""


def _resource() -> Resource:
    """Describe the sender. `OTEL_RESOURCE_ATTRIBUTES` and `OTEL_SERVICE_NAME` win over the values here."""
    own: dict[str, Any] = {
        "service.name": "perago",
        "service.version": perago.__version__,
        "service.instance.id": str(uuid.uuid4()),
        "host.name": socket.gethostname(),
        "host.arch": _ARCHITECTURES.get(platform.machine(), platform.machine()),
        "os.type": sys.platform,
        "os.version": platform.release(),
        "process.pid": os.getpid(),
        "process.runtime.name": sys.implementation.name,
        "process.runtime.version": platform.python_version(),
    }
    return Resource.create(own).merge(OTELResourceDetector().detect())


def _headers(signal: str) -> Mapping[str, str]:
    """Return the headers for the collector of this signal. The SDK does not find them, because the variables are
    withheld from functions and therefore are not in `os.environ`."""
    environment = whole_environment()
    own, general = (environment.get(f"OTEL_EXPORTER_OTLP_{name}HEADERS") for name in (f"{signal}_", ""))
    return parse_env_headers(own or general or "", liberal=True)


class _SpanExporter(OTLPSpanExporter):
    def __init__(self, watch: Watch) -> None:
        super().__init__(headers=_headers("TRACES"))
        self._watch = watch

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        sent = self._watch(lambda: super(_SpanExporter, self).export(spans), len(spans))
        return SpanExportResult.SUCCESS if sent else SpanExportResult.FAILURE


class _MetricSender:
    """Sends all metrics at an interval, on its own thread, and once more at the end."""

    def __init__(self, metrics: Metrics, resource: Resource, watch: Watch) -> None:
        self._metrics = metrics
        self._resource = resource
        self._watch = watch
        self._exporter = OTLPMetricExporter(headers=_headers("METRICS"))
        self._interval = float(os.environ.get("OTEL_METRIC_EXPORT_INTERVAL") or METRIC_INTERVAL * 1000) / 1000
        if not 0 < self._interval <= threading.TIMEOUT_MAX:
            raise ValueError("OTEL_METRIC_EXPORT_INTERVAL is not a number of milliseconds")
        self._begin = time.time_ns()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="perago-otel-metrics", daemon=True)
        self._thread.start()

    def end(self) -> None:
        """Send the current metrics, and return when that has ended."""
        self._ended.set()
        self._thread.join()
        self._exporter.shutdown()

    def _run(self) -> None:
        while not self._ended.wait(self._interval):
            self._send()
        self._send()

    def _send(self) -> None:
        self._watch(lambda: self._exporter.export(as_otel(self._metrics, self._resource, self._begin)))


_MOVES = ("Fetch", "StageChanges")
"""Steps that move files."""
REPORT = "Report"
"""The span from the end of the slot's work until Conductor has accepted or refused the result."""
MOST_STEPS = 1000
"""Spans of one attempt. A slot may say anything."""
LONGEST_REASON = 1000
SHORTEST_STEP = 0.001
"""Seconds. A shorter step has no span, unless it failed."""
_NANOSECONDS, _MILLISECOND = 1_000_000_000, 1_000_000
"""Of a second; nanoseconds of a millisecond."""


class Tracing:
    """A `Listener` that makes a span of each attempt at its end, with one for each step. `processor` takes
    the spans. Any thread can call `workflow_span`."""

    def __init__(self, processor: SpanProcessor, resource: Resource, mask: Mask) -> None:
        self._mask = mask
        self._ids = _Ids()
        self._provider = TracerProvider(resource=resource, id_generator=self._ids, shutdown_on_exit=False)
        self._provider.add_span_processor(processor)
        self._tracer = self._provider.get_tracer("perago", perago.__version__)
        self._lock = threading.Lock()
        """Held from the choice of an id until its span has it."""
        self._received: dict[tuple[str, int, int], int] = {}
        """The time at which each current delivery went to its slot, in nanoseconds since the epoch."""

    def __call__(self, event: Event) -> None:
        """Record the start of a delivery, or make its spans at the end."""
        match event:
            case events.AttemptReceived(delivery):
                self._received[delivery.identity] = time.time_ns()
            case events.AttemptEnded(delivery):
                begin = self._received.pop(delivery.identity, None)
                if begin is not None and delivery.trace is not None:
                    self._make_spans(event, delivery.trace, begin, max(begin, time.time_ns()))

    def workflow_span(self, place: WorkflowSpan, end: WorkflowEnd) -> None:
        """Make the span of a run of a workflow that has ended. It is the parent of the spans of its attempts."""
        attributes = {"perago.workflow_id": place.workflow_id, "perago.workflow_name": end.name}
        if end.status != "COMPLETED":
            attributes["error.type"] = end.status.lower()
        name, ids, caller = end.name or "workflow", (place.trace_id, place.span_id), _caller_of(place)
        link = (place.parent.trace_id, place.parent.span_id) if place.parent else None
        problem = end.reason if "error.type" in attributes else None
        begin = end.began * _MILLISECOND
        span = self._start(name, ids, caller, SpanKind.INTERNAL, attributes, begin, link, problem)
        span.end(max(end.began, end.ended) * _MILLISECOND)

    def _start(
        self,
        name: str,
        ids: tuple[str, str],
        parent: Context | None,
        kind: SpanKind,
        attributes: Mapping[str, Any],
        begin: int,
        link: tuple[str, str] | None,
        problem: str | None,
    ) -> Span:
        """Start a span with these ids. `problem` is the reason of a failure; None: a success."""
        links = [Link(_context(*link))] if link else None
        with self._lock:
            self._ids.next_trace, self._ids.next_span = (int(number, 16) for number in ids)
            span = self._tracer.start_span(
                name, parent, kind, cleaned(attributes, self._mask), links=links, start_time=begin
            )
        if problem is not None:
            span.set_status(StatusCode.ERROR, cleaned(problem, self._mask)[:LONGEST_REASON])
        return span

    def _make_spans(self, event: events.AttemptEnded, trace: Trace, begin: int, end: int) -> None:
        name, ids = event.delivery.task_name, (trace.trace_id, trace.span_id)
        parent = self._parent(trace.workflow, name)
        link = (trace.trace_id, trace.retry_of) if trace.retry_of else None
        problem = None if event.completed else event.reason or ""
        span = self._start(name, ids, parent, SpanKind.CONSUMER, _attributes(event), begin, link, problem)
        if span.is_recording():
            context, steps = set_span_in_context(span), list(_steps(event, begin, end))
            failed = event.usage.failed_step if not event.completed else ""
            last_failed = max((number for number, (name, *_) in enumerate(steps) if name == failed), default=-1)
            for number, (step, since, until) in enumerate(steps):
                has_failed = number == last_failed
                if until - since < SHORTEST_STEP * _NANOSECONDS and not has_failed and step != REPORT:
                    continue
                attributes = cleaned(_of_step(step, event.usage, has_failed=has_failed), self._mask)
                with self._lock:
                    inner = self._tracer.start_span(step, context, attributes=attributes, start_time=since)
                if has_failed:
                    inner.set_status(StatusCode.ERROR)
                inner.end(until)
        span.end(end)

    def _parent(self, place: WorkflowSpan, name: str) -> Context:
        """Return the span of the workflow, which is sampled if the configured sampler samples the trace. Another
        worker makes that span, or this one does later, and both decide by the id of the trace."""
        trace_id, caller = int(place.trace_id, 16), _caller_of(place)
        decision = self._provider.sampler.should_sample(caller, trace_id, name).decision
        is_sampled = decision is Decision.RECORD_AND_SAMPLE
        return _remote(place.trace_id, place.span_id, is_sampled=is_sampled)


CHECKS = (1.0, 5.0, 20.0, 120.0, 900.0, 7200.0, 43_200.0)
"""Seconds after the end of an attempt at which its workflow is read, until that has ended."""
MOST_WORKFLOWS = 1000
"""The workflows whose end is waited for. A further one replaces the oldest."""
MOST_DELIVERIES = 100
"""The deliveries of one workflow that are remembered, the latest ones."""

ReadEnd = Callable[[str, int], WorkflowEnd | None]
"""Returns the end of the run of a workflow after a time; None: it has not ended."""


class WorkflowSpans:
    """A `Listener` that makes the span of each run of a workflow, on its own thread, after the run has ended.

    All workers compute the id of this span. Only the worker of the delivery that ended last makes it, so that there is
    one, whatever ended the workflow. That worker also makes the span of the parent workflow if its delivery is the last
    one there, too.
    """

    def __init__(self, tracing: Tracing, read_end: ReadEnd) -> None:
        self._tracing = tracing
        self._read_end = read_end
        self._changed = threading.Condition()
        self._waiting: dict[str, _Waiting] = {}
        """By the id of the workflow, the oldest first."""
        self._has_ended = False
        self._thread = threading.Thread(target=self._run, name="perago-workflow-spans", daemon=True)
        self._thread.start()

    def __call__(self, event: Event) -> None:
        """Wait for the end of the workflow of an attempt that has ended."""
        match event:
            case events.AttemptReceived(delivery):
                with self._changed:
                    if delivery.workflow_id in self._waiting:
                        self._waiting[delivery.workflow_id].due = math.inf  # it continues here
            case events.AttemptEnded(delivery) | events.HandedBack(delivery) if delivery.trace is not None:
                self._wait(delivery.trace.workflow, delivery.identity)

    def end(self) -> None:
        """Read the workflows that are left once more, and return when that has ended."""
        with self._changed:
            self._has_ended = True
            self._changed.notify()
        self._thread.join()

    def _wait(self, place: WorkflowSpan, identity: Identity) -> None:
        with self._changed:
            waiting = self._waiting.pop(place.workflow_id, None) or _Waiting()
            if len(self._waiting) >= MOST_WORKFLOWS:
                del self._waiting[next(iter(self._waiting))]
            if len(waiting.places) >= MOST_DELIVERIES:
                del waiting.places[next(iter(waiting.places))]
            waiting.places[identity] = place
            waiting.checks, waiting.since = 0, time.monotonic()
            waiting.due = waiting.since + CHECKS[0]
            self._waiting[place.workflow_id] = waiting
            self._changed.notify()

    def _run(self) -> None:
        while True:
            with self._changed:
                now = time.monotonic()
                due = [name for name, workflow in self._waiting.items() if self._has_ended or workflow.due <= now]
                if not due:
                    if self._has_ended:
                        return
                    next_due = min((workflow.due for workflow in self._waiting.values()), default=math.inf)
                    self._changed.wait(None if next_due == math.inf else next_due - now)
                    continue
                workflow_id = due[0]
                waiting = self._waiting.pop(workflow_id)
            self._check(workflow_id, waiting)

    def _check(self, workflow_id: str, waiting: _Waiting) -> None:
        run_before = max(place.run_before for place in waiting.places.values())
        try:
            end = self._read_end(workflow_id, run_before)
        except Exception:  # noqa: BLE001 - whatever it is, the next ones are to be read
            end = None
        if end is None:
            self._check_later(workflow_id, waiting)
        elif end.last is not None and (place := waiting.places.get(end.last)) is not None:
            self._tracing.workflow_span(place, end)
            if place.parent is not None:
                self._wait(place.parent, end.last)

    def _check_later(self, workflow_id: str, waiting: _Waiting) -> None:
        waiting.checks += 1
        if waiting.checks == len(CHECKS) or self._has_ended:
            return
        waiting.due = waiting.since + CHECKS[waiting.checks]
        with self._changed:
            newer = self._waiting.setdefault(workflow_id, waiting)
            newer.places = {**waiting.places, **newer.places}


@dataclass(slots=True)
class _Waiting:
    """A workflow that may have ended with a delivery of this worker."""

    places: dict[Identity, WorkflowSpan] = field(default_factory=dict)
    """The run of each delivery here, the latest delivery last."""
    since: float = 0.0
    due: float = math.inf
    checks: int = 0


class _Ids(IdGenerator):
    """Gives the next span its planned id, and all further spans random ids."""

    def __init__(self) -> None:
        self._random = RandomIdGenerator()
        self.next_trace = self.next_span = 0

    def generate_trace_id(self) -> int:
        """Used if there is no parent span."""
        return self.next_trace

    def generate_span_id(self) -> int:
        """Return the id of the next span."""
        span_id, self.next_span = self.next_span or self._random.generate_span_id(), 0
        return span_id


def _context(trace_id: str, span_id: str, *, is_sampled: bool = True) -> SpanContext:
    flags = TraceFlags(TraceFlags.SAMPLED if is_sampled else TraceFlags.DEFAULT)
    return SpanContext(int(trace_id, 16), int(span_id, 16), is_remote=True, trace_flags=flags)


def _remote(trace_id: str, span_id: str, *, is_sampled: bool) -> Context:
    """Return a span of another process as a parent."""
    return set_span_in_context(NonRecordingSpan(_context(trace_id, span_id, is_sampled=is_sampled)))


def _caller_of(place: WorkflowSpan) -> Context | None:
    if place.caller_id is None:
        return None
    return _remote(place.trace_id, place.caller_id, is_sampled=place.sampled)


def _attributes(event: events.AttemptEnded) -> Mapping[str, Any]:
    """Return the ids that logs have, and the outcome of the attempt."""
    usage, outcome = event.usage, outcome_of(event)
    reported = event.ending is events.Ending.REPORTED
    error_type = (usage.error_type or usage.failed_step or outcome) if reported else outcome
    facts = {
        **delivery_ids(event.delivery),
        "worker_id": event.worker_id,
        "workflow_name": event.delivery.workflow_name or None,
        "outcome": outcome,
        "published_commit": event.published_commit,
        "remarks": event.remarks or None,
        "queue_wait_seconds": event.delivery.waited_seconds,
        "downloaded_bytes": _whole(usage.downloaded),
        "uploaded_bytes": _whole(usage.uploaded),
    }
    own = {f"perago.{name}": value for name, value in facts.items() if value is not None}
    return own if event.completed else {**own, "error.type": error_type}


def _of_step(step: str, usage: events.Usage, *, has_failed: bool) -> Mapping[str, Any]:
    """The bytes and files that a step has moved, and its error."""
    attributes = dict[str, Any]()
    if step in _MOVES:
        sizes = (usage.objects, usage.downloaded) if step == "Fetch" else (usage.changed, usage.uploaded)
        attributes = {"perago.files": _whole(sizes[0]), "perago.bytes": _whole(sizes[1])}
    if has_failed:
        attributes["error.type"] = usage.error_type or step
    return attributes


def _whole(number: int) -> int:
    """Return `number` within the range of OTLP's integers."""
    return int(min(countable(number), 2**63 - 1))


def _steps(event: events.AttemptEnded, begin: int, end: int) -> Iterator[tuple[str, int, int]]:
    """Return name, begin and end of each step. Steps follow each other, and none ends after the attempt, whatever
    durations a slot reports."""
    since, slot_free = begin, min(end, begin + int(event.seconds * _NANOSECONDS))
    for name, seconds in event.steps[:MOST_STEPS]:
        until = min(slot_free, since + int(min(countable(seconds), event.seconds) * _NANOSECONDS))
        yield step_of(name), since, until
        since = until
    if event.ending is not events.Ending.LOST:
        yield REPORT, slot_free, end


_UNITS = {"seconds": "s", "bytes": "By"}
"""The units by the last word of a name."""


def as_otel(metrics: Metrics, resource: Resource, begin: int) -> export.MetricsData:
    """Return the current values of `metrics`. `begin`: the time since which they count, in nanoseconds since the
    epoch."""
    scope, now = InstrumentationScope("perago", perago.__version__), time.time_ns()
    metric_points = [
        export.Metric(family.name, family.help, _UNITS.get(family.name.rpartition("_")[2], ""), data)
        for family, numbers in metrics.collect()
        if (data := _data(family, numbers, begin, now)).data_points
    ]
    return export.MetricsData([export.ResourceMetrics(resource, [export.ScopeMetrics(scope, metric_points, "")], "")])


def _data(family: Family, numbers: Numbers, begin: int, now: int) -> export.Sum | export.Gauge | export.Histogram:
    cumulative = export.AggregationTemporality.CUMULATIVE
    labeled = [(dict(zip(family.labels, values, strict=True)), number) for values, number in numbers.items()]
    if family.kind == "histogram":
        points = [
            export.HistogramDataPoint(
                labels,
                begin,
                now,
                count=sum(number.counts),
                sum=number.value,
                bucket_counts=number.counts,
                explicit_bounds=number.bounds,
                min=None,  # type: ignore[arg-type] # they are not counted
                max=None,  # type: ignore[arg-type]
            )
            for labels, number in labeled
        ]
        return export.Histogram(points, cumulative)
    plain = [export.NumberDataPoint(labels, begin, now, number.value) for labels, number in labeled]
    return export.Sum(plain, cumulative, is_monotonic=True) if family.kind == "counter" else export.Gauge(plain)
