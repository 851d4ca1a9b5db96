"""The attempts of a worker as spans of OpenTelemetry (docs/monitoring.md). Needs the extra `otel`."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.id_generator import IdGenerator, RandomIdGenerator
from opentelemetry.trace import (
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    StatusCode,
    TraceFlags,
    set_span_in_context,
)

import perago
from perago.ports import Trace
from perago.settings import Mask
from perago.worker import events
from perago.worker.events import Event
from perago.worker.logs import cleaned, delivery_ids
from perago.worker.metrics import countable, outcome_of, step_of

REPORT = "Report"
"""From the end of the slot's work until Conductor has the result, or does not want it."""
MOST_STEPS = 1000
"""Spans of one attempt. A slot may say anything."""
LONGEST_REASON = 1000
_NANOSECONDS = 1_000_000_000


class Tracing:
    """A `Listener` that makes a span of each attempt when it is over, with one for each step. What it has made is the
    business of `processor`."""

    def __init__(self, processor: SpanProcessor, resource: Resource, mask: Mask) -> None:
        self._mask = mask
        self._ids = _Ids()
        self._provider = TracerProvider(resource=resource, id_generator=self._ids, shutdown_on_exit=False)
        self._provider.add_span_processor(processor)
        self._tracer = self._provider.get_tracer("perago", perago.__version__)
        self._received: dict[tuple[str, int, int], int] = {}
        """When each delivery at hand went to its slot, in nanoseconds since the epoch."""

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
    """Gives the next span the id that it is to have, and all others one by chance."""

    def __init__(self) -> None:
        self._random = RandomIdGenerator()
        self.next_trace = self.next_span = 0

    def generate_trace_id(self) -> int:
        """Asked for where there is no span above."""
        return self.next_trace

    def generate_span_id(self) -> int:
        """Asked for by each span."""
        found, self.next_span = self.next_span or self._random.generate_span_id(), 0
        return found


def _above(trace: Trace) -> Span:
    flags = TraceFlags(TraceFlags.SAMPLED if trace.sampled else TraceFlags.DEFAULT)
    context = SpanContext(int(trace.trace_id, 16), int(trace.parent_id or "", 16), is_remote=True, trace_flags=flags)
    return NonRecordingSpan(context)


def _attributes(event: events.AttemptEnded) -> Mapping[str, Any]:
    """The ids that logs have, and what came of the attempt."""
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
    """Name, begin and end of each step. They follow each other, none ends after the attempt, and what a slot tells of
    their lengths is not believed further than that."""
    since, slot_free = begin, min(end, begin + int(event.seconds * _NANOSECONDS))
    for name, seconds in event.steps[:MOST_STEPS]:
        until = min(slot_free, since + int(min(countable(seconds), event.seconds) * _NANOSECONDS))
        yield step_of(name), since, until
        since = until
    if event.ending is not events.Ending.LOST:
        yield REPORT, slot_free, end
