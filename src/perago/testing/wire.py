"""What a value loses on its way through JSON, and what two values share that they should not."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel, Secret, SecretBytes, SecretStr, TypeAdapter, ValidationError

from perago.taskdef.problems import join_pointer, location_of, problem_lines
from perago.taskdef.schema import find_secret

_SHOWN = 80


def round_trip_problem(model: type[BaseModel], value: BaseModel, *, by_alias: bool) -> str | None:
    """What goes wrong when `value` is written as JSON and read by its model again; None if nothing does.

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
    """The private attribute that differs in two values of the same JSON; None: there is none."""
    if isinstance(left, BaseModel) and type(left) is type(right):
        mine, other = left.__pydantic_private__ or {}, right.__pydantic_private__ or {}
        for name in mine.keys() & other.keys():
            if not _equal(mine[name], other[name]):
                return name
    return next(filter(None, itertools.starmap(random_private, _pairs(left, right))), None)


def _pairs(left: Any, right: Any) -> Iterator[tuple[Any, Any]]:
    """The parts of two values that belong together."""
    if isinstance(left, BaseModel) and isinstance(right, BaseModel):
        yield from ((getattr(left, name), getattr(right, name)) for name in type(left).model_fields)
    elif isinstance(left, dict) and isinstance(right, dict):
        yield from ((value, right[key]) for key, value in left.items() if key in right)
    elif isinstance(left, list | tuple) and isinstance(right, list | tuple):
        yield from zip(left, right, strict=False)


def _has(document: Any, location: tuple[str | int, ...]) -> bool:
    for part in location:
        try:
            document = document[part]
        except (LookupError, TypeError):
            return False
    return True


def shared_state(left: BaseModel, right: BaseModel) -> str | None:
    """Where two values hold the same mutable object, so that changing one changes the other; None: nowhere."""
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
    if type(sent) is type(arrived) and "__eq__" not in _defined_by(type(sent)):  # nothing says what equal would mean
        return True
    try:
        return bool(sent == arrived)
    except Exception:  # noqa: BLE001 - arrays and the like compare item by item
        return type(sent) is type(arrived)


def _defined_by(kind: type) -> set[str]:
    return {name for base in kind.__mro__[:-1] for name in vars(base)}


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def _mutables(value: Any, pointer: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, list | dict | set | bytearray | deque) or _is_changeable_record(value):
        yield pointer or "/", value
    if isinstance(value, BaseModel) or (dataclasses.is_dataclass(value) and not isinstance(value, type)):
        parts: Mapping[Any, Any] = getattr(value, "__dict__", {})
    elif isinstance(value, dict):
        parts = value
    elif isinstance(value, list | tuple | deque):
        parts = dict(enumerate(value))
    else:
        return
    for key, part in parts.items():
        yield from _mutables(part, join_pointer(pointer, str(key)))


def _is_changeable_record(value: Any) -> bool:
    if isinstance(value, BaseModel):
        return not value.model_config.get("frozen")
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return not value.__dataclass_params__.frozen  # type: ignore[attr-defined]
    return False
