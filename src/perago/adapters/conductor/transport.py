"""The bottom of the SDK's client: its REST calls on perago's own connections.

The SDK's own bottom repeats requests, closes the shared client under other threads' long polls when one connection
breaks (those polls then lose their tasks, `docs/servers/conductor.md` 2), ignores the proxy variables, and deserialises
into models that drop fields. Here every call has a time limit, is sent once, and its answer stays as it was on the
wire.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from perago.adapters.conductor.token import TokenSource
from perago.adapters.http import Answer, HttpPool


class RestTransport:
    """What the SDK's `ApiClient` calls `rest_client`. Answers of any status are returned, never raised.

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
