"""The ASGI application: all routes, and what is answered where there is none."""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from perago.embedded.conductor.model import ConductorModel
from perago.embedded.http.conductor import answers
from perago.embedded.http.conductor.bulk import BulkRequests
from perago.embedded.http.conductor.definitions import DefinitionRequests
from perago.embedded.http.conductor.elsewhere import elsewhere
from perago.embedded.http.conductor.endpoints import Endpoints
from perago.embedded.http.conductor.executions import ExecutionRequests
from perago.embedded.http.conductor.listings import ListingRequests
from perago.embedded.http.conductor.queues import QueueRequests
from perago.embedded.http.conductor.searches import search_routes
from perago.embedded.http.conductor.targets import CheckedTargets
from perago.embedded.http.conductor.tasks import TaskRequests
from perago.embedded.http.conductor.workflows import WorkflowRequests
from perago.embedded.http.faults import Application, FaultyApplication, HttpFaultScript

API = "/api"
_HEALTHY = {"healthResults": [], "suppressedHealthResults": [], "healthy": True}


def conductor_app(model: ConductorModel, *, faults: HttpFaultScript | None = None) -> Application:
    """An ASGI application that serves `model` below `/api`, and its health at `/health`, to everybody.

    Calls run in threads of their own, so that long polls hold up nobody.
    """
    endpoints = Endpoints()
    routes = [
        *DefinitionRequests(model).routes(endpoints, f"{API}/metadata"),
        *QueueRequests(model).routes(endpoints, f"{API}/tasks"),
        *elsewhere(endpoints, API),
        *search_routes(model, endpoints, API),
        *TaskRequests(model).routes(endpoints, f"{API}/tasks"),
        *BulkRequests(model).routes(endpoints, f"{API}/workflow/bulk"),
        *ExecutionRequests(model).routes(endpoints, f"{API}/workflow"),
        *ListingRequests(model).routes(endpoints, f"{API}/workflow"),
        *WorkflowRequests(model).routes(endpoints, f"{API}/workflow"),
        Route("/health", _health, methods=["GET"]),
        Route(f"{API}/health", _health, methods=["GET"]),
    ]
    app = Starlette(routes=routes, exception_handlers={404: _no_such_path, 405: _wrong_method})
    app.router.redirect_slashes = False
    checked = CheckedTargets(app)
    return checked if faults is None else FaultyApplication(checked, faults)


async def _health(request: Request) -> Response:  # noqa: ARG001 - the endpoint's signature
    return answers.JsonAnswer(_HEALTHY)


async def _no_such_path(request: Request, error: Exception) -> Response:  # noqa: ARG001 - the handler's signature
    path = "/".join(part for part in request.scope["raw_path"].decode("latin-1").split("/") if part)
    return answers.error(404, f"No static resource {path}.")


async def _wrong_method(request: Request, error: Exception) -> Response:  # noqa: ARG001 - the handler's signature
    return answers.error(405, f"Request method '{request.method}' is not supported")
