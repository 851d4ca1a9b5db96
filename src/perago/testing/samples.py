"""Sample values of a model, from its JSON Schema: a plain one, and one for each edge of each field.

Deterministic and without hypothesis. A schema says less than its model: constraints, validators and key types that it
leaves out show when the model refuses a value, which is then replaced or dropped.
"""

from __future__ import annotations

import itertools
import json
import math
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, PydanticUserError, ValidationError

from perago.taskdef.payload import problem_lines
from perago.taskdef.schema import RecursiveModel, inline, integer_range, schema_problem, shape_of

_MOST_SAMPLES = 200
_MOST_REPAIRS = 300


class ValidatorRaised(Exception):
    """A validator of the author raised something else than pydantic understands as "not valid"."""


@dataclass(frozen=True, slots=True)
class Sample:
    """A JSON document and what the model makes of it."""

    document: Any
    value: BaseModel


@dataclass(frozen=True, slots=True)
class Samples:
    """The samples; none if `problem` says why."""

    found: tuple[Sample, ...]
    problem: str | None = None


def validated(model: type[BaseModel], document: Any) -> BaseModel:
    """Validate a document as it comes in JSON.

    Raises:
        ValidationError: it refuses the document.
        ValidatorRaised: a validator failed in another way.
    """
    try:
        return model.model_validate_json(json.dumps(document))
    except ValidationError:
        raise
    except Exception as error:
        raise ValidatorRaised(
            f"a validator of {model.__name__} raised {type(error).__name__}, not ValueError"
        ) from error


def sample_model(model: type[BaseModel]) -> Samples:
    """Samples of a model, the plain one first.

    Raises:
        ValidatorRaised: a validator failed for a value of the right type.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of defaults without a JSON form: they are applied all the same
            schema = inline(model.model_json_schema(mode="validation"))
    except RecursiveModel as error:
        return Samples((), f"{error.name} contains itself")
    except (PydanticUserError, ValueError) as error:
        return Samples((), f"it has no JSON Schema ({error})")
    fields = {name: edges(field) for name, field in schema.get("properties", {}).items()}
    required = set(schema.get("required", ()))
    missing = [name for name in required if not fields.get(name)]
    if missing:
        return Samples((), f"nothing fits the constraints of {', '.join(sorted(missing))}")
    plain = _accepted(model, {name: values for name, values in fields.items() if values}, required)
    if isinstance(plain, str):
        return Samples((), plain)
    return Samples(tuple(itertools.islice(_around(model, plain, fields, required), _MOST_SAMPLES)))


def _accepted(model: type[BaseModel], fields: Mapping[str, tuple[Any, ...]], required: set[str]) -> Sample | str:
    """The first combination that the model accepts, found by changing the fields that it complains about."""
    choice = dict.fromkeys(fields, 0)
    problem = ""
    for _ in range(_MOST_REPAIRS):
        document = {name: fields[name][index] for name, index in choice.items()}
        try:
            return Sample(document, validated(model, document))
        except ValidationError as error:
            problem = "; ".join(problem_lines(error, document, ""))
            blamed = {str(details["loc"][0]) for details in error.errors(include_url=False) if details["loc"]}
        blamed = (blamed & choice.keys()) or (choice.keys() - required)
        if not _advance(choice, fields, blamed, required):
            break
    return f"the model refuses what its schema allows ({problem})"


def _advance(
    choice: dict[str, int], fields: Mapping[str, tuple[Any, ...]], blamed: set[str], required: set[str]
) -> bool:
    """Try the next value of the blamed fields; leave an optional field out if there is no next value. False: no way
    on."""
    for name in blamed:
        if choice[name] + 1 < len(fields[name]):
            choice[name] += 1
        elif name not in required:
            del choice[name]
        else:
            return False
    return bool(blamed)


def _around(
    model: type[BaseModel], plain: Sample, fields: Mapping[str, tuple[Any, ...]], required: set[str]
) -> Iterator[Sample]:
    """The plain sample, the one without optional fields, and all that differ from the plain one in one field."""
    yield plain
    documents = [{name: value for name, value in plain.document.items() if name in required}]
    documents += [plain.document | {name: value} for name, values in fields.items() for value in values]
    for document in documents:
        if document != plain.document:
            try:
                yield Sample(document, validated(model, document))
            except ValidationError:
                continue


# ----------------------------------------------------- values near the edges of a schema, the plainest first

_NEXT = 1e-6
"""Added to a bound that is excluded."""
_MOST = 24
"""Values of one schema, so that nested ones do not multiply without bound."""

_TEXTS = (
    "a",
    "",
    "A1",
    "Grüße 漢字 🙂",
    ' "quoted"\\\n\ttab',
    "0",
    "1.50",
    "ABC",
    "abc-123",
    "a/b.csv",
    "2024-02-29",
    "a" * 64,
)
_KEYS = ("key", "1", "ü/~", "2024-02-29", "00000000-0000-4000-8000-000000000001", "1.5", "true", "a")
_ANYTHING: tuple[Any, ...] = ({"key": [1, "a", None]}, "a", 1, 1.5, True, None, [])
_FORMATS: Mapping[str, tuple[str, ...]] = {
    "date-time": (
        "2024-02-29T23:59:59Z",
        "2024-02-29T23:59:59",
        "2024-02-29T23:59:59.123456+05:30",
        "2999-12-31T23:59:59Z",
        "1999-12-31T23:59:59Z",
    ),
    "date": ("2024-02-29", "2999-12-31", "1999-12-31"),
    "time": ("23:59:59", "23:59:59.123456", "00:00:00Z"),
    "duration": ("P1DT2H3M4S", "PT0.5S", "P0D", "-P1D"),
    "uuid": ("00000000-0000-4000-8000-000000000001",),
    "uri": ("https://example.com/a?b=c", "https://example.com", "ftp://example.com/", "file:///tmp/a"),
    "email": ("a@example.com",),
    "name-email": ("A <a@example.com>",),
    "path": ("a/b.csv", "/a/b", "ä"),
    "file-path": (),
    "directory-path": (),
    "binary": ("a", "ü", ""),
    "base64": ("YQ==", ""),
    "base64url": ("YQ==", ""),
    "password": ("secret",),
    "ipv4": ("127.0.0.1",),
    "ipv6": ("::1",),
    "ipvanyaddress": ("127.0.0.1", "::1"),
    "ipvanyinterface": ("127.0.0.1/8",),
    "ipvanynetwork": ("127.0.0.0/8",),
    "ipv4network": ("127.0.0.0/8",),
    "ipv6network": ("::/64",),
    "json-string": ("{}",),
}


def edges(schema: Mapping[str, Any]) -> tuple[Any, ...]:
    """Some values that the schema allows, each once; none if it is beyond this module."""
    distinct: dict[str, Any] = {}
    for value in itertools.islice(_values(schema), 4 * _MOST):
        if schema_problem(schema, value) is None:
            distinct.setdefault(repr(value), value)
    return tuple(itertools.islice(distinct.values(), _MOST))


def _values(schema: Mapping[str, Any]) -> Iterator[Any]:
    shape = shape_of(schema)
    yield from shape.values
    yield from _in_turn(edges(option) for option in shape.options)
    if not (shape.values or shape.options):
        for kind in shape.kinds or [None]:
            yield from _of_type(kind, shape.schema)


def _of_type(kind: str | None, schema: Mapping[str, Any]) -> Iterable[Any]:
    match kind:
        case "integer":
            return _integers(schema)
        case "number":
            return _numbers(schema)
        case "string":
            return _strings(schema)
        case "boolean":
            return (True, False)
        case "null":
            return (None,)
        case "array":
            return _arrays(schema)
        case "object":
            return _objects(schema)
    return _ANYTHING


def _in_turn(options: Iterable[tuple[Any, ...]]) -> Iterator[Any]:
    """The first of each option, then the second of each, and so on."""
    for row in itertools.zip_longest(*options, fillvalue=_in_turn):
        yield from (value for value in row if value is not _in_turn)


def _integers(schema: Mapping[str, Any]) -> Iterator[int]:
    least, most = integer_range(schema)
    step = schema.get("multipleOf", 1)
    for number in (1, least or 0, most or 0, 0, -1, 2**31, 2**53 + 1):
        near = math.ceil(number / step) * step if step != 1 else number
        if (least is None or least <= near) and (most is None or near <= most):
            yield int(near)


def _numbers(schema: Mapping[str, Any]) -> Iterator[float]:
    least = max(schema.get("minimum", -math.inf), schema.get("exclusiveMinimum", -math.inf) + _NEXT)
    most = min(schema.get("maximum", math.inf), schema.get("exclusiveMaximum", math.inf) - _NEXT)
    step = schema.get("multipleOf")
    for number in (1.5, least, most, 0.0, -0.25, 1e-9, 1e300, 0.1 + 0.2, 7):
        near = math.ceil(number / step) * step if step and math.isfinite(number) else number
        if math.isfinite(near) and least <= near <= most:
            yield near


def _strings(schema: Mapping[str, Any]) -> Iterator[str]:
    if schema.get("contentMediaType") == "application/json":
        yield from (json.dumps(value) for value in edges(schema.get("contentSchema", {})))
        return
    least, most = schema.get("minLength", 0), schema.get("maxLength", math.inf)
    pool = _FORMATS.get(schema.get("format", ""), _TEXTS)
    if least > 1:
        pool = (*pool, "a" * least)
    for text in pool:
        if least <= len(text) <= most and _matches(schema.get("pattern"), text):
            yield text


def _matches(pattern: str | None, text: str) -> bool:
    if pattern is None:
        return True
    try:
        return re.search(pattern, text) is not None
    except re.error:  # written for another engine
        return False


def _arrays(schema: Mapping[str, Any]) -> Iterator[list[Any]]:
    least, most = schema.get("minItems", 0), schema.get("maxItems", math.inf)
    if "prefixItems" in schema:
        columns = [edges(item) for item in schema["prefixItems"]]
        if all(columns):
            plain = [column[0] for column in columns]
            yield plain
            for index, column in enumerate(columns):
                yield from ([*plain[:index], value, *plain[index + 1 :]] for value in column[1:])
        return
    items = edges(schema.get("items", {}))
    size = max(least, 1)
    rows = [list(itertools.islice(itertools.cycle(items), start, start + size)) for start in range(len(items))]
    yield from (row for row in (*rows[:1], [], list(items[:3]), *rows[1:]) if least <= len(row) <= most)


def _objects(schema: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    if "properties" in schema:
        yield from _records(schema)
        return
    values = edges(rest) if isinstance(rest := schema.get("additionalProperties"), Mapping) else _ANYTHING
    keys = edges({"type": "string", **names}) if (names := schema.get("propertyNames")) else _KEYS
    for pattern, part in schema.get("patternProperties", {}).items():
        keys, values = edges({"type": "string", "pattern": pattern}), edges(part)
    least, most = schema.get("minProperties", 0), schema.get("maxProperties", math.inf)
    rows: list[dict[str, Any]] = [{key: value} for key in keys for value in values[:1]]
    rows += [{}, dict(zip(keys, itertools.cycle(values), strict=False)) if values else {}]
    rows += [{key: value} for key in keys[:1] for value in values[1:]]
    yield from (row for row in rows if least <= len(row) <= most)


def _records(schema: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    columns = {name: edges(field) for name, field in schema["properties"].items()}
    required = set(schema.get("required", ()))
    if any(not columns.get(name) for name in required):
        return
    plain = {name: values[0] for name, values in columns.items() if values}
    yield plain
    yield {name: value for name, value in plain.items() if name in required}
    for name, values in columns.items():
        yield from (plain | {name: value} for value in values[1:])
