"""lakeFS's REST API on the model: enough for the official SDK, the wrapper, `lakectl` and curl.

Status codes and bodies are those of `reference/lakefs.md` 2. A call that lakeFS has and this does not is answered
with 501 and named; one that lakeFS does not have either, as lakeFS does.
"""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from perago.embedded.http.faults import Application, FaultyApplication, HttpFaultScript
from perago.embedded.http.lakefs.access import KeyCheck
from perago.embedded.http.lakefs.actions import ActionRequests
from perago.embedded.http.lakefs.branches import BranchRequests, TagRequests
from perago.embedded.http.lakefs.commits import CommitRequests
from perago.embedded.http.lakefs.known import unserved_routes
from perago.embedded.http.lakefs.objects import ObjectRequests
from perago.embedded.http.lakefs.paths import RawPaths
from perago.embedded.http.lakefs.reading import ReadingRequests
from perago.embedded.http.lakefs.repositories import RepositoryRequests
from perago.embedded.http.lakefs.service import ServiceRequests
from perago.embedded.http.lakefs.uploads import UploadRequests
from perago.embedded.http.lakefs.wire import JsonAnswer, MalformedRequestError, UnbindableRequestError
from perago.embedded.lakefs.errors import LakeFSError, NotModelled, ServerDivergence
from perago.embedded.lakefs.server import LakeFSServer

API = "/api/v1"


def lakefs_app(
    server: LakeFSServer, *, access_key_id: str, secret_access_key: str, faults: HttpFaultScript | None = None
) -> Application:
    """An ASGI application that serves `server` to the holder of one key pair."""
    root = f"{API}/repositories/{{repository}}"
    groups = (UploadRequests, ReadingRequests, ObjectRequests, BranchRequests, TagRequests, CommitRequests)
    routes = [route for group in groups for route in group(server).routes(root)]
    routes += RepositoryRequests(server).routes(root)
    routes += ActionRequests(server).routes(root)
    routes += ServiceRequests(server).routes(API)
    routes += unserved_routes(API, root)
    handlers = {LakeFSError: _refuse, ServerDivergence: _flag, 404: _unknown, 405: _unknown}
    app = Starlette(routes=routes, exception_handlers=handlers)
    app.router.redirect_slashes = False
    guarded = KeyCheck(RawPaths(app), access_key_id, secret_access_key, api=API)
    return guarded if faults is None else FaultyApplication(guarded, faults)


async def _refuse(request: Request, error: Exception) -> Response:
    """A refusal of the model; a HEAD answer has no body."""
    if not isinstance(error, LakeFSError):
        raise error
    if request.method == "HEAD":
        malformed = isinstance(error, MalformedRequestError)
        return Response(status_code=error.status, media_type="application/json" if malformed else None)
    if isinstance(error, UnbindableRequestError):
        return PlainTextResponse(f"{error.message}\n", error.status)
    return JsonAnswer({"message": error.message}, error.status)


async def _flag(request: Request, error: Exception) -> Response:  # noqa: ARG001 - the handler's signature
    """A merge in which the real server would lose data, where such warnings are errors."""
    return JsonAnswer({"message": str(error)}, NotModelled.status)


async def _unknown(request: Request, error: Exception) -> Response:  # noqa: ARG001 - as above
    """A call that lakeFS does not have either; outside of the API it would show its web pages."""
    if request.url.path.startswith(f"{API}/"):
        return JsonAnswer({"message": "invalid API endpoint"}, 404)
    return await _refuse(request, NotModelled(f"{request.method} {request.url.path}"))
