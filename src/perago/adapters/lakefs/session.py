"""Calls of lakeFS's API with the configured credentials, and the errors that its answers mean
(`docs/dev/servers/lakefs.md`, "Statuses with the hook in place" and "REST facts")."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias, TypeVar
from urllib.parse import quote, urlencode

from urllib3.util import make_headers

from perago.adapters.http import Answer, CallPolicy, HttpPool, overloaded
from perago.adapters.http_answers import NoAnswerError, clean, reading, typed, unanswered, unreadable
from perago.hanging import HANGS
from perago.ports import (
    FENCE_MARKER,
    AccessDenied,
    Commit,
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
from perago.retry import retry
from perago.settings import LakeFSSettings

SERVICE = "lakeFS"
ANSWER = "lakeFS's"
PAGE = 1000
"""Entries of a page, the server's maximum."""
T = TypeVar("T")
Json: TypeAlias = Mapping[str, Any]
Page: TypeAlias = tuple[Sequence[T], str | None]
"""Some entries of a list, and the entry after which the next ones begin; None at the end."""

_API = "/api/v1"
_NOT_NOW = (408, 423, 429, 503)
_HOOK_FAILED = "hook aborted"
_NOT_PERMITTED = "insufficient permissions"
"""The beginning of lakeFS's text of a 401 for valid credentials. It names the missing permission."""
_NO_NAME = re.compile(
    r"argument (repository|branch|ref|left|right|source|destination): .*invalid value: validation error"
)
"""Answers about names that lakeFS does not allow. The status is 400, or 500 when a commit is read
(`docs/dev/servers/lakefs.md`, "REST facts")."""


Refusals: TypeAlias = tuple[tuple[int, str | None, Callable[[str, str, str], ServiceError], str], ...]
"""Known refusals of a call: the status, a part of lakeFS's text (None: any text), the error, and its detail (empty:
lakeFS's text). The first match counts (`docs/dev/servers/lakefs.md`, "Statuses with the hook in place")."""

BRANCH_REFUSALS: Refusals = ((409, None, Refused, "a branch, tag or commit of this name exists already"),)
COMMIT_REFUSALS: Refusals = ((400, "no changes", NothingToCommit, "nothing is staged"),)
REVERT_REFUSALS: Refusals = ((409, None, RevertConflict, ""), *COMMIT_REFUSALS)
MERGE_REFUSALS: Refusals = (
    (412, FENCE_MARKER, partial(MergeRefused, reason=MergeRefusal.HEAD_MOVED), ""),
    (412, None, partial(MergeRefused, reason=MergeRefusal.HOOK), ""),
    (409, "", partial(MergeRefused, reason=MergeRefusal.CONFLICT), "both sides changed one path"),
    (400, "no changes", partial(MergeRefused, reason=MergeRefusal.NO_CHANGES), ""),
    (400, "uncommitted changes", partial(MergeRefused, reason=MergeRefusal.DIRTY), ""),
)
"""`perago.attempt.protocol.merge_refused` handles each reason."""


@dataclass(frozen=True, slots=True)
class Call:
    """The facts about a call for its errors.

    `operation` describes it in plain words. `missing` names the subject of a 404, unless the server says that it is the
    repository. `write` says whether a lost answer matters. It is False for writes that are harmless to repeat.
    """

    operation: str
    repository: str
    missing: str
    write: bool = False
    refusals: Refusals = ()


class LakeFSSession:
    """Connections to lakeFS's API. Safe to use from several threads; opens none before the first call.

    Args:
        settings: where the server is; the URL with or without `/api/v1`.
        policy: time limits and retries.
        connections: how many are kept for re-use.
    """

    def __init__(self, settings: LakeFSSettings, policy: CallPolicy, connections: int) -> None:
        key, secret = settings.access_key_id, settings.secret_access_key.get_secret_value()
        self.policy = policy
        self.base_url: str = settings.endpoint_url.rstrip("/").removesuffix(_API) + _API
        headers = make_headers(basic_auth=f"{key}:{secret}")
        self.pool: HttpPool = HttpPool(SERVICE, self.base_url, headers=headers, size=connections, policy=policy)

    def get(self, call: Call, path: str, read: Callable[[Any], T], query: Mapping[str, str | int] | None = None) -> T:
        """Return the result of `read` for the JSON at a path. The call is repeated while lakeFS cannot be reached."""
        target = with_query(path, query or {})
        return retry(
            lambda: once(call, lambda: self.pool.call("GET", target), lambda answer: read(json_of(answer))),
            self.policy.retries(),
        )

    def page(
        self,
        call: Call,
        path: str,
        read: Callable[[Any], T],
        query: Mapping[str, str | int],
        after: str = "",
        amount: int = PAGE,
    ) -> Page[T]:
        """Return some entries of a list, beginning after the entry `after`."""

        def read_page(reply: Any) -> Page[T]:
            rows, pagination = [read(row) for row in typed(reply["results"], list, "results")], reply["pagination"]
            if pagination["has_more"] and not rows:
                raise ValueError("a page without entries before the end")
            return rows, str(pagination["next_offset"]) if pagination["has_more"] else None

        return self.get(call, path, read_page, {**query, "after": after, "amount": amount})

    def pages(
        self, call: Call, path: str, read: Callable[[Any], T], query: Mapping[str, str | int] | None = None
    ) -> Iterator[Sequence[T]]:
        """Yield all pages of a list."""
        after: str | None = ""
        while after is not None:
            rows, following = self.page(call, path, read, query or {}, after)
            if following is not None and following <= after:  # this list would be read forever
                raise unreadable(SERVICE, call.operation, ANSWER, "its next page does not advance")
            yield rows
            after = following


def once(call: Call, send: Callable[[], Answer], read: Callable[[Answer], T]) -> T:
    """Send a request once, and return the value that `read` makes of its answer.

    Raises:
        ServiceError: there is no answer, its status is not 2xx, or it is not lakeFS's.
    """
    try:
        with HANGS.call(SERVICE, call.operation):
            answer = send()
            if answer.status == 401:  # else a call that hung would report that lakeFS answers again
                raise refusal(call, answer)
    except NoAnswerError as failure:
        raise unanswered(SERVICE, call.operation, failure, write=call.write) from failure
    if not 200 <= answer.status < 300:
        raise refusal(call, answer)
    with reading(SERVICE, call.operation, ANSWER, write=call.write):
        return read(answer)


def json_of(answer: Answer) -> Json:
    """Return the JSON object of an answer.

    Raises:
        ValueError, TypeError: it is not one.
    """
    return typed(json.loads(answer.body), dict)


def path_in(repository: str, *parts: str) -> str:
    """Return the path of a resource of a repository. A part such as `..`, which would leave the repository, is not a
    valid name in lakeFS."""
    return "".join(f"/{quote(part, safe='', errors='replace')}" for part in ("repositories", repository, *parts))


def with_query(path: str, query: Mapping[str, str | int]) -> str:
    """Return a path with those parameters of a query that are not empty."""
    parameters = {name: value for name, value in query.items() if value != ""}
    return f"{path}?{urlencode(parameters, quote_via=quote, errors='replace')}" if parameters else path


def just_before(key: str) -> str:
    """Return a text that sorts right before `key` in UTF-8 order, so that hardly any key is between the two."""
    last = ord(key[-1]) - 1
    if 0xD800 <= last <= 0xDFFF:
        last = 0xD7FF
    return key[:-1] if last < 0 else f"{key[:-1]}{chr(last)}\U0010ffff"


def commit_of(row: Json) -> Commit:
    """Return the commit that lakeFS shows as this JSON.

    Raises:
        LookupError, TypeError, ValueError, AttributeError: it is not a commit.
    """
    return Commit(
        id=typed(row["id"], str, "id"),
        parents=tuple(str(parent) for parent in row["parents"]),
        committer=str(row["committer"]),
        message=str(row["message"]),
        created=int(row["creation_date"]),
        metadata={str(key): str(value) for key, value in (row.get("metadata") or {}).items()},
        meta_range_id=str(row["meta_range_id"]),
    )


def message_of(answer: Answer) -> str | None:
    """Return lakeFS's own error text; None if another program answered. The text of a merge conflict is empty.

    A deletion of several objects that is not permitted is answered with two documents. The first one has the text.
    """
    try:
        body, _ = json.JSONDecoder().raw_decode(answer.body.decode().lstrip())
    except ValueError:
        return None
    if not isinstance(body, dict):
        return None
    message = body.get("message", "")
    return message if isinstance(message, str) else None


def refusal(call: Call, answer: Answer) -> ServiceError:
    """Return the error for an answer that is not 2xx."""
    status, message, detail = answer.status, message_of(answer), _detail(answer)
    for known, part, kind, text in call.refusals:
        if status == known and (part is None or (message is not None and part in message)):
            return kind(SERVICE, call.operation, text or detail)
    if message is not None and (status == 403 or (status == 401 and message.startswith(_NOT_PERMITTED))):
        return Forbidden(SERVICE, call.operation, detail)
    if status in (401, 403):
        return AccessDenied(SERVICE, call.operation, detail)
    if status in _NOT_NOW:
        return overloaded(SERVICE, call.operation, detail, status, answer.headers)
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


def _detail(answer: Answer) -> str:
    if 300 <= answer.status < 400:
        return f"status {answer.status}: the server redirects; set LAKECTL_SERVER_ENDPOINT_URL to the final address"
    message = message_of(answer)
    if message is None:
        return f"status {answer.status}, without lakeFS's error text (a proxy, or another server?)"
    return clean(f"status {answer.status}: {message}")
