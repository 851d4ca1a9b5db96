"""Failures below HTTP, sorted by the question that matters afterwards: was the request sent?"""

from __future__ import annotations

import re
import socket
import ssl

from urllib3 import exceptions

_NEVER_SENT = (
    exceptions.NewConnectionError,
    exceptions.ConnectTimeoutError,
    exceptions.ProxyError,
    exceptions.ClosedPoolError,
)


class UnsafeAddressError(OSError):
    """The name of the server leads to an address that perago must not talk to. The message says why."""


_WORDS: tuple[tuple[type[BaseException], str | None], ...] = (
    (exceptions.NewConnectionError, None),  # is a time-out by class; its cause tells more
    (exceptions.ConnectTimeoutError, "no connection within the time limit"),
    (exceptions.ReadTimeoutError, "no answer within the time limit"),
    (TimeoutError, "no answer within the time limit"),
    (exceptions.ClosedPoolError, "the client has been closed"),
    (socket.gaierror, "the host name does not resolve"),
    (ConnectionRefusedError, "connection refused"),
    (ConnectionResetError, "the connection was closed before an answer came"),
    (BrokenPipeError, "the connection was closed before an answer came"),
    (exceptions.IncompleteRead, "the answer was cut off"),
    (exceptions.InvalidChunkLength, "the answer was cut off"),
)
_NO_TUNNEL = "Tunnel connection failed"
_LONGEST_TEXT = 400


class NoAnswerError(Exception):
    """No usable answer came back. `sent` is False only if the server certainly never saw the request."""

    def __init__(self, text: str, *, sent: bool) -> None:
        super().__init__(text)
        self.text = text
        self.sent = sent


class AnswerTooLargeError(NoAnswerError):
    """An answer came that is larger than may be read."""


def no_answer(error: BaseException) -> NoAnswerError:
    """What a failure of the transport means."""
    return NoAnswerError(_describe(error), sent=not (isinstance(error, _NEVER_SENT) or _not_let_through(error)))


def clean(text: str) -> str:
    """A service's text made fit for one line of a message: no control characters, single blanks, bounded length."""
    flat = re.sub(r"\s+", " ", re.sub(r"[\x00-\x1f\x7f]+", " ", text)).strip()
    return flat if len(flat) <= _LONGEST_TEXT else flat[: _LONGEST_TEXT - 1] + "…"


def _causes(error: BaseException) -> list[BaseException]:
    """The error and everything it wraps, outermost first."""
    found: list[BaseException] = []
    queue: list[BaseException] = [error]
    while queue and len(found) < 10:
        current = queue.pop(0)
        found.append(current)
        inner = [current.__cause__, current.__context__, getattr(current, "reason", None), *current.args]
        queue.extend(item for item in inner if isinstance(item, BaseException) and item not in found)
    return found


def _not_let_through(error: BaseException) -> bool:
    """Whether the connection ended before a request could be sent: a bad certificate, or a proxy that refused."""
    return any(isinstance(cause, ssl.SSLCertVerificationError) or _is_no_tunnel(cause) for cause in _causes(error))


def _is_no_tunnel(cause: BaseException) -> bool:
    return isinstance(cause, OSError) and str(cause).startswith(_NO_TUNNEL)


def _describe(error: BaseException) -> str:
    """The cause in plain words. Never the exception's own text: it can quote a proxy's URL with its password."""
    causes = _causes(error)
    for cause in causes:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"the server's certificate is not trusted: {clean(cause.verify_message)}"
        if isinstance(cause, UnsafeAddressError):
            return str(cause)
    for cause in causes:
        text = _plain(cause)
        if text:
            return text
    return f"the connection failed ({type(error).__name__})"


def _plain(cause: BaseException) -> str | None:
    """One cause in plain words, or None if it says nothing by itself."""
    for kind, text in _WORDS:
        if isinstance(cause, kind):
            return text
    if isinstance(cause, ssl.SSLError):
        return f"TLS failed: {clean(cause.reason or 'no reason given')}"
    if _is_no_tunnel(cause):
        return f"the proxy refused: {clean(str(cause))}"
    return clean(cause.strerror) if isinstance(cause, OSError) and cause.strerror else None
