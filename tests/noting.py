"""An application that writes down the requests which it gets."""

from __future__ import annotations

from dataclasses import dataclass, field

from starlette.types import ASGIApp, Receive, Scope, Send


@dataclass
class Noted:
    """Passes requests on to `app`, and keeps each as `METHOD /path?query`."""

    app: ASGIApp
    requests: list[str] = field(default_factory=list)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            query = scope["query_string"].decode()
            self.requests.append(f"{scope['method']} {scope['path']}{'?' if query else ''}{query}")
        await self.app(scope, receive, send)
