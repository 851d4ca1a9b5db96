"""From a request to a handler in a thread, and back to what Conductor would answer."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Awaitable, Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeAlias

from loguru import logger
from pydantic import TypeAdapter, ValidationError
from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from perago.embedded.conductor.context import not_modelled
from perago.embedded.conductor.errors import SERVICE, VALIDATION_FAILED, InvalidRequest, Malformed, malformed
from perago.ports import AccessDenied, NotFound, Refused, ServiceError

INSTANCE = "perago"
"""What stands where the real server names its host."""

POLLS_AT_ONCE = 64
"""Polls beyond these wait for one of them to end, at most five seconds."""
CALLS_AT_ONCE = 16

_STATUS_OF_INJECTED = {AccessDenied: 401, NotFound: 404, Refused: 400}
"""Statuses of port errors that a fault script raises; the model's own errors carry theirs."""

_INTEGER, _FLAG = TypeAdapter(int), TypeAdapter(bool)


def _number(digits: str) -> float | str:
    """A number beyond all is stored as a text (`docs/servers/conductor.md` 2 "Payload fidelity")."""
    number = float(digits)
    return number if math.isfinite(number) else str(number).replace("inf", "Infinity")


@dataclass(frozen=True, slots=True)
class Call:
    """A request, read completely. The methods raise `Malformed` (500) for what is missing or of the wrong type."""

    method: str
    path: str
    parts: Mapping[str, str]
    """The variables of the path."""
    query: QueryParams
    content_type: str
    raw: bytes

    @property
    def operation(self) -> str:
        """What errors name."""
        return f"{self.method} {self.path}"

    def text(self, name: str) -> str | None:
        """A text parameter."""
        return self.query.get(name)

    def required_text(self, name: str) -> str:
        """A text parameter that must be there, however empty."""
        value = self.text(name)
        if value is None:
            raise self.refused(f"the request parameter {name} is missing")
        return value

    def texts(self, name: str) -> list[str]:
        """A parameter that is given several times, or once with commas."""
        values = self.query.getlist(name)
        return values[0].split(",") if len(values) == 1 else values

    def integer(self, name: str, default: int) -> int:
        """A whole number; an empty one is not given."""
        value = self.optional_integer(name)
        return default if value is None else value

    def optional_integer(self, name: str) -> int | None:
        """A whole number of the path or the query, or None if it is empty or not given."""
        value = self.parts.get(name) or self.text(name)
        return self._converted(_INTEGER, name, value) if value else None

    def flag(self, name: str, *, default: bool) -> bool:
        """A boolean; an empty one is not given."""
        value = self.text(name)
        return self._converted(_FLAG, name, value) if value else default

    def _converted(self, kind: TypeAdapter[Any], name: str, value: str) -> Any:
        try:
            return kind.validate_python(value)
        except ValidationError as error:
            raise self.refused(f"parameter {name}: {error.errors()[0]['msg']}, not {value!r}") from None

    def mapping(self) -> dict[str, Any]:
        """The body as an object."""
        value = self._json()
        if not isinstance(value, dict):
            raise malformed(self.operation, f"the body must be an object, not {type(value).__name__}")
        return value

    def items(self) -> list[Any]:
        """The body as a list."""
        value = self._json()
        if not isinstance(value, list):
            raise malformed(self.operation, f"the body must be a list, not {type(value).__name__}")
        return value

    def body_text(self) -> str:
        """The body as it is, in UTF-8."""
        if not self.raw:
            raise self.refused("Required request body is missing")
        return self.raw.decode("utf-8", "replace")

    def _json(self) -> Any:
        if not self.raw:
            raise self.refused("Required request body is missing")
        if "json" not in self.content_type.partition(";")[0].lower():
            raise self.refused(f"Content-Type {self.content_type!r} is not supported; use application/json")
        try:
            return json.loads(self.raw, parse_float=_number)
        except (ValueError, RecursionError) as error:
            raise malformed(self.operation, str(error) or type(error).__name__) from None

    def refused(self, words: str) -> Malformed:
        """A 500 with just these words."""
        return Malformed(SERVICE, self.operation, words)


Handler: TypeAlias = Callable[[Call], Response]


class Endpoints:
    """Makes routes of handlers. Those that may wait have threads of their own: no other call is held up by them."""

    def __init__(self) -> None:
        self._polls = ThreadPoolExecutor(POLLS_AT_ONCE, thread_name_prefix="perago-conductor-poll")
        self._calls = ThreadPoolExecutor(CALLS_AT_ONCE, thread_name_prefix="perago-conductor")

    def routes(self, table: Iterable[tuple[str, str, Handler]], *, wait: bool = False) -> list[Route]:
        """The routes of (method, path, handler); `wait` is for handlers that may take seconds."""
        threads = self._polls if wait else self._calls
        return [Route(path, _endpoint(handler, threads), methods=[method]) for method, path, handler in table]


def _endpoint(handler: Handler, threads: ThreadPoolExecutor) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        parts = {name: str(value) for name, value in request.path_params.items()}
        kind = request.headers.get("content-type", "")
        call = Call(request.method, request.url.path, parts, request.query_params, kind, await request.body())
        return await asyncio.get_running_loop().run_in_executor(threads, _answer, handler, call)

    return endpoint


def _answer(handler: Handler, call: Call) -> Response:
    try:
        return handler(call)
    except ServiceError as problem:
        return _refusal(problem)
    except NotImplementedError as problem:
        return error(501, f"{call.operation}: {problem}")
    except Exception as problem:  # noqa: BLE001 - as the real server: a 500, and the next call is served
        logger.opt(exception=problem).warning("{} failed", call.operation)
        return error(500, f"{type(problem).__name__}: {problem}")


class JsonAnswer(Response):
    """Compact JSON."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        """Encode `content`."""
        return json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")


def search_of(call: Call, where: str) -> dict[str, Any]:
    """What a search asks for. What `freeText` asks for beside `query` is not modelled."""
    if call.text("freeText") not in (None, "*"):
        raise not_modelled(where, "freeText")
    texts = {name: call.text(name) or "" for name in ("query", "sort")}
    return {**texts, "start": call.integer("start", 0), "size": call.integer("size", 100)}


def text(content: str) -> Response:
    """A text such as an id, whatever the client accepts."""
    return Response(content, headers={"content-type": "text/plain;charset=UTF-8"})


def done() -> Response:
    """Success without a body."""
    return Response(status_code=200)


def after(act: Callable[..., None], *arguments: Any, **options: Any) -> Response:
    """Success without a body, once `act` has been called."""
    act(*arguments, **options)
    return done()


def json_or_no_content(content: Any = None) -> Response:
    """What was found; 204 for None."""
    return Response(status_code=204) if content is None else JsonAnswer(content)


def error(status: int, message: str) -> Response:
    """The body of every error but those of a validation."""
    return JsonAnswer({"status": status, "message": message, "instance": INSTANCE, "retryable": False}, status)


def _refusal(problem: ServiceError) -> Response:
    """The answer for an error of the model, or of its fault script."""
    if isinstance(problem, InvalidRequest) and problem.problems:
        problems = list(problem.problems)
        body = {"status": 400, "message": VALIDATION_FAILED, "retryable": False, "validationErrors": problems}
        return JsonAnswer(body, 400)
    injected = next((code for kind, code in _STATUS_OF_INJECTED.items() if isinstance(problem, kind)), 503)
    return error(getattr(problem, "status", injected), problem.detail)
