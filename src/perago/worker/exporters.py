"""Exporters report on a worker: pages for probes and scrapes, OpenTelemetry, and states for a service manager.

An installed package adds one by an entry point of the group `perago.exporters`. `ExporterContext`, `Event` and
`Listener` are public for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import itertools
import json
import math
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack
from dataclasses import asdict, dataclass, replace
from http import HTTPStatus
from importlib.metadata import EntryPoint, entry_points
from types import SimpleNamespace
from typing import Any, Protocol
from urllib.parse import urlsplit

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


# ------------------------------------------------------------------- the server of the pages

MOST_CONNECTIONS = 32
"""The number of connections at the same time. A further one ends the oldest, so that a probe is answered even if other
clients are silent."""
MOST_OF_ONE_ADDRESS = 16
"""The number of connections of one address. A further one ends the oldest of the same address, so that no client can
end the connections of all others."""
REQUEST_DEADLINE = 1.0
"""Seconds from the start of a connection until its request line must be complete."""
DEADLINE = 5.0
"""Maximum duration of a connection in seconds."""


@dataclass(frozen=True, slots=True)
class Page:
    """An answer."""

    status: int
    content_type: str
    body: bytes


_MOST_HEADERS = 100
_LOOPBACK = ("localhost", "127.0.0.1", "::1")

Pages = Mapping[str, Callable[[str], Page]]
"""The function that makes each page from the `Accept` header of the request, by path. Several threads call it."""


@dataclass(slots=True)
class _Connection:
    address: str
    has_asked: bool = False
    """Whether the request line is complete."""


class StatusServer:
    """Serves the pages of a worker from `start` to `close`.

    It has its own thread, because probes need an answer even before the event loop runs and when it is stuck.

    Raises:
        OSError: the address cannot be used. The constructor binds it.
    """

    def __init__(self, host: str, port: int, pages: Pages) -> None:
        self._socket = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._socket.bind((host, port))
        except OSError:
            self._socket.close()
            raise
        self.address: str = str(self._socket.getsockname()[0])
        self._pages = pages
        self._connections: dict[asyncio.StreamWriter, _Connection] = {}
        """The open connections, the oldest first."""
        self._loop = asyncio.new_event_loop()
        self._closing = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name="perago-status", daemon=True)

    @property
    def url(self) -> str:
        """The address of the server, with the port that it got."""
        host = f"[{self.address}]" if ":" in self.address else self.address
        return f"http://{host}:{self._socket.getsockname()[1]}"

    def start(self) -> None:
        """Begin to answer."""
        self._socket.listen(MOST_CONNECTIONS)
        self._thread.start()

    def close(self) -> None:
        """Release the address, and end every connection and the thread."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._closing.set)
            self._thread.join()
        self._socket.close()
        self._loop.close()

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        async with await asyncio.start_server(self._attend, sock=self._socket, backlog=MOST_CONNECTIONS):
            await self._closing.wait()
            for writer in self._connections:
                writer.transport.abort()

    async def _attend(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one request. A client that is slow or has disconnected is ignored silently."""
        connection = _Connection(str((writer.get_extra_info("peername") or ("",))[0]))
        others = [writer for writer, its in self._connections.items() if its.address == connection.address]
        self._make_room(others, MOST_OF_ONE_ADDRESS)
        self._make_room([*self._connections], MOST_CONNECTIONS)
        self._connections[writer] = connection
        writer.transport.set_write_buffer_limits(0)  # so that `drain` waits for the client
        try:
            async with asyncio.timeout(DEADLINE):
                async with asyncio.timeout(REQUEST_DEADLINE):
                    request = await reader.readuntil(b"\n")
                connection.has_asked = True
                page = self._page(request.decode("latin-1"), await _headers_in(reader))
                writer.write(_as_response(page))
                await writer.drain()
            writer.close()
        except Exception:  # noqa: BLE001 - whatever it is, the next client is answered
            writer.transport.abort()
        finally:
            self._connections.pop(writer, None)

    def _make_room(self, among: list[asyncio.StreamWriter], most: int) -> None:
        """End the oldest connections until one more fits, beginning with those without a request."""
        among.sort(key=lambda writer: self._connections[writer].has_asked)
        for writer in among[: max(0, len(among) + 1 - most)]:
            del self._connections[writer]
            writer.transport.abort()

    def _page(self, request: str, headers: Mapping[str, str]) -> Page:
        method, _, target = request.partition(" ")
        make = self._pages.get(target.split()[0].partition("?")[0])
        if not self._is_asked_by_its_own_name(headers.get("host", "")):
            return plain_page(403, "This is a perago worker. Call it as 127.0.0.1.")
        if method != "GET":
            return plain_page(501, "A worker answers GET only.")
        if make is None:
            return plain_page(404, "There is no such page. The pages are:", *self._pages)
        return make(headers.get("accept", ""))

    def _is_asked_by_its_own_name(self, host: str) -> bool:
        """Check the requested host name, because a web page could map its own name to this machine and read local
        pages. On other addresses any name is accepted."""
        with contextlib.suppress(ValueError):
            return urlsplit(f"//{host}").hostname in (None, *_LOOPBACK) or self.address not in _LOOPBACK
        return False


async def _headers_in(reader: asyncio.StreamReader) -> dict[str, str]:
    """Read the headers of a request, by their names in lower case.

    Raises:
        ValueError: there are too many, or one is too long.
    """
    headers: dict[str, str] = {}
    for _ in range(_MOST_HEADERS):
        if not (line := (await reader.readuntil(b"\n")).decode("latin-1").strip()):
            return headers
        name, _, value = line.partition(":")
        headers[name.strip().lower()] = value.strip()
    raise ValueError("too many headers")


def plain_page(status: int, *lines: str) -> Page:
    """Return a page of text lines."""
    return Page(status, "text/plain; charset=utf-8", "".join(f"{line}\n" for line in lines).encode())


def _as_response(page: Page) -> bytes:
    head = (
        f"HTTP/1.0 {page.status} {HTTPStatus(page.status).phrase}",
        "Server: perago",
        f"Content-Type: {page.content_type}",
        f"Content-Length: {len(page.body)}",
        "Cache-Control: no-store",
    )
    return "\r\n".join((*head, "", "")).encode() + page.body


# ---------------------------------------------------------------------- the exporters of perago

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
