"""Sample values reach the edges of every type, and the small schema check agrees with a full one."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest

from perago.taskdef.schema import inline, schema_problem
from perago.testing.samples import edges, sample_model

from . import models as m

SCHEMAS = {
    "everything": inline(m.Everything.model_json_schema()),
    "results of everything": inline(m.Everything.model_json_schema(mode="serialization")),
    "strict": inline(m.Strict.model_json_schema()),
    "enum": {"enum": [1, "a", None]},
    "const": {"const": True},
    "types": {"type": ["string", "null"], "minLength": 2, "maxLength": 3},
    "open": {"type": "object", "patternProperties": {"^a": {"type": "integer"}}, "additionalProperties": False},
    "names": {"type": "object", "propertyNames": {"pattern": "^[a-z]+$"}, "minProperties": 1, "maxProperties": 2},
    "exactly one": {"oneOf": [{"type": "integer"}, {"type": "number", "minimum": 1}]},
    "unique": {"type": "array", "uniqueItems": True, "items": {"type": ["integer", "boolean"]}},
    "steps": {"type": "number", "multipleOf": 0.25, "exclusiveMaximum": 1},
}
VALUES: tuple[Any, ...] = (
    *(
        None,
        True,
        0,
        1,
        1.0,
        0.3,
        -7,
        "",
        "ab",
        "abcd",
        [],
        [1, 1],
        [1, True],
        [{}],
        {},
        {"a": 1},
        {"a": "1"},
        {"B": 1},
    ),
    {"a": 1, "b": 2, "c": 3},
)


def mutants(document: Any) -> Iterator[Any]:
    """The document with one part replaced, removed or added."""
    if isinstance(document, dict):
        for key in document:
            rest = {name: value for name, value in document.items() if name != key}
            yield rest
            replacements: tuple[Any, ...] = (None, "x", 0.5, {}, [1])
            for value in replacements:
                yield {**rest, key: value}
            for part in mutants(document[key]):
                yield {**document, key: part}
        yield {**document, "unknown": 1}
    if isinstance(document, list):
        yield [*document, "x"]
        for index, item in enumerate(document):
            yield from ([*document[:index], part, *document[index + 1 :]] for part in mutants(item))


@pytest.mark.parametrize("schema", SCHEMAS.values(), ids=SCHEMAS)
def test_the_schema_check_agrees_with_jsonschema(schema: dict[str, Any]) -> None:
    validator = jsonschema.Draft202012Validator(schema)
    documents = [*VALUES, *edges(schema)]
    documents += [mutant for document in edges(schema)[:2] for mutant in mutants(document)]
    disagreements = [
        (document, schema_problem(schema, document))
        for document in documents
        if validator.is_valid(document) != (schema_problem(schema, document) is None)
    ]
    assert disagreements == []


@pytest.mark.parametrize("schema", SCHEMAS.values(), ids=SCHEMAS)
def test_edges_obey_their_schema(schema: dict[str, Any]) -> None:
    assert edges(schema)
    assert [value for value in edges(schema) if schema_problem(schema, value) is not None] == []


def test_samples_vary_every_field_and_are_the_same_every_time() -> None:
    first, again = sample_model(m.Everything), sample_model(m.Everything)
    assert [sample.document for sample in first.found] == [sample.document for sample in again.found]
    for name in first.found[0].document:
        if name not in ("code", "pair"):  # one value fits the pattern; the pair is varied below
            seen = {repr(sample.document.get(name)) for sample in first.found}
            assert len(seen) > 1, name
    kinds = {sample.document["pet"]["kind"] for sample in first.found}
    assert kinds == {"cat", "dog"}


def test_samples_reach_zones_and_numbers_beyond_a_double() -> None:
    documents = [sample.document for sample in sample_model(m.Everything).found]
    assert {document["naive"][-1] for document in documents} > {"Z", "9"}
    assert 2**53 + 1 in {document["pet"].get("lives") for document in documents}
    assert copy.deepcopy(documents) == documents
