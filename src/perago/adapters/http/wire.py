"""Sockets that another thread can cut, so that the first error of a transfer ends the waits of all its streams."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import NewConnectionError

from perago.adapters.http.failures import UnsafeAddressError

STOPPED = "the transfer was stopped"

Judge = Callable[[str], str | None]
"""Returns why an IP address must not be talked to; None if it may be."""

_thread = threading.local()


class Wire:
    """The connections that the threads of one transfer are using right now, each with the moment it must be done."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._busy: dict[int, tuple[HTTPConnection | None, float]] = {}
        self.is_cut = False

    @contextlib.contextmanager
    def exchange(self, seconds: float) -> Iterator[None]:
        """The calling thread's requests within this block can be cut, and are once `seconds` have passed."""
        me = threading.get_ident()
        with self._lock:
            self._busy[me] = (None, time.monotonic() + seconds)
        _thread.wire = self
        try:
            yield
        finally:
            _thread.wire = None
            with self._lock:
                del self._busy[me]

    def attach(self, connection: HTTPConnection) -> None:
        """Called by a connection when a request goes out on it."""
        me = threading.get_ident()
        with self._lock:
            self._busy[me] = (connection, self._busy[me][1])
            if self.is_cut:
                raise ConnectionResetError(STOPPED)

    def cut(self) -> None:
        """End every wait now, and every later one at once."""
        with self._lock:
            self.is_cut = True
            for connection, _ in self._busy.values():
                _shut(connection)

    def cut_overdue(self) -> None:
        """End the waits that have outlived their limit: a server that trickles never trips a socket's time-out."""
        now = time.monotonic()
        with self._lock:
            for connection, limit in self._busy.values():
                if now > limit:
                    _shut(connection)


def _shut(connection: HTTPConnection | None) -> None:
    sock = connection.sock if connection is not None else None
    if sock is not None:
        with contextlib.suppress(OSError):
            # Not sock.shutdown(): a TLS socket would forget its state under the thread that is reading from it.
            socket.socket.shutdown(sock, socket.SHUT_RDWR)


class _Cuttable:
    """Mixed into urllib3's connections: announces itself to the wire of the calling thread."""

    judge: Judge | None = None

    def _new_conn(self) -> socket.socket:
        """Connect, and judge the address that the name led to at this moment. Through a proxy it is the proxy's."""
        sock: socket.socket = super()._new_conn()  # type: ignore[misc]
        judge = None if self.proxy else self.judge  # type: ignore[attr-defined]
        if judge is not None and (trouble := judge(sock.getpeername()[0])):
            sock.close()
            raise NewConnectionError(self, trouble) from UnsafeAddressError(trouble)  # type: ignore[arg-type]
        return sock

    def request(self, *args: Any, **kwargs: Any) -> None:
        wire: Wire | None = getattr(_thread, "wire", None)
        if wire is not None:
            wire.attach(self)  # type: ignore[arg-type]
        super().request(*args, **kwargs)  # type: ignore[misc]

    def connect(self) -> None:
        super().connect()  # type: ignore[misc]
        wire: Wire | None = getattr(_thread, "wire", None)
        if wire is not None and wire.is_cut:
            raise ConnectionResetError(STOPPED)


class _Connection(_Cuttable, HTTPConnection):
    """A plain connection."""


class _TlsConnection(_Cuttable, HTTPSConnection):
    """A TLS connection."""


class _Judging:
    """Mixed into urllib3's pools. Gives each connection its judge."""

    judge: Judge | None = None

    def _new_conn(self) -> Any:
        connection = super()._new_conn()  # type: ignore[misc]
        connection.judge = self.judge
        return connection


class _Pool(_Judging, HTTPConnectionPool):
    ConnectionCls = _Connection


class _TlsPool(_Judging, HTTPSConnectionPool):
    ConnectionCls = _TlsConnection


POOL_CLASSES: dict[str, type[HTTPConnectionPool]] = {"http": _Pool, "https": _TlsPool}
