"""Who may speak to the embedded services: programs of this machine that know the token, and no web page of others.

A server on loopback is within reach of every user of the machine and of every page that the user's browser shows. So
there are four rules:

- The Host header names this machine. A page whose host name was made to point at 127.0.0.1 (DNS rebinding) names its
  own host.
- Where a browser says of which page a request is (Origin), it is one of ours: same host, same port.
- Below `/api`, and where a request of the page is more than a look, the browser does not say that it is of a page from
  elsewhere (Sec-Fetch-Site). Images and scripts have no Origin. Another port of this machine is "same-site".
- Page and Conductor want the token as the first part of the path, so that every client needs its address only. There is
  no cookie, because a browser would send it to each port of this machine. lakeFS wants its own keys instead.

There are no CORS headers, so whatever else a page tries, it cannot read the answer.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

NAMES = frozenset({"127.0.0.1", "localhost", "::1"})
"""What this machine is called by itself."""

_FOREIGN = frozenset({"cross-site", "same-site"})
_OF_LAKEFS = "/api/v1/"
_HEALTH = frozenset({"/health", "/_health"})


class Admission:
    """Passes on the requests that may be served, without the token in their path, and refuses all others with 403."""

    def __init__(self, app: ASGIApp, token: str, *, apis: bool = True) -> None:
        """`apis`: whether there are services below `/api`, too. Without them, nothing is answered without the token."""
        self._app = app
        self._token = token
        self._apis = apis

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        scope, knows_token = self._without_token(scope)
        headers = Headers(scope=scope)
        refusal = _foreign(headers, scope) or (None if knows_token else self._unknown(scope["path"]))
        if refusal is not None:
            await PlainTextResponse(f"{refusal}\n", 403)(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    def _without_token(self, scope: Scope) -> tuple[Scope, bool]:
        """The request as if its path did not begin with the token, and whether it did."""
        first, _, rest = scope["raw_path"][1:].partition(b"/")
        if not hmac.compare_digest(first, self._token.encode()):
            return scope, False
        return {**scope, "path": scope["path"][len(self._token) + 1 :] or "/", "raw_path": b"/" + rest}, True

    def _unknown(self, path: str) -> str | None:
        if self._apis and (path.startswith(_OF_LAKEFS) or path in _HEALTH):
            return None
        return "the address lacks its token; use the one that was printed when these services started"


def _foreign(headers: Mapping[str, str], scope: Scope) -> str | None:
    """Why a request is none of this machine and of our own page."""
    host = headers.get("host", "")
    if not _is_local(f"//{host}"):
        return "the Host header does not name this machine; use 127.0.0.1 or localhost"
    may_change = _is_api(scope["path"]) or scope["method"] not in ("GET", "HEAD")
    is_foreign = may_change and headers.get("sec-fetch-site", "").lower() in _FOREIGN
    if is_foreign or headers.get("origin", f"http://{host}").lower() != f"http://{host}".lower():
        return "requests of web pages from elsewhere are refused"
    return None


def _is_api(path: str) -> bool:
    return path == "/api" or path.startswith("/api/")


def _is_local(url: str) -> bool:
    try:
        return urlsplit(url).hostname in NAMES
    except ValueError:
        return False
