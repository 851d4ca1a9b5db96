"""Calls in the description of a server's API that the embedded server does not serve: a 501 that names each."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from importlib.resources import files

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route


def unserved_routes(package: str, root: str, refuse: Callable[[Request, str], Response]) -> Iterator[Route]:
    """Routes of the calls in `operations.txt` of a package, each line of which is method, path and name.

    Args:
        package: the package beside which the list lies.
        root: what the paths are below.
        refuse: answers a request of a call, which it is given with method and path.
    """
    for line in files(package).joinpath("operations.txt").read_text(encoding="utf-8").splitlines():
        method, path, name = line.split()
        yield Route(root + path, partial(_answer, refuse, name), methods=[method])


async def _answer(refuse: Callable[[Request, str], Response], name: str, request: Request) -> Response:
    return refuse(request, f"{name} ({request.method} {request.url.path})")
