"""Unions whose members look alike as JSON: a value of one member is read as another one.

Sample values come from JSON, so they never hold the member that nothing can be read as. Here each member is made by
itself, and put into its field.
"""

from __future__ import annotations

import itertools
import json
import types
from collections.abc import Iterator
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, TypeAdapter

from perago.taskdef.schema import inline
from perago.testing.edges import edges
from perago.testing.samples import sample_model
from perago.testing.wire import round_trip_problem

_MOST_VALUES = 3
_MOST_MODELS = 50
_ROWS = (list, set, frozenset, tuple)


def lookalike_problem(model: type[BaseModel], *, by_alias: bool) -> str | None:
    """Which field of the model, or of a model in it, reads a union member as another one; None: no field does."""
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
    """What becomes of the member in the field; None also where the field does not take it as it is."""
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
