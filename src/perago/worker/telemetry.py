"""Sends the spans and the numbers of a worker to a collector of OpenTelemetry. Needs the extra `otel`.

The variables of OpenTelemetry (`OTEL_*`) say where to and how; its SDK reads them. Threads of their own send, from
bounded queues: what a collector does not take is lost, and no attempt waits for it. No other process has these threads:
the fork server begins as a new program, and a slot is forked from it.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExportResult
from opentelemetry.util.re import parse_env_headers

import perago
from perago.settings import Mask, whole_environment
from perago.worker.events import Listener
from perago.worker.metrics import Metrics
from perago.worker.otel_metrics import as_otel
from perago.worker.plan import WorkerPlan
from perago.worker.tracing import Tracing
from perago.workspace.text import one_line

END_LIMIT = 3.0
"""Seconds that the end of a worker may take longer for what was not sent yet."""
METRIC_INTERVAL = 60.0

Say = Callable[[str], None]


@contextmanager
def telemetry(
    signals: Collection[str], plan: WorkerPlan, metrics: Metrics | None, say: Say
) -> Iterator[list[Listener]]:
    """Send what happens inside the block, and what was not sent yet at its end.

    Args:
        signals: `traces`, `metrics` or both.
        plan: the worker's.
        metrics: what counts for `/metrics`, too; None: there are no metrics.
        say: takes a warning for the operator, and never waits. Called by several threads.

    Yields:
        What must listen to the worker.

    Raises:
        ValueError: a variable of OpenTelemetry has a value that it cannot have.
    """
    listeners: list[Listener] = []
    ends: list[Callable[[], object]] = []
    words = _Words(plan.mask)
    words.begin()
    try:
        resource = _resource()
        if "traces" in signals:
            processor = BatchSpanProcessor(_SpanExporter(_Watch("spans", words, say)))
            ends.append(processor.shutdown)
            listeners.append(Tracing(processor, resource, plan.mask))
        if "metrics" in signals and metrics is not None:
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
    """Who sends. `OTEL_RESOURCE_ATTRIBUTES` and `OTEL_SERVICE_NAME` go before what is said here."""
    own: dict[str, Any] = {
        "service.name": "perago",
        "service.version": perago.__version__,
        "service.instance.id": str(uuid.uuid4()),
        "host.name": socket.gethostname(),
        "process.pid": os.getpid(),
    }
    return Resource.create(own).merge(OTELResourceDetector().detect())


def _headers(signal: str) -> Mapping[str, str]:
    """Return what the collector of this signal wants. The SDK does not find it, because the variables are withheld from
    functions and so are not in `os.environ`."""
    environment = whole_environment()
    own, general = (environment.get(f"OTEL_EXPORTER_OTLP_{name}HEADERS") for name in (f"{signal}_", ""))
    return parse_env_headers(own or general or "", liberal=True)


def _done_within(seconds: float, works: Sequence[Callable[[], object]]) -> bool:
    """Do all side by side, and wait no longer for it. A thread that still works ends with the process."""
    threads = [threading.Thread(target=work, name="perago-telemetry-end", daemon=True) for work in works]
    until = time.monotonic() + seconds
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, until - time.monotonic()))
    return not any(thread.is_alive() for thread in threads)


class _Words(logging.Handler):
    """Takes what OpenTelemetry logs from `begin` to `end`, which is no matter of a terminal: of each thread, the first
    of it."""

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
        """What this thread has logged first since it was taken before; empty: nothing."""
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
            self._say(f"OpenTelemetry: the collector takes no {self._what}, and they are lost until it does: {reason}")
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
    """Sends all numbers now and then, on a thread of its own, and once more at the end."""

    def __init__(self, metrics: Metrics, resource: Resource, watch: _Watch) -> None:
        self._metrics = metrics
        self._resource = resource
        self._watch = watch
        self._exporter = OTLPMetricExporter(headers=_headers("METRICS"))
        self._interval = float(os.environ.get("OTEL_METRIC_EXPORT_INTERVAL") or METRIC_INTERVAL * 1000) / 1000
        if not 0 < self._interval <= threading.TIMEOUT_MAX:
            raise ValueError("OTEL_METRIC_EXPORT_INTERVAL is no number of milliseconds")
        self._begin = time.time_ns()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="perago-otel-metrics", daemon=True)
        self._thread.start()

    def end(self) -> None:
        """Send what they are now. Returns when that has come to an end."""
        self._ended.set()
        self._thread.join()
        self._exporter.shutdown()

    def _run(self) -> None:
        while not self._ended.wait(self._interval):
            self._send()
        self._send()

    def _send(self) -> None:
        self._watch(lambda: self._exporter.export(as_otel(self._metrics.collect(), self._resource, self._begin)))
