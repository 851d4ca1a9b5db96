"""How a request reaches the model: its parts taken out on the event loop, the model called away from it.

The model holds a lock and walks trees, so only quick calls of it may run on the event loop, and only while nobody else
holds the lock.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias, TypedDict

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from perago.embedded.http.lakefs.paths import name_of
from perago.embedded.http.lakefs.query import Query
from perago.embedded.http.lakefs.wire import Schema
from perago.embedded.lakefs.server import LakeFSServer


class Paging(TypedDict):
    """The parameters of every listing."""

    prefix: str
    after: str
    amount: int


@dataclass(frozen=True, slots=True)
class Call:
    """One request, read to its end."""

    method: str
    path: str
    names: Mapping[str, str]
    """The parts of the path that the route names."""
    query: Query
    headers: Headers
    body: Mapping[str, Any]

    @property
    def repository(self) -> str:
        return self.names["repository"]

    def paging(self) -> Paging:
        """Where in a listing to start, and how much of it is wanted."""
        return {"prefix": self.query.text("prefix"), "after": self.query.text("after"), "amount": self.query.amount()}


Handler: TypeAlias = Callable[[Call], Response]


def call_of(request: Request, body: Mapping[str, Any]) -> Call:
    """A request with its body at hand."""
    query = Query(request.scope["query_string"].decode("latin-1"))
    names = {name: name_of(part) for name, part in request.path_params.items()}
    return Call(request.method, request.scope["path"], names, query, request.headers, body)


def route(
    method: str, path: str, handler: Handler, schema: Schema | None = None, *, quick: LakeFSServer | None = None
) -> Route:
    """A route that answers with `handler`; its body, if it has one, is checked against `schema` first.

    `quick` is the model if the call is over in no time there.
    """

    async def answer(request: Request) -> Response:
        raw = b"" if schema is None else await request.body()
        return await run(quick, lambda: _handle(request, raw))

    def _handle(request: Request, raw: bytes) -> Response:
        body = {} if schema is None else schema.read(raw, request.headers.get("content-type", ""))
        return handler(call_of(request, body))

    made = Route(path, answer, methods=[method])
    made.methods = {method}  # without the HEAD that comes with every GET: lakeFS has it for objects only
    return made


async def run(quick: LakeFSServer | None, work: Callable[[], Response]) -> Response:
    """Call the model: in a worker thread, or at once if it is free and the work `quick`.

    Under load the way to a thread and back takes longer than a quick call.
    """
    if quick is not None:
        with quick.if_free() as free:
            if free:
                return work()
    return await run_in_threadpool(work)
