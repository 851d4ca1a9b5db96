"""Who may speak to the embedded services: programs of this machine, and no web page of somebody else.

A server on loopback is within reach of every page that the user's browser shows. A page whose host name was made to
point at 127.0.0.1 (DNS rebinding) names its own host, and a form that is sent from elsewhere names its origin: both are
refused. There are no CORS headers, so whatever else a page tries, it cannot read the answer.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse

from perago.embedded.http.faults import Application, Receive, Scope, Send

NAMES = frozenset({"127.0.0.1", "localhost", "::1"})
"""What this machine is called by itself."""


class LoopbackOnly:
    """Passes on requests that name this machine, and refuses all others with 403."""

    def __init__(self, app: Application) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        headers = Headers(scope=scope)
        if not _is_local(f"//{headers.get('host', '')}"):
            answer = PlainTextResponse("the Host header does not name this machine; use 127.0.0.1 or localhost\n", 403)
            await answer(scope, receive, send)
        elif "origin" in headers and not _is_local(headers["origin"]):
            answer = PlainTextResponse("requests of web pages from elsewhere are refused\n", 403)
            await answer(scope, receive, send)
        else:
            await self._app(scope, receive, send)


def _is_local(url: str) -> bool:
    try:
        return urlsplit(url).hostname in NAMES
    except ValueError:
        return False
