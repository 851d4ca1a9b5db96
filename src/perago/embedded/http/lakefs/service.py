"""Requests about the server itself: what it is, how it is, who is asking."""

from __future__ import annotations

import hmac
from dataclasses import dataclass, field

from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from perago.embedded.http.lakefs import answers, bodies
from perago.embedded.http.lakefs.calls import NO_CONTENT, Call, JsonAnswer, route
from perago.embedded.lakefs.errors import LakeFSError
from perago.embedded.lakefs.server import LakeFSServer

ALIVE = "/_health"


@dataclass(frozen=True, slots=True)
class Keys:
    """The one key pair that is let in."""

    access_key_id: str
    secret_access_key: str = field(repr=False)

    @property
    def pair(self) -> bytes:
        """As HTTP Basic writes it."""
        return f"{self.access_key_id}:{self.secret_access_key}".encode()

    @property
    def token(self) -> str:
        """What a login gives; it does not give the secret away, and does not expire."""
        return hmac.digest(self.secret_access_key.encode(), b"login", "sha256").hex()


class ServiceRequests:
    """Configuration, version, health, the only user and its login, and the statistics, which are dropped."""

    def __init__(self, server: LakeFSServer, keys: Keys) -> None:
        self._server = server
        self._keys = keys

    def routes(self, api: str) -> list[Route]:
        """The routes; `api` is the path of the whole API."""
        return [
            route("GET", f"{api}/config", lambda _: JsonAnswer(answers.CONFIG)),
            route("GET", f"{api}/config/version", lambda _: JsonAnswer(answers.VERSION)),
            route("GET", f"{api}/config/storage", lambda _: JsonAnswer(answers.STORAGE_CONFIG)),
            route("GET", f"{api}/setup_lakefs", lambda _: JsonAnswer(answers.SETUP)),
            route("POST", f"{api}/setup_lakefs", self.set_up),
            route("POST", f"{api}/auth/login", self.log_in),
            route("GET", f"{api}/user", self.user),
            route("GET", f"{api}/healthcheck", lambda _: Response(status_code=NO_CONTENT)),
            route("POST", f"{api}/statistics", lambda _: Response(status_code=NO_CONTENT)),
            route("GET", ALIVE, lambda _: PlainTextResponse("alive!")),
        ]

    def set_up(self, call: Call) -> Response:  # noqa: ARG002 - the handler's signature
        """The server is set up from the start."""
        raise LakeFSError("lakeFS already initialized", status=409)

    def log_in(self, call: Call) -> Response:
        """A token for the key pair."""
        given = call.body(bodies.Login)
        if not hmac.compare_digest(Keys(given.access_key_id, given.secret_access_key).pair, self._keys.pair):
            raise LakeFSError("error authenticating request", status=401)
        return JsonAnswer({"token": self._keys.token})

    def user(self, call: Call) -> Response:  # noqa: ARG002 - as above
        """The only user."""
        user = {"creation_date": self._server.started, "email": "", "friendly_name": "", "id": self._server.committer}
        return JsonAnswer({"user": user})
