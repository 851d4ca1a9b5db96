"""Request targets as Tomcat takes them, before anything of Conductor sees them (`reference/conductor.md` 1)."""

from __future__ import annotations

import re
from urllib.parse import unquote_to_bytes

from starlette.responses import Response

from perago.embedded.http.faults import Application, Receive, Scope, Send

_NEVER_RAW = re.compile(rb'["#<>\[\\\]^`{|}]')
"""What must be escaped, in a path and in a query."""
_BAD_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_NEVER_ESCAPED = re.compile(rb"%(?:2f|5c|00)", re.IGNORECASE)
"""Slash, backslash and NUL: a name that has one cannot be put into a path."""
_PARAMETERS = re.compile(rb";[^/]*")
_HEADERS = {"content-type": "text/html;charset=utf-8", "content-language": "en", "connection": "close"}
_TITLE = "HTTP Status 400 – Bad Request"
_PAGE = f'<!doctype html><html lang="en"><head><title>{_TITLE}</title></head><body><h1>{_TITLE}</h1></body></html>'


class CheckedTargets:
    """Refuses with 400 and a web page what Tomcat refuses, and takes the `;name=value` out of paths as it does."""

    def __init__(self, app: Application) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        raw = scope["raw_path"]
        path = _path_of(raw)
        if path is None or _NEVER_RAW.search(scope["query_string"]):
            await Response(_PAGE, 400, _HEADERS)(scope, receive, send)
        elif b";" in raw:
            await self._app({**scope, "path": path, "raw_path": _PARAMETERS.sub(b"", raw)}, receive, send)
        else:
            await self._app(scope, receive, send)


def _path_of(raw: bytes) -> str | None:
    """The decoded path without its parameters, None for one that is refused."""
    if _NEVER_RAW.search(raw) or _BAD_ESCAPE.search(raw) or _NEVER_ESCAPED.search(raw):
        return None
    try:
        return unquote_to_bytes(_PARAMETERS.sub(b"", raw)).decode()
    except UnicodeDecodeError:
        return None
