"""Send the spans and the metrics of a worker to a collector of OpenTelemetry.

The variables of OpenTelemetry (`OTEL_*`) say where and how, and its SDK reads them. Separate threads send from limited
queues. Data that a collector does not accept is lost, and no attempt waits for it. No other process has these threads:
the fork server begins as a new program, and slots are forked from it.

The metrics have the names of `/metrics`, so a collector that feeds Prometheus shows the same. This needs the extra
`otel`.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
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
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExportResult
from opentelemetry.sdk.trace.id_generator import IdGenerator, RandomIdGenerator
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import (
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
from perago.ports import Trace
from perago.settings import Mask, whole_environment
from perago.text import one_line
from perago.worker import events
from perago.worker.events import Event, Listener
from perago.worker.health import LakeFSCheck
from perago.worker.logs import cleaned, delivery_ids
from perago.worker.metrics import Family, Metrics, Numbers, countable, outcome_of, step_of
from perago.worker.plan import ExportContext

END_LIMIT = 3.0
"""Seconds that the end of a worker can take for unsent data."""
METRIC_INTERVAL = 60.0

Say = Callable[[str], None]


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
    words = _Words(plan.mask)
    words.begin()
    try:
        resource = _resource()
        if "traces" in context.signals:
            processor = BatchSpanProcessor(_SpanExporter(_Watch("spans", words, say)))
            ends.append(processor.shutdown)
            listeners.append(Tracing(processor, resource, plan.mask))
        if "metrics" in context.signals:
            check = context.lakefs or LakeFSCheck(None)
            metrics = Metrics((task.name for task in plan.tasks), check.is_up)
            listeners.append(metrics)
            ends.append(_MetricSender(metrics, resource, _Watch("metrics", words, say)).end)
        if said := words.take():
            say(f"OpenTelemetry: {one_line(said)}")
        yield listeners
    finally:
        if _done_within(END_LIMIT, ends):
            words.end()
        else:  # what still sends still logs
            say(f"OpenTelemetry: the collector did not take the last spans or metrics within {END_LIMIT:g} s")


def _resource() -> Resource:
    """Describe the sender. `OTEL_RESOURCE_ATTRIBUTES` and `OTEL_SERVICE_NAME` win over the values here."""
    own: dict[str, Any] = {
        "service.name": "perago",
        "service.version": perago.__version__,
        "service.instance.id": str(uuid.uuid4()),
        "host.name": socket.gethostname(),
        "process.pid": os.getpid(),
    }
    return Resource.create(own).merge(OTELResourceDetector().detect())


def _headers(signal: str) -> Mapping[str, str]:
    """Return the headers for the collector of this signal. The SDK does not find them, because the variables are
    withheld from functions and therefore are not in `os.environ`."""
    environment = whole_environment()
    own, general = (environment.get(f"OTEL_EXPORTER_OTLP_{name}HEADERS") for name in (f"{signal}_", ""))
    return parse_env_headers(own or general or "", liberal=True)


def _done_within(seconds: float, works: Sequence[Callable[[], object]]) -> bool:
    """Do all concurrently, and wait no longer for them. A thread that still works ends with the process."""
    threads = [threading.Thread(target=work, name="perago-telemetry-end", daemon=True) for work in works]
    until = time.monotonic() + seconds
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, until - time.monotonic()))
    return not any(thread.is_alive() for thread in threads)


class _Words(logging.Handler):
    """Collects the messages of OpenTelemetry from `begin` to `end`, so that they are not printed, and keeps the first
    message of each thread."""

    def __init__(self, mask: Mask) -> None:
        super().__init__(logging.WARNING)
        self.mask = mask
        self._first = threading.local()
        self._logger = logging.getLogger("opentelemetry")
        self._propagated = self._logger.propagate

    def begin(self) -> None:
        """Let nothing else have it."""
        self._logger.propagate = False
        self._logger.addHandler(self)

    def end(self) -> None:
        """Let it go where it went before."""
        self._logger.removeHandler(self)
        self._logger.propagate = self._propagated

    def emit(self, record: logging.LogRecord) -> None:
        """Keep it, if it is the first."""
        self._first.text = getattr(self._first, "text", "") or record.getMessage()

    def take(self) -> str:
        """Return the first message of this thread since the last call; empty: there was none."""
        text, self._first.text = getattr(self._first, "text", ""), ""
        return self.mask(text)


class _Watch:
    """Says once that a collector takes nothing, until it does again."""

    def __init__(self, what: str, words: _Words, say: Say) -> None:
        self._what = what
        self._words = words
        self._say = say
        self._failing = False

    def __call__(self, export: Callable[[], Any]) -> bool:
        """Whether `export`, which gives one of the results of OpenTelemetry, was a success."""
        self._words.take()
        try:
            succeeded, reason = bool(export().name == "SUCCESS"), ""
        except Exception as error:  # noqa: BLE001 - whatever it is, the next ones are to be sent
            succeeded, reason = False, self._words.mask(f"{type(error).__name__}: {error}")
        if not succeeded and not self._failing:
            reason = one_line(reason or self._words.take() or "no answer")
            self._say(
                f"OpenTelemetry: the collector does not accept {self._what}, which are lost until it does: {reason}"
            )
        self._failing = not succeeded
        return succeeded


class _SpanExporter(OTLPSpanExporter):
    def __init__(self, watch: _Watch) -> None:
        super().__init__(headers=_headers("TRACES"))
        self._watch = watch

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        sent = self._watch(lambda: super(_SpanExporter, self).export(spans))
        return SpanExportResult.SUCCESS if sent else SpanExportResult.FAILURE


class _MetricSender:
    """Sends all metrics at an interval, on its own thread, and once more at the end."""

    def __init__(self, metrics: Metrics, resource: Resource, watch: _Watch) -> None:
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


REPORT = "Report"
"""The span from the end of the slot's work until Conductor has accepted or refused the result."""
MOST_STEPS = 1000
"""Spans of one attempt. A slot may say anything."""
LONGEST_REASON = 1000
_NANOSECONDS = 1_000_000_000


class Tracing:
    """A `Listener` that makes a span of each attempt at its end, with one for each step. `processor` takes
    the spans."""

    def __init__(self, processor: SpanProcessor, resource: Resource, mask: Mask) -> None:
        self._mask = mask
        self._ids = _Ids()
        self._provider = TracerProvider(resource=resource, id_generator=self._ids, shutdown_on_exit=False)
        self._provider.add_span_processor(processor)
        self._tracer = self._provider.get_tracer("perago", perago.__version__)
        self._received: dict[tuple[str, int, int], int] = {}
        """The time at which each current delivery went to its slot, in nanoseconds since the epoch."""

    def __call__(self, event: Event) -> None:
        """Take note of a delivery, or make its spans."""
        match event:
            case events.AttemptReceived(delivery):
                self._received[delivery.identity] = time.time_ns()
            case events.AttemptEnded(delivery):
                begin = self._received.pop(delivery.identity, None)
                if begin is not None and delivery.trace is not None:
                    self._make_spans(event, delivery.trace, begin, max(begin, time.time_ns()))

    def _make_spans(self, event: events.AttemptEnded, trace: Trace, begin: int, end: int) -> None:
        self._ids.next_trace, self._ids.next_span = int(trace.trace_id, 16), int(trace.span_id, 16)
        span = self._tracer.start_span(
            event.delivery.task_name,
            set_span_in_context(_above(trace)) if trace.parent_id else None,
            SpanKind.CONSUMER,
            cleaned(_attributes(event), self._mask),
            start_time=begin,
        )
        if not event.completed:
            span.set_status(StatusCode.ERROR, cleaned(event.reason or "", self._mask)[:LONGEST_REASON])
        if span.is_recording():
            context = set_span_in_context(span)
            for name, since, until in _steps(event, begin, end):
                self._tracer.start_span(name, context, start_time=since).end(until)
        span.end(end)


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
        found, self.next_span = self.next_span or self._random.generate_span_id(), 0
        return found


def _above(trace: Trace) -> Span:
    flags = TraceFlags(TraceFlags.SAMPLED if trace.sampled else TraceFlags.DEFAULT)
    context = SpanContext(int(trace.trace_id, 16), int(trace.parent_id or "", 16), is_remote=True, trace_flags=flags)
    return NonRecordingSpan(context)


def _attributes(event: events.AttemptEnded) -> Mapping[str, Any]:
    """The ids that logs have, and the outcome of the attempt."""
    found = {
        **delivery_ids(event.delivery),
        "worker_id": event.worker_id,
        "outcome": outcome_of(event),
        "published_commit": event.published_commit,
        "remarks": event.remarks or None,
        "queue_wait_seconds": event.delivery.waited_seconds,
        "downloaded_bytes": _whole(event.usage.downloaded),
        "uploaded_bytes": _whole(event.usage.uploaded),
    }
    return {f"perago.{name}": value for name, value in found.items() if value is not None}


def _whole(number: int) -> int:
    """`number` as far as OTLP has integers."""
    return int(min(countable(number), 2**63 - 1))


def _steps(event: events.AttemptEnded, begin: int, end: int) -> Iterator[tuple[str, int, int]]:
    """Name, begin and end of each step. They follow each other, none ends after the attempt, and the lengths that
    a slot reports are not believed further than that."""
    since, slot_free = begin, min(end, begin + int(event.seconds * _NANOSECONDS))
    for name, seconds in event.steps[:MOST_STEPS]:
        until = min(slot_free, since + int(min(countable(seconds), event.seconds) * _NANOSECONDS))
        yield step_of(name), since, until
        since = until
    if event.ending is not events.Ending.LOST:
        yield REPORT, slot_free, end


_UNITS = {"seconds": "s", "bytes": "By"}
"""By the last word of a name."""


def as_otel(metrics: Metrics, resource: Resource, begin: int) -> MetricsData:
    """Return what `metrics` hold now. `begin`: since when they count, in nanoseconds since the epoch."""
    scope, now = InstrumentationScope("perago", perago.__version__), time.time_ns()
    found = [
        Metric(family.name, family.words, _UNITS.get(family.name.rpartition("_")[2], ""), data)
        for family, numbers in metrics.collect()
        if (data := _data(family, numbers, begin, now)).data_points
    ]
    return MetricsData([ResourceMetrics(resource, [ScopeMetrics(scope, found, "")], "")])


def _data(family: Family, numbers: Numbers, begin: int, now: int) -> Sum | Gauge | Histogram:
    cumulative = AggregationTemporality.CUMULATIVE
    labeled = [(dict(zip(family.labels, values, strict=True)), number) for values, number in numbers.items()]
    if family.kind == "histogram":
        points = [
            HistogramDataPoint(
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
        return Histogram(points, cumulative)
    plain = [NumberDataPoint(labels, begin, now, number.value) for labels, number in labeled]
    return Sum(plain, cumulative, is_monotonic=True) if family.kind == "counter" else Gauge(plain)
