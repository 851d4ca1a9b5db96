"""Requests about the server itself: what it is, how it is, who is asking."""

from __future__ import annotations

import hmac

from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from perago.embedded.http.lakefs import answers, bodies
from perago.embedded.http.lakefs.calls import Call, JsonAnswer, routes
from perago.embedded.keys import KeyPair
from perago.embedded.lakefs.server import LakeFSServer
from perago.embedded.lakefs.values import LakeFSError

ALIVE = "/_health"


def service_routes(server: LakeFSServer, keys: KeyPair, api: str, config: answers.Json = answers.CONFIG) -> list[Route]:
    """Configuration, version, health, the only user and its login, and the statistics, which are dropped."""

    def set_up(_call: Call) -> Response:
        """The server is set up from the start."""
        raise LakeFSError("lakeFS already initialized", status=409)

    def log_in(call: Call) -> Response:
        """A token for the key pair."""
        given = KeyPair(**call.fields(bodies.Login))
        if not hmac.compare_digest(given.basic, keys.basic):
            raise LakeFSError("error authenticating request", status=401)
        return JsonAnswer({"token": keys.login_token})

    def user(_call: Call) -> Response:
        shown = {"creation_date": server.started, "email": "", "friendly_name": "", "id": server.committer}
        return JsonAnswer({"user": shown})

    return routes(
        [
            ("GET", f"{api}/config", lambda _: JsonAnswer(config)),
            ("GET", f"{api}/config/version", lambda _: JsonAnswer(answers.VERSION)),
            ("GET", f"{api}/config/storage", lambda _: JsonAnswer(config["storage_config"])),
            ("GET", f"{api}/setup_lakefs", lambda _: JsonAnswer(answers.SETUP)),
            ("POST", f"{api}/setup_lakefs", set_up),
            ("POST", f"{api}/auth/login", log_in),
            ("GET", f"{api}/user", user),
            ("GET", f"{api}/healthcheck", lambda _: None),
            ("POST", f"{api}/statistics", lambda _: None),
            ("GET", ALIVE, lambda _: PlainTextResponse("alive!")),
        ]
    )
