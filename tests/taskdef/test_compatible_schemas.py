"""The changes of a schema that break running workflows: those that send params, and those that read results.

A change that breaks nobody on one side keeps all values of that side valid: generated schemas and values show that.
"""

from __future__ import annotations

import datetime
import random
from collections.abc import Callable, Iterator
from typing import Annotated, Any, Literal

import pytest
from jsonschema import Draft202012Validator
from pydantic import BaseModel, Field

from perago.taskdef import ABSENT, build_task_definition
from perago.taskdef.compatibility import Change, Impact, classify
from perago.taskdef.schema import same_json

from .tasks import make_task

STR: dict[str, Any] = {"type": "string"}
INT: dict[str, Any] = {"type": "integer"}
NUM: dict[str, Any] = {"type": "number"}
NULL: dict[str, Any] = {"type": "null"}


def obj(required: str = "", **properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties} | ({"required": required.split()} if required else {})


def closed(required: str = "", **properties: Any) -> dict[str, Any]:
    return obj(required, **properties) | {"additionalProperties": False}


def any_of(*options: Any, **more: Any) -> dict[str, Any]:
    return {"anyOf": list(options), **more}


def one_of(*options: Any, **more: Any) -> dict[str, Any]:
    return {"oneOf": list(options), **more}


def tuple_of(*items: Any) -> dict[str, Any]:
    return {"type": "array", "prefixItems": list(items), "minItems": len(items), "maxItems": len(items)}


def mapping(values: Any, **more: Any) -> dict[str, Any]:
    return {"additionalProperties": values, **more}


CAT, DOG = obj("kind", kind={"const": "cat"}), obj("kind", kind={"const": "dog"})
LAZY_CAT = obj(kind={"const": "cat", "default": "cat"})
PATTERN = {"patternProperties": {"^a": INT}}
TAG = {"discriminator": {"propertyName": "kind"}}
BIG_CAT = obj("kind lives", kind={"const": "cat"}, lives=INT)
NARROWED = ("properties/lives", "required")
IN, OUT, BOTH, NONE = "params", "results", "both", "neither"

# what changed, old, new, where a change is told, whom it breaks
CHANGES: list[tuple[str, Any, Any, list[str] | None, str]] = [
    ("title", STR, STR | {"title": "A"}, ["/title"], NONE),
    ("other type", STR, INT, ["/type"], BOTH),
    ("integer to number", INT, NUM, ["/type"], OUT),
    ("number to integer", NUM, INT, ["/type"], IN),
    ("type to anything", INT, {}, ["/type"], OUT),
    ("anything to type", {}, INT, ["/type"], IN),
    ("list of types", {"type": ["string", "null"]}, STR, ["/type"], IN),
    ("became nullable", STR, any_of(STR, NULL), ["/anyOf/1"], OUT),
    ("no longer nullable", any_of(STR, NULL), STR, ["/anyOf/1"], IN),
    ("nullable by a list", {"type": ["string", "null"]}, any_of(STR, NULL), [""], NONE),
    ("alternative added", any_of(STR, NULL), any_of(STR, INT, NULL), ["/anyOf/1"], OUT),
    ("alternative removed", any_of(STR, INT, NULL), any_of(STR, NULL), ["/anyOf/1"], IN),
    ("alternatives swapped", any_of(STR, NULL), any_of(NULL, STR), ["/anyOf"], NONE),
    ("alternative replaced", any_of(STR, NULL), any_of(INT, NULL), ["/anyOf/0/type"], BOTH),
    ("alternative covers another", any_of(INT, NUM), NUM, ["/anyOf/0"], NONE),
    ("alternative is covered", NUM, any_of(NUM, INT), ["/anyOf/1"], NONE),
    ("narrowed inside", any_of(INT, NULL), any_of(INT | {"minimum": 1}, NULL), ["/anyOf/0/minimum"], IN),
    ("union beside a rule", any_of(STR, INT), any_of(STR, INT, minimum=1), ["/minimum"], IN),
    ("one becomes several beside a rule", STR, any_of(STR, INT, minimum=1), [""], BOTH),
    ("anyOf to oneOf", any_of(STR, NULL), one_of(STR, NULL), ["/anyOf", "/oneOf"], NONE),
    ("oneOf that may overlap", one_of(STR), one_of(STR, STR | {"minLength": 1}), ["/oneOf"], BOTH),
    ("discriminated: added", one_of(CAT), one_of(CAT, DOG), ["/oneOf/1"], OUT),
    ("discriminated: removed", one_of(CAT, DOG), one_of(DOG), ["/oneOf/0"], IN),
    ("discriminated: narrowed", one_of(CAT, DOG), one_of(DOG, BIG_CAT), [f"/oneOf/1/{at}" for at in NARROWED], IN),
    ("tags that may be absent", one_of(LAZY_CAT, DOG), one_of(DOG, LAZY_CAT), ["/oneOf"], BOTH),
    ("tags that are asked for", one_of(LAZY_CAT, DOG, **TAG), one_of(DOG, LAZY_CAT, **TAG), ["/oneOf"], NONE),
    ("allOf", {"allOf": [STR]}, {"allOf": [STR, {"minLength": 1}]}, ["/allOf"], BOTH),
    ("enum value added", {"enum": ["a"]}, {"enum": ["a", "b"]}, ["/enum"], OUT),
    ("enum value removed", {"enum": ["a", "b"]}, {"enum": ["a"]}, ["/enum"], IN),
    ("enum value replaced", {"enum": ["a"]}, {"enum": ["b"]}, ["/enum"], BOTH),
    ("enum to any text", STR | {"enum": ["a"]}, STR, ["/enum"], OUT),
    ("text to enum", STR, {"enum": ["a"]}, ["/enum", "/type"], IN),
    ("const to enum", {"const": "a"}, {"enum": ["a", "b"]}, ["/const", "/enum"], OUT),
    ("const changed", {"const": 1}, {"const": True}, ["/const"], BOTH),
    ("minimum raised", {"minimum": 1}, {"minimum": 2}, ["/minimum"], IN),
    ("minimum added", INT, INT | {"minimum": 0}, ["/minimum"], IN),
    ("minimum excluded", {"minimum": 1}, {"exclusiveMinimum": 1}, ["/exclusiveMinimum", "/minimum"], IN),
    ("maximum included", {"exclusiveMaximum": 5}, {"maximum": 5}, ["/exclusiveMaximum", "/maximum"], OUT),
    ("maximum lowered", {"exclusiveMaximum": 5}, {"exclusiveMaximum": 4.5}, ["/exclusiveMaximum"], IN),
    ("step halved", {"multipleOf": 0.2}, {"multipleOf": 0.1}, ["/multipleOf"], OUT),
    ("step changed", {"multipleOf": 2}, {"multipleOf": 3}, ["/multipleOf"], BOTH),
    ("step added", {}, {"multipleOf": 3}, ["/multipleOf"], IN),
    ("longer text needed", STR | {"minLength": 1}, STR | {"minLength": 2}, ["/minLength"], IN),
    ("length of at least 0", STR, STR | {"minLength": 0}, ["/minLength"], NONE),
    ("pattern added", STR, STR | {"pattern": "^a"}, ["/pattern"], IN),
    ("pattern removed", STR | {"pattern": "^a"}, STR, ["/pattern"], OUT),
    ("pattern changed", STR | {"pattern": "^a"}, STR | {"pattern": "^(a|b)"}, ["/pattern"], BOTH),
    ("format added", STR, STR | {"format": "uuid"}, ["/format"], IN),
    ("content", {"contentSchema": INT}, {"contentSchema": NUM}, ["/contentSchema/type"], OUT),
    ("optional property added", obj(a=STR), obj(a=STR, b=STR), ["/properties/b"], NONE),
    ("optional property added, closed", closed(a=STR), closed(a=STR, b=STR), ["/properties/b"], OUT),
    ("required property added", obj(), obj("b", b=STR), ["/properties/b", "/required"], IN),
    ("property removed", obj(a=STR, b=STR), obj(a=STR), ["/properties/b"], BOTH),
    ("property removed, closed", closed(a=STR), closed(), ["/properties/a"], BOTH),
    ("property renamed", obj(a=STR), obj(b=STR | {"title": "B"}), ["/properties/a", "/properties/b"], BOTH),
    ("property narrowed", obj(a=NUM), obj(a=INT), ["/properties/a/type"], IN),
    ("property in depth", obj(a=obj(b=INT)), obj(a=obj(b=NUM)), ["/properties/a/properties/b/type"], OUT),
    ("property with a slash", obj("", **{"a/b~": INT}), obj("", **{"a/b~": NUM}), ["/properties/a~1b~0/type"], OUT),
    ("newly required", obj(a=STR), obj("a", a=STR), ["/required"], IN),
    ("no longer required", obj("a", a=STR), obj(a=STR), ["/required"], OUT),
    ("required in other order", obj("a b", a=STR, b=STR), obj("b a", a=STR, b=STR), ["/required"], NONE),
    ("default changed", obj(a=STR | {"default": 1}), obj(a=STR | {"default": 2}), ["/properties/a/default"], IN),
    ("default of a required one", obj("a", a=STR), obj("a", a=STR | {"default": 2}), ["/properties/a/default"], NONE),
    ("default unknown before", obj(a=STR), obj(a=STR | {"default": 2}), ["/properties/a/default"], IN),
    (
        "default for required",
        obj("a", a=STR),
        obj(a=STR | {"default": ""}),
        ["/properties/a/default", "/required"],
        OUT,
    ),
    ("closed", obj(), closed(), ["/additionalProperties"], IN),
    ("opened", closed(), obj(), ["/additionalProperties"], OUT),
    ("said to be open", obj(), obj() | {"additionalProperties": True}, ["/additionalProperties"], NONE),
    ("values of a mapping widened", mapping(INT), mapping(NUM), ["/additionalProperties/type"], OUT),
    ("values of a mapping typed", {}, mapping(NUM), ["/additionalProperties"], IN),
    ("property out of a mapping", mapping(INT), mapping(INT, properties={"a": STR}), ["/properties/a"], BOTH),
    ("keys narrowed", {"propertyNames": {"enum": ["a", "b"]}}, {"propertyNames": {"enum": ["a"]}}, None, IN),
    ("keys free", {"propertyNames": {"enum": ["a", "b"]}}, {}, ["/propertyNames"], OUT),
    ("key patterns", PATTERN, {"patternProperties": {"^b": INT}}, None, BOTH),
    ("property beside patterns", PATTERN, PATTERN | {"properties": {"ab": STR}}, ["/properties/ab"], BOTH),
    ("items widened", {"items": INT}, {"items": NUM}, ["/items/type"], OUT),
    ("items typed", {"type": "array"}, {"type": "array", "items": NUM}, ["/items"], IN),
    ("no items", {"items": INT}, {"items": False}, ["/items"], IN),
    ("more items", {"maxItems": 3}, {"maxItems": 4}, ["/maxItems"], OUT),
    ("items more than once", {"uniqueItems": True}, {"uniqueItems": False}, ["/uniqueItems"], OUT),
    ("place of a tuple", tuple_of(INT, STR), tuple_of(NUM, STR), ["/prefixItems/0/type"], OUT),
    ("longer tuple", tuple_of(INT), tuple_of(INT, STR), ["/maxItems", "/minItems", "/prefixItems/1"], BOTH),
    ("tuple to list", tuple_of(INT), {"type": "array", "items": INT}, None, OUT),
    ("unknown keyword", {}, {"unit": "mm"}, ["/unit"], BOTH),
    ("nothing allowed", obj(a=STR), obj(a=False), ["/properties/a"], IN),
    ("something allowed", obj(a=False), obj(a=True), ["/properties/a"], OUT),
    ("no schema", obj(a=STR), obj(a=7), ["/properties/a"], BOTH),
    ("wrong keyword value", {"minimum": "1"}, {"minimum": 1}, [""], BOTH),
    ("unknown type", {"type": "text"}, STR, [""], BOTH),
]


def changes_of(field: str, old: Any, new: Any) -> tuple[Change, ...]:
    return classify({field: {"data": old}}, {field: {"data": new}})


def breaking(field: str, old: Any, new: Any) -> bool:
    return any(change.impact is Impact.BREAKING for change in changes_of(field, old, new))


def pointers_of(field: str, old: Any, new: Any) -> list[str]:
    return sorted(change.pointer.removeprefix(f"/{field}/data") for change in changes_of(field, old, new))


@pytest.mark.parametrize(
    ("old", "new", "pointers", "breaks"), [pytest.param(*values, id=name) for name, *values in CHANGES]
)
def test_a_change_of_a_schema_is_judged_by_who_depends_on_it(
    old: Any, new: Any, pointers: list[str] | None, breaks: str
) -> None:
    changed = pointers_of("inputSchema", old, new)
    assert changed == pointers_of("outputSchema", old, new)
    assert changed
    assert pointers is None or changed == pointers
    assert breaking("inputSchema", old, new) is (breaks in (IN, BOTH))
    assert breaking("outputSchema", old, new) is (breaks in (OUT, BOTH))


class Old(BaseModel):
    size: int
    label: str = "x"
    level: Literal["low", "high"] = "low"
    when: datetime.date


class Wider(BaseModel):
    size: int | None
    label: str = "x"
    level: Literal["low", "high", "top"] = "low"
    when: datetime.date
    note: str | None = None


class Narrower(BaseModel):
    size: Annotated[int, Field(gt=0)]
    label: str
    level: Literal["low"] = "low"
    when: datetime.date


@pytest.mark.parametrize(
    ("old", "new", "breaks_params", "breaks_results"),
    [(Old, Wider, set(), {"size", "level"}), (Old, Narrower, {"size", "label", "level"}, set())],
)
def test_models_of_pydantic_are_judged(
    old: type[BaseModel], new: type[BaseModel], breaks_params: set[str], breaks_results: set[str]
) -> None:
    """A default makes a field of results always there: `label` lost it, which no reader notices."""
    before, after = (build_task_definition(make_task(params=model, result=model)) for model in (old, new))
    breaking = [change for change in classify(before, after) if change.impact is Impact.BREAKING]
    for field, expected in (("inputSchema", breaks_params), ("outputSchema", breaks_results)):
        reasons = " ".join(f"{change.pointer} {change.reason}" for change in breaking if field in change.pointer)
        assert {name for name in ("size", "label", "level", "when", "note") if name in reasons} == expected


def test_a_rename_is_suspected() -> None:
    schemas = [{"inputSchema": {"data": obj("", **{name: STR | {"title": name}})}} for name in ("size", "volume")]
    removed, added = classify(*schemas)
    assert removed.reason == "removed; was it renamed to 'volume'?"
    assert (added.impact, added.reason) == (Impact.COMPATIBLE, "added, optional")


@pytest.mark.parametrize(
    ("field", "old", "new", "impact"),
    [
        ("inputSchema", ABSENT, {"data": obj("a")}, Impact.BREAKING),
        ("inputSchema", {"data": obj("a")}, ABSENT, Impact.COMPATIBLE),
        ("outputSchema", ABSENT, {"data": obj("a")}, Impact.COMPATIBLE),
        ("outputSchema", {"data": obj("a")}, ABSENT, Impact.BREAKING),
        ("outputSchema", None, {"data": {}}, Impact.BREAKING),
        ("outputSchema", 7, {"data": {}}, Impact.BREAKING),
    ],
)
def test_a_schema_may_come_and_go(field: str, old: Any, new: Any, impact: Impact) -> None:
    (change,) = classify(*({} if side is ABSENT else {field: side} for side in (old, new)))
    assert (change.pointer, change.impact) == (f"/{field}", impact)


def test_a_task_that_gets_a_workspace_breaks_running_workflows() -> None:
    plain, with_workspace = (build_task_definition(make_task(workspace=workspace)) for workspace in (False, True))
    breaking = {change.pointer for change in classify(plain, with_workspace) if change.impact is Impact.BREAKING}
    assert breaking >= {"/inputKeys", "/inputSchema/data/required"}


# ------------------------------------------- generated schemas and values, which jsonschema judges


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


def has_an_open_addition(old: Any, new: Any) -> bool:
    """A property was added to an open object: what callers sent under that name before, unread, is not counted."""
    return any(change.reason == "added, optional" for change in changes_of("inputSchema", old, new))


@pytest.mark.parametrize("seed", range(20))
def test_changes_are_reported_and_values_stay_valid_unless_they_break(seed: int) -> None:
    rng = Random(seed)
    checked = 0
    for _ in range(60):
        old = schema_of(rng)
        new = mutated(rng, old)
        assert bool(changes_of("inputSchema", old, new)) != same_json(old, new)
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
