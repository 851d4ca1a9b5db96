"""The official SDK's API classes on perago's own connections and access tokens, and the meaning of Conductor's answers
(`docs/dev/servers/conductor.md`, "REST surface": neither the status class nor `retryable` is enough)."""

from __future__ import annotations

import json
import math
import re
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partialmethod
from typing import Any, ClassVar, TypeVar
from urllib.parse import urlencode

from perago.adapters.http import Answer, CallPolicy, HttpPool, NoAnswerError, clean, overloaded
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


def unanswered(operation: str, failure: NoAnswerError, *, write: bool) -> ServiceError:
    """Return the error for a call without an answer. A write that may have arrived is `Unclear`."""
    kind = Unclear if write and failure.sent else Unavailable
    return kind(SERVICE, operation, failure.text)


def refusal(operation: str, answer: Answer, *, write: bool) -> ServiceError:
    """Return the error for an answer that is not 2xx."""
    status, body = answer.status, fields_of(answer)
    message, detail = body.get("message"), _detail(status, body)
    if status in (401, 403):
        return AccessDenied(SERVICE, operation, detail)
    if status in _NOT_NOW:
        return overloaded(SERVICE, operation, detail, answer.headers)
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


def unreadable(operation: str, what: str, *, write: bool = False) -> ServiceError:
    """Return the error for a 2xx answer that is not Conductor's."""
    detail = f"the answer is not {what}; is CONDUCTOR_SERVER_URL the address of a Conductor server (…/api)?"
    return (Unclear if write else Unavailable)(SERVICE, operation, detail)


def _detail(status: int, body: dict[str, Any]) -> str:
    message, findings = body.get("message"), body.get("validationErrors")  # of a bean validation
    if not isinstance(message, str):
        return f"status {status}, without Conductor's error text (a proxy, or another server?)"
    listed = findings if isinstance(findings, list) else []
    problems = "; ".join(str(each["message"]) for each in listed if isinstance(each, dict) and each.get("message"))
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
_CONNECTIONS = 32  # kept for re-use; a supervisor's threads beat and report side by side


class ConductorClient:
    """The SDK on perago's connections. Constructing one imports the SDK (about 0.3 s) and opens no connection.

    `tasks`, `metadata` and `workflows` are the SDK's resource classes. `read` and `once` run their calls, or those of
    `transport` for a call that the SDK does not have.
    """

    policy: ClassVar[CallPolicy]
    """The default of a subclass."""

    def __init__(self, settings: ConductorSettings, *, policy: CallPolicy | None = None) -> None:
        from conductor.client.configuration.configuration import Configuration
        from conductor.client.http.api.metadata_resource_api import MetadataResourceApi
        from conductor.client.http.api.task_resource_api import TaskResourceApi
        from conductor.client.http.api.workflow_resource_api import WorkflowResourceApi
        from conductor.client.http.api_client import ApiClient

        self._policy = policy = policy or self.policy
        base_url = settings.server_url.rstrip("/")
        self._pool = HttpPool(SERVICE, base_url, headers={}, size=_CONNECTIONS, policy=policy)
        secret = settings.auth_secret.get_secret_value() if settings.auth_secret else None
        tokens = TokenSource(self._pool, settings.auth_key, secret)
        self.transport: RestTransport = RestTransport(self._pool, tokens)
        configuration = Configuration(server_api_url=base_url)
        configuration.authentication_settings = None  # else it fetches tokens by itself, see TokenSource
        configuration.http_connection = self.transport  # else it opens an HTTP client of its own
        configuration.host = ""  # the pool knows the base URL
        client = ApiClient(configuration)
        client.rest_client = self.transport
        self.tasks: Any = TaskResourceApi(client)
        self.metadata: Any = MetadataResourceApi(client)
        self.workflows: Any = WorkflowResourceApi(client)

    def read(self, operation: str, call: Callable[..., Any], *arguments: Any, **options: Any) -> Answer:
        """Send a call that is harmless to repeat. Repeat it while Conductor cannot be reached.

        Raises:
            ServiceError: never `Unclear`.
        """
        return retry(lambda: self.once(operation, call, *arguments, write=False, **options), self._policy.retries())

    def read_json(
        self, operation: str, expected: type[J], what: str, call: Callable[..., Any], *arguments: Any, **options: Any
    ) -> J:
        """Do the same as `read`, and return the JSON of the answer, as `json_of`."""
        return json_of(operation, self.read(operation, call, *arguments, **options), expected, what)

    def get_json(
        self, operation: str, expected: type[J], what: str, path: str, query: Sequence[tuple[str, Any]] = ()
    ) -> J:
        """Do the same as `read_json`, for a GET that the SDK does not have."""
        return self.read_json(operation, expected, what, self.transport.GET, path, query_params=query, headers={})

    def workflow(self, workflow_id: str) -> dict[str, Any]:
        """Return a workflow with its attempts, as JSON."""
        operation, read = f"read workflow {workflow_id}", self.workflows.get_execution_status
        return self.read_json(operation, dict, "a workflow", read, workflow_id, include_tasks="true")

    def task(self, task_id: str) -> dict[str, Any]:
        """Return one attempt, as JSON."""
        return self.read_json(f"read task {task_id}", dict, "a task", self.tasks.get_task, task_id)

    def once(
        self,
        operation: str,
        call: Callable[..., Any],
        *arguments: Any,
        write: bool = True,
        answer_within: float | None = None,
        expected: float = 0.0,
        **options: Any,
    ) -> Answer:
        """Send a call exactly once.

        Args:
            operation: what is done, for messages.
            call: a method of one of the SDK's resource classes.
            arguments: the arguments of `call`, together with `options`.
            write: whether it changes something, so that a lost answer leaves doubt.
            answer_within: the longest silence, in seconds; None: the policy's.
            expected: seconds for which the server is asked to wait.

        Raises:
            Unclear: it is a write and its answer was lost.
            ServiceError: any other failure, by status.
        """
        seconds = answer_within or self._policy.answer
        try:
            with HANGS.call(SERVICE, operation, expected=expected):
                answer: Answer = call(*arguments, _preload_content=False, _request_timeout=seconds, **options)
        except NoAnswerError as failure:
            raise unanswered(operation, failure, write=write) from failure
        if not 200 <= answer.status < 300:
            raise refusal(operation, answer, write=write)
        return answer

    def close(self) -> None:
        """Close the connections."""
        self._pool.close()


@contextmanager
def reading(operation: str, what: str, *, write: bool = False) -> Iterator[None]:
    """Turn the errors of reading an answer that is not `what` into a `ServiceError`."""
    try:
        yield
    except (LookupError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise unreadable(operation, what, write=write) from error


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
    with reading(operation, what, write=write):
        value = loads(answer.body)
    if not isinstance(value, expected):
        raise unreadable(operation, what, write=write)
    return value


class RestTransport:
    """The `rest_client` of the SDK's `ApiClient`: its REST calls on perago's own connections.

    The SDK's own one repeats requests, closes the shared client under other threads' long polls when one connection
    breaks (those polls then lose their tasks, `docs/dev/servers/conductor.md`, "Attempt state machine"), ignores the
    proxy variables, and deserialises into models that drop fields. Here every call has a time limit and is sent once,
    and its answer is not changed. Answers of any status are returned, never raised.

    Raises:
        NoAnswerError: from every method, if the transport failed.
    """

    def __init__(self, pool: HttpPool, token: TokenSource) -> None:
        self._pool = pool
        self._token = token

    def _send(
        self,
        method: str,
        url: str,
        *,
        query_params: Any = None,
        headers: dict[str, str],
        body: str | None = None,
        _request_timeout: float,
        **_unused: Any,
    ) -> Answer:
        target = f"{url}?{urlencode(query_params)}" if query_params else url
        content = None if body is None else body.encode()
        for _ in range(2):  # a stale token is refused before the request is read, so sending it again is harmless
            token = self._token.current()
            with_token = {**headers, "X-Authorization": token} if token else headers
            answer = self._pool.call(method, target, headers=with_token, body=content, answer_within=_request_timeout)
            if not self._token.is_refused(answer, token):
                break
        return without(token, answer)

    GET = partialmethod(_send, "GET")
    POST = partialmethod(_send, "POST")
    DELETE = partialmethod(_send, "DELETE")


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
            raise unanswered(_AUTHENTICATE, failure, write=False) from failure
        answer = without(secret, answer)
        if answer.status == 404:
            return None  # Conductor OSS is open: there is nothing to authenticate against
        if answer.status in (400, 401, 403):
            detail = f"status {answer.status}: CONDUCTOR_AUTH_KEY and CONDUCTOR_AUTH_SECRET are not accepted"
            raise AccessDenied(SERVICE, _AUTHENTICATE, detail)
        if answer.status != 200:
            raise refusal(_AUTHENTICATE, answer, write=False)
        token = fields_of(answer).get("token")
        if not isinstance(token, str) or not token:
            raise unreadable(_AUTHENTICATE, "a token")
        return token
