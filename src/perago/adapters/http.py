"""HTTP for both adapters: one connection pool per service, with limits on every wait."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from email.utils import parsedate_to_datetime
from functools import partial
from http.client import HTTPException
from typing import Any

import urllib3
from urllib3.exceptions import HTTPError
from urllib3.response import BaseHTTPResponse
from urllib3.util import Timeout, parse_url

from perago.adapters.http_answers import AnswerTooLargeError, no_answer
from perago.adapters.http_connections import (
    AddressCheck,
    Connection,
    TlsConnection,
    pool_manager,
    set_deadline,
)
from perago.hanging import HANGS
from perago.ports import Overloaded, RateLimited, Refused, ServiceError, Unavailable
from perago.retry import BackOff, Retries, within
from perago.settings.network import ca_bundle, proxy_for

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


_READ_SIZE = 64 * 1024

Body = bytes | Iterable[bytes | memoryview] | None


class HttpPool:
    """Connections to one service below one base URL.

    Args:
        service: `"lakeFS"` or `"Conductor"`, for messages.
        base_url: with scheme, without a trailing slash; requests name targets relative to it.
        size: connections to keep for re-use.
        check_address: refuses addresses to which the host's name resolves, before a request is sent there.

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
        check_address: AddressCheck | None = None,
    ) -> None:
        url = parse_url(base_url)
        if url.scheme not in ("http", "https") or not url.host:
            raise Refused(service, "set up the connection", "the server URL must look like https://host[:port]/path")
        self._policy = policy
        proxy = proxy_for(url.scheme, url.host, url.port)
        try:
            self._manager = pool_manager(service, url.scheme, proxy, size)
        except OSError as error:
            detail = f"the certificate bundle {ca_bundle()} cannot be read: {error.strerror}"
            raise Refused(service, "set up the connection", detail) from error
        self._pool = self._manager.connection_from_url(base_url)
        kind = TlsConnection if url.scheme == "https" else Connection
        self._pool.ConnectionCls = partial(kind, check_address=check_address)  # type: ignore[assignment] # urllib3 only calls it
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
        set_deadline(ends)
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
