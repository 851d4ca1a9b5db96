"""HTTP connections: deadlines, and the end of all waits of a transfer.

The variables for proxies and certificates are read once per client.
"""

from __future__ import annotations

import contextlib
import io
import logging
import math
import socket
import threading
import time
from collections.abc import Callable, Iterator
from http.client import HTTPResponse
from typing import Any

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import NewConnectionError
from urllib3.util import make_headers, parse_url

from perago.adapters.http_answers import UnsafeAddressError
from perago.ports import Refused
from perago.settings.network import tls_context


def _log_without_query(record: logging.LogRecord) -> bool:
    """Remove the queries of URLs, because a signed address is as good as a password."""
    if isinstance(record.args, tuple):
        record.args = tuple(value.partition("?")[0] if isinstance(value, str) else value for value in record.args)
    return True


for _name in ("urllib3.connectionpool", "urllib3.connection"):  # a filter is not inherited by loggers below
    logging.getLogger(_name).addFilter(_log_without_query)

STOPPED = "the transfer was stopped"

_thread = threading.local()

AddressCheck = Callable[[str], str | None]
"""Returns the reason why perago must not use an IP address, or None."""


class Wire:
    """The connections that the threads of one transfer are using, each with its deadline."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._busy: dict[int, tuple[HTTPConnection | None, float]] = {}
        self.is_cut: bool = False

    @contextlib.contextmanager
    def exchange(self, seconds: float) -> Iterator[None]:
        """Cut the calling thread's requests in this block after `seconds`, or when `cut` is called."""
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
        """Note the connection on which the calling thread sends a request."""
        me = threading.get_ident()
        with self._lock:
            self._busy[me] = (connection, self._busy[me][1])
            if self.is_cut:
                raise ConnectionResetError(STOPPED)

    def cut(self) -> None:
        """End every wait now, and every later one immediately."""
        with self._lock:
            self.is_cut = True
            for connection, _ in self._busy.values():
                _shut(connection)

    def cut_overdue(self) -> None:
        """End the waits that have exceeded their limit, because a server that trickles bytes never triggers a socket
        timeout."""
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


class _UntilDeadline(io.RawIOBase):
    """The bytes of one answer, up to a deadline on the monotonic clock. A server that trickles bytes never triggers the
    timeout of the socket."""

    def __init__(self, stream: io.RawIOBase, sock: socket.socket, ends: float) -> None:
        self._stream = stream
        self._sock = sock
        self._ends = ends

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        if (left := self._ends - time.monotonic()) <= 0:
            raise TimeoutError
        if left < (self._sock.gettimeout() or math.inf):
            self._sock.settimeout(left)
        return self._stream.readinto(buffer)

    def close(self) -> None:
        self._stream.close()
        super().close()


class _Response(HTTPResponse):
    """An answer that must arrive before the deadline of the calling thread, from its first line to its last byte."""

    def __init__(self, sock: socket.socket, *args: Any, **options: Any) -> None:
        super().__init__(sock, *args, **options)
        if (ends := getattr(_thread, "ends", math.inf)) < math.inf:  # else the wire has the deadline, without this cost
            self.fp = io.BufferedReader(_UntilDeadline(self.fp.detach(), sock, ends))


class _Cuttable:
    """A mixin for urllib3's connections, which reports them to the wire of the calling thread."""

    response_class: type[HTTPResponse] = _Response

    def __init__(self, *args: Any, check_address: AddressCheck | None, **options: Any) -> None:
        super().__init__(*args, **options)
        self._check_address = check_address

    def _new_conn(self) -> socket.socket:
        """Connect, and check the address to which the name resolved. Through a proxy, this is the address of the
        proxy."""
        sock: socket.socket = super()._new_conn()  # type: ignore[misc]
        check_address = None if self.proxy else self._check_address  # type: ignore[attr-defined]
        if check_address is not None and (objection := check_address(sock.getpeername()[0])):
            sock.close()
            raise NewConnectionError(self, objection) from UnsafeAddressError(objection)  # type: ignore[arg-type]
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


class Connection(_Cuttable, HTTPConnection):
    """A plain connection."""


class TlsConnection(_Cuttable, HTTPSConnection):
    """A TLS connection."""


def set_deadline(ends: float) -> None:
    """Set the deadline of the next answer that the calling thread receives, on the monotonic clock."""
    _thread.ends = ends


def pool_manager(service: str, scheme: str, proxy: str | None, size: int) -> urllib3.PoolManager:
    """Return a manager of connections to servers of a scheme, through `proxy` if there is one.

    Raises:
        OSError: the certificate bundle cannot be read.
        Refused: the proxy is of another kind.
    """
    context = tls_context() if scheme == "https" or (proxy or "").startswith("https:") else None
    options: dict[str, Any] = {"num_pools": 1, "maxsize": size, "retries": False, "ssl_context": context}
    if proxy is None:
        return urllib3.PoolManager(**options)
    if not proxy.startswith(("http://", "https://")):
        kind = proxy.split(":", 1)[0]
        raise Refused(service, "set up the connection", f"a {kind} proxy is not supported; use an http or https proxy")
    auth = parse_url(proxy).auth
    headers = make_headers(proxy_basic_auth=auth) if auth else None
    return urllib3.ProxyManager(proxy, proxy_ssl_context=context, proxy_headers=headers, **options)
