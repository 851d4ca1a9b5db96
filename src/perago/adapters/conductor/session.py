"""The official SDK's API classes, wired to perago's own connections and access tokens."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode

from perago.adapters.conductor.errors import SERVICE, refusal, unanswered, unreadable
from perago.adapters.conductor.nesting import loads
from perago.adapters.http import Answer, CallPolicy, HttpPool, NoAnswerError
from perago.adapters.http.retry import retry
from perago.ports import AccessDenied
from perago.settings import ConductorSettings

_AUTHENTICATE = "fetch an access token"
_TOKEN_LIFETIME = 45 * 60.0
_STALE_CODES = ("EXPIRED_TOKEN", "INVALID_TOKEN")
_CONNECTIONS = 32  # kept for re-use; a supervisor's threads beat and report side by side


class Session:
    """`tasks`, `metadata` and `workflows` are the SDK's resource classes; `read` and `once` run their calls, or those
    of `transport` for what the SDK does not have.

    Constructing one imports the SDK (about 0.3 s) and opens no connection.
    """

    def __init__(self, settings: ConductorSettings, policy: CallPolicy) -> None:
        from conductor.client.configuration.configuration import Configuration
        from conductor.client.http.api.metadata_resource_api import MetadataResourceApi
        from conductor.client.http.api.task_resource_api import TaskResourceApi
        from conductor.client.http.api.workflow_resource_api import WorkflowResourceApi
        from conductor.client.http.api_client import ApiClient

        self._policy = policy
        base_url = settings.server_url.rstrip("/")
        self._pool = HttpPool(SERVICE, base_url, headers={}, size=_CONNECTIONS, policy=policy)
        secret = settings.auth_secret.get_secret_value() if settings.auth_secret else None
        self.transport = transport = RestTransport(self._pool, TokenSource(self._pool, settings.auth_key, secret))
        configuration = Configuration(server_api_url=base_url)
        configuration.authentication_settings = None  # else it fetches tokens by itself, see TokenSource
        configuration.http_connection = transport  # else it opens an HTTP client of its own
        configuration.host = ""  # the pool knows the base URL
        client = ApiClient(configuration)
        client.rest_client = transport
        self.tasks: Any = TaskResourceApi(client)
        self.metadata: Any = MetadataResourceApi(client)
        self.workflows: Any = WorkflowResourceApi(client)

    def read(self, operation: str, call: Callable[..., Any], *arguments: Any, **options: Any) -> Answer:
        """A call that is harmless to repeat, repeated while Conductor cannot be reached.

        Raises:
            ServiceError: never `Unclear`.
        """
        return retry(lambda: self.once(operation, call, *arguments, write=False, **options), self._policy)

    def once(
        self,
        operation: str,
        call: Callable[..., Any],
        *arguments: Any,
        write: bool = True,
        answer_within: float | None = None,
        **options: Any,
    ) -> Answer:
        """A call that is sent exactly once.

        Args:
            operation: what is done, for messages.
            call: a method of one of the SDK's resource classes.
            arguments: for `call`, as are `options`.
            write: whether it changes something, so that a lost answer leaves doubt.
            answer_within: the longest silence, in seconds; None: the policy's.

        Raises:
            Unclear: it is a write and its answer was lost.
            ServiceError: any other, by status.
        """
        seconds = answer_within or self._policy.answer
        try:
            answer: Answer = call(*arguments, _preload_content=False, _request_timeout=seconds, **options)
        except NoAnswerError as failure:
            raise unanswered(operation, failure, write=write) from failure
        if not 200 <= answer.status < 300:
            raise refusal(operation, answer, write=write)
        return answer

    def close(self) -> None:
        """Give back the connections."""
        self._pool.close()


def json_of(operation: str, answer: Answer, expected: type, what: str, *, write: bool = False) -> Any:
    """The answer's JSON exactly as on the wire, except for what is nested too deeply (`nesting`).

    Args:
        operation: what was done, for messages.
        answer: with status 2xx.
        expected: the type that the JSON must have.
        what: the same in words, for messages.
        write: whether the call has changed something.

    Raises:
        Unavailable: it is something else (`Unclear` after a write).
    """
    try:
        value = loads(answer.body)
    except ValueError as error:
        raise unreadable(operation, what, write=write) from error
    if not isinstance(value, expected):
        raise unreadable(operation, what, write=write)
    return value


class RestTransport:
    """What the SDK's `ApiClient` calls `rest_client`: its REST calls on perago's own connections.

    The SDK's own one repeats requests, closes the shared client under other threads' long polls when one connection
    breaks (those polls then lose their tasks, `docs/servers/conductor.md` 2), ignores the proxy variables, and
    deserialises into models that drop fields. Here every call has a time limit, is sent once, and its answer stays as
    it was on the wire. Answers of any status are returned, never raised.

    Raises:
        NoAnswerError: from every method, if the transport failed.
    """

    def __init__(self, pool: HttpPool, token: TokenSource) -> None:
        self._pool = pool
        self._token = token

    def GET(  # noqa: N802 - the SDK's spelling
        self, url: str, *, query_params: Any = None, headers: dict[str, str], _request_timeout: float, **_unused: Any
    ) -> Answer:
        """Read."""
        return self._send("GET", url, query_params, headers, None, _request_timeout)

    def POST(  # noqa: N802 - the SDK's spelling
        self,
        url: str,
        *,
        query_params: Any = None,
        headers: dict[str, str],
        body: str,
        _request_timeout: float,
        **_unused: Any,
    ) -> Answer:
        """Write; `body` is sent as it is."""
        return self._send("POST", url, query_params, headers, body.encode(), _request_timeout)

    def _send(
        self, method: str, url: str, query: Any, headers: dict[str, str], body: bytes | None, seconds: float
    ) -> Answer:
        target = f"{url}?{urlencode(query)}" if query else url
        answer = self._call(method, target, headers, body, seconds)
        if self._token.is_refused(answer):
            # Refused before it was looked at, so sending it again is harmless.
            answer = self._call(method, target, headers, body, seconds)
        return answer

    def _call(self, method: str, target: str, headers: dict[str, str], body: bytes | None, seconds: float) -> Answer:
        with_token = {**headers, **self._token.headers()}
        return self._pool.call(method, target, headers=with_token, body=body, answer_within=seconds)


class TokenSource:
    """Fetches a token when one is needed, keeps it for 45 minutes, and never tells a secret.

    The SDK does this at construction and in silence: a server that is down at that moment leaves it without a token
    for good.
    """

    def __init__(self, pool: HttpPool, key: str | None, secret: str | None) -> None:
        self._pool = pool
        self._credentials = (key, secret) if key and secret else None
        self._lock = threading.Lock()
        self._token: str | None = None
        self._fetched = -_TOKEN_LIFETIME

    def headers(self) -> dict[str, str]:
        """The header for one request; empty if the server wants none.

        Raises:
            AccessDenied: the server does not accept the credentials.
            Unavailable: it could not be asked.
        """
        if self._credentials is None:
            return {}
        with self._lock:
            if time.monotonic() - self._fetched >= _TOKEN_LIFETIME:
                self._token = self._fetch(*self._credentials)
                self._fetched = time.monotonic()
            return {"X-Authorization": self._token} if self._token else {}

    def is_refused(self, answer: Answer) -> bool:
        """Whether the server wants a newer token; the next `headers` fetches one."""
        if answer.status not in (401, 403) or not self._credentials or _error_code(answer) not in _STALE_CODES:
            return False
        with self._lock:
            self._fetched = time.monotonic() - _TOKEN_LIFETIME
        return True

    def _fetch(self, key: str, secret: str) -> str | None:
        body = json.dumps({"keyId": key, "keySecret": secret}).encode()
        try:
            answer = self._pool.call("POST", "/token", headers={"Content-Type": "application/json"}, body=body)
        except NoAnswerError as failure:
            raise unanswered(_AUTHENTICATE, failure, write=False) from failure
        if answer.status == 404:
            return None  # Conductor OSS is open: there is nothing to authenticate against
        if answer.status in (400, 401, 403):
            detail = f"status {answer.status}: CONDUCTOR_AUTH_KEY and CONDUCTOR_AUTH_SECRET are not accepted"
            raise AccessDenied(SERVICE, _AUTHENTICATE, detail)
        if answer.status != 200:
            raise refusal(_AUTHENTICATE, answer, write=False)
        return _token_in(answer)


def _token_in(answer: Answer) -> str:
    try:
        token = json.loads(answer.body)["token"]
    except (ValueError, KeyError, TypeError, RecursionError):
        token = None
    if not isinstance(token, str) or not token:
        raise unreadable(_AUTHENTICATE, "a token", write=False)
    return token


def _error_code(answer: Answer) -> str | None:
    try:
        body = json.loads(answer.body)
    except (ValueError, RecursionError):
        return None
    code = body.get("error") if isinstance(body, dict) else None
    return code if isinstance(code, str) else None
