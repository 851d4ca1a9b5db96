"""What a task function returned, made JSON (docs/design/contract.md 4).

A result must survive the wire: it is written by the declared model and must be readable by it again, field by field.
Computed fields and aliases of every kind can do that; a serializer whose output its own model refuses cannot.
"""

from __future__ import annotations

import functools
import json
import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic_core import PydanticSerializationError

from perago.authoring import Task
from perago.taskdef.problems import TOO_DEEP, join_pointer, location_of, problem_lines

_ERROR_KIND = re.compile(r"Error calling function `\w+`|(?<=: )[A-Z]\w*(?:Error|Exception)(?=:)")


class InvalidResult(Exception):
    """The result cannot be reported; the message says why, without values."""


def dump_result(task: Task, value: object, max_bytes: int) -> Any:
    """The returned value as JSON, written by the declared model even if an instance of a subclass came.

    Raises:
        InvalidResult: not an instance of the model, not valid, not JSON, or longer than `max_bytes` of UTF-8.
    """
    model = task.result_model
    if not isinstance(value, model):
        raise InvalidResult(f"the function returned {_kind_of(value)}, but declares {model.__name__} as its result")
    document = _write(model, value)
    _refuse_non_finite(model, value)
    restored = _read_back(model, value)
    if not _holds_declared_types(model, value):  # fields assigned later: send what the model makes of them
        document = _write(model, restored)
    size = len(json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode())
    if size > max_bytes:
        advice = "write it to a file in the workspace and return the path"
        if task.workspace is None:
            advice = "store it elsewhere and return where, or give the task a workspace"
        raise InvalidResult(
            f"the result is {size:,} bytes of JSON, more than {max_bytes:,} (PERAGO_MAX_RESULT_BYTES); {advice}"
        )
    return document


def check_recorded_result(task: Task, recorded: Any) -> None:
    """Check that a result which an earlier attempt recorded is valid today (docs/design/contract.md 8, adopt).

    Raises:
        InvalidResult: the model or the record has changed.
    """
    model = task.result_model
    try:
        model.model_validate_json(json.dumps(recorded))
    except ValidationError as error:
        if not _only_lacks_computed_fields(model, recorded, error):
            raise InvalidResult(_mismatch(model, problem_lines(error, recorded, ""))) from None


def _write(model: type[BaseModel], value: BaseModel) -> Any:
    try:
        return json.loads(_adapter(model).dump_json(value, by_alias=True, warnings=False))
    except Exception as error:  # a serializer or a computed field of the author may fail in any way
        raise InvalidResult(_not_text(model, value, error) or _unwritable(error)) from error


@functools.cache
def _adapter(model: type[BaseModel]) -> TypeAdapter[BaseModel]:
    return TypeAdapter(model)


def _read_back(model: type[BaseModel], value: BaseModel) -> BaseModel:
    """The value after a trip through JSON under its field names."""
    try:
        text = _adapter(model).dump_json(value, by_alias=False, round_trip=True, warnings=False)
    except Exception as error:
        raise InvalidResult(_unwritable(error)) from error
    try:
        return model.model_validate_json(text, by_alias=False, by_name=True)
    except ValidationError as error:
        raise InvalidResult(_mismatch(model, problem_lines(error, json.loads(text), ""))) from None
    except Exception as error:
        raise InvalidResult(f"a validator of {model.__name__} raised {type(error).__name__} for the result") from error


def _holds_declared_types(model: type[BaseModel], value: BaseModel) -> bool:
    try:
        _adapter(model).dump_python(value, mode="json", warnings="error")
    except PydanticSerializationError:
        return False
    return True


def _only_lacks_computed_fields(model: type[BaseModel], recorded: Any, error: ValidationError) -> bool:
    """Whether the only complaint is about keys that the model itself computes when it is written."""
    details = error.errors(include_url=False)
    if any(item["type"] != "extra_forbidden" for item in details):
        return False
    locations = [location_of(item, recorded) for item in details]
    stripped = json.loads(json.dumps(recorded))
    for location in locations:
        del _item(stripped, location[:-1])[location[-1]]
    try:
        written = _write(model, model.model_validate_json(json.dumps(stripped)))
        return all(location[-1] in _item(written, location[:-1]) for location in locations)
    except (ValidationError, InvalidResult, LookupError):
        return False


def _item(document: Any, location: tuple[str | int, ...]) -> Any:
    for key in location:
        document = document[key]
    return document


def _refuse_non_finite(model: type[BaseModel], value: BaseModel) -> None:
    """NaN and infinities are looked for in the Python values: pydantic may write them as null."""
    if model.model_config.get("ser_json_inf_nan") == "strings":  # the author has chosen a form that JSON can carry
        return
    values = _adapter(model).dump_python(value, by_alias=True, warnings=False)
    for pointer, item in _leaves(values, ""):
        if isinstance(item, float) and not math.isfinite(item):
            raise InvalidResult(f"the result has NaN or an infinity at {pointer}, which JSON cannot carry")


def _leaves(value: Any, pointer: str) -> Iterator[tuple[str, Any]]:
    """Numbers, texts and bytes, and where they stand."""
    if isinstance(value, float | str | bytes):
        yield pointer, value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _leaves(item, join_pointer(pointer, str(key)))
    elif isinstance(value, list | tuple | set | frozenset):
        for index, item in enumerate(value):
            yield from _leaves(item, join_pointer(pointer, index))


def _not_text(model: type[BaseModel], value: BaseModel, error: Exception) -> str | None:
    """Where the bytes or the text are that have no UTF-8 form; None: that is not the error."""
    if "utf-8" not in str(error):
        return None
    try:
        values = _adapter(model).dump_python(value, by_alias=True, warnings=False)
    except Exception:  # noqa: BLE001 - then the error itself has to do
        return None
    for pointer, item in _leaves(values, ""):
        try:
            item.decode() if isinstance(item, bytes) else str(item).encode()
        except UnicodeError:
            what = "bytes that are not UTF-8 text" if isinstance(item, bytes) else "text with half a surrogate pair"
            advice = "; use pydantic.Base64Bytes, or encode them" if isinstance(item, bytes) else ""
            return f"the result cannot be written as JSON: {what} at {pointer}{advice}"
    return None


def _kind_of(value: object) -> str:
    if value is None:
        return "nothing (None)"
    if isinstance(value, type):
        return f"the class {value.__name__} instead of an instance"
    return f"an object of type {type(value).__name__}"


def _mismatch(model: type[BaseModel], problems: tuple[str, ...]) -> str:
    return f"the result is not a valid {model.__name__}: {'; '.join(problems)}"


def _unwritable(error: Exception) -> str:
    """Why writing failed: the kinds of error and no more, the text of the author's own code may quote values."""
    text = str(error).partition("\n")[0]
    if text.endswith("Maximum serialization depth exceeded"):
        return f"the result {TOO_DEEP}"
    if not text.startswith("Unable to serialize unknown type"):
        text = ": ".join(dict.fromkeys(_ERROR_KIND.findall(text))) or type(error).__name__
    return f"the result cannot be written as JSON: {text}"
