"""Params of tasks, as a workflow would send them and as the task gets them."""

from __future__ import annotations

import math
import unittest
import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from hypothesis import strategies as st
from pydantic import BaseModel, PydanticUserError, ValidationError

from perago.authoring import Example, Task
from perago.taskdef.schema import RecursiveModel, inline
from perago.testing.samples import edges, sample_model, validated
from perago.testing.tasks import TaskFunction, provided_params, task_of

_TRIES = 5
_ANY_TEXT = st.characters(exclude_categories=["Cs"])
_Documents = st.SearchStrategy[Any]


class NoParams(unittest.SkipTest):
    """No params of a task can be made. A test that meets this is skipped; the message says how to provide some."""


def params(
    function: TaskFunction | Task, provided: Iterable[Mapping[str, Any] | Example] = ()
) -> st.SearchStrategy[BaseModel]:
    """Valid params of a task: from the schema of its model, and from what examples, `provide_params` and `provided`
    give. What the model refuses is drawn again, a few times; then one that is known to be valid takes its place.

    Raises:
        TypeError: it is no task function.
        NoParams: when an example is drawn, and nothing valid is known.
    """
    task = task_of(function)
    model = task.params_model
    generated = sample_model(model)
    known = [*_own_documents(task, provided), *(sample.document for sample in generated.found)]
    options = _from_schema(model)
    if known:
        options = [st.sampled_from(known), *options]
    return _valid(task.name, model, known, st.one_of(options), generated.problem or "its model refuses every value")


@st.composite
def _valid(
    draw: st.DrawFn, name: str, model: type[BaseModel], known: Sequence[Any], documents: _Documents, problem: str
) -> BaseModel:
    if not known:
        raise NoParams(
            f"no params of {name} can be made: {problem}; give some by the hook pytest_perago_params, by "
            f"perago.testing.provide_params({name!r}, ...) or by an Example of the task"
        )
    for _ in range(_TRIES):
        try:
            return validated(model, draw(documents))
        except ValidationError:
            continue
    return validated(model, draw(st.sampled_from(known)))


def _own_documents(task: Task, provided: Iterable[Mapping[str, Any] | Example]) -> Iterable[Any]:
    for example in task.examples:
        if example.expect != "terminal":  # such params may be wrong on purpose
            yield example.params
    for item in (*provided_params(task.name), *provided):
        yield item.params if isinstance(item, Example) else item


def _from_schema(model: type[BaseModel]) -> list[_Documents]:
    """Documents that the model's schema allows; none if it has no schema without references."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of defaults without a JSON form: they are applied all the same
            return [documents(inline(model.model_json_schema(mode="validation")))]
    except (RecursiveModel, PydanticUserError, ValueError):
        return []


def documents(schema: Mapping[str, Any]) -> _Documents:
    """JSON documents that a schema allows, as far as pydantic writes it."""
    if "const" in schema:
        return st.just(schema["const"])
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    options = schema.get("anyOf") or schema.get("oneOf")
    if options:
        return st.one_of([documents(option) for option in options])
    if schema.get("allOf"):
        return documents({**schema["allOf"][0], **{key: value for key, value in schema.items() if key != "allOf"}})
    kinds = schema.get("type", "anything")
    return st.one_of([_of_type(kind, schema) for kind in (kinds if isinstance(kinds, list) else [kinds])])


def _of_type(kind: str, schema: Mapping[str, Any]) -> _Documents:
    match kind:
        case "integer":
            return _integers(schema)
        case "number":
            return _numbers(schema)
        case "string":
            return _strings(schema)
        case "boolean":
            return st.booleans()
        case "null":
            return st.none()
        case "array":
            return _arrays(schema)
        case "object":
            return _objects(schema)
    return _known(schema)


def _known(schema: Mapping[str, Any]) -> _Documents:
    """The few values near the edges, where hypothesis has nothing better."""
    values = edges(schema)
    return st.sampled_from(values) if values else st.nothing()


def _integers(schema: Mapping[str, Any]) -> _Documents:
    least, most = schema.get("minimum"), schema.get("maximum")
    if "exclusiveMinimum" in schema:
        least = math.floor(schema["exclusiveMinimum"]) + 1
    if "exclusiveMaximum" in schema:
        most = math.ceil(schema["exclusiveMaximum"]) - 1
    step = schema.get("multipleOf", 1)
    if step != int(step):
        return _known(schema)
    low = None if least is None else math.ceil(least / step)
    high = None if most is None else math.floor(most / step)
    if low is not None and high is not None and low > high:
        return st.nothing()
    return st.integers(low, high).map(lambda number: int(number * step))


def _numbers(schema: Mapping[str, Any]) -> _Documents:
    if "multipleOf" in schema:
        return _known(schema)
    least = schema.get("exclusiveMinimum", schema.get("minimum"))
    most = schema.get("exclusiveMaximum", schema.get("maximum"))
    return st.floats(
        None if least is None else float(least),
        None if most is None else float(most),
        exclude_min="exclusiveMinimum" in schema,
        exclude_max="exclusiveMaximum" in schema,
        allow_nan=False,
        allow_infinity=False,
    )


def _strings(schema: Mapping[str, Any]) -> _Documents:
    if schema.keys() & {"format", "pattern", "contentMediaType"}:
        return _known(schema)
    return st.text(_ANY_TEXT, min_size=schema.get("minLength", 0), max_size=schema.get("maxLength"))


def _arrays(schema: Mapping[str, Any]) -> _Documents:
    if "prefixItems" in schema:
        return st.tuples(*[documents(item) for item in schema["prefixItems"]]).map(list)
    items = documents(schema.get("items", {}))
    least, most = schema.get("minItems", 0), schema.get("maxItems")
    if schema.get("uniqueItems"):
        return st.lists(items, min_size=least, max_size=most, unique_by=repr)
    return st.lists(items, min_size=least, max_size=most)


def _objects(schema: Mapping[str, Any]) -> _Documents:
    if "properties" in schema:
        fields = {name: documents(field) for name, field in schema["properties"].items()}
        required = set(schema.get("required", ()))
        return st.fixed_dictionaries(
            {name: field for name, field in fields.items() if name in required},
            optional={name: field for name, field in fields.items() if name not in required},
        )
    return _known(schema)
