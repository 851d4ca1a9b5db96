"""Exporters report on a worker: pages for probes and scrapes, OpenTelemetry, and states for a service manager.

An installed package adds one by an entry point of the group `perago.exporters`. `ExporterContext`, `Event` and
`Listener` are public for it.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import json
import math
import os
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack
from dataclasses import asdict, replace
from importlib.metadata import EntryPoint, entry_points
from types import SimpleNamespace
from typing import Any, Protocol

from perago.failure import Failure
from perago.hanging import done_within
from perago.worker import events
from perago.worker.events import Event, Listener
from perago.worker.export_settings import SIGNALS
from perago.worker.health import Health, LakeFSCheck, Verdict
from perago.worker.lineage import openlineage
from perago.worker.logs import event_lines, journal, printing
from perago.worker.metrics import Metrics
from perago.worker.plan import SERVICE_MANAGER, ExportContext
from perago.worker.presence import presence
from perago.worker.sending import END_LIMIT, MOST_EVENTS, EventThread, Say, warnings_to
from perago.worker.status_server import Page, Pages, StatusServer, plain_page

__all__ = ["Event", "ExporterContext", "Listener"]


class ExporterContext(Protocol):
    """The worker, for an exporter from another package."""

    @property
    def worker_id(self) -> str:
        """The worker id of the supervisor."""

    @property
    def task_names(self) -> tuple[str, ...]:
        """The tasks that the worker polls for."""

    def log_line(self, event: Event, /) -> Mapping[str, Any] | None:
        """Return the log line of an event, without secrets, with the fields of docs/workers.md. None: the log has no
        line about this event."""

    def warn(self, text: str, /) -> None:
        """Print a warning on standard error. This never waits for the reader."""


_FIXES: dict[int | None, str] = {
    errno.EADDRINUSE: "choose another port, or find the process that uses this one: ss -ltnp",
    errno.EACCES: "choose a port above 1023",
}
_OTHER_FIX = "name an address of this machine, such as 127.0.0.1:9090"
_NO_METRICS = "there are no metrics: prometheus_client cannot be found; pip install prometheus-client"


@contextlib.contextmanager
def status_pages(context: ExportContext) -> Iterator[Listener | None]:
    """Serve probes and metrics while a worker runs.

    Raises:
        Failure: the address cannot be used.
    """
    if context.http is None:
        yield None
        return
    health = Health(context.plan.mask, context.incidents)
    has_prometheus = _has_prometheus()
    if context.notices is not None and not has_prometheus:
        context.notices.warning(_NO_METRICS)
    check = context.lakefs or LakeFSCheck(None)
    metrics = Metrics((task.name for task in context.plan.tasks), check.is_up, context.incidents)
    pages: Pages = {
        "/livez": lambda _: verdict_page(health.alive()),
        "/readyz": lambda _: verdict_page(health.ready(check.problem)),
        "/metrics": lambda accept: metrics_page(metrics, accept) if has_prometheus else NO_METRICS_PAGE,
    }
    try:
        server = StatusServer(context.http.host, context.http.port, pages)
    except OSError as error:
        where = f"--http cannot listen on {context.http.host} port {context.http.port}"
        raise Failure(f"{where}: {error.strerror or error}", _FIXES.get(error.errno, _OTHER_FIX)) from error
    server.start()

    def listener(event: Event) -> None:
        health(event)
        metrics(event)

    try:
        if context.notices is not None:
            context.notices.note(f"serving /livez, /readyz and /metrics at {server.url}")
        yield listener
    finally:
        server.close()


def _has_prometheus() -> bool:
    try:
        import prometheus_client  # noqa: F401
    except ModuleNotFoundError as error:
        if error.name != "prometheus_client":
            raise
        return False
    return True


NO_METRICS_PAGE = plain_page(501, _NO_METRICS)


def verdict_page(verdict: Verdict) -> Page:
    """Answer a probe."""
    body = {"ok": not verdict.problems, **asdict(verdict)}
    return Page(503 if verdict.problems else 200, "application/json", f"{json.dumps(body)}\n".encode())


def metrics_page(metrics: Metrics, accept: str) -> Page:
    """Return all numbers in the format of Prometheus that `accept` asks for. Needs the extra `metrics`."""
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
    from prometheus_client.exposition import choose_encoder

    def collect() -> Iterator[Metric]:
        for family, numbers in metrics.collect():
            names = list(family.labels)
            if family.kind == "histogram":
                histogram = HistogramMetricFamily(family.name, family.help, labels=names)
                for labels, number in numbers.items():
                    bounds = (*map(str, number.bounds), "+Inf")
                    sums = map(float, itertools.accumulate(number.counts))
                    histogram.add_metric(list(labels), list(zip(bounds, sums, strict=True)), number.value)
                yield histogram
            else:
                make = CounterMetricFamily if family.kind == "counter" else GaugeMetricFamily
                plain = make(family.name, family.help, labels=names)
                for labels, number in numbers.items():
                    plain.add_metric(list(labels), number.value)
                yield plain

    encoder, content_type = choose_encoder(accept)
    return Page(200, content_type, encoder(SimpleNamespace(collect=collect)))


@contextlib.contextmanager
def opentelemetry(context: ExportContext) -> Iterator[Listener | None]:
    """Send `context.signals` while a worker runs.

    A variable that OpenTelemetry refuses causes only a warning. Warnings about the collector never wait for a reader.
    """
    notices = context.notices
    if not context.signals or notices is None:
        yield None
        return
    from perago.worker.telemetry import telemetry

    with ExitStack() as sent:
        say = sent.enter_context(warnings_to(notices))
        listeners: list[Listener] = []
        try:
            listeners = sent.enter_context(telemetry(context, say))
            notices.note(f"sending {' and '.join(filter(context.signals.__contains__, SIGNALS))} with OpenTelemetry")
        except (ValueError, RuntimeError) as error:
            notices.warning(f"OpenTelemetry sends nothing: {error}")

        def listener(event: Event) -> None:
            for listen in listeners:
                listen(event)

        yield listener


@contextlib.contextmanager
def service_manager(context: ExportContext) -> Iterator[Listener | None]:
    """Report to the service manager that started this process that the worker is ready, is alive, and stops."""
    address, interval, process = (os.environ.pop(name, "") for name in SERVICE_MANAGER)
    if not address.startswith(("/", "@")) or process not in ("", str(os.getpid())):
        yield None
        return
    health, fed = Health(context.plan.mask, context.incidents), -math.inf
    pause = int(interval) / 4e6 if interval.isascii() and interval.isdigit() else math.inf  # without a watchdog
    with contextlib.closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)) as sock:
        sock.setblocking(False)

        def send(state: str) -> None:
            """Send a state. If the service manager does not read, the state is dropped, and the worker continues."""
            with contextlib.suppress(OSError):
                sock.sendto(state.encode(), address.replace("@", "\0", 1))

        def listener(event: Event) -> None:
            nonlocal fed
            health(event)
            now = time.monotonic()
            if isinstance(event, events.WorkerReady):
                send("READY=1")
            elif isinstance(event, events.Draining):
                send("STOPPING=1")
            elif isinstance(event, events.Pulse) and now - fed >= pause:
                # The event loop runs. The watchdog is fed unless `/livez` would fail, as when a heartbeat hangs.
                verdict, fed = health.alive(), now
                shown = "; ".join(verdict.problems) or verdict.state
                send(f"STATUS={shown}" + ("" if verdict.problems else "\nWATCHDOG=1"))

        yield listener


# ------------------------------------------------------------------------ all exporters

Exporter = Callable[[ExportContext], AbstractContextManager[Listener | None]]
"""Opens with the plan and the settings of a worker, yields a listener of its events, and closes when it is down.

It yields None if it has nothing to do, and imports heavy packages only if it has. A `Failure` prevents the start of the
worker.
"""

GROUP = "perago.exporters"
"""The group of entry points that name further exporters."""


class InstalledExporter:
    """A `Listener` that runs an exporter from another package on its own thread, from its import to its end.

    So an exporter that fails or hangs never affects the worker. Its first error ends it, and is reported.
    """

    def __init__(self, entry: EntryPoint, context: ExportContext, say: Say) -> None:
        self._entry = entry
        self._context = context
        self._say = say
        self._name = f"the exporter {entry.name} ({entry.value})"
        self._lost = 0
        self._has_failed = False
        self._thread = EventThread(f"perago-exporter-{entry.name}", self._run)

    def __call__(self, event: Event) -> None:
        """Queue an event for the exporter."""
        if not self._has_failed and not self._thread.put(event):
            self._lost += 1
            if self._lost == 1:
                self._say(f"{self._name} is too slow: it loses events, because {MOST_EVENTS:,} wait")

    def end(self) -> None:
        """Pass on the remaining events, and close the exporter, for a limited time."""
        if self._thread.end() is not None:
            self._say(f"{self._name} did not end within {END_LIMIT:g} s")
        if self._lost:
            self._say(f"{self._name} lost {self._lost:,} events")

    def _run(self, queued: Iterator[Event]) -> None:
        try:
            exporter: Exporter = self._entry.load()
            with exporter(self._context) as listener:
                for event in queued:
                    if listener is not None:
                        listener(event)
        except BaseException as error:  # noqa: BLE001 - a module can raise SystemExit, too
            self._has_failed = True
            reason = self._context.plan.mask(f"{type(error).__name__}: {error}")
            self._say(f"{self._name} has failed, and gets no further events: {reason}")


@contextlib.contextmanager
def installed(context: ExportContext) -> Iterator[Listener | None]:
    """Run the exporters of installed packages (`GROUP`) while a worker runs."""
    entries = entry_points(group=GROUP) if context.notices is not None else ()
    if context.notices is None or not entries:
        yield None
        return
    with warnings_to(context.notices) as say:
        context = replace(context, log_line=event_lines(context.plan), warn=say)
        exporters = [InstalledExporter(entry, context, say) for entry in entries]

        def listener(event: Event) -> None:
            for exporter in exporters:
                exporter(event)

        try:
            yield listener
        finally:
            done_within(2 * END_LIMIT, "perago-exporters-end", [exporter.end for exporter in exporters])


EXPORTERS: tuple[Exporter, ...] = (
    journal,
    presence,
    printing,
    status_pages,
    opentelemetry,
    openlineage,
    service_manager,
    installed,
)
"""The exporters of every worker. A new exporter is one function and an entry in this list."""


@contextlib.contextmanager
def exporting(context: ExportContext) -> Iterator[tuple[Listener, ...]]:
    """Open `EXPORTERS` for one worker, and yield the listeners for its `Supervisor`.

    Raises:
        Failure: a requested exporter cannot be opened.
    """
    with ExitStack() as stack:
        if context.lakefs is not None and (context.http is not None or context.signals):
            stack.enter_context(context.lakefs)
        opened = [stack.enter_context(exporter(context)) for exporter in EXPORTERS]
        yield (context.incidents, *(listener for listener in opened if listener is not None))
