"""From a request to a handler in a thread and back."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeAlias

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from perago.embedded.http.conductor import answers
from perago.embedded.http.conductor.call import Call
from perago.ports import ServiceError

Handler: TypeAlias = Callable[[Call], Response]

POLLS_AT_ONCE = 64
"""Polls beyond these wait for one of them to end, at most five seconds."""
CALLS_AT_ONCE = 16


class Endpoints:
    """Makes routes of handlers. Those that may wait have threads of their own: no other call is held up by them."""

    def __init__(self) -> None:
        self._polls = ThreadPoolExecutor(POLLS_AT_ONCE, thread_name_prefix="perago-conductor-poll")
        self._calls = ThreadPoolExecutor(CALLS_AT_ONCE, thread_name_prefix="perago-conductor")

    def route(self, method: str, path: str, handler: Handler, *, waits: bool = False) -> Route:
        """The route that answers `method` on `path` by `handler`; `waits` is for those that may take seconds."""
        return Route(path, _endpoint(handler, self._polls if waits else self._calls), methods=[method])


def _endpoint(handler: Handler, threads: ThreadPoolExecutor) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        call = Call.of(request, await request.body())
        return await asyncio.get_running_loop().run_in_executor(threads, _answer, handler, call)

    return endpoint


def _answer(handler: Handler, call: Call) -> Response:
    try:
        return handler(call)
    except ServiceError as problem:
        return answers.refusal(problem)
    except NotImplementedError as problem:
        return answers.error(501, f"{call.method} {call.path}: {problem}")
