"""Conductor's REST API on the model: enough for the official SDK, curl and perago's own adapter.

Statuses and the fields that clients read are those of the real server; messages are our own. A call that Conductor has
and this does not is answered with 501 and named; one that Conductor does not have either is a 404, as there.
"""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from perago.embedded.conductor.model import ConductorModel
from perago.embedded.http.conductor.definitions import definition_routes
from perago.embedded.http.conductor.requests import Call, Endpoints, JsonAnswer, error, text
from perago.embedded.http.conductor.tasks import task_routes
from perago.embedded.http.conductor.workflows import workflow_routes
from perago.embedded.http.unserved import unserved_routes

__all__ = ["VERSION", "conductor_app"]

API = "/api"

VERSION = "3.32.3"
"""The version that is modelled."""

_HEALTHY = {"healthResults": [], "suppressedHealthResults": [], "healthy": True}


def conductor_app(model: ConductorModel) -> ASGIApp:
    """An ASGI application that serves `model` below `/api`, and its health at `/health`.

    Calls run in threads of their own, so that long polls hold up no other call.
    """
    endpoints = Endpoints()

    def pending(call: Call) -> Response:
        """The attempts of a type that have not ended."""
        start, count = call.integer("start", 0), call.integer("count", 100)
        return JsonAnswer(model.pending_tasks(call.parts["name"], start=start, count=count))

    routes = [
        Route("/health", _health, methods=["GET"]),
        Route(f"{API}/health", _health, methods=["GET"]),
        *endpoints.routes(
            [("GET", f"{API}/version", lambda _: text(VERSION)), ("GET", f"{API}/admin/task/{{name}}", pending)]
        ),
        *unserved_routes(__name__, API, _unserved),
        *definition_routes(model, endpoints, f"{API}/metadata"),
        *task_routes(model, endpoints, f"{API}/tasks"),
        *workflow_routes(model, endpoints, f"{API}/workflow"),
    ]
    app = Starlette(routes=routes, exception_handlers={404: _no_such_path, 405: _wrong_method})
    app.router.redirect_slashes = False
    return app


async def _health(request: Request) -> Response:  # noqa: ARG001 - the endpoint's signature
    return JsonAnswer(_HEALTHY)


def _unserved(request: Request, name: str) -> Response:  # noqa: ARG001 - the signature
    return error(501, f"{name} is not modelled; use a real Conductor")


async def _no_such_path(request: Request, problem: Exception) -> Response:  # noqa: ARG001 - the handler's signature
    return error(404, f"No static resource {request.url.path.strip('/')}.")


async def _wrong_method(request: Request, problem: Exception) -> Response:  # noqa: ARG001 - the handler's signature
    return error(405, f"Request method '{request.method}' is not supported")
