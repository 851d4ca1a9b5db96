"""Find what a value loses on its way through JSON: fields that change, union members that look alike, shared state."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
import types
from collections import deque
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, Secret, SecretBytes, SecretStr, TypeAdapter, ValidationError

from perago.taskdef.payload import location_of, problem_lines
from perago.taskdef.schema import find_secret, inline, join_pointer
from perago.testing.samples import edges, sample_model

_SHOWN = 80
_MOST_VALUES = 3
_MOST_MODELS = 50
_ROWS = (list, set, frozenset, tuple)


def round_trip_problem(model: type[BaseModel], value: BaseModel, *, by_alias: bool) -> str | None:
    """Return the defect when `value` is written as JSON and read by its model again, or None.

    Params are written by alias, as a caller does who builds the input with the model; results by field name, as the
    runtime does to see whether a recorded result is still valid. A secret is masked when it is written, so a model
    with one cannot be judged.
    """
    if find_secret(model) is not None:
        return None
    try:
        text = TypeAdapter(model).dump_json(value, by_alias=by_alias, round_trip=True, warnings=False)
    except Exception as error:  # noqa: BLE001 - an author's serializer may fail in any way
        return f"it cannot be written as JSON: {str(error).partition(chr(10))[0]}"
    try:
        again = model.model_validate_json(text, by_alias=by_alias, by_name=not by_alias)
    except ValidationError as error:
        problems = "; ".join(problem_lines(error, json.loads(text), ""))
        return f"the model refuses its own JSON: {problems}{_alias_advice(model) if by_alias else ''}"
    except Exception as error:  # noqa: BLE001 - an author's validator may fail in any way
        return f"a validator raised {type(error).__name__} for the model's own JSON"
    return next(_differences(value, again, ""), None)


def computed_problem(model: type[BaseModel], value: BaseModel) -> str | None:
    """Why the model refuses what it computes itself when it is written: it forbids extra fields; None: it does not.

    The runtime leaves computed fields out before it reads a recorded result, but a caller who builds params with the
    model, and a later step that takes the result as its params, do not.
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
        for item in error.errors(include_url=False):
            location = location_of(item, document)
            if item["type"] == "extra_forbidden" and not _has(without, location):
                pointer = "".join(join_pointer("", str(part)) for part in location)
                return f"{pointer} is a computed field; take extra='ignore' for this model, or make it a plain property"
    except Exception:  # noqa: BLE001 - an author's code may fail in any way, which other checks tell
        return None
    return None


def random_private(left: Any, right: Any) -> str | None:
    """The private attribute that differs in two values of the same JSON; None without one."""
    if isinstance(left, BaseModel) and type(left) is type(right):
        mine, other = left.__pydantic_private__ or {}, right.__pydantic_private__ or {}
        for name in mine.keys() & other.keys():
            if not _equal(mine[name], other[name]):
                return name
    parts = _parts(right)
    found = (random_private(part, parts[key]) for key, part in _parts(left).items() if key in parts)
    return next(filter(None, found), None)


def _parts(value: Any) -> Mapping[Any, Any]:
    """The parts of a value, by field, key or index; nothing for a plain value."""
    if isinstance(value, BaseModel) or (dataclasses.is_dataclass(value) and not isinstance(value, type)):
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
    """The place at which two values hold the same mutable object, so that changing one changes the other; None:
    nowhere."""
    mine = {id(item) for _, item in _mutables(left, "")}
    return next((pointer for pointer, item in _mutables(right, "") if id(item) in mine), None)


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
    if isinstance(sent, BaseModel) and isinstance(arrived, BaseModel) and isinstance(sent, type(arrived)):
        fields = type(arrived).model_fields
        for name in (*(name for name, field in fields.items() if not field.exclude), *(arrived.model_extra or ())):
            yield from _differences(getattr(sent, name), getattr(arrived, name), join_pointer(pointer, name))
    elif isinstance(sent, dict) and isinstance(arrived, dict) and sent.keys() == arrived.keys():
        for key, value in sent.items():
            yield from _differences(value, arrived[key], join_pointer(pointer, str(key)))
    elif isinstance(sent, list | tuple) and type(sent) is type(arrived) and len(sent) == len(arrived):
        for index, (value, other) in enumerate(zip(sent, arrived, strict=True)):
            yield from _differences(value, other, join_pointer(pointer, index))
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


# ----------------------------------------------------------------------- unions whose members look alike


def lookalike_problem(model: type[BaseModel], *, by_alias: bool) -> str | None:
    """The field of the model, or of a model in it, that reads a union member as another one; None: no field does.

    Sample values come from JSON, so they never hold the member that nothing can be read as. Here each member is made
    by itself, and put into its field.
    """
    for parent in itertools.islice(_models(model), _MOST_MODELS):
        samples = sample_model(parent).found
        if not samples or round_trip_problem(parent, samples[0].value, by_alias=by_alias) is not None:
            continue
        for name, field in parent.model_fields.items():
            if field.exclude:
                continue
            for member in _values(field.annotation):
                problem = _problem(parent, samples[0].value, name, member, by_alias=by_alias)
                if problem is not None:
                    return f"{parent.__name__}: {problem}"
    return None


def _problem(parent: type[BaseModel], plain: BaseModel, name: str, member: Any, *, by_alias: bool) -> str | None:
    """The member after a way through the field; None also where the field does not take it as it is."""
    given = {each: getattr(plain, each) for each in parent.model_fields} | {name: member}
    try:
        value = parent.model_validate(given, by_alias=False, by_name=True)
    except Exception:  # noqa: BLE001 - a validator of the author refuses it in any way
        return None
    if _kind(getattr(value, name)) is not _kind(member):
        return None
    return round_trip_problem(parent, value, by_alias=by_alias)


def _kind(value: Any) -> type:
    """The class of a value, or of the one value in a container."""
    while isinstance(value, (*_ROWS, dict)) and value:
        value = next(iter(value.values() if isinstance(value, dict) else value))
    return type(value)


def _values(annotation: Any) -> Iterator[Any]:
    """A few values of each member of the unions in an annotation, in the containers around them."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        yield from _values(arguments[0])
    elif origin is Union or origin is types.UnionType:
        for member in arguments:
            yield from _values(member)
            yield from _made(member)
    elif origin in _ROWS and arguments:
        for value in _values(arguments[0]):
            try:
                yield origin([value])
            except TypeError:  # not hashable
                return
    elif origin is dict and arguments[0] is str:
        yield from ({"key": value} for value in _values(arguments[1]))
    elif hasattr(annotation, "__value__"):  # a type alias
        yield from _values(annotation.__value__)


def _made(member: Any) -> Iterator[Any]:
    """A few values of one member."""
    if isinstance(member, type) and issubclass(member, BaseModel):
        yield from (sample.value for sample in sample_model(member).found[:_MOST_VALUES])
        return
    try:
        adapter = TypeAdapter(member)
        documents = edges(inline(adapter.json_schema()))
        yield from (adapter.validate_json(json.dumps(document)) for document in documents[:_MOST_VALUES])
    except Exception:  # noqa: BLE001 - what has no schema, or refuses what its schema allows, is not judged
        return


def _models(model: type[BaseModel]) -> Iterator[type[BaseModel]]:
    """The model and those in its fields, each once."""
    found: list[Any] = [model]
    for each in found:
        yield each
        parts = [field.annotation for field in each.model_fields.values()]
        while parts:
            part = parts.pop(0)
            parts += get_args(part)
            is_model = isinstance(part, type) and get_origin(part) is None and issubclass(part, BaseModel)
            if is_model and part not in found:
                found.append(part)
