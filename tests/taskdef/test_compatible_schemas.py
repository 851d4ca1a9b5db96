"""Which changes of a schema break running workflows: those that send params, and those that read results."""

from __future__ import annotations

import datetime
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, Field

from perago.taskdef import ABSENT, build_task_definition
from perago.taskdef.compatibility import Impact, classify

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


def found(old: Any, new: Any, field: str) -> tuple[list[str], bool]:
    changes = classify({field: {"data": old}}, {field: {"data": new}})
    pointers = [change.pointer.removeprefix(f"/{field}/data") for change in changes]
    return sorted(pointers), any(change.impact is Impact.BREAKING for change in changes)


@pytest.mark.parametrize(
    ("old", "new", "pointers", "breaks"),
    [pytest.param(*values, id=name) for name, *values in CHANGES],
)
def test_a_change_of_a_schema_is_judged_by_who_depends_on_it(
    old: Any, new: Any, pointers: list[str] | None, breaks: str
) -> None:
    told, breaks_params = found(old, new, "inputSchema")
    told_again, breaks_results = found(old, new, "outputSchema")
    assert told == told_again
    assert told
    assert pointers is None or told == pointers
    assert (breaks_params, breaks_results) == (breaks in (IN, BOTH), breaks in (OUT, BOTH))


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
        told = " ".join(f"{change.pointer} {change.reason}" for change in breaking if field in change.pointer)
        assert {name for name in ("size", "label", "level", "when", "note") if name in told} == expected


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
