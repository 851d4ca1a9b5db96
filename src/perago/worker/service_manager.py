"""The exporter for a service manager that watches the worker, as systemd does (`sd_notify(3)`)."""

from __future__ import annotations

import contextlib
import math
import os
import socket
import time
from collections.abc import Iterator

from perago.worker import events
from perago.worker.events import Event, Listener
from perago.worker.health import Health
from perago.worker.plan import SERVICE_MANAGER, ExportContext


@contextlib.contextmanager
def service_manager(context: ExportContext) -> Iterator[Listener | None]:
    """Report to the service manager that started this process that the worker is ready, is alive, and stops."""
    address, interval, process = (os.environ.pop(name, "") for name in SERVICE_MANAGER)
    if not address.startswith(("/", "@")) or process not in ("", str(os.getpid())):
        yield None
        return
    with contextlib.closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)) as sock:
        sock.setblocking(False)
        yield _Reports(sock, address.replace("@", "\0", 1), Health(context.plan.mask), _seconds(interval))


def _seconds(microseconds: str) -> float:
    """Return the interval of the watchdog; infinite without one."""
    return int(microseconds) / 1e6 if microseconds.isascii() and microseconds.isdigit() else math.inf


class _Reports:
    """A `Listener` that sends states to the service manager.

    A pulse proves that the event loop runs. It feeds the watchdog unless `/livez` would fail, for instance because a
    heartbeat hangs.
    """

    def __init__(self, sock: socket.socket, address: str, health: Health, interval: float) -> None:
        self._sock = sock
        self._address = address
        self._health = health
        self._pause = interval / 4
        self._fed = -math.inf

    def __call__(self, event: Event) -> None:
        self._health(event)
        match event:
            case events.WorkerReady():
                self._send("READY=1")
            case events.Draining():
                self._send("STOPPING=1")
            case events.Pulse():
                self._feed()

    def _feed(self) -> None:
        now = time.monotonic()
        if now - self._fed >= self._pause:
            verdict, self._fed = self._health.alive(), now
            shown = "; ".join(verdict.problems) or verdict.state
            self._send(f"STATUS={shown}" + ("" if verdict.problems else "\nWATCHDOG=1"))

    def _send(self, state: str) -> None:
        """Send a state. If the service manager does not read, the state is dropped, and the worker continues."""
        with contextlib.suppress(OSError):
            self._sock.sendto(state.encode(), self._address)
