"""Requests and answers of both embedded servers: reading of requests, JSON, and calls that are not served."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterator, Mapping
from importlib.resources import files
from typing import Any

from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route


class Call:
    """One request, read to its end. The servers add how they read parameters and bodies."""

    def __init__(self, request: Request, raw: bytes = b"") -> None:
        self.method: str = request.method
        self.path: str = request.scope["path"]
        self.parts: Mapping[str, str] = request.path_params
        """The variables of the path."""
        self.query_params: QueryParams = request.query_params
        self.headers: Mapping[str, str] = request.headers
        self.raw = raw


class JsonAnswer(Response):
    """Compact JSON."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        """Encode `content`."""
        return json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")


def unserved_routes(server: str, root: str, refuse: Callable[[Request, str], Response]) -> Iterator[Route]:
    """Routes of the calls that the real server has and this one does not, from `<server>_operations.txt`.

    Args:
        server: the server whose list is read. Each line is a method, a path and a name.
        root: the prefix of all paths.
        refuse: answers a request of a call, whose name, method and path it is given.
    """

    def unserved(name: str) -> Callable[[Request], Awaitable[Response]]:
        async def unserved(request: Request) -> Response:
            return refuse(request, f"{name} ({request.method} {request.url.path})")

        return unserved

    for line in files(__package__).joinpath(f"{server}_operations.txt").read_text(encoding="utf-8").splitlines():
        method, path, name = line.split()
        yield Route(root + path, unserved(name), methods=[method])
