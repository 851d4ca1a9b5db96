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
from typing import Any, TypeAlias, TypedDict, TypeVar

from pydantic import BaseModel, ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers, QueryParams
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from perago.embedded.http.lakefs.bodies import Body
from perago.embedded.lakefs.errors import Invalid, NotModelled
from perago.embedded.lakefs.server import LakeFSServer
from perago.embedded.lakefs.values import MAX_AMOUNT

B = TypeVar("B", bound=BaseModel)

_TRUE = frozenset(("1", "t", "T", "TRUE", "true", "True"))
_MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)")
_FALSE = frozenset(("0", "f", "F", "FALSE", "false", "False"))


class JsonAnswer(Response):
    """Compact JSON with a final newline."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        """Encode `content`."""
        return json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


class Paging(TypedDict):
    """The parameters of every listing."""

    prefix: str
    after: str
    amount: int


class Delimiter(TypedDict):
    """The parameter of listings that can be folded."""

    delimiter: str


class Query:
    """The parameters of one request. All methods raise `Invalid` for a value that cannot be read."""

    def __init__(self, given: QueryParams) -> None:
        self._given = given

    def text(self, name: str) -> str:
        """A text, `""` if it is missing."""
        found = self._given.getlist(name)
        if len(found) > 1:
            raise Invalid(f"parameter {name!r} is given {len(found)} times")
        return found[0] if found else ""

    def texts(self, name: str) -> tuple[str, ...]:
        """A text that may be given several times."""
        found = tuple(self._given.getlist(name))
        if found == ("",):
            raise Invalid(f"parameter {name!r} is empty")
        return found

    def required(self, name: str) -> str:
        """A text that must be there and not be empty."""
        found = self.text(name)
        if not found:
            raise Invalid(f"parameter {name!r} is missing or empty")
        return found

    def flag(self, name: str, *, default: bool = False) -> bool:
        """A boolean: `true`, `false`, `1`, `0` or `t`, `f`."""
        value = self._given.get(name)
        if value is None:
            return default
        if value not in _TRUE | _FALSE:
            raise Invalid(f"parameter {name!r} is {value!r}, not 'true' or 'false'")
        return value in _TRUE

    def amount(self) -> int:
        """The parameter `amount`, from -1 to 1,000; -1 if it is missing."""
        value = self.text("amount") if "amount" in self._given else "-1"
        try:
            found = int(value)
        except ValueError:
            found = MAX_AMOUNT + 1
        if not -1 <= found <= MAX_AMOUNT:
            raise Invalid(f"parameter 'amount' is {value!r}, not a whole number from -1 to {MAX_AMOUNT}")
        return found

    def choice(self, name: str, *choices: str) -> str:
        """One of some texts, the first if it is missing."""
        value = self._given.get(name, choices[0])
        if value not in choices:
            raise Invalid(f"parameter {name!r} is {value!r}, not one of {', '.join(choices)}")
        return value

    def moment(self, name: str) -> float | None:
        """A point in time as seconds since the epoch, None if it is missing."""
        value = self.text(name)
        if not value:
            return None
        try:
            if _MOMENT.fullmatch(value):
                return datetime.fromisoformat(value).timestamp()
        except ValueError:
            pass
        raise Invalid(f"parameter {name!r} is {value!r}, not a date and time like 2026-01-31T12:00:00Z")


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
            problem = error.errors(include_url=False, include_input=False)[0]
            place = ".".join(map(str, problem["loc"]))
            raise Invalid(f"request body: {f'{place}: ' if place else ''}{problem['msg']}") from None

    def fields(self, model: type[Body]) -> dict[str, Any]:
        """The members of the JSON body by name."""
        return self.body(model).fields()

    def delimiter(self) -> Delimiter:
        """By what a listing is folded."""
        return {"delimiter": self.query.text("delimiter")}

    def paging(self) -> Paging:
        """Where in a listing to start, and how much of it is wanted."""
        return {"prefix": self.query.text("prefix"), "after": self.query.text("after"), "amount": self.query.amount()}

    def refuse(self, *names: str) -> None:
        """Raise `NotModelled` if one of these parameters is given and not false: it would change what the call does."""
        for name in names:
            if self.query.text(name) not in _FALSE | {""}:
                raise NotModelled(f"the parameter {name!r} of {self.method} {self.path}")


Handler: TypeAlias = Callable[[Call], Response | None]
"""Without an answer of its own a call is answered with 204."""


def routes(table: Iterable[tuple[str, str, Handler]], quick: LakeFSServer | None = None) -> list[Route]:
    """Routes of (method, path, handler); `quick` is the model if these calls are over in no time there."""
    return [route(method, path, handler, quick=quick) for method, path, handler in table]


def call_of(request: Request, raw: bytes = b"") -> Call:
    """A request with its body at hand."""
    path, names = request.scope["path"], request.path_params
    return Call(request.method, path, names, Query(request.query_params), request.headers, raw)


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
