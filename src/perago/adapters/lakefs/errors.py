"""The errors that lakeFS's answers stand for (`docs/dev/servers/lakefs.md` 1.3 and 2)."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from perago.adapters.http import Answer, HttpPool, NoAnswerError, clean, overloaded
from perago.ports import (
    FENCE_MARKER,
    AccessDenied,
    Forbidden,
    MergeRefusal,
    MergeRefused,
    NotFound,
    NothingToCommit,
    Refused,
    RevertConflict,
    ServiceError,
    Unavailable,
    Unclear,
)

SERVICE = "lakeFS"
Found = TypeVar("Found")

_NOT_NOW = (408, 423, 429, 503)
_HOOK_FAILED = "hook aborted"
_NO_NAME = re.compile(
    r"argument (repository|branch|ref|left|right|source|destination): .*invalid value: validation error"
)
"""A name that nothing can have. The status is 400, or 500 where a commit is read (`docs/dev/servers/lakefs.md` 2)."""


@dataclass(frozen=True, slots=True)
class Call:
    """One call as its errors need to know it.

    `operation` says it in plain words. `missing` names what a 404 is about unless the server says that it is the
    repository. `write` tells whether a lost answer matters; False also for writes that are harmless to repeat.
    """

    operation: str
    repository: str
    missing: str
    write: bool = False


def message_of(answer: Answer) -> str | None:
    """lakeFS's own error text, or None if another program answered. A merge conflict has an empty one."""
    try:
        body = json.loads(answer.body)
    except ValueError:
        return None
    if not isinstance(body, dict):
        return None
    message = body.get("message", "")
    return message if isinstance(message, str) else None


def version_in(answer: Answer) -> str | None:
    """The version that a server says it has; None if it does not say."""
    try:
        version = json.loads(answer.body)["version"]
    except (ValueError, KeyError, TypeError):
        return None
    return version[:100] if isinstance(version, str) and version else None


class UnreadableAnswer(Exception):
    """An answer came, and is not lakeFS's. Any other error of a call is a mistake in perago or the SDK."""


def reading(read: Callable[..., Any]) -> Callable[..., Any]:
    """`read`, telling what it cannot make sense of by `UnreadableAnswer`."""

    def read_or_raise(*arguments: Any, **options: Any) -> Any:
        try:
            return read(*arguments, **options)
        except (ValueError, TypeError, AttributeError, KeyError) as error:
            raise UnreadableAnswer from error

    return read_or_raise


def ask(pool: HttpPool, call: Call, target: str, read: Callable[[Answer], Found]) -> Found:
    """Send one GET, and return what `read` makes of its answer.

    Raises:
        ServiceError: there is no answer, its status is not 200, or it is not lakeFS's.
    """
    try:
        answer = pool.call("GET", target)
    except NoAnswerError as failure:
        raise unanswered(call, failure) from failure
    if answer.status != 200:
        raise refusal(call, answer)
    try:
        return read(answer)
    except (ValueError, TypeError, AttributeError, KeyError, RecursionError) as error:
        raise unreadable(call) from error


def unanswered(call: Call, failure: NoAnswerError) -> ServiceError:
    """The error for a call without an answer: a write that may have arrived is `Unclear`."""
    kind = Unclear if call.write and failure.sent else Unavailable
    return kind(SERVICE, call.operation, failure.text)


def unreadable(call: Call) -> ServiceError:
    """The error for a 2xx answer that is not lakeFS's."""
    detail = "the answer is not lakeFS's; is LAKECTL_SERVER_ENDPOINT_URL the address of a lakeFS server?"
    return (Unclear if call.write else Unavailable)(SERVICE, call.operation, detail)


def refusal(call: Call, answer: Answer) -> ServiceError:
    """The error for an answer that is not 2xx."""
    status, message, detail = answer.status, message_of(answer), _detail(answer)
    if status == 403 and message is not None:
        return Forbidden(SERVICE, call.operation, detail)
    if status in (401, 403):
        return AccessDenied(SERVICE, call.operation, detail)
    if status in _NOT_NOW:
        return overloaded(SERVICE, call.operation, detail, answer.headers)
    if status == 404 and message is None:
        return Unavailable(SERVICE, call.operation, detail)  # a proxy's word that nothing is there proves nothing
    impossible = _NO_NAME.match(message or "")
    if impossible or (status == 404 and "invalid API endpoint" not in detail):
        is_repository = "repository not found" in detail or "argument repository" in detail
        subject = f"repository {call.repository}" if is_repository else call.missing
        why = f": {clean(impossible.group())}" if impossible else ""
        return NotFound(SERVICE, call.operation, f"{subject} does not exist{why}")
    if status == 500 and "predicate failed" in detail:
        return Unavailable(SERVICE, call.operation, "another change came first (predicate failed); nothing was done")
    if status < 500 or status == 501 or _HOOK_FAILED in detail:
        return Refused(SERVICE, call.operation, detail)
    return (Unclear if call.write else Unavailable)(SERVICE, call.operation, detail)


def branch_refusal(call: Call, answer: Answer) -> ServiceError:
    """The error for a branch that is not created."""
    if answer.status == 409:
        return Refused(SERVICE, call.operation, "a branch, tag or commit of this name exists already")
    return refusal(call, answer)


def commit_refusal(call: Call, answer: Answer) -> ServiceError:
    """The error for a refused commit."""
    if answer.status == 400 and "no changes" in (message_of(answer) or ""):
        return NothingToCommit(SERVICE, call.operation, "nothing is staged")
    return refusal(call, answer)


def revert_refusal(call: Call, answer: Answer) -> ServiceError:
    """The error for a refused revert."""
    if answer.status == 409:
        return RevertConflict(SERVICE, call.operation, _detail(answer))
    return commit_refusal(call, answer)


def merge_refusal(call: Call, answer: Answer) -> ServiceError:
    """The error for a refused merge, with the reason where it is one of the known ones."""
    message = message_of(answer)
    known = (reason for status, part, reason in _REFUSED_MERGES if status == answer.status and part in (message or ""))
    reason = next(known, None)
    if reason is None or (message is None and answer.status != 412):
        return refusal(call, answer)
    detail = "both sides changed one path" if reason is MergeRefusal.CONFLICT else _detail(answer)
    return MergeRefused(SERVICE, call.operation, detail, reason)


_REFUSED_MERGES = (
    (412, FENCE_MARKER, MergeRefusal.HEAD_MOVED),
    (412, "", MergeRefusal.HOOK),
    (409, "", MergeRefusal.CONFLICT),
    (400, "no changes", MergeRefusal.NO_CHANGES),
    (400, "uncommitted changes", MergeRefusal.DIRTY),
)
"""Status and a part of lakeFS's text, in the order in which they are tried (`docs/dev/servers/lakefs.md` 1.3). What an
attempt makes of each reason stands in `perago.attempt.publishing.merge_refused`."""


def _detail(answer: Answer) -> str:
    if 300 <= answer.status < 400:
        return f"status {answer.status}: the server redirects; set LAKECTL_SERVER_ENDPOINT_URL to the final address"
    message = message_of(answer)
    if message is None:
        return f"status {answer.status}, without lakeFS's error text (a proxy, or another server?)"
    return clean(f"status {answer.status}: {message}")
