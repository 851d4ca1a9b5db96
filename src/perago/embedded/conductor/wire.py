"""Requests and answers on the wire: the server's errors, payloads as JSON, and typed fields.

Each class carries the HTTP status that the real server sends with the same words, so that the model can be served
over REST. Many permanent errors are 500 there (`docs/dev/servers/conductor.md`, "REST surface" and "Fifteen behaviors",
point 11).

pydantic reads the fields of clients, as leniently as the server (`"2"` is a number), with a 500 for anything else.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, Self, TypeVar, get_args, get_origin

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from pydantic.alias_generators import to_camel

from perago.ports import NotFound, Refused, Unavailable

SERVICE = "Conductor"

VALIDATION_FAILED = "Validation failed, check below errors for detail."


class NoSuchEntity(NotFound):
    """404: the task, workflow or definition does not exist, or does not allow the requested action."""

    status: ClassVar[int] = 404


class InvalidRequest(Refused):
    """400. `problems` are the server's `validationErrors`, empty for a plain bad request."""

    status: ClassVar[int] = 400

    def __init__(self, service: str, operation: str, detail: str, problems: Sequence[dict[str, str]] = ()) -> None:
        super().__init__(service, operation, detail)
        self.problems: tuple[dict[str, str], ...] = tuple(problems)


class Conflict(Refused):
    """409: the entity exists, in a state that does not allow the call."""

    status: ClassVar[int] = 409


class ServerError(Unavailable):
    """500: nothing was done."""

    status: ClassVar[int] = 500


class Malformed(Refused):
    """500: a request that the server's JSON reader cannot read. A repetition is pointless, so it is a refusal."""

    status: ClassVar[int] = 500


def not_found(operation: str, detail: str) -> NoSuchEntity:
    """Return a 404 with the server's words."""
    return NoSuchEntity(SERVICE, operation, detail)


def bad_request(operation: str, detail: str) -> InvalidRequest:
    """Return a 400 without validation errors."""
    return InvalidRequest(SERVICE, operation, detail)


def validation_failed(operation: str, problems: Sequence[dict[str, str]]) -> InvalidRequest:
    """Return a 400 with the list of the bean validation."""
    listed = "; ".join(f"{problem['path']}: {problem['message']}" for problem in problems)
    return InvalidRequest(SERVICE, operation, f"{VALIDATION_FAILED} {listed}", problems)


def conflict(operation: str, detail: str) -> Conflict:
    """Return a 409 with the server's words."""
    return Conflict(SERVICE, operation, detail)


def server_error(operation: str, detail: str) -> ServerError:
    """Return a 500 with the server's words."""
    return ServerError(SERVICE, operation, detail)


def malformed(operation: str, detail: str) -> Malformed:
    """Return a 500 of the JSON reader."""
    return Malformed(SERVICE, operation, f"JSON parse error: {detail}")


def not_modelled(where: str, what: str) -> NotImplementedError:
    """Return the refusal of a part that the model does not have."""
    return NotImplementedError(f"InMemoryConductor: {where}: {what} is not modelled; run it on a real Conductor")


T = TypeVar("T")

MAX_DEPTH = 1000
"""Nesting that the server's JSON reader accepts."""
MOST_LEVELS = 250
"""Maximum nesting here, because payloads are processed on Python's stack."""

MAX_REASON = 500
"""Characters of `reasonForIncompletion` that are taken from a result, and that answers show."""

MAX_RESULT_LOGS = 10
"""Log entries that are kept of the list inside one task result."""

_TOO_MANY_DIGITS = 10**1000


EXTERNAL_BYTES = 3072 * 1024
"""Bytes of the JSON text above which a payload is kept elsewhere. The row then shows an empty object and a path."""

MAX_BYTES = 10240 * 1024
"""Bytes above which a task fails for good, and a workflow is not started."""

MAX_VARIABLES_BYTES = 256 * 1024
"""Bytes above which SET_VARIABLE fails."""


def _cut(value: Any) -> Any:
    """Truncate a fraction. Refuse a boolean and the text of a fraction, which are not numbers."""
    if isinstance(value, bool) or (isinstance(value, str) and not _DIGITS.fullmatch(value)):
        raise ValueError(f"Input should be a number, not {value!r}")
    return math.trunc(value) if isinstance(value, float) and math.isfinite(value) else value


_DIGITS = re.compile(r"\s*[+-]?[0-9]+\s*")

Long = Annotated[int, BeforeValidator(_cut), Field(ge=-(2**63), lt=2**63)]
Int = Annotated[int, BeforeValidator(_cut), Field(ge=-(2**31), lt=2**31)]


class _Kind(NamedTuple):
    """The conversion of a field by Jackson, as far as pydantic does not: empty texts, numbers for enums and truths."""

    is_number: bool = False
    is_truth: bool = False
    is_text: bool = False
    zero: int | None = None
    """The value of a null; None: the default of the field."""
    names: tuple[Any, ...] = ()
    """The members of an enum, which a request can give by their index."""

    @classmethod
    def of(cls, annotation: Any) -> Self:
        variants = (annotation, *get_args(annotation))
        return cls(
            is_number=annotation in (int, bool, Long | None, Int | None),
            is_truth=annotation is bool,
            is_text=annotation in (str, str | None),
            zero={int: 0, bool: False}.get(annotation),
            names=next((get_args(variant) for variant in variants if get_origin(variant) is Literal), ()),
        )

    def converted(self, value: Any) -> Any:
        if self.is_number and isinstance(value, str):
            value = value.strip() or None
        if value is None:
            return self.zero
        if self.is_truth and isinstance(value, int):
            return value != 0
        if self.is_truth and value not in ("true", "True", "TRUE", "false", "False", "FALSE"):
            raise ValueError(f"a boolean is needed, not {value!r}")
        if self.is_text and isinstance(value, bool):
            return str(value).lower()
        if self.names and str(value) in map(str, range(len(self.names))):
            return self.names[int(value)]
        return value


_OTHER = _Kind()
"""The kind of fields that the server ignores."""


@cache
def _kinds(fields: type[Fields]) -> Mapping[str | None, _Kind]:
    return {field.alias: _Kind.of(field.annotation) for field in fields.model_fields.values()}


class Fields(BaseModel):
    """An object of the API. Unknown fields are ignored; a null is zero for numbers and flags, else the default."""

    model_config: ClassVar[ConfigDict] = ConfigDict(alias_generator=to_camel, coerce_numbers_to_str=True)

    @model_validator(mode="before")
    @classmethod
    def _without_nulls(cls, fields: Any) -> Any:
        if not isinstance(fields, Mapping):
            return fields
        kinds = _kinds(cls)
        return without_nulls({name: kinds.get(name, _OTHER).converted(value) for name, value in fields.items()})

    @classmethod
    def read(cls, operation: str, value: Any) -> Self:
        """Return the object in a JSON value.

        Raises:
            Malformed: a value of the wrong type (500); the message names the first one.
        """
        try:
            return cls.model_validate(value)
        except ValidationError as error:
            problem = error.errors()[0]
            where = ".".join(map(str, problem["loc"])) or cls.__name__
            raise malformed(operation, f"{where}: {problem['msg']}") from None

    def stored(self) -> dict[str, Any]:
        """Return it as the server stores and shows it, without nulls."""
        return without_nulls(self.model_dump(by_alias=True))


def without_nulls(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields without nulls, which no answer has at its top level (`docs/dev/servers/conductor.md`, "REST
    surface")."""
    return {name: value for name, value in fields.items() if value is not None}


def through_json(operation: str, payload: Any, *, what: str) -> dict[str, Any]:
    """Return a copy of `payload` with the values that the server would store; None counts as an empty object.

    Raises:
        Malformed: not a JSON object, NaN or infinite numbers, nested deeper than 1,000 levels, numbers of more than
            1,000 digits, or values without a JSON form.
        InvalidRequest: nested deeper than 250 levels, which the real server takes.
    """
    if payload is None:
        return {}
    if not isinstance(payload, Mapping):
        raise malformed(operation, f"{what}: an object is needed, not {type(payload).__name__}")
    _check_numbers_and_depth(operation, payload, what)
    try:
        copy = json.loads(encoded(payload))
    except (TypeError, ValueError, RecursionError) as error:
        raise malformed(operation, f"{what}: {error}") from error
    return dict(copy)


def copied(value: T) -> T:
    """Return a copy of a JSON value, which its receiver may change. It is several times faster than `deepcopy`."""
    copy: Any = value
    if isinstance(value, dict):
        copy = {key: copied(item) if isinstance(item, _NESTED) else item for key, item in value.items()}
    elif isinstance(value, list):
        copy = [copied(item) if isinstance(item, _NESTED) else item for item in value]
    typed: T = copy
    return typed


_NESTED = (dict, list)


def encoded(payload: Any) -> bytes:
    """Return the bytes of `payload` as the server counts and stores them; a lone surrogate becomes a question mark."""
    text = json.dumps(payload, ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=_plain)
    return text.encode("utf-8", "replace")


def size_of(payload: dict[str, Any]) -> int:
    """Return the bytes of the JSON text of `payload`, or 0 if there is nothing to store."""
    return len(encoded(payload)) if payload else 0


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{type(value).__name__} has no JSON form")


def _check_numbers_and_depth(operation: str, payload: Any, what: str) -> None:
    """Walk without recursion, so that a deep value is refused and does not crash."""
    stack: list[tuple[Any, int]] = [(payload, 1)]
    deepest = 1
    while stack:
        value, depth = stack.pop()
        deepest = max(deepest, depth)
        if depth > MAX_DEPTH:
            raise malformed(operation, f"{what}: nested deeper than {MAX_DEPTH} levels")
        if isinstance(value, str):  # most are, and the check for a mapping is slow
            continue
        if isinstance(value, Mapping):
            stack.extend((item, depth + 1) for item in value.values())
        elif isinstance(value, list | tuple):
            stack.extend((item, depth + 1) for item in value)
        elif isinstance(value, float) and not math.isfinite(value):
            raise malformed(operation, f"{what}: non-standard token {value!r}")
        elif isinstance(value, int) and abs(value) >= _TOO_MANY_DIGITS:
            raise malformed(operation, f"{what}: a number of more than 1000 digits")
    if deepest > MOST_LEVELS:
        raise bad_request(operation, f"{what}: nested deeper than {MOST_LEVELS} levels, the limit of this Conductor")
