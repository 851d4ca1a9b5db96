"""A change that breaks nobody on one side keeps all values of that side valid: shown on generated schemas and values,
with jsonschema as the judge."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from perago.taskdef.compatibility import Impact, classify
from perago.taskdef.schema import same_json

WORDS = ["a", "b", "aa", "ab", "cat", ""]
NUMBERS = [-1, 0, 1, 2, 3, 4, 1.5, 2.0, 6, 7.5]
NAMES = ["a", "b", "c"]
Random = random.Random


def schema_of(rng: Random, depth: int = 2) -> Any:
    simple: list[Callable[[Random], Any]] = [_number, _text, _choice, _bare]
    nested: list[Callable[[Random, int], Any]] = [_object, _array, _tuple, _union, _mapping]
    if depth == 0 or rng.random() < 0.4:
        return rng.choice(simple)(rng)
    return rng.choice(nested)(rng, depth - 1)


def _number(rng: Random) -> Any:
    schema: dict[str, Any] = {"type": rng.choice(["integer", "number"])}
    for keyword in ("minimum", "exclusiveMinimum", "maximum", "exclusiveMaximum"):
        if rng.random() < 0.3:
            schema[keyword] = rng.choice(NUMBERS)
    return schema | ({"multipleOf": rng.choice([1, 2, 0.5, 3])} if rng.random() < 0.3 else {})


def _text(rng: Random) -> Any:
    schema: dict[str, Any] = {"type": "string"}
    if rng.random() < 0.4:
        schema["minLength"] = rng.randrange(3)
    if rng.random() < 0.4:
        schema["maxLength"] = rng.randrange(4)
    return schema | ({"pattern": rng.choice(["^a", "b$", "a"])} if rng.random() < 0.3 else {})


def _choice(rng: Random) -> Any:
    pool = [*WORDS, *NUMBERS, None, True]
    return {"const": rng.choice(pool)} if rng.random() < 0.3 else {"enum": rng.sample(pool, rng.randrange(1, 5))}


def _bare(rng: Random) -> Any:
    kinds = ["null", "boolean", "string", "integer", "number", "object", "array"]
    return rng.choice([{}, True, False, {"type": rng.choice(kinds)}, {"type": rng.sample(kinds, 2)}])


def _object(rng: Random, depth: int) -> Any:
    names = rng.sample(NAMES, rng.randrange(3))
    schema: dict[str, Any] = {"type": "object", "properties": {name: schema_of(rng, depth) for name in names}}
    schema["required"] = [name for name in names if rng.random() < 0.5]
    rest = rng.choice([None, None, False, True, schema_of(rng, 0)])
    schema |= {} if rest is None else {"additionalProperties": rest}
    return schema | ({"maxProperties": rng.randrange(1, 4)} if rng.random() < 0.2 else {})


def _mapping(rng: Random, depth: int) -> Any:
    schema = {"type": "object", "additionalProperties": schema_of(rng, depth)}
    return schema | ({"propertyNames": {"enum": rng.sample(NAMES, 2)}} if rng.random() < 0.5 else {})


def _array(rng: Random, depth: int) -> Any:
    schema: dict[str, Any] = {"type": "array"}
    schema |= {"items": schema_of(rng, depth)} if rng.random() < 0.8 else {}
    for keyword in ("minItems", "maxItems"):
        if rng.random() < 0.3:
            schema[keyword] = rng.randrange(3)
    return schema | ({"uniqueItems": True} if rng.random() < 0.3 else {})


def _tuple(rng: Random, depth: int) -> Any:
    items = [schema_of(rng, depth) for _ in range(rng.randrange(1, 3))]
    schema: dict[str, Any] = {"type": "array", "prefixItems": items}
    if rng.random() < 0.7:
        schema |= {"minItems": len(items), "maxItems": len(items)}
    return schema | ({"items": schema_of(rng, 0)} if rng.random() < 0.3 else {})


def _union(rng: Random, depth: int) -> Any:
    schema = {rng.choice(["anyOf", "anyOf", "oneOf"]): [schema_of(rng, depth) for _ in range(rng.randrange(1, 4))]}
    return schema | ({"minimum": 1} if rng.random() < 0.1 else {})


def mutated(rng: Random, schema: Any, depth: int = 2) -> Any:
    """The schema with a change somewhere, so that both have something in common."""
    if not isinstance(schema, dict) or not schema or rng.random() < 0.15:
        return schema_of(rng, depth)
    key = rng.choice(sorted(schema))
    value = schema[key]
    if rng.random() < 0.2:
        return {other: item for other, item in schema.items() if other != key}
    if key in ("anyOf", "oneOf", "prefixItems"):
        return schema | {key: _mutated_list(rng, value, depth)}
    if key == "properties":
        return schema | {
            key: {name: mutated(rng, item) if rng.random() < 0.5 else item for name, item in value.items()}
        }
    if key in ("items", "additionalProperties", "propertyNames"):
        return schema | {key: mutated(rng, value, 0)}
    other = schema_of(rng, depth)
    return schema | other if isinstance(other, dict) and rng.random() < 0.3 else schema | {key: _near(rng, value)}


def _mutated_list(rng: Random, items: list[Any], depth: int) -> list[Any]:
    items = [mutated(rng, item, depth - 1) if rng.random() < 0.3 else item for item in items]
    rng.shuffle(items)
    return [*items, schema_of(rng, 0)] if rng.random() < 0.3 else items


def _near(rng: Random, value: Any) -> Any:
    if isinstance(value, list) and value:
        return value[:-1] or value
    if isinstance(value, int) and not isinstance(value, bool):
        return max(value + rng.choice([-1, 1]), 1)
    return value


def values(rng: Random, depth: int = 2) -> Any:
    leaves: list[Any] = [*WORDS, *NUMBERS, None, True, False, [], {}]
    if depth == 0 or rng.random() < 0.5:
        return rng.choice(leaves)
    if rng.random() < 0.5:
        return [values(rng, depth - 1) for _ in range(rng.randrange(4))]
    return {name: values(rng, depth - 1) for name in rng.sample(NAMES, rng.randrange(3))}


def fitting(rng: Random, schema: Any, depth: int = 3) -> Any:
    """A value that fits the schema with some luck."""
    if not isinstance(schema, dict) or depth == 0 or rng.random() < 0.1:
        return values(rng)
    if "const" in schema or "enum" in schema:
        return rng.choice(schema.get("enum", [schema.get("const")]))
    for union in ("anyOf", "oneOf"):
        if union in schema:
            return fitting(rng, rng.choice(schema[union]), depth)
    if "properties" in schema or "additionalProperties" in schema:
        known, rest = schema.get("properties", {}), schema.get("additionalProperties", True)
        names = [name for name in NAMES if name in schema.get("required", ()) or rng.random() < 0.4]
        return {name: fitting(rng, known.get(name, rest), depth - 1) for name in names}
    if "items" in schema or "prefixItems" in schema:
        first = [fitting(rng, item, depth - 1) for item in schema.get("prefixItems", [])]
        return first + [fitting(rng, schema.get("items"), depth - 1) for _ in range(rng.randrange(3))]
    pools: dict[str, list[Any]] = {"string": WORDS, "integer": NUMBERS, "number": NUMBERS}
    pool = pools.get(str(schema.get("type")))
    return rng.choice(pool) if pool else values(rng)


def valid_values(rng: Random, validator: Draft202012Validator) -> Iterator[Any]:
    for _ in range(60):
        value = fitting(rng, validator.schema)
        if validator.is_valid(value):
            yield value


def breaking(field: str, old: Any, new: Any) -> bool:
    changes = classify({field: {"data": old}}, {field: {"data": new}})
    return any(change.impact is Impact.BREAKING for change in changes)


def has_an_open_addition(old: Any, new: Any) -> bool:
    """A property was added to an open object: what callers sent under that name before, unread, is not counted."""
    changes = classify({"inputSchema": {"data": old}}, {"inputSchema": {"data": new}})
    return any(change.reason == "added, optional" for change in changes)


@pytest.mark.parametrize("seed", range(20))
def test_values_stay_valid_for_whom_a_change_does_not_break(seed: int) -> None:
    rng = Random(seed)
    checked = 0
    for _ in range(60):
        old = schema_of(rng)
        new = mutated(rng, old)
        before, after = Draft202012Validator(old), Draft202012Validator(new)
        if not breaking("inputSchema", old, new) and not has_an_open_addition(old, new):
            for value in valid_values(rng, before):
                checked += 1
                assert after.is_valid(value), (old, new, value)
        if not breaking("outputSchema", old, new):
            for value in valid_values(rng, after):
                checked += 1
                assert before.is_valid(value), (old, new, value)
    assert checked > 100


@pytest.mark.parametrize("seed", range(4))
def test_every_difference_is_reported_and_nothing_else(seed: int) -> None:
    rng = Random(seed)
    for _ in range(300):
        old = schema_of(rng)
        new = mutated(rng, old)
        changes = classify({"inputSchema": {"data": old}}, {"inputSchema": {"data": new}})
        assert bool(changes) != same_json(old, new)
        assert classify({"inputSchema": {"data": old}}, {"inputSchema": {"data": old}}) == ()


JUNK: list[Any] = [None, 0, -1, 1.5, True, "", "x", [], [1], ["a"], {}, {"a": 1}, {"type": "object"}, [{}], [True]]
KEYWORDS = ["type", "enum", "const", "minimum", "maxItems", "multipleOf", "uniqueItems", "anyOf", "oneOf", "allOf"]
KEYWORDS += ["prefixItems", "items", "properties", "patternProperties", "required", "additionalProperties", "pattern"]
KEYWORDS += ["discriminator", "propertyNames", "default", "format", "exclusiveMaximum", "minLength", "$ref", "not"]


@pytest.mark.parametrize("seed", range(4))
def test_any_content_of_a_file_is_accepted(seed: int) -> None:
    rng = Random(seed)
    for _ in range(400):
        sides = []
        for _side in range(2):
            schema = {rng.choice(KEYWORDS): rng.choice(JUNK) for _ in range(rng.randrange(4))}
            nested = {"anyOf": [schema, rng.choice(JUNK)]} if rng.random() < 0.5 else {"properties": {"a": schema}}
            data = rng.choice([schema, nested, rng.choice(JUNK)])
            sides.append({"outputSchema": {"data": data}, rng.choice(["retryCount", "inputKeys"]): rng.choice(JUNK)})
        old, new = sides
        assert bool(classify(old, new)) != same_json(old, new)
