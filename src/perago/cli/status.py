"""What `perago start --http` serves: probes for what runs the worker, and metrics."""

from __future__ import annotations

import contextlib
import json
import re
import threading
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import typer

from perago.cli import messages
from perago.cli.errors import CommandError, ExitCode

if TYPE_CHECKING:
    from perago.settings import LakeFSSettings
    from perago.worker import Listener, WorkerPlan
    from perago.worker.metrics import Metrics
    from perago.worker.status_server import Page, Verdict


LOOPBACK = "127.0.0.1"
_ADDRESS = re.compile(r"(?:(?P<host>\[[0-9a-fA-F:.]+\]|[A-Za-z0-9.-]*):)?(?P<port>[0-9]{1,5})")
CHECK_INTERVAL = 15.0
"""Seconds between two looks whether lakeFS answers."""
CHECK_LIMIT = 5.0
LEAVE_LIMIT = 0.5
"""Seconds that a look gets to end when the worker does. One that takes longer ends with the process."""


@dataclass(frozen=True, slots=True)
class HttpAddress:
    """Where to listen. Port 0: any free one."""

    host: str
    port: int

    @staticmethod
    def parsed(text: str) -> HttpAddress:
        """`PORT` or `HOST:PORT`; without a host the loopback interface.

        Raises:
            typer.BadParameter: it is neither.
        """
        found = _ADDRESS.fullmatch(text)
        if found is None or int(found["port"]) > 65535:
            raise typer.BadParameter("write HOST:PORT, or PORT for 127.0.0.1, such as 9090 or 0.0.0.0:9090.")
        return HttpAddress((found["host"] or LOOPBACK).strip("[]"), int(found["port"]))


@contextlib.contextmanager
def status_served(
    address: HttpAddress | None, plan: WorkerPlan, lakefs: LakeFSSettings | None, metrics: Metrics | None
) -> Iterator[tuple[Listener, ...]]:
    """Serve the state of a worker inside the block; gives what must listen to it.

    Args:
        address: where; None: nowhere.
        plan: the worker's.
        lakefs: the server that its slots need; None: they need none.
        metrics: what counts; None: nothing does.

    Raises:
        CommandError: the address cannot be used.
    """
    if address is None:
        yield ()
        return
    from perago.worker.status_server import Health, StatusServer

    health = Health(plan.mask)
    with LakeFSCheck(lakefs) as check:
        pages = {
            "/livez": lambda _: _verdict_page(health.alive()),
            "/readyz": lambda _: _verdict_page(health.ready(check.problem)),
            "/metrics": lambda accept: _metrics_page(metrics, accept),
        }
        try:
            server = StatusServer(address.host, address.port, pages)
        except OSError as error:
            where = f"--http cannot listen on {address.host} port {address.port}"
            fix = "choose another port, or find out which process has this one: ss -ltnp"
            raise CommandError(ExitCode.FAILURE, f"{where}: {error.strerror or error}", fix) from error
        server.start()
        try:
            messages.note(f"serving /livez, /readyz and /metrics at {server.url}")
            yield (health,)
        finally:
            server.close()


_NO_METRICS = "there are no metrics: prometheus_client cannot be found; pip install prometheus-client"


def metrics_of(plan: WorkerPlan) -> Metrics | None:
    """What counts, for `/metrics` and OpenTelemetry. None without the extra `metrics`, which has been said then."""
    try:
        from perago.worker.metrics import Metrics
    except ModuleNotFoundError as error:
        if error.name != "prometheus_client":
            raise
        messages.warning(_NO_METRICS)
        return None
    return Metrics(task.name for task in plan.tasks)


def _metrics_page(metrics: Metrics | None, accept: str) -> Page:
    from perago.worker.status_server import Page

    if metrics is None:
        return Page(501, "text/plain; charset=utf-8", f"{_NO_METRICS}\n".encode())
    content_type, body = metrics.page(accept)
    return Page(200, content_type, body)


def _verdict_page(verdict: Verdict) -> Page:
    from perago.worker.status_server import Page

    body = {"ok": not verdict.problems, **asdict(verdict)}
    return Page(503 if verdict.problems else 200, "application/json", f"{json.dumps(body)}\n".encode())


class LakeFSCheck:
    """Looks now and then, on a thread of its own, whether lakeFS answers at all. Without credentials: they are the
    slots' business, whose attempts say so."""

    def __init__(self, settings: LakeFSSettings | None) -> None:
        self.problem: str | None = None
        self._settings = settings
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="perago-lakefs-check", daemon=True)

    def __enter__(self) -> LakeFSCheck:
        if self._settings is not None:
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join(LEAVE_LIMIT)

    def _run(self) -> None:
        while not self._ended.is_set():
            self.problem = self._look()
            self._ended.wait(CHECK_INTERVAL)

    def _look(self) -> str | None:
        from perago.adapters.http import CallPolicy, HttpPool, NoAnswerError

        assert self._settings is not None  # noqa: S101 - else there is no thread
        base = self._settings.endpoint_url.removesuffix("/api/v1")
        policy = CallPolicy(connect=CHECK_LIMIT, answer=CHECK_LIMIT)
        pool = HttpPool("lakeFS", f"{base}/api/v1", headers={}, size=1, policy=policy)
        try:
            answer = pool.call("GET", "/healthcheck")
        except NoAnswerError as error:
            return f"lakeFS does not answer: {error}"
        finally:
            pool.close()
        return None if answer.status < 500 else f"lakeFS answers with status {answer.status}"
