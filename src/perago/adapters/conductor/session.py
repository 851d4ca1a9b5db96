"""Conductor's REST API on perago's own connections and access tokens, and the meaning of its answers
(`docs/dev/servers/conductor.md`, "REST surface": neither the status class nor `retryable` is enough)."""

from __future__ import annotations

import json
import math
import re
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, TypeAlias, TypeVar
from urllib.parse import quote, urlencode

from perago.adapters.http import Answer, CallPolicy, HttpPool, overloaded
from perago.adapters.http_answers import NoAnswerError, clean, reading, typed, unanswered
from perago.conductor_json import TooDeep
from perago.hanging import HANGS
from perago.ports import AccessDenied, NotFound, Refused, ServiceError, Unavailable, Unclear
from perago.retry import retry
from perago.settings import ConductorSettings

J = TypeVar("J")

SERVICE = "Conductor"
NO_SUCH_URL = "No static resource"
_MALFORMED = ("JSON parse error", "Required request body", "Content-Type")
"""The beginning of the text of a 500 that says that the request can never succeed."""
_NOT_NOW = (408, 429, 503)


def fields_of(answer: Answer) -> dict[str, Any]:
    """Return the fields of an answer that is a JSON object; no fields for any other answer."""
    try:
        body = json.loads(answer.body)
    except (ValueError, RecursionError):
        return {}
    return body if isinstance(body, dict) else {}


def refusal(operation: str, answer: Answer, *, write: bool) -> ServiceError:
    """Return the error for an answer that is not 2xx."""
    status, body = answer.status, fields_of(answer)
    message, detail = body.get("message"), _detail(status, body)
    if status in (401, 403):
        return AccessDenied(SERVICE, operation, detail)
    if status in _NOT_NOW:
        return overloaded(SERVICE, operation, detail, status, answer.headers)
    if status == 404:
        # A proxy's word that nothing is there proves nothing.
        # Every error of Conductor's has this form, a gateway's has a `message` at most.
        is_conductors = (
            isinstance(message, str) and body.get("status") == status and isinstance(body.get("retryable"), bool)
        )
        return (NotFound if is_conductors else Unavailable)(SERVICE, operation, detail)
    if status < 500 or str(message).startswith(_MALFORMED):
        return Refused(SERVICE, operation, detail)
    return (Unclear if write else Unavailable)(SERVICE, operation, detail)


def _detail(status: int, body: dict[str, Any]) -> str:
    message, findings = body.get("message"), body.get("validationErrors")  # of a bean validation
    if not isinstance(message, str):
        return f"status {status}, without Conductor's error text (a proxy, or another server?)"
    listed = findings if isinstance(findings, list) else []
    problems = "; ".join(str(flaw["message"]) for flaw in listed if isinstance(flaw, dict) and flaw.get("message"))
    return clean(f"status {status}: {message}" + (f" {problems}" if problems else ""))


_TOKEN = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"|[\[\]{}]', re.DOTALL)
_LEVELS = (900, 600, 300)
"""The largest depth at which the decoder can read values now. It depends on the depth of the caller."""

TOO_DEEP = TooDeep("(nested too deeply)")


def loads(body: bytes) -> Any:
    """Return the value of a JSON document, with `TOO_DEEP` in place of values that are nested too deeply for Python's
    decoder (about 1,000 levels on Python 3.11). Conductor delivers such inputs, and one of them must not hide the
    others.

    The `inputData` of a task in a list is replaced in full if it holds such a value.

    Raises:
        ValueError: it is not JSON.
    """
    try:
        return json.loads(body)
    except RecursionError:
        pass
    for levels in _LEVELS:
        try:
            value = json.loads(b"".join(_pruned(body, levels)), parse_constant=lambda _: TOO_DEEP)
        except RecursionError:
            continue
        for task in value if isinstance(value, list) else ():
            if isinstance(task, dict) and _is_pruned(task.get("inputData")):
                task["inputData"] = TOO_DEEP
        return value
    raise ValueError("it is nested too deeply")


def _pruned(body: bytes, levels: int) -> Iterator[bytes]:
    """Yield the document in pieces. Each value below `depth` levels is replaced by a constant that JSON does not
    have."""
    depth = start = 0
    for token in _TOKEN.finditer(body):
        if token[0] in b"[{":
            depth += 1
            if depth == levels + 1:
                yield body[start : token.start()] + b"NaN"
        elif token[0] in b"]}":
            if depth == levels + 1:
                start = token.end()
            depth -= 1
    yield body[start:]


def _is_pruned(value: Any) -> bool:
    """Whether `TOO_DEEP` is somewhere in a value."""
    left = [value]
    while left:
        value = left.pop()
        if isinstance(value, TooDeep):
            return True
        left += value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return False


_AUTHENTICATE = "fetch an access token"
_TOKEN_LIFETIME = 45 * 60.0
_STALE_CODES = ("EXPIRED_TOKEN", "INVALID_TOKEN")
_FRESH_SECONDS = 10.0
"""A 401 for a token of this age is not the token's fault. So a key without permissions fetches few tokens."""
_TOKEN_SECONDS = 10.0
"""Maximum seconds that a thread waits for the token that another thread fetches."""
_RENEWAL_DELAY = 30.0
"""Seconds until a newer token is requested again while the old one is used."""
Query: TypeAlias = Mapping[str, str | int | Sequence[str]]
"""The parameters of a query. A sequence gives a parameter several times."""

_HEADERS = {"Accept": "*/*", "Accept-Encoding": "gzip"}
_CONNECTIONS = 32  # kept for re-use; a supervisor's threads beat and report side by side


class ConductorClient:
    """Conductor's REST API. Safe to use from several threads; opens no connection before the first call.

    Not the client classes of conductor-python: importing them takes 0.3 s, and their transport repeats requests, closes
    the shared client under the long polls of other threads when one connection breaks (those polls then lose their
    tasks, `docs/dev/servers/conductor.md`, "Attempt state machine"), ignores the proxy variables, and reads answers
    into models that drop fields.

    A path is given by its parts, below `/api`. Each call has a time limit, and its answer is not changed.
    """

    policy: ClassVar[CallPolicy]
    """The default of a subclass."""

    def __init__(self, settings: ConductorSettings, *, policy: CallPolicy | None = None) -> None:
        self._policy = policy = policy or self.policy
        base_url = settings.server_url.rstrip("/")
        self._pool = HttpPool(SERVICE, base_url, headers=_HEADERS, size=_CONNECTIONS, policy=policy)
        secret = settings.auth_secret.get_secret_value() if settings.auth_secret else None
        self._token = TokenSource(self._pool, settings.auth_key, secret)

    def get_json(self, operation: str, expected: type[J], what: str, *path: str, query: Query | None = None) -> J:
        """Return the JSON of a GET, as `json_of`. It is repeated while Conductor cannot be reached.

        Raises:
            ServiceError: never `Unclear`.
        """
        return json_of(operation, self.read(operation, "GET", *path, query=query), expected, what)

    def read(
        self, operation: str, method: str, *path: str, query: Query | None = None, body: str | None = None
    ) -> Answer:
        """Send a call that is harmless to repeat. Repeat it while Conductor cannot be reached.

        Raises:
            ServiceError: never `Unclear`.
        """
        return retry(
            lambda: self.once(operation, method, *path, query=query, body=body, write=False), self._policy.retries()
        )

    def workflow(self, workflow_id: str) -> dict[str, Any]:
        """Return a workflow with its attempts, as JSON."""
        operation = f"read workflow {workflow_id}"
        return self.get_json(operation, dict, "a workflow", "workflow", workflow_id, query={"includeTasks": "true"})

    def task(self, task_id: str) -> dict[str, Any]:
        """Return one attempt, as JSON."""
        operation, what = f"read task {task_id}", "a task"
        row: dict[str, Any] = self.get_json(operation, dict, what, "tasks", task_id)
        with reading(SERVICE, operation, what):
            typed(row["taskId"], str, "taskId")  # or an object of a proxy looks like a task that was lost
        return row

    def once(
        self,
        operation: str,
        method: str,
        *path: str,
        query: Query | None = None,
        body: str | None = None,
        write: bool = True,
        answer_within: float | None = None,
        expected: float = 0.0,
    ) -> Answer:
        """Send a call exactly once.

        Args:
            operation: what is done, for messages.
            method: GET, POST or DELETE.
            path: the parts of the path.
            query: the parameters of the query.
            body: the text to send, as it is.
            write: whether it changes something, so that a lost answer leaves doubt.
            answer_within: the longest silence, in seconds; None: the policy's.
            expected: seconds for which the server is asked to wait.

        Raises:
            Unclear: it is a write and its answer was lost.
            ServiceError: any other failure, by status.
        """
        target = "/" + "/".join(quote(part, safe="") for part in path)
        if query:
            target = f"{target}?{urlencode(query, doseq=True)}"
        data, seconds = None if body is None else body.encode(), answer_within or self._policy.answer
        try:
            with HANGS.call(SERVICE, operation, expected=expected):
                answer = self._sent(method, target, data, seconds)
        except NoAnswerError as failure:
            raise unanswered(SERVICE, operation, failure, write=write) from failure
        if not 200 <= answer.status < 300:
            raise refusal(operation, answer, write=write)
        return answer

    def _sent(self, method: str, target: str, body: bytes | None, seconds: float) -> Answer:
        """Return the answer to a request, of any status."""
        headers = {} if body is None else {"Content-Type": "application/json"}
        for _ in range(2):  # a stale token is refused before the request is read, so sending it again is harmless
            token = self._token.current()
            with_token = {**headers, "X-Authorization": token} if token else headers
            answer = self._pool.call(method, target, headers=with_token, body=body, answer_within=seconds)
            if not self._token.is_refused(answer, token):
                break
        return without(token, answer)

    def close(self) -> None:
        """Close the connections."""
        self._pool.close()


def json_of(operation: str, answer: Answer, expected: type[J], what: str, *, write: bool = False) -> J:
    """Return the answer's JSON exactly as on the wire, except for values that are nested too deeply (`loads`).

    Args:
        operation: what was done, for messages.
        answer: with status 2xx.
        expected: the type that the JSON must have.
        what: the expected type in words, for messages.
        write: whether the call has changed something.

    Raises:
        Unavailable: the JSON has another type (`Unclear` after a write).
    """
    with reading(SERVICE, operation, what, write=write):
        return typed(loads(answer.body), expected)


def without(secret: str | None, answer: Answer) -> Answer:
    """Return a refusal with the secret redacted that the server or a proxy repeats in it."""
    if not secret or answer.status < 400:
        return answer
    return replace(answer, body=answer.body.replace(secret.encode(), b"***"))


class TokenSource:
    """Fetches a token when one is needed, keeps it for 45 minutes, and never shows a secret.

    While no newer token can be fetched, the old one is used until the server refuses it. The SDK fetches one at
    construction and in silence: a server that is down at that moment leaves it without a token for good.
    """

    def __init__(self, pool: HttpPool, key: str | None, secret: str | None) -> None:
        self._pool = pool
        self._credentials = (key, secret) if key and secret else None
        self._lock = threading.RLock()
        self._token: str | None = None
        self._fetched = self._failed = -math.inf
        self._failure: ServiceError | None = None
        self._renew = -math.inf
        """The time at which a newer token is fetched, on the monotonic clock."""

    def current(self) -> str | None:
        """Return the token for one request; None if the server wants none.

        Raises:
            AccessDenied: the server does not accept the credentials.
            Unavailable: the server did not answer.
        """
        if self._credentials is None:
            return None
        asked = time.monotonic()
        with self._lock:
            if time.monotonic() < self._renew:
                return self._token
            if self._failure is not None and self._failed >= asked:  # of the thread that this one has waited for
                raise self._failure
            old = self._token
            if old is None:
                return self._renewed(*self._credentials)
            self._renew = time.monotonic() + _RENEWAL_DELAY  # until then the other threads use the old one
        try:
            return self._renewed(*self._credentials)
        except ServiceError:
            return old

    def _renewed(self, key: str, secret: str) -> str | None:
        try:
            token = self._fetch(key, secret)
        except ServiceError as failure:
            self._failed, self._failure = time.monotonic(), failure
            raise
        with self._lock:
            self._token, self._fetched = token, time.monotonic()
            self._renew = self._fetched + _TOKEN_LIFETIME
        return token

    def is_refused(self, answer: Answer, token: str | None) -> bool:
        """Whether the server wants a newer token than the one that was sent; the next `current` fetches one, unless
        another thread has already.

        Only Conductor says that a token is stale. For a 401 of a proxy, a token that is not fresh counts as stale.
        """
        if answer.status not in (401, 403) or not self._credentials:
            return False
        says_so = fields_of(answer).get("error") in _STALE_CODES
        with self._lock:
            if token != self._token:
                return says_so or answer.status == 401
            is_fresh = time.monotonic() - self._fetched < _FRESH_SECONDS
            if not says_so and (answer.status == 403 or is_fresh):
                return False
            self._token, self._renew = None, -math.inf
        return True

    def _fetch(self, key: str, secret: str) -> str | None:
        body = json.dumps({"keyId": key, "keySecret": secret}).encode()
        try:
            headers = {"Content-Type": "application/json"}
            answer = self._pool.call("POST", "/token", headers=headers, body=body, answer_within=_TOKEN_SECONDS)
        except NoAnswerError as failure:
            raise unanswered(SERVICE, _AUTHENTICATE, failure) from failure
        answer = without(secret, answer)
        if answer.status == 404:
            return None  # Conductor OSS is open: there is nothing to authenticate against
        if answer.status in (400, 401, 403):
            detail = f"status {answer.status}: CONDUCTOR_AUTH_KEY and CONDUCTOR_AUTH_SECRET are not accepted"
            raise AccessDenied(SERVICE, _AUTHENTICATE, detail)
        if answer.status != 200:
            raise refusal(_AUTHENTICATE, answer, write=False)
        with reading(SERVICE, _AUTHENTICATE, "a token"):
            return typed(fields_of(answer)["token"] or None, str)
