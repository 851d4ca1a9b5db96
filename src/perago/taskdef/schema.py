"""JSON Schemas of the params and results of a task: built, checked, and filled with a first value.

Params are described in validation mode, results in serialization mode. Every `$ref` is inlined, because Conductor and
the people who read its console cannot follow one.

As in the standard, `format` has no effect unless you ask for it.
"""

from __future__ import annotations

import contextlib
import datetime
import functools
import ipaddress
import itertools
import json
import math
import operator
import re
import typing
import uuid
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias

from pydantic import AnyUrl, BaseModel, PydanticUserError, Secret, SecretBytes, SecretStr, TypeAdapter
from pydantic import ValidationError as InvalidText
from pydantic.json_schema import GenerateJsonSchema

from perago.authoring import Task
from perago.authoring.declaration import InvalidDeclaration, Location

if TYPE_CHECKING:
    from jsonschema import ValidationError
    from jsonschema.protocols import Validator

Schema: TypeAlias = Mapping[str, Any]

_TYPES: Mapping[str, type | tuple[type, ...]] = {
    "string": str,
    "boolean": bool,
    "null": type(None),
    "array": list,
    "object": dict,
}
_KINDS = ("boolean", "null", "string", "integer", "number", "array", "object")


def join_pointer(parent: str, key: str | int) -> str:
    """Return the pointer to item `key` of the value at `parent`. `""` is the complete document."""
    return f"{parent}/{str(key).replace('~', '~0').replace('/', '~1')}"


def same_json(old: Any, new: Any) -> bool:
    """Equality of JSON values: 1 is 1.0, but 1 is not true."""
    if isinstance(old, bool) or isinstance(new, bool):
        return old is new
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        return old.keys() == new.keys() and all(same_json(old[key], new[key]) for key in old)
    if isinstance(old, list) and isinstance(new, list):
        return len(old) == len(new) and all(map(same_json, old, new))
    return bool(old == new)


def kind_of(value: Any) -> str:
    """Return the JSON type of a value; `integer` also for 1.0."""
    return next((kind for kind in _KINDS if _is(kind, value)), type(value).__name__)


def _is(kind: str, value: Any) -> bool:
    if kind in ("integer", "number"):
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        return is_number and (kind == "number" or value == value // 1)
    return isinstance(value, _TYPES[kind])


class Shape(NamedTuple):
    """The shape of the values of a schema: one of `values`, a value of one of `options`, or a value of one of
    `kinds`."""

    schema: Schema
    """The schema merged with the first schema of `allOf`."""
    values: tuple[Any, ...] = ()
    options: tuple[Schema, ...] = ()
    kinds: tuple[str, ...] = ()
    """JSON types; empty: any."""


def shape_of(schema: Schema) -> Shape:
    """Return the shape of a schema of the subset that pydantic writes. Generators of values begin with it."""
    if "const" in schema:
        return Shape(schema, values=(schema["const"],))
    if "enum" in schema:
        return Shape(schema, values=tuple(schema["enum"]))
    if options := schema.get("anyOf") or schema.get("oneOf"):
        return Shape(schema, options=tuple(options))
    if schema.get("allOf"):
        return shape_of({**schema["allOf"][0], **{key: value for key, value in schema.items() if key != "allOf"}})
    kinds = schema.get("type", [])
    return Shape(schema, kinds=tuple(kinds) if isinstance(kinds, list) else (kinds,))


def integer_range(schema: Schema) -> tuple[int | None, int | None]:
    """Return the least and the greatest integer within the bounds of a schema; None: there is no bound."""
    least = [math.ceil(schema["minimum"])] if "minimum" in schema else []
    least += [math.floor(schema["exclusiveMinimum"]) + 1] if "exclusiveMinimum" in schema else []
    most = [math.floor(schema["maximum"])] if "maximum" in schema else []
    most += [math.ceil(schema["exclusiveMaximum"]) - 1] if "exclusiveMaximum" in schema else []
    return max(least, default=None), min(most, default=None)


COMMIT_ID_PATTERN = "^[0-9a-f]{64}$"


class _QuietSchema(GenerateJsonSchema):
    """Omits a default without a JSON form, without a warning. The default is applied nevertheless."""

    ignored_warning_kinds = {"skipped-choice", "non-serializable-default"}  # noqa: RUF012 - pydantic's own spelling


def input_schema(task: Task) -> dict[str, Any]:
    """Return the schema of the input that Conductor must send.

    Raises:
        TaskDefinitionError: the parameters model has no JSON Schema, or a recursive one.
    """
    with _refusing(task):
        schema = model_schema(task.params_model, "params", "validation")
    return _envelope(task, "params", schema, GIVEN_REF)


def output_schema(task: Task) -> dict[str, Any]:
    """Return the schema of the result.

    Raises:
        TaskDefinitionError: the result model has no JSON Schema, a recursive one, or a secret in it.
    """
    with _refusing(task):
        schema = result_schema(task.result_model)
    return _envelope(task, "result", schema, _COMMIT)


def result_schema(model: type[BaseModel]) -> dict[str, Any]:
    """Return the JSON Schema of a result.

    Raises:
        InvalidDeclaration: the model has no JSON Schema, a recursive one, or a secret in it.
    """
    schema = model_schema(model, "result", "serialization")
    secret = find_secret(model)
    if secret is not None:
        why = "but results are stored readable in Conductor and in lakeFS"
        raise InvalidDeclaration(
            f"result model {model.__name__} holds a secret in {secret}, {why}",
            "remove the field; return the name under which the secret can be looked up",
        )
    return schema


_COMMIT = {"type": "string", "pattern": COMMIT_ID_PATTERN}
_OUTPUT = {"type": "object", "minProperties": 1}
"""The output of a JOIN: the outputs of its tasks, by reference name (`perago.taskdef.payload`)."""
_REFS = {"type": "array", "items": {"anyOf": [_COMMIT, _OUTPUT, {"type": "null"}]}, "minItems": 1}
GIVEN_REF: dict[str, Any] = {"anyOf": [_COMMIT, _REFS, _OUTPUT]}


def _envelope(task: Task, key: str, schema: dict[str, Any], ref: dict[str, Any]) -> dict[str, Any]:
    properties = {"workspace": workspace_schema(ref), key: schema} if task.workspace is not None else {key: schema}
    return _closed(properties)


def workspace_schema(ref: dict[str, Any]) -> dict[str, Any]:
    """The schema of a workspace whose ref is described by `ref`."""
    commit = {"const": "commit"}
    text = {"type": "string", "minLength": 1}
    schema = _closed({"repository": text, "branch": text, "ref": ref})
    schema["properties"] |= {"ref_type": commit, "refType": commit}
    schema["oneOf"] = [{"required": ["ref_type"]}, {"required": ["refType"]}]
    return schema


def _closed(properties: dict[str, Any]) -> dict[str, Any]:
    required = sorted(properties)
    return {"type": "object", "properties": dict(properties), "required": required, "additionalProperties": False}


def model_schema(model: type[BaseModel], key: str, mode: Literal["validation", "serialization"]) -> dict[str, Any]:
    """Return the JSON Schema of a model, which `key` names in errors.

    Raises:
        InvalidDeclaration: the model has no JSON Schema, or a recursive one.
    """
    label = f"{key} model {model.__name__}"
    try:
        schema = inline(model.model_json_schema(mode=mode, schema_generator=_QuietSchema))
        return dict(json.loads(json.dumps(schema, allow_nan=False, ensure_ascii=False).encode()))
    except RecursiveModel as error:
        raise InvalidDeclaration(
            f"{label}: {error.name} contains itself, so its schema cannot be written without references",
            "replace the recursion by a list of flat items that name their parent",
        ) from None
    except PydanticUserError as error:
        raise InvalidDeclaration(
            f"{label} has no JSON Schema: {error.message}", "use types that have a JSON form, defined by now"
        ) from error
    except Exception as error:  # pydantic and the author's schema hooks fail in many ways
        raise InvalidDeclaration(
            f"{label} has no JSON Schema: {type(error).__name__}: {error}",
            "use defaults and constraints that have a JSON form: finite numbers, text, lists, mappings",
        ) from error


@contextlib.contextmanager
def _refusing(task: Task) -> Iterator[None]:
    try:
        yield
    except InvalidDeclaration as invalid:
        error = Location(task.file, task.line).error(f"task {task.name!r}: {invalid.rule}", invalid.fix)
        raise error from invalid.__cause__


_PREFIX = "#/$defs/"
_SCHEMA_MAPS = {"properties", "patternProperties", "dependentSchemas"}
_DATA = {"default", "const", "enum", "examples"}


class RecursiveModel(Exception):
    """A definition contains itself; `name` is the model."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


def inline(schema: Schema) -> dict[str, Any]:
    """Return the schema without `$ref` and `$defs`.

    Raises:
        RecursiveModel: a definition contains itself.
        ValueError: a `$ref` points outside the schema.
    """
    definitions = schema.get("$defs", {})
    body = {key: value for key, value in schema.items() if key != "$defs"}
    return _schema(body, definitions, ())


def _schema(node: Mapping[str, Any], definitions: Mapping[str, Any], path: tuple[str, ...]) -> dict[str, Any]:
    reference = node.get("$ref")
    target = {} if reference is None else _target(reference, definitions, path)
    own = {key: _keyword(key, value, definitions, path) for key, value in node.items() if key != "$ref"}
    walked = target | own
    if "default" in walked:
        walked["default"] = _ordered(walked["default"], walked)
    return walked


def _target(reference: str, definitions: Mapping[str, Any], path: tuple[str, ...]) -> dict[str, Any]:
    name = reference.removeprefix(_PREFIX)
    if name not in definitions:
        raise ValueError(f"the reference {reference!r} points outside the schema")
    if name in path:
        raise RecursiveModel(name)
    return _schema(definitions[name], definitions, (*path, name))


def _keyword(key: str, value: Any, definitions: Mapping[str, Any], path: tuple[str, ...]) -> Any:
    if key in _DATA:
        return value
    if key == "required":
        return sorted(value)
    if key == "discriminator":  # its mapping is made of references; each branch already tells by its const
        return {name: item for name, item in value.items() if name != "mapping"}
    if key in _SCHEMA_MAPS:
        return {name: _any(item, definitions, path) for name, item in value.items()}
    return _any(value, definitions, path)


def _any(value: Any, definitions: Mapping[str, Any], path: tuple[str, ...]) -> Any:
    if isinstance(value, Mapping):
        return _schema(value, definitions, path)
    if isinstance(value, list):
        return [_any(item, definitions, path) for item in value]
    return value


def _ordered(value: Any, schema: Schema) -> Any:
    """Return a default in which the items of sets have a stable order."""
    for option in (*schema.get("anyOf", ()), *schema.get("oneOf", ())):
        value = _ordered(value, option)
    if isinstance(value, Mapping):
        rest = schema.get("additionalProperties")
        other = rest if isinstance(rest, Mapping) else {}
        return {key: _ordered(item, schema.get("properties", {}).get(key, other)) for key, item in value.items()}
    if isinstance(value, list):
        items = [_ordered(item, schema.get("items", {})) for item in value]
        if schema.get("uniqueItems") is True:
            items.sort(key=lambda item: json.dumps(item, sort_keys=True, default=str))
        return items
    return value


_SECRETS = (SecretStr, SecretBytes, Secret)
_TYPED = ("__dataclass_fields__", "__total__", "_fields")
"""Attributes of dataclasses, typed dicts and named tuples."""


def find_secret(model: type[BaseModel]) -> str | None:
    """Return the place at which the model can contain a `SecretStr`, `SecretBytes` or `Secret[...]`, such as
    `Result.login.token`, or None."""
    return next((path for path, kind in types_in(model, model.__name__) if issubclass(kind, _SECRETS)), None)


def types_in(annotation: Any, path: str = "") -> Iterator[tuple[str, type]]:
    """Yield the type and its component types, without duplicates, each with the path of fields that leads there."""
    pending: list[tuple[str, Any]] = [(path, annotation)]
    visited: dict[int, Any] = {}
    while pending:
        path, annotation = pending.pop(0)
        origin = typing.get_origin(annotation) or annotation
        if id(annotation) in visited:
            continue
        visited[id(annotation)] = annotation
        if isinstance(origin, type):
            yield path, origin
        pending += [(f"{path}.{name}" if name else path, part) for name, part in _parts(annotation)]


def _parts(annotation: Any) -> Iterator[tuple[str, Any]]:
    """Yield the component types of a type, each with the field name if there is one."""
    if hasattr(annotation, "__value__"):  # a type alias
        yield "", annotation.__value__
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield from ((name, field.annotation) for name, field in annotation.model_fields.items())
        yield from ((name, field.return_type) for name, field in annotation.model_computed_fields.items())
    elif isinstance(annotation, type) and any(hasattr(annotation, name) for name in _TYPED):
        with contextlib.suppress(NameError):  # names of a function's locals, which pydantic found and we cannot
            yield from typing.get_type_hints(annotation).items()
    for argument in typing.get_args(annotation):
        yield "", argument


def schema_problem(schema: Schema, document: Any, pointer: str = "") -> str | None:
    """Return the first violation of the schema, as a JSON pointer and a reason; None if the schema accepts the
    document."""
    return next(schema_problems(schema, document, pointer), None)


def schema_problems(schema: Schema, document: Any, pointer: str = "", *, formats: bool = False) -> Iterator[str]:
    """Yield all violations of the schema, each with its JSON pointer in front. The reasons quote the schema, and never
    the document, which can have secrets. With `formats`, check texts such as dates, too."""
    errors = sorted(_validator(formats)(schema).iter_errors(document), key=_place)
    yield from dict.fromkeys(problem for error in errors for problem in _violations(error, pointer))


_FORMAT_TYPES: Mapping[str, Any] = {
    "date": datetime.date,
    "date-time": datetime.datetime,
    "time": datetime.time,
    "duration": datetime.timedelta,
    "uuid": uuid.UUID,
    "uri": AnyUrl,
    "ipv4": ipaddress.IPv4Address,
    "ipv6": ipaddress.IPv6Address,
}
"""The type of a text of each format, because JSON Schema does not check it."""


@functools.cache
def _validator(formats: bool) -> type[Validator]:
    from jsonschema import Draft202012Validator, ValidationError  # slow to import, and few attempts need it
    from jsonschema.validators import extend

    def multiple_of(_: Validator, step: float, number: Any, __: Schema) -> Iterator[ValidationError]:
        """Allow for the rounding of fractions, as pydantic does."""
        if _is("number", number) and not math.isclose(number / step, round(number / step), rel_tol=1e-9, abs_tol=1e-9):
            yield ValidationError("")

    def format_of(_: Validator, name: str, text: Any, __: Schema) -> Iterator[ValidationError]:
        if isinstance(text, str) and name in _FORMAT_TYPES:
            try:
                TypeAdapter(_FORMAT_TYPES[name]).validate_python(text)
            except InvalidText as error:
                yield ValidationError(error.errors()[0]["msg"])

    keywords = {"multipleOf": multiple_of, **({"format": format_of} if formats else {})}
    extended: type[Validator] = extend(Draft202012Validator, keywords)  # type: ignore[no-untyped-call]
    return extended


_BOUNDS = {
    "minimum": (operator.ge, "is less than"),
    "maximum": (operator.le, "is more than"),
    "exclusiveMinimum": (operator.gt, "is not more than"),
    "exclusiveMaximum": (operator.lt, "is not less than"),
}
"""The comparison that each bound asks for, and its violation."""


def _place(error: ValidationError) -> str:
    return error.json_path


def _violations(error: Any, pointer: str) -> list[str]:
    """Return the violations of one keyword, which is an error of jsonschema."""
    keyword, rule, schema, document = error.validator, error.validator_value, error.schema, error.instance
    where = functools.reduce(join_pointer, error.absolute_path, pointer)
    path = ["", "", *error.absolute_schema_path]
    if path[-2] == "propertyNames" and path[-3] != "properties":  # the document is a key of the object
        where = join_pointer(where, document)
    match keyword:
        case "required":
            return [f"{join_pointer(where, name)}: is missing" for name in rule if name not in document]
        case "additionalProperties":
            known, patterns = schema.get("properties", {}), schema.get("patternProperties", {})
            extra = (name for name in document if name not in known and not any(re.search(p, name) for p in patterns))
            return [f"{join_pointer(where, name)}: is unknown" for name in extra]
        case "const":
            reason = f"must be {rule!r}"
        case "enum":
            reason = f"is not one of {', '.join(map(repr, rule))}"
        case "type":
            reason = f"must be {rule if isinstance(rule, str) else ' or '.join(rule)}, but is {kind_of(document)}"
        case "anyOf" | "oneOf" if error.context:
            by_option = itertools.groupby(error.context, key=lambda inner: inner.schema_path[0])
            reasons = [_violations(min(errors, key=_place), pointer)[0] for _, errors in by_option]
            reason = f"fits none of the alternatives ({'; '.join(reasons)})"
        case "oneOf":
            accepted = sum(schema_problem(option, document) is None for option in rule)
            reason = f"fits {accepted} alternatives, but must fit exactly one"
        case "minimum" | "maximum" | "exclusiveMinimum" | "exclusiveMaximum":
            reason = f"{_BOUNDS[keyword][1]} {rule}"
        case "format":
            reason = error.message
        case "multipleOf":
            reason = f"is not a multiple of {rule}"
        case "pattern":
            reason = f"does not match {rule}"
        case "uniqueItems":
            reason = "has an item twice"
        case _ if keyword[:3] in ("min", "max"):
            counted = keyword[3:]
            least, most = schema.get(f"min{counted}", 0), schema.get(f"max{counted}", math.inf)
            reason = f"has {len(document)} {counted.lower()}, allowed are {least} to {most}"
        case _:
            reason = f"breaks the rule {keyword!r}"
    return [f"{where or '/'}: {reason}"]


FORMATS: Mapping[str, tuple[str, ...]] = {
    "date-time": (
        "2024-02-29T23:59:59Z",  # a model that loses the time of day changes it
        "2024-02-29T23:59:59",
        "2024-02-29T23:59:59.123456+05:30",
        "2999-12-31T23:59:59Z",
        "1999-12-31T23:59:59Z",
    ),
    "date": ("2026-01-31", "2024-02-29", "2999-12-31", "1999-12-31"),
    "time": ("23:59:59Z", "23:59:59", "23:59:59.123456", "00:00:00Z"),
    "duration": ("P1DT2H3M4S", "PT1H", "PT0.5S", "P0D", "-P1D"),
    "uuid": ("00000000-0000-4000-8000-000000000000",),
    "uuid4": ("00000000-0000-4000-8000-000000000000",),
    "uri": ("https://example.com/", "https://example.com/a?b=c", "ftp://example.com/", "file:///tmp/a"),
    "email": ("name@example.com",),
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
"""Texts of each format that pydantic's types have, the plainest first."""


def skeleton_of(schema: Schema) -> Any:
    """Return a first value for `schema`: its default or first choice, else the smallest value of its type.

    An object gets only its required properties. References are inlined already. People fill in patterns, and formats
    that are not in `FORMATS`.
    """
    shape = shape_of(schema)
    if "default" in schema and "const" not in schema:
        return schema["default"]
    if schema.get("examples") and "const" not in schema:
        return schema["examples"][0]
    if shape.values:
        return shape.values[0]
    if shape.options:
        return skeleton_of(shape.options[0])
    schema = shape.schema
    kind = shape.kinds[0] if shape.kinds else "object" if "properties" in schema else "null"
    if kind == "object":
        properties = schema.get("properties", {})
        return {name: skeleton_of(properties.get(name, {})) for name in schema.get("required", ())}
    if kind == "array":
        items = schema.get("prefixItems") or [schema.get("items", {})] * schema.get("minItems", 0)
        return [skeleton_of(item) for item in items]
    if kind == "string":
        return next(iter(FORMATS.get(schema.get("format", ""), ())), "x" * schema.get("minLength", 0))
    if kind in ("integer", "number"):
        return _sample_number(schema, is_integer=kind == "integer")
    return False if kind == "boolean" else None


def _sample_number(schema: Schema, *, is_integer: bool) -> Any:
    """Return 0, or the nearest number to it that is within all bounds."""
    low = schema.get("exclusiveMinimum", schema.get("minimum"))
    high = schema.get("exclusiveMaximum", schema.get("maximum"))
    step = schema.get("multipleOf", 1 if is_integer else None)
    candidates = [0]
    if low is not None and high is not None and step is None:
        candidates += [low, high, (low + high) / 2]
    for bound in (low, high):
        if bound is not None:
            nearest = bound if step is None else round(bound / step) * step
            candidates += [nearest, nearest + (step or 1), nearest - (step or 1)]
    bounds = [(is_within, schema[keyword]) for keyword, (is_within, _) in _BOUNDS.items() if keyword in schema]
    allowed = (number for number in candidates if all(is_within(number, bound) for is_within, bound in bounds))
    return min(allowed, key=abs, default=0)
