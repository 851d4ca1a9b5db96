"""Paths as lakeFS's router sees them.

Go keeps a path's escapes apart only where they are unusual: `%2F` in a name stays part of that name. A path without
unusual escapes is decoded before it is taken apart, and its names are decoded once more.
"""

from __future__ import annotations

from urllib.parse import quote, unquote

from perago.embedded.http.faults import Application, Receive, Scope, Send

_UNESCAPED = "$&+,/:;=@-_.~"
"""What Go leaves as it is when it writes a path, beside letters and digits."""


class RawPaths:
    """Hands the path on as it was sent, if Go would."""

    def __init__(self, app: Application) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        raw = scope["raw_path"].decode("latin-1")
        if "%" in raw and quote(unquote(raw), safe=_UNESCAPED) != raw:
            scope = {**scope, "path": raw}
        await self._app(scope, receive, send)


def name_of(part: str) -> str:
    """A name from a part of the path."""
    return unquote(part) if "%" in part else part
