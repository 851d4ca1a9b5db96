"""Calls that Conductor has and this does not: named with 501, but for those that find nothing there."""

from __future__ import annotations

from typing import Any

from starlette.responses import Response
from starlette.routing import Route

from perago.embedded.http.conductor import answers
from perago.embedded.http.conductor.call import Call
from perago.embedded.http.conductor.endpoints import Endpoints, Handler

_NOTHING: dict[str, Any] = {
    "/event": [],
    "/event/{event}": [],
    "/queue/": {},
    "/queue/size": {},
    "/environment": [],
    "/secrets": [],
}
"""What a server shows that nobody has configured."""

_NOT_SERVED = (
    ("GET", "/admin/config"),
    ("POST", "/admin/consistency/verifyAndRepair/{workflow}"),
    ("GET", "/admin/queues"),
    ("POST", "/admin/sweep/requeue/{workflow}"),
    ("GET", "/admin/task/{name}"),
    ("GET", "/environment/{key}"),
    ("PUT", "/event"),
    ("POST", "/event"),
    ("DELETE", "/event/{name}"),
    ("POST", "/queue/update/{workflow}/task/{task}/{status}"),
    ("POST", "/queue/update/{workflow}/{reference}/{status}"),
    ("GET", "/tasks/external-storage-location"),
    ("GET", "/tasks/externalstoragelocation"),
    ("POST", "/tasks/{workflow}/{status}/signal"),
    ("POST", "/tasks/{workflow}/{status}/signal/sync"),
    ("GET", "/workflow/external-storage-location"),
    ("GET", "/workflow/externalstoragelocation"),
    ("POST", "/workflow/bulk/search"),
    ("POST", "/workflow/test"),
)

VERSION = "3.32.3"
"""The version that is modelled."""


def elsewhere(endpoints: Endpoints, root: str) -> list[Route]:
    """The routes of these calls below `root`; they come before those with variables in their place."""
    return [
        *(endpoints.route("GET", root + path, _found(nothing)) for path, nothing in _NOTHING.items()),
        *(endpoints.route(method, root + path, _not_served) for method, path in _NOT_SERVED),
        endpoints.route("GET", f"{root}/version", _version),
    ]


def _found(nothing: Any) -> Handler:
    return lambda _: answers.JsonAnswer(nothing)


def _not_served(call: Call) -> Response:
    raise NotImplementedError("the embedded Conductor does not serve this call; use a real server for it")


def _version(call: Call) -> Response:  # noqa: ARG001 - as all handlers
    return answers.text(VERSION)
