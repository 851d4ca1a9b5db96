"""lakeFS's REST API on the model: enough for the official SDK, the wrapper, `lakectl` and curl.

A call that lakeFS has and this does not is answered with 501 and named; one that lakeFS does not have either, with 404.
"""

from __future__ import annotations

import base64
import binascii
import hmac

from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from perago.embedded.http.lakefs import answers
from perago.embedded.http.lakefs.calls import JsonAnswer
from perago.embedded.http.lakefs.commits import commit_routes
from perago.embedded.http.lakefs.objects import object_routes
from perago.embedded.http.lakefs.references import reference_routes
from perago.embedded.http.lakefs.repositories import action_routes, protection_routes, repository_routes
from perago.embedded.http.lakefs.service import ALIVE, service_routes
from perago.embedded.http.lakefs.signed import STORE, SignedStore
from perago.embedded.http.lakefs.uploads import upload_routes
from perago.embedded.http.requests import unserved_routes
from perago.embedded.keys import KeyPair
from perago.embedded.lakefs.server import LakeFSServer
from perago.embedded.lakefs.values import ActionNotRun, LakeFSError, NotModelled, ServerDivergence

API = "/api/v1"
_GROUPS = (
    reference_routes,
    commit_routes,
    repository_routes,
    protection_routes,
    action_routes,
)


def lakefs_app(
    server: LakeFSServer, *, access_key_id: str, secret_access_key: str, store: SignedStore | None = None
) -> ASGIApp:
    """An ASGI application that serves `server` to the holder of one key pair.

    With a `store` it is a lakeFS on S3, which signs addresses of the store; otherwise one on a local disk.
    """
    root, keys = f"{API}/repositories/{{repository}}", KeyPair(access_key_id, secret_access_key)
    routes = [*upload_routes(server, root, store), *object_routes(server, root, store)]
    routes += [route for group in _GROUPS for route in group(server, root)]
    routes += service_routes(server, keys, API, answers.CONFIG if store is None else store.config)
    routes += [] if store is None else store.routes()
    routes += unserved_routes("lakefs", API, _unserved)
    handlers = {
        LakeFSError: _refuse,
        ServerDivergence: _flag,
        ActionNotRun: _flag,
        404: _no_such_path,
        405: _no_such_path,
    }
    app = Starlette(routes=routes, exception_handlers=handlers)
    app.router.redirect_slashes = False
    return KeyCheck(app, keys, frozenset() if store is None else frozenset({STORE}))


class KeyCheck:
    """HTTP Basic with one key pair, or the token of a login. Some paths need neither."""

    _OPEN = frozenset({ALIVE, *(f"{API}/{path}" for path in ("healthcheck", "setup_lakefs", "auth/login"))})

    def __init__(self, app: ASGIApp, keys: KeyPair, elsewhere: frozenset[str]) -> None:
        """`elsewhere`: what paths begin with that are not the API's."""
        self._app = app
        self._keys = keys
        self._elsewhere = tuple(elsewhere)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        header = Headers(scope=scope).get("authorization", "")
        path = scope["path"]
        if path in self._OPEN or path.startswith(self._elsewhere) or self._is_known(header):
            await self._app(scope, receive, send)
        elif not header and scope["path"] == f"{API}/user":
            await JsonAnswer({"user": {"creation_date": 0, "id": ""}})(scope, receive, send)
        else:
            error = LakeFSError("error authenticating request", status=401)
            await _refusal(Request(scope), error)(scope, receive, send)

    def _is_known(self, header: str) -> bool:
        scheme, _, given = header.partition(" ")
        if scheme.lower() == "bearer":
            return hmac.compare_digest(given.encode(), self._keys.login_token.encode())
        try:
            pair = base64.b64decode(given, validate=True)
        except (binascii.Error, ValueError):
            return False
        return scheme.lower() == "basic" and hmac.compare_digest(pair, self._keys.basic)


async def _refuse(request: Request, error: Exception) -> Response:
    """A refusal of the model."""
    if not isinstance(error, LakeFSError):
        raise error
    return _refusal(request, error)


def _refusal(request: Request, error: LakeFSError) -> Response:
    """A HEAD answer has no body."""
    if request.method == "HEAD":
        return Response(status_code=error.status)
    return JsonAnswer({"message": error.message}, error.status)


async def _flag(request: Request, error: Exception) -> Response:  # noqa: ARG001 - the handler's signature
    """A merge that the real server would do otherwise, where warnings of that are errors."""
    return JsonAnswer({"message": str(error)}, NotModelled.status)


def _unserved(request: Request, name: str) -> Response:
    if request.method == "HEAD":  # comes with every GET here; lakeFS has it for objects only
        return _refusal(request, LakeFSError("invalid API endpoint", status=404))
    return _refusal(request, NotModelled(name))


async def _no_such_path(request: Request, error: Exception) -> Response:  # noqa: ARG001 - as above
    """A call that lakeFS does not have either. Outside of the API lakeFS would show its web pages."""
    if request.url.path.startswith(f"{API}/"):
        return _refusal(request, LakeFSError("invalid API endpoint", status=404))
    return _refusal(request, NotModelled(f"{request.method} {request.url.path}"))
