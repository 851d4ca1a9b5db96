"""The embedded services over HTTP, which refuse one kind of request whatever the model would answer."""

from __future__ import annotations

import re

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from perago.embedded.services import EmbeddedServices


class RefusingServices(EmbeddedServices):
    """Answers `status` to each request of this method in whose path, without its query, `path` (a regular expression)
    is found."""

    def __init__(self, method: str, path: str, status: int) -> None:
        super().__init__()
        self._refused = method, re.compile(path)
        self._status = status

    def _app(self) -> ASGIApp:
        app, (method, path) = super()._app(), self._refused

        async def refuse_or_serve(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] == "http" and scope["method"] == method and path.search(scope["path"]):
                refusal = JSONResponse({"message": f"injected fault: {self._status}"}, self._status)
                await refusal(scope, receive, send)
            else:
                await app(scope, receive, send)

        return refuse_or_serve
