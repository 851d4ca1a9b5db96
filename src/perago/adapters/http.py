"""HTTP for both adapters: one connection pool per service, limits on every wait, and failures classified by their
effect.

The standard proxy and TLS variables are read once per client.
"""

from __future__ import annotations

import contextlib
import io
import ipaddress
import json
import logging
import math
import os
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from email.utils import parsedate_to_datetime
from functools import partial
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import Any, TypeVar
from urllib.request import getproxies_environment, proxy_bypass_environment  # type: ignore[attr-defined]

import urllib3
from urllib3 import exceptions
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import HTTPError, NewConnectionError
from urllib3.response import BaseHTTPResponse
from urllib3.util import Timeout, make_headers, parse_url

from perago.hanging import HANGS
from perago.ports import Overloaded, RateLimited, Refused, ServiceError, Unavailable, Unclear, Untrusted
from perago.retry import BackOff, Retries, within

T = TypeVar("T")
_JSON_NAMES = {
    dict: "an object",
    list: "a list",
    str: "a text",
    bool: "a boolean",
    int: "an integer",
    float: "a number",
    type(None): "null",
}
_NEVER_SENT = (
    exceptions.NewConnectionError,
    exceptions.ConnectTimeoutError,
    exceptions.ProxyError,
    exceptions.ClosedPoolError,
)


class UnsafeAddressError(OSError):
    """The name of a server resolves to an address that perago must not use. The message says why."""


def _os_words(error: OSError) -> str | None:
    if str(error).startswith(_NO_TUNNEL):
        return f"the proxy refused: {clean(str(error))}"
    return clean(error.strerror) if error.strerror else None


def _tls_words(reason: str) -> str:
    if reason in ("WRONG_VERSION_NUMBER", "HTTP_REQUEST"):
        return f"the server does not speak TLS at this address; does it need http:// or another port? ({reason})"
    return f"TLS failed: {clean(reason)}"


_WORDS: tuple[tuple[type[BaseException], str | Callable[[Any], str | None] | None], ...] = (
    (
        ssl.SSLCertVerificationError,
        lambda error: f"the server's certificate is not trusted: {clean(error.verify_message)}",
    ),
    (UnsafeAddressError, str),
    (exceptions.NewConnectionError, None),  # is a timeout by class; its cause tells more
    (exceptions.ConnectTimeoutError, "no connection within the time limit"),
    (exceptions.ReadTimeoutError, "no answer within the time limit"),
    (TimeoutError, "no answer within the time limit"),
    (exceptions.ClosedPoolError, "the client has been closed"),
    (socket.gaierror, "the host name does not resolve"),
    (ConnectionRefusedError, "connection refused"),
    (ConnectionResetError, "the connection was closed before the answer"),
    (BrokenPipeError, "the connection was closed before the answer"),
    (exceptions.IncompleteRead, "the answer was cut off"),
    (exceptions.InvalidChunkLength, "the answer was cut off"),
    (ssl.SSLError, lambda error: _tls_words(error.reason or "no reason given")),
    (OSError, _os_words),
)
"""Causes in plain words; None for a cause that explains nothing. The text of the exception is never used, because it
can quote a proxy's URL with its password."""
_NO_TUNNEL = "Tunnel connection failed"
_LONGEST_TEXT = 400


class NoAnswerError(Exception):
    """A call without a usable answer. `sent` is False only if the server certainly never got the request. `trusted` is
    False if its certificate is not trusted."""

    def __init__(self, text: str, *, sent: bool, trusted: bool = True) -> None:
        super().__init__(text)
        self.text = text
        self.sent = sent
        self.trusted = trusted


class AnswerTooLargeError(NoAnswerError):
    """An answer that is larger than the limit."""


def no_answer(error: BaseException) -> NoAnswerError:
    """Return a failure of the transport as perago's error."""
    causes = _causes(error)
    trusted = not any(isinstance(cause, ssl.SSLCertVerificationError) for cause in causes)
    refused = not trusted or any(str(cause).startswith(_NO_TUNNEL) for cause in causes)
    text = next(filter(None, map(_plain, causes)), f"the connection failed ({type(error).__name__})")
    return NoAnswerError(text, sent=not (refused or isinstance(error, _NEVER_SENT)), trusted=trusted)


def unanswered(service: str, operation: str, failure: NoAnswerError, *, write: bool = False) -> ServiceError:
    """Return the error for a call without an answer. A write that may have arrived is `Unclear`."""
    kind = Untrusted if not failure.trusted else Unclear if write and failure.sent else Unavailable
    return kind(service, operation, failure.text)


AS_EXPECTED = "answer as expected"
"""The operation of a ping whose answer is not that of such a server."""
_ADDRESSES = {
    "Conductor": "CONDUCTOR_SERVER_URL the address of a Conductor server (…/api)",
    "lakeFS": "LAKECTL_SERVER_ENDPOINT_URL the address of a lakeFS server",
}


def unreadable(service: str, operation: str, what: str, flaw: str, *, write: bool = False) -> ServiceError:
    """Return the error for a 2xx answer that is not `what`, because of `flaw`. After a write it is `Unclear`."""
    detail = f"the answer is not {what} ({clean(flaw)}); is {_ADDRESSES[service]}?"
    return (Unclear if write else Unavailable)(service, operation, detail)


@contextlib.contextmanager
def reading(service: str, operation: str, what: str, *, write: bool = False) -> Iterator[None]:
    """Turn the errors of reading an answer that is not `what` into a `ServiceError`."""
    try:
        yield
    except (LookupError, TypeError, ValueError, AttributeError, OverflowError, RecursionError) as error:
        words = {KeyError: f"{error} is missing", json.JSONDecodeError: f"it is not JSON: {error}"}
        raise unreadable(service, operation, what, words.get(type(error), str(error)), write=write) from error


def typed(value: Any, kind: type[T], name: str = "it") -> T:
    """Return a value of an answer.

    Raises:
        TypeError: it is not a `kind`.
    """
    if type(value) is kind:  # not isinstance, because true is not a number
        return value
    raise TypeError(f"{name} is {_JSON_NAMES.get(type(value), 'nested too deeply')}, not {_JSON_NAMES[kind]}")


def clean(text: str) -> str:
    """Return a service's text for one line of a message, without control characters and repeated blanks, and cut."""
    flat = re.sub(r"\s+", " ", re.sub(r"[\x00-\x1f\x7f]+", " ", text)).strip()
    return flat if len(flat) <= _LONGEST_TEXT else flat[: _LONGEST_TEXT - 1] + "…"


def _causes(error: BaseException) -> list[BaseException]:
    """Return the error and all errors that it wraps, outermost first."""
    found: list[BaseException] = []
    queue: list[BaseException] = [error]
    while queue and len(found) < 10:
        current = queue.pop(0)
        found.append(current)
        inner = [current.__cause__, current.__context__, getattr(current, "reason", None), *current.args]
        queue.extend(item for item in inner if isinstance(item, BaseException) and item not in found)
    return found


def _plain(cause: BaseException) -> str | None:
    words = next((words for kind, words in _WORDS if isinstance(cause, kind)), None)
    return words(cause) if callable(words) else words


_DELAYS = BackOff(0.2, 8.0, jitter=True)


@dataclass(frozen=True, slots=True)
class CallPolicy:
    """Time limits of one client's calls, in seconds, and the retries of calls that are harmless to repeat."""

    connect: float = 10.0
    answer: float = 60.0
    """The longest silence within an answer, and the time limit of a small one."""
    merge: float = 300.0
    """Time limit of a merge, during which the server may run other people's hooks."""
    slowest: float = 8 * 1024
    """Bytes per second below which a transfer counts as stuck."""
    tries: int = 4
    """The maximum number of calls."""
    delays: BackOff = _DELAYS
    largest: int = 256 * 1024 * 1024
    """The largest answer in bytes. Larger ones are abandoned, before they can fill the memory."""

    def retries(self, after: tuple[type[ServiceError], ...] = (Unavailable,)) -> Retries:
        """Repeat a call after these errors."""
        return replace(within(math.inf, after), delays=self.delays, calls=self.tries)


COMMAND_POLICY = CallPolicy(connect=5.0, answer=15.0, tries=1, largest=64 * 1024 * 1024)
"""For commands of operators, who wait for the answer. A server that hangs is reported after 15 s."""


def overloaded(service: str, operation: str, detail: str, status: int, headers: Mapping[str, str]) -> Overloaded:
    """Return the error for an answer that asks the client to wait."""
    error = (RateLimited if status == 429 else Overloaded)(service, operation, detail)
    error.retry_after = retry_after(headers)
    return error


def retry_after(headers: Mapping[str, str]) -> float:
    """Return the seconds that a `Retry-After` header asks for, as a number or an HTTP date; 0 without one."""
    value = headers.get("Retry-After", "").strip()
    if value.isascii() and value.isdigit():  # other digits, such as "²", are no number
        return float(value)
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, OverflowError):
        return 0.0


def _log_without_query(record: logging.LogRecord) -> bool:
    """Remove the queries of URLs, because a signed address is as good as a password."""
    if isinstance(record.args, tuple):
        record.args = tuple(each.partition("?")[0] if isinstance(each, str) else each for each in record.args)
    return True


for _name in ("urllib3.connectionpool", "urllib3.connection"):  # a filter is not inherited by loggers below
    logging.getLogger(_name).addFilter(_log_without_query)


@dataclass(frozen=True, slots=True)
class Answer:
    """A complete answer, of any status. Header names are looked up without regard to case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


HALF_A_SECOND = 0.5
"""A `Date` is cut to full seconds, so on average it is this much earlier than the server's clock."""


@dataclass(frozen=True, slots=True)
class ServerAbout:
    """The facts that a server reports about itself. `version` is None if it reports none."""

    version: str | None
    ahead: float | None
    """Seconds that its clock is ahead of this one, to about a second; None: its answers have no date."""
    seconds: float
    """Seconds until the answer."""

    @classmethod
    def of(cls, answer: Answer, version: Any, sent: float) -> ServerAbout:
        """Return the facts from an answer that has just arrived. The request was `sent` at this second of the epoch."""
        received, ahead = time.time(), None
        with contextlib.suppress(ValueError, OverflowError, TypeError):
            theirs = parsedate_to_datetime(answer.headers.get("Date", "")).timestamp() + HALF_A_SECOND
            ahead = theirs - (sent + received) / 2
        return cls(version[:100] if isinstance(version, str) and version else None, ahead, received - sent)


STOPPED = "the transfer was stopped"
_thread = threading.local()

Judge = Callable[[str], str | None]
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

    def __init__(self, *args: Any, judge: Judge | None, **options: Any) -> None:
        super().__init__(*args, **options)
        self._judge = judge

    def _new_conn(self) -> socket.socket:
        """Connect, and judge the address to which the name resolved. Through a proxy, this is the address of the
        proxy."""
        sock: socket.socket = super()._new_conn()  # type: ignore[misc]
        judge = None if self.proxy else self._judge  # type: ignore[attr-defined]
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


_READ_SIZE = 64 * 1024

Body = bytes | Iterable[bytes | memoryview] | None


class HttpPool:
    """Connections to one service below one base URL.

    Args:
        service: `"lakeFS"` or `"Conductor"`, for messages.
        base_url: with scheme, without a trailing slash; requests name targets relative to it.
        size: connections to keep for re-use.
        judge: refuses addresses to which the host's name resolves, before a request is sent there.

    Raises:
        Refused: the URL, the proxy or the certificate bundle cannot be used.
    """

    def __init__(
        self,
        service: str,
        base_url: str,
        *,
        headers: Mapping[str, str],
        size: int,
        policy: CallPolicy,
        judge: Judge | None = None,
    ) -> None:
        url = parse_url(base_url)
        if url.scheme not in ("http", "https") or not url.host:
            raise Refused(service, "set up the connection", "the server URL must look like https://host[:port]/path")
        self._policy = policy
        proxy = proxy_for(url.scheme, url.host, url.port)
        try:
            self._manager = _manager(service, url.scheme, proxy, size)
        except OSError as error:
            detail = f"the certificate bundle {ca_bundle()} cannot be read: {error.strerror}"
            raise Refused(service, "set up the connection", detail) from error
        self._pool = self._manager.connection_from_url(base_url)
        kind = _TlsConnection if url.scheme == "https" else _Connection
        self._pool.ConnectionCls = partial(kind, judge=judge)  # type: ignore[assignment] # urllib3 only calls it
        self._headers = dict(headers)
        forwarded = proxy is not None and url.scheme == "http"  # a plain proxy wants the whole URL in the request
        self._base = base_url if forwarded else (url.path or "")
        if forwarded and isinstance(self._manager, urllib3.ProxyManager):
            self._headers.update(self._manager.proxy_headers)

    def open(
        self,
        method: str,
        target: str,
        *,
        headers: Mapping[str, str | bytes] | None = None,
        body: Body = None,
        answer_within: float | None = None,
        ends: float = math.inf,
        decode: bool = False,
    ) -> BaseHTTPResponse:
        """Send a request and return its answer with the body still unread. The caller reads it completely or closes it.

        Args:
            answer_within: the longest silence, in seconds.
            ends: the deadline of the answer and its body, on the monotonic clock.
            decode: undo a compression that the request allowed.

        Raises:
            NoAnswerError: the transport failed.
        """
        _thread.ends = ends
        try:
            return self._pool.urlopen(
                method,
                self._base + target,
                body=body,  # type: ignore[arg-type] # memoryviews are fine
                headers={**self._headers, **(headers or {})},  # type: ignore[dict-item]
                retries=False,
                redirect=False,
                assert_same_host=False,
                timeout=Timeout(connect=self._policy.connect, read=answer_within or self._policy.answer),
                preload_content=False,
                decode_content=decode,
            )
        except (HTTPError, HTTPException, OSError) as error:
            raise no_answer(error) from error

    def call(
        self,
        method: str,
        target: str,
        *,
        headers: Mapping[str, str | bytes] | None = None,
        body: Body = None,
        answer_within: float | None = None,
        lasting: float | None = None,
    ) -> Answer:
        """Send a request and return its complete answer.

        Args:
            answer_within: the longest silence, in seconds.
            lasting: the time limit of the complete call if its body is large.

        Raises:
            NoAnswerError: the transport failed, or the answer was truncated or too slow.
        """
        HANGS.limit(lasting or answer_within or self._policy.answer)
        ends = time.monotonic() + (lasting or self._policy.connect + (answer_within or self._policy.answer))
        response = self.open(
            method, target, headers=headers, body=body, answer_within=answer_within, ends=ends, decode=True
        )
        return Answer(response.status, response.headers, read_whole(response, self._policy.largest))

    def close(self) -> None:
        """Close the connections; requests after this fail."""
        self._pool.close()
        self._manager.clear()


def read_whole(response: BaseHTTPResponse, largest: int) -> bytes:
    """Return the rest of an answer's body, which has at most `largest` bytes.

    Raises:
        NoAnswerError: cut off, not complete in time, or too large.
    """
    chunks: list[bytes] = []
    read = 0
    try:
        while (chunk := response.read1(_READ_SIZE)) and read <= largest:
            chunks.append(chunk)
            read += len(chunk)
    except (HTTPError, HTTPException, OSError) as error:
        response.close()
        raise no_answer(error) from error
    if chunk:
        response.close()
        raise AnswerTooLargeError(f"the answer is larger than {largest:,} bytes", sent=True)
    response.release_conn()
    return b"".join(chunks)


def _manager(service: str, scheme: str, proxy: str | None, size: int) -> urllib3.PoolManager:
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


# ------------------------------------------------------------------- proxy and TLS variables


def proxy_for(scheme: str, host: str, port: int | None) -> str | None:
    """Return the URL of the proxy for a server by `HTTP_PROXY`, `HTTPS_PROXY`, `ALL_PROXY` and `NO_PROXY`; None: no
    proxy."""
    proxies = getproxies_environment()
    proxy = proxies.get(scheme) or proxies.get("all")
    bare = host.strip("[]")
    if not proxy or proxy_bypass_environment(f"{bare}:{port}" if port else bare, proxies):
        return None
    for network in proxies.get("no", "").split(","):
        with contextlib.suppress(ValueError):  # names and malformed entries
            if "/" in network and ipaddress.ip_address(bare) in ipaddress.ip_network(network.strip(), strict=False):
                return None
    return proxy if "://" in proxy else f"http://{proxy}"


def ca_bundle() -> str:
    """Return the variable that replaces the system's store, as `NAME=value`; empty if none is set."""
    names = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
    return next((f"{name}={os.environ[name]}" for name in names if os.environ.get(name)), "")


def tls_context() -> ssl.SSLContext:
    """Return a verifying context that trusts `REQUESTS_CA_BUNDLE` or `CURL_CA_BUNDLE`, else the system's store.

    OpenSSL itself honors `SSL_CERT_FILE` and `SSL_CERT_DIR` for the system's store.

    Raises:
        OSError: the bundle cannot be read.
    """
    bundle = ca_bundle().partition("=")[2]
    if bundle and Path(bundle).is_dir():
        return ssl.create_default_context(capath=bundle)
    return ssl.create_default_context(cafile=bundle or None)
