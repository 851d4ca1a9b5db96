"""HTTP answers, and calls without one: classify failures by their effect, and read JSON with checked types."""

from __future__ import annotations

import contextlib
import json
import re
import socket
import ssl
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from urllib3 import exceptions

from perago.ports import ServiceError, Unavailable, Unclear, Untrusted

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


_NO_TUNNEL = "Tunnel connection failed"

_LONGEST_TEXT = 400


def _os_explanation(error: OSError) -> str | None:
    if str(error).startswith(_NO_TUNNEL):
        return f"the proxy refused: {clean(str(error))}"
    return clean(error.strerror) if error.strerror else None


def _tls_explanation(reason: str) -> str:
    if reason in ("WRONG_VERSION_NUMBER", "HTTP_REQUEST"):
        return f"the server does not speak TLS at this address; does it need http:// or another port? ({reason})"
    return f"TLS failed: {clean(reason)}"


_EXPLANATIONS: tuple[tuple[type[BaseException], str | Callable[[Any], str | None] | None], ...] = (
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
    (ssl.SSLError, lambda error: _tls_explanation(error.reason or "no reason given")),
    (OSError, _os_explanation),
)
"""Causes in plain words; None for a cause that explains nothing. The text of the exception is never used, because it
can quote a proxy's URL with its password."""


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
    text = next(filter(None, map(_explanation, causes)), f"the connection failed ({type(error).__name__})")
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
        flaws = {KeyError: f"{error} is missing", json.JSONDecodeError: f"it is not JSON: {error}"}
        raise unreadable(service, operation, what, flaws.get(type(error), str(error)), write=write) from error


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
    causes: list[BaseException] = []
    queue: list[BaseException] = [error]
    while queue and len(causes) < 10:
        current = queue.pop(0)
        causes.append(current)
        inner = [current.__cause__, current.__context__, getattr(current, "reason", None), *current.args]
        queue.extend(item for item in inner if isinstance(item, BaseException) and item not in causes)
    return causes


def _explanation(cause: BaseException) -> str | None:
    explanation = next((text for kind, text in _EXPLANATIONS if isinstance(cause, kind)), None)
    return explanation(cause) if callable(explanation) else explanation
