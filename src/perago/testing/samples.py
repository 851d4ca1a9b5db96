"""Sample values of a model from its JSON Schema, and the losses of a value on its way through JSON.

The samples are deterministic, and made without hypothesis. A schema can say less than its model. If the model refuses a
value because of constraints, validators or key types that are not in the schema, the value is replaced or dropped.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
import re
import types
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, PydanticUserError, Secret, SecretBytes, SecretStr, TypeAdapter, ValidationError

from perago.taskdef.payload import location_of, problem_lines
from perago.taskdef.schema import (
    FORMATS,
    RecursiveModel,
    find_secret,
    inline,
    integer_range,
    join_pointer,
    schema_problem,
    shape_of,
    types_in,
)

_MOST_SAMPLES = 200
_MOST_REPAIRS = 300


class ValidatorRaised(Exception):
    """A validator of the author raised an exception that pydantic does not treat as a validation error."""


@dataclass(frozen=True, slots=True)
class Sample:
    """A JSON document and the value that the model makes of it."""

    document: Any
    value: BaseModel


@dataclass(frozen=True, slots=True)
class Samples:
    """The samples; none if `problem` says why."""

    samples: tuple[Sample, ...]
    problem: str | None = None


def validated(model: type[BaseModel], document: Any) -> BaseModel:
    """Validate a JSON document.

    Raises:
        ValidationError: it refuses the document.
        ValidatorRaised: a validator failed in another way.
    """
    try:
        return model.model_validate_json(json.dumps(document))
    except ValidationError:
        raise
    except Exception as error:
        problem = f"a validator of {model.__name__} raised {type(error).__name__}, not ValueError"
        raise ValidatorRaised(problem) from error


def plain_schema(model: type[BaseModel]) -> dict[str, Any]:
    """Return the JSON Schema of a model without references.

    Raises:
        RecursiveModel: it contains itself.
        PydanticUserError, ValueError: it has no schema.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of defaults without a JSON form: they are applied all the same
        return inline(model.model_json_schema(mode="validation"))


def sample_model(model: type[BaseModel]) -> Samples:
    """Return samples of a model, the plain one first.

    Raises:
        ValidatorRaised: a validator failed for a value of the right type.
    """
    try:
        schema = plain_schema(model)
    except RecursiveModel as error:
        return Samples((), f"{error.name} contains itself")
    except (PydanticUserError, ValueError) as error:
        return Samples((), f"it has no JSON Schema ({error})")
    fields = {name: edges(field) for name, field in schema.get("properties", {}).items()}
    required = set(schema.get("required", ()))
    missing = [name for name in required if not fields.get(name)]
    if missing:
        return Samples((), f"no value fits the constraints of {', '.join(sorted(missing))}")
    plain = _accepted(model, {name: values for name, values in fields.items() if values}, required)
    if isinstance(plain, str):
        return Samples((), plain)
    return Samples(tuple(itertools.islice(_variations(model, plain, fields, required), _MOST_SAMPLES)))


def _accepted(model: type[BaseModel], fields: Mapping[str, tuple[Any, ...]], required: set[str]) -> Sample | str:
    """Return the first combination that the model accepts. It is found by changing the rejected fields."""
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
    """Try the next value of the blamed fields. Leave out an optional field without a next value. Return False if
    neither is possible."""
    for name in blamed:
        if choice[name] + 1 < len(fields[name]):
            choice[name] += 1
        elif name not in required:
            del choice[name]
        else:
            return False
    return bool(blamed)


def _variations(
    model: type[BaseModel], plain: Sample, fields: Mapping[str, tuple[Any, ...]], required: set[str]
) -> Iterator[Sample]:
    """Yield the plain sample, one without optional fields, and samples that differ from the plain one in one field."""
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
"""The number that is added to an exclusive bound."""
_MOST = 24
"""Maximum number of values of one schema, so that nested schemas do not multiply without limit."""

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


def edges(schema: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return some values that the schema allows, without duplicates; none if this module does not support the
    schema."""
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
        for kind in shape.kinds or ["anything"]:
            yield from _BY_TYPE[kind](shape.schema) if kind in _BY_TYPE else _ANYTHING


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
    pool = FORMATS.get(schema.get("format", ""), _TEXTS)
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
        columns = [edges(position) for position in schema["prefixItems"]]
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


_BY_TYPE: Mapping[str, Callable[[Mapping[str, Any]], Iterable[Any]]] = {
    "integer": _integers,
    "number": _numbers,
    "string": _strings,
    "boolean": lambda _: (True, False),
    "null": lambda _: (None,),
    "array": _arrays,
    "object": _objects,
}


_SHOWN = 80
_MOST_VALUES = 3
_MOST_MODELS = 50
_ROWS = (list, set, frozenset, tuple)


def round_trip_problem(model: type[BaseModel], value: BaseModel, *, by_alias: bool) -> str | None:
    """Return the defect when `value` is written as JSON and read by its model again, or None.

    Params are written by alias, as by a caller who builds the input with the model. Results are written by field name,
    as the runtime does to check a recorded result. Secrets are masked when they are written, so a model with a secret
    cannot be judged.
    """
    if find_secret(model) is not None:
        return None
    try:
        text = TypeAdapter(model).dump_json(value, by_alias=by_alias, round_trip=True, warnings=False)
    except Exception as error:  # noqa: BLE001 - an author's serializer may fail in any way
        return f"it cannot be written as JSON: {str(error).partition(chr(10))[0]}"
    try:
        reread = model.model_validate_json(text, by_alias=by_alias, by_name=not by_alias)
    except ValidationError as error:
        problems = "; ".join(problem_lines(error, json.loads(text), ""))
        return f"the model refuses its own JSON: {problems}{_alias_advice(model) if by_alias else ''}"
    except Exception as error:  # noqa: BLE001 - an author's validator may fail in any way
        return f"a validator raised {type(error).__name__} for the model's own JSON"
    return next(_differences(value, reread, ""), None)


def computed_problem(model: type[BaseModel], value: BaseModel) -> str | None:
    """Return the reason why the model refuses its own computed fields (it forbids extra fields), or None.

    The runtime removes computed fields before it reads a recorded result. But callers who build params with the model,
    and later steps that take the result as their params, do not remove them.
    """
    if find_secret(model) is not None:
        return None
    adapter = TypeAdapter(model)
    try:
        text = adapter.dump_json(value, by_alias=True, warnings=False)
        without = json.loads(adapter.dump_json(value, by_alias=True, round_trip=True, warnings=False))
        model.model_validate_json(text)
    except ValidationError as error:
        document = json.loads(text)
        for details in error.errors(include_url=False):
            location = location_of(details, document)
            if details["type"] == "extra_forbidden" and not _has(without, location):
                pointer = "".join(join_pointer("", str(part)) for part in location)
                return f"{pointer} is a computed field; take extra='ignore' for this model, or make it a plain property"
    except Exception:  # noqa: BLE001 - user code may fail in any way, which other checks tell
        return None
    return None


def random_private(left: Any, right: Any) -> str | None:
    """Return the private attribute that differs in two values of the same JSON, or None."""
    if isinstance(left, BaseModel) and type(left) is type(right):
        mine, other = left.__pydantic_private__ or {}, right.__pydantic_private__ or {}
        for name in mine.keys() & other.keys():
            if not _equal(mine[name], other[name]):
                return name
    parts = _parts(right)
    fields = (random_private(part, parts[key]) for key, part in _parts(left).items() if key in parts)
    return next(filter(None, fields), None)


def _parts(value: Any) -> Mapping[Any, Any]:
    """Yield the parts of a value, by field, key or index. A plain value has none."""
    if isinstance(value, BaseModel):
        return {**value.__dict__, **(value.model_extra or {})}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return getattr(value, "__dict__", {})
    if isinstance(value, dict):
        return value
    return dict(enumerate(value)) if isinstance(value, list | tuple | deque) else {}


def _has(document: Any, location: tuple[str | int, ...]) -> bool:
    for part in location:
        try:
            document = document[part]
        except (LookupError, TypeError):
            return False
    return True


def shared_state(left: BaseModel, right: BaseModel) -> str | None:
    """Return the place at which two values share a mutable object, so that a change of one changes the other, or
    None."""
    mine = {id(mutable) for _, mutable in _mutables(left, "")}
    return next((pointer for pointer, mutable in _mutables(right, "") if id(mutable) in mine), None)


def _alias_advice(model: type[BaseModel]) -> str:
    for name, field in model.model_fields.items():
        read, written = field.validation_alias, field.serialization_alias
        if read is not None and read != written:
            return f" ({name} is written as {written or name!r}, but read as {read!r}; use alias= for both)"
    return ""


def _differences(sent: Any, arrived: Any, pointer: str) -> Iterator[str]:
    where = pointer or "/"
    if isinstance(sent, SecretStr | SecretBytes | Secret):
        return
    mine, other = _parts(sent), _parts(arrived)
    is_record = isinstance(sent, BaseModel) and isinstance(arrived, BaseModel) and isinstance(sent, type(arrived))
    is_container = isinstance(sent, dict | list | tuple) and type(sent) is type(arrived) and mine.keys() == other.keys()
    if is_record or is_container:
        fields = type(arrived).model_fields if is_record else {}
        for key in other:
            if key not in fields or not fields[key].exclude:
                yield from _differences(mine[key], other[key], join_pointer(pointer, str(key)))
    elif not _equal(sent, arrived):
        kinds = type(sent).__name__, type(arrived).__name__
        change = f"leaves as {kinds[0]}, arrives as {kinds[1]}" if kinds[0] != kinds[1] else "arrives changed"
        yield f"{where} {change}: {_shown(sent)} became {_shown(arrived)}"


def _equal(sent: Any, arrived: Any) -> bool:
    if isinstance(sent, float) and isinstance(arrived, float) and math.isnan(sent):
        return math.isnan(arrived)
    defines_equality = any("__eq__" in vars(base) for base in type(sent).__mro__[:-1])
    if type(sent) is type(arrived) and not defines_equality:
        return True
    try:
        return bool(sent == arrived)
    except Exception:  # noqa: BLE001 - arrays and the like compare item by item
        return type(sent) is type(arrived)


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def _mutables(value: Any, pointer: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, list | dict | set | bytearray | deque) or _is_changeable_record(value):
        yield pointer or "/", value
    for key, part in _parts(value).items():
        yield from _mutables(part, join_pointer(pointer, str(key)))


def _is_changeable_record(value: Any) -> bool:
    if isinstance(value, BaseModel):
        return not value.model_config.get("frozen")
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return not value.__dataclass_params__.frozen  # type: ignore[attr-defined]
    return False


# ------------------------------------------------------------ unions whose members have the same JSON


def lookalike_problem(model: type[BaseModel], *, by_alias: bool) -> str | None:
    """Return the field of the model, or of a nested model, that reads a union member as another one, or None.

    Sample values come from JSON, so they never contain a member that cannot be read back. Here each member is created
    separately, and put into its field.
    """
    models = [kind for _, kind in types_in(model) if issubclass(kind, BaseModel)]
    for parent in models[:_MOST_MODELS]:
        samples = sample_model(parent).samples
        if not samples or round_trip_problem(parent, samples[0].value, by_alias=by_alias) is not None:
            continue
        for name, field in parent.model_fields.items():
            if field.exclude:
                continue
            for member in _member_values(field.annotation):
                problem = _problem(parent, samples[0].value, name, member, by_alias=by_alias)
                if problem is not None:
                    return f"{parent.__name__}: {problem}"
    return None


def _problem(parent: type[BaseModel], plain: BaseModel, name: str, member: Any, *, by_alias: bool) -> str | None:
    """Return the member after a round trip through the field; None also if the field does not accept it unchanged."""
    fields = {field: getattr(plain, field) for field in parent.model_fields} | {name: member}
    try:
        value = parent.model_validate(fields, by_alias=False, by_name=True)
    except Exception:  # noqa: BLE001 - a validator of the author refuses it in any way
        return None
    if _kind(getattr(value, name)) is not _kind(member):
        return None
    return round_trip_problem(parent, value, by_alias=by_alias)


def _kind(value: Any) -> type:
    """Return the class of a value, or of the only value in a container."""
    while isinstance(value, (*_ROWS, dict)) and value:
        value = next(iter(value.values() if isinstance(value, dict) else value))
    return type(value)


def _member_values(annotation: Any) -> Iterator[Any]:
    """A few values of each member of the unions in an annotation, in the containers around them."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        yield from _member_values(arguments[0])
    elif origin is Union or origin is types.UnionType:
        for member in arguments:
            yield from _member_values(member)
            yield from _member_samples(member)
    elif origin in _ROWS and arguments:
        for value in _member_values(arguments[0]):
            try:
                yield origin([value])
            except TypeError:  # not hashable
                return
    elif origin is dict and arguments[0] is str:
        yield from ({"key": value} for value in _member_values(arguments[1]))
    elif hasattr(annotation, "__value__"):  # a type alias
        yield from _member_values(annotation.__value__)


def _member_samples(member: Any) -> Iterator[Any]:
    """A few values of one member."""
    if isinstance(member, type) and issubclass(member, BaseModel):
        yield from (sample.value for sample in sample_model(member).samples[:_MOST_VALUES])
        return
    try:
        adapter = TypeAdapter(member)
        documents = edges(inline(adapter.json_schema()))
        yield from (adapter.validate_json(json.dumps(document)) for document in documents[:_MOST_VALUES])
    except Exception:  # noqa: BLE001 - what has no schema, or refuses what its schema allows, is not judged
        return
