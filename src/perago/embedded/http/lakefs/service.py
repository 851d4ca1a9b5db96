"""Requests about the server itself: what it is, how it is, who is asking."""

from __future__ import annotations

from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from perago.embedded.http.lakefs import answers
from perago.embedded.http.lakefs.calls import Call, route
from perago.embedded.http.lakefs.wire import JsonAnswer
from perago.embedded.lakefs.server import LakeFSServer

ALIVE = "/_health"


class ServiceRequests:
    """Configuration, version, health, the only user, and the statistics that nobody keeps."""

    def __init__(self, server: LakeFSServer) -> None:
        self._server = server

    def routes(self, api: str) -> list[Route]:
        """The routes; `api` is the path of the whole API."""
        return [
            route("GET", f"{api}/config", lambda _: JsonAnswer(answers.CONFIG)),
            route("GET", f"{api}/config/version", lambda _: JsonAnswer(answers.VERSION)),
            route("GET", f"{api}/config/storage", lambda _: JsonAnswer(answers.STORAGE_CONFIG)),
            route("GET", f"{api}/user", self.user),
            route("GET", f"{api}/healthcheck", lambda _: Response(status_code=204)),
            route("POST", f"{api}/statistics", lambda _: Response(status_code=204)),
            route("GET", ALIVE, lambda _: PlainTextResponse("alive!")),
        ]

    def user(self, call: Call) -> Response:  # noqa: ARG002 - the handler's signature
        """Whoever has the key."""
        user = {"creation_date": self._server.started, "email": "", "friendly_name": "", "id": self._server.committer}
        return JsonAnswer({"user": user})
