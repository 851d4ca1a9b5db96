"""One request of lakeFS's API: its parts checked, the model called with them, the answer.

The model holds a lock and walks trees, so only quick calls of it may run on the event loop, and only while the lock is
free.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Literal, TypeAlias, TypeVar

from pydantic import BaseModel, BeforeValidator, Field, ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from perago.embedded.http.lakefs.bodies import Body
from perago.embedded.lakefs.server import LakeFSServer
from perago.embedded.lakefs.values import MAX_AMOUNT, Invalid, NotModelled

B = TypeVar("B", bound=BaseModel)

_MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)")


class JsonAnswer(Response):
    """Compact JSON with a final newline."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        """Encode `content`."""
        return json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


def _moment(value: Any) -> Any:
    """A point in time as seconds since the epoch; nothing is none."""
    if isinstance(value, str) and (not value or _MOMENT.fullmatch(value)):
        return datetime.fromisoformat(value).timestamp() if value else None
    raise ValueError("a date and time like 2026-01-31T12:00:00Z is needed")


_Texts: TypeAlias = Annotated[
    tuple[Annotated[str, Field(min_length=1)], ...],
    BeforeValidator(lambda given: given if isinstance(given, list) else [given]),
]
"""A text that may be given several times."""


def _flag(value: Any) -> bool:
    if value in ("1", "t", "T", "TRUE", "true", "True"):
        return True
    if value in ("0", "f", "F", "FALSE", "false", "False"):
        return False
    raise ValueError("'true' or 'false' is needed")


_Flag: TypeAlias = Annotated[bool, BeforeValidator(_flag)]


class Query(BaseModel):
    """Every parameter of the API; each means the same in all calls."""

    path: str = ""
    dest_path: str = ""
    ref: str = ""
    prefix: str = ""
    after: str = ""
    amount: int = Field(-1, ge=-1, le=MAX_AMOUNT)
    delimiter: str = ""
    search: str = ""
    branch: str = ""
    commit: str = ""
    stop_at: str = ""
    since: Annotated[float | None, BeforeValidator(_moment)] = None
    objects: _Texts = ()
    prefixes: _Texts = ()
    type: Literal["three_dot", "two_dot"] = "three_dot"
    bare: _Flag = False
    first_parent: _Flag = False
    force: _Flag = False
    include_right_stats: _Flag = False
    limit: _Flag = False
    no_tombstone: _Flag = False
    presign: _Flag = False
    show_hidden: _Flag = False
    source_metarange: str = ""
    user_metadata: _Flag = True

    def required(self, name: Literal["path", "dest_path", "ref"]) -> str:
        """A text that must be there and not be empty.

        Raises:
            Invalid: it is missing or empty.
        """
        found: str = getattr(self, name)
        if not found:
            raise Invalid(f"parameter {name!r} is missing or empty")
        return found

    def some(self, *names: str) -> dict[str, Any]:
        """Some parameters by name: the arguments of the model's call."""
        return {name: getattr(self, name) for name in names}

    def page(self, *names: str) -> dict[str, Any]:
        """Where in a listing to start, how much of it is wanted, and further parameters."""
        return self.some("prefix", "after", "amount", *names)


@dataclass(frozen=True, slots=True)
class Call:
    """One request, read to its end."""

    method: str
    path: str
    names: Mapping[str, str]
    """The parts of the path that the route names."""
    query: Query
    headers: Headers
    raw: bytes = b""

    @property
    def repository(self) -> str:
        return self.names["repository"]

    @property
    def branch(self) -> str:
        return self.names["branch"]

    def body(self, model: type[B]) -> B:
        """The JSON body; no body at all is an empty object.

        Raises:
            Invalid: no JSON, or not what `model` says.
        """
        if self.raw and self.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
            raise Invalid("the request body has a Content-Type other than application/json")
        try:
            return model.model_validate_json(self.raw or b"{}")
        except ValidationError as error:
            raise Invalid(f"request body: {_told(error)}") from None

    def fields(self, model: type[Body]) -> dict[str, Any]:
        """The members of the JSON body by name."""
        return self.body(model).fields()

    def refuse(self, *names: str) -> None:
        """Raise `NotModelled` if one of these parameters is given and not false: it would change what the call does."""
        for name in names:
            if getattr(self.query, name):
                raise NotModelled(f"the parameter {name!r} of {self.method} {self.path}")


Handler: TypeAlias = Callable[[Call], Response | None]
"""Without an answer of its own a call is answered with 204."""


def routes(table: Iterable[tuple[str, str, Handler]], quick: LakeFSServer | None = None) -> list[Route]:
    """Routes of (method, path, handler); `quick` is the model if these calls are over in no time there."""
    return [route(method, path, handler, quick=quick) for method, path, handler in table]


def call_of(request: Request, raw: bytes = b"") -> Call:
    """A request with its body at hand.

    Raises:
        Invalid: a parameter cannot be read.
    """
    given: dict[str, Any] = {name: request.query_params.getlist(name) for name in request.query_params}
    given = {name: values[0] if len(values) == 1 else values for name, values in given.items()}
    try:
        query = Query.model_validate(given)
    except ValidationError as error:
        raise Invalid(f"parameter {_told(error)}") from None
    path, names = request.scope["path"], request.path_params
    return Call(request.method, path, names, query, request.headers, raw)


def _told(error: ValidationError) -> str:
    problem = error.errors(include_url=False, include_input=False)[0]
    place = ".".join(map(str, problem["loc"]))
    return f"{f'{place}: ' if place else ''}{problem['msg']}"


def route(method: str, path: str, handler: Handler, *, quick: LakeFSServer | None = None) -> Route:
    """A route that answers with `handler`. `quick` is the model if the call is over in no time there."""

    async def answer(request: Request) -> Response:
        raw = b"" if method in ("GET", "HEAD") else await request.body()
        return await run(quick, lambda: handler(call_of(request, raw)) or Response(status_code=204))

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
