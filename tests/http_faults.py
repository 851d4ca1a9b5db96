"""The embedded services over HTTP, which refuse one kind of request whatever the model would answer."""

from __future__ import annotations

import re

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from perago.embedded.services import EmbeddedServices

NOTHING = "(?!)"


class RefusingServices(EmbeddedServices):
    """Answers `status` to each request of this method (empty: any) in whose path, without its query, `path` (a regular
    expression) is found."""

    def __init__(self, method: str = "", path: str = NOTHING, status: int = 503) -> None:
        super().__init__()
        self._method, self.status = method, status
        self.refused = path

    def _app(self) -> ASGIApp:
        app = super()._app()

        async def refuse_or_serve(scope: Scope, receive: Receive, send: Send) -> None:
            if (
                scope["type"] == "http"
                and self._method in ("", scope["method"])
                and re.search(self.refused, scope["path"])
            ):
                refusal = JSONResponse({"message": f"injected fault: {self.status}"}, self.status)
                await refusal(scope, receive, send)
            else:
                await app(scope, receive, send)

        return refuse_or_serve
