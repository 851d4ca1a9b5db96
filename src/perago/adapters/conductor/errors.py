"""What Conductor's answers mean (`docs/servers/conductor.md` 1: neither the status class nor `retryable` tells)."""

from __future__ import annotations

import json
from typing import Any

from perago.adapters.http import Answer, NoAnswerError, Overloaded, clean
from perago.adapters.http.retry import retry_after
from perago.ports import AccessDenied, NotFound, Refused, ServiceError, Unavailable, Unclear

SERVICE = "Conductor"
NO_SUCH_URL = "No static resource"
_MALFORMED = ("JSON parse error", "Required request body", "Content-Type")
_NOT_NOW = (408, 429, 503)


def message_of(answer: Answer) -> str | None:
    """The `message` of an error body, or None if it has none: then it is not Conductor's."""
    try:
        body = json.loads(answer.body)
    except (ValueError, RecursionError):
        return None
    message = body.get("message") if isinstance(body, dict) else None
    return message if isinstance(message, str) else None


def unanswered(operation: str, failure: NoAnswerError, *, write: bool) -> ServiceError:
    """The error for a call without an answer: a write that may have arrived is `Unclear`."""
    kind = Unclear if write and failure.sent else Unavailable
    return kind(SERVICE, operation, failure.text)


def refusal(operation: str, answer: Answer, *, write: bool) -> ServiceError:
    """The error for an answer that is not 2xx."""
    status, detail = answer.status, _detail(answer)
    if status in (401, 403):
        return AccessDenied(SERVICE, operation, detail)
    if status in _NOT_NOW:
        error = Overloaded(SERVICE, operation, detail)
        error.retry_after = retry_after(answer.headers)
        return error
    if status == 404:
        # A proxy's word that nothing is there proves nothing.
        return (NotFound if _is_conductors_own(answer) else Unavailable)(SERVICE, operation, detail)
    if status < 500 or _is_malformed(answer):
        return Refused(SERVICE, operation, detail)
    return (Unclear if write else Unavailable)(SERVICE, operation, detail)


def unreadable(operation: str, what: str, *, write: bool) -> ServiceError:
    """The error for a 2xx answer that is not what Conductor answers."""
    detail = f"the answer is not {what}; is CONDUCTOR_SERVER_URL the address of a Conductor server (…/api)?"
    return (Unclear if write else Unavailable)(SERVICE, operation, detail)


def _is_conductors_own(answer: Answer) -> bool:
    """Whether the body has the form of every error of Conductor's. A gateway's has a `message` at most."""
    if message_of(answer) is None:
        return False
    body = json.loads(answer.body)
    return body.get("status") == answer.status and isinstance(body.get("retryable"), bool)


def _is_malformed(answer: Answer) -> bool:
    """Whether a 500 says that the request can never succeed: this server answers malformed requests so."""
    return (message_of(answer) or "").startswith(_MALFORMED)


def _detail(answer: Answer) -> str:
    message = message_of(answer)
    if message is None:
        return f"status {answer.status}, without Conductor's error text (a proxy, or another server?)"
    problems = "; ".join(_problems(answer))
    return clean(f"status {answer.status}: {message}" + (f" {problems}" if problems else ""))


def _problems(answer: Answer) -> list[str]:
    """The single findings of a bean validation answer."""
    listed: Any = json.loads(answer.body).get("validationErrors")
    if not isinstance(listed, list):
        return []
    return [str(item.get("message")) for item in listed if isinstance(item, dict) and item.get("message")]
