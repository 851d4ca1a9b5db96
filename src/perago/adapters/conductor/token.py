"""Access tokens of servers that want them."""

from __future__ import annotations

import json
import threading
import time

from perago.adapters.conductor.errors import SERVICE, refusal, unanswered, unreadable
from perago.adapters.http import Answer, HttpPool, NoAnswerError
from perago.ports import AccessDenied

OPERATION = "fetch an access token"
_LIFETIME = 45 * 60.0
_STALE_CODES = ("EXPIRED_TOKEN", "INVALID_TOKEN")


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
        self._fetched = -_LIFETIME

    def headers(self) -> dict[str, str]:
        """The header for one request; empty if the server wants none.

        Raises:
            AccessDenied: the server does not accept the credentials.
            Unavailable: it could not be asked.
        """
        if self._credentials is None:
            return {}
        with self._lock:
            if time.monotonic() - self._fetched >= _LIFETIME:
                self._token = self._fetch(*self._credentials)
                self._fetched = time.monotonic()
            return {"X-Authorization": self._token} if self._token else {}

    def is_refused(self, answer: Answer) -> bool:
        """Whether the server wants a newer token; the next `headers` fetches one."""
        if answer.status not in (401, 403) or not self._credentials or _error_code(answer) not in _STALE_CODES:
            return False
        with self._lock:
            self._fetched = time.monotonic() - _LIFETIME
        return True

    def _fetch(self, key: str, secret: str) -> str | None:
        body = json.dumps({"keyId": key, "keySecret": secret}).encode()
        try:
            answer = self._pool.call("POST", "/token", headers={"Content-Type": "application/json"}, body=body)
        except NoAnswerError as failure:
            raise unanswered(OPERATION, failure, write=False) from failure
        if answer.status == 404:
            return None  # Conductor OSS is open: there is nothing to authenticate against
        if answer.status in (400, 401, 403):
            detail = f"status {answer.status}: CONDUCTOR_AUTH_KEY and CONDUCTOR_AUTH_SECRET are not accepted"
            raise AccessDenied(SERVICE, OPERATION, detail)
        if answer.status != 200:
            raise refusal(OPERATION, answer, write=False)
        return _token_in(answer)


def _token_in(answer: Answer) -> str:
    try:
        token = json.loads(answer.body)["token"]
    except (ValueError, KeyError, TypeError):
        token = None
    if not isinstance(token, str) or not token:
        raise unreadable(OPERATION, "a token", write=False)
    return token


def _error_code(answer: Answer) -> str | None:
    try:
        body = json.loads(answer.body)
    except ValueError:
        return None
    code = body.get("error") if isinstance(body, dict) else None
    return code if isinstance(code, str) else None
