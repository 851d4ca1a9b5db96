"""The violations of a schema: their places and reasons, which quote the schema alone."""

from __future__ import annotations

from typing import Any

import pytest

from perago.taskdef.schema import schema_problems

CANARY = "canary-4711"
TEXT = {"type": "string"}
NO_STRING = "must be string, but is integer"


@pytest.mark.parametrize(
    ("schema", "document", "problems"),
    [
        ({"const": "a"}, CANARY, ["/: must be 'a'"]),
        ({"enum": ["a", 1]}, CANARY, ["/: is not one of 'a', 1"]),
        ({"type": ["integer", "null"]}, CANARY, ["/: must be integer or null, but is string"]),
        ({"pattern": "^a"}, CANARY, ["/: does not match ^a"]),
        ({"maxLength": 2}, CANARY, ["/: has 11 length, allowed are 0 to 2"]),
        ({"minItems": 2, "items": TEXT}, [1], ["/: has 1 items, allowed are 2 to inf", f"/0: {NO_STRING}"]),
        ({"uniqueItems": True}, [CANARY, CANARY], ["/: has an item twice"]),
        ({"prefixItems": [TEXT]}, [1], [f"/0: {NO_STRING}"]),
        ({"minimum": 1}, 0, ["/: is less than 1"]),
        ({"maximum": 1}, 2, ["/: is more than 1"]),
        ({"exclusiveMinimum": 1}, 1, ["/: is not more than 1"]),
        ({"exclusiveMaximum": 1}, 1, ["/: is not less than 1"]),
        ({"multipleOf": 0.1}, 0.25, ["/: is not a multiple of 0.1"]),
        ({"multipleOf": 0.1}, 0.3, []),
        ({"required": ["a~", "b"]}, {}, ["/a~0: is missing", "/b: is missing"]),
        ({"additionalProperties": False, "patternProperties": {"^x": {}}}, {"x1": 1, "b/c": 2}, ["/b~1c: is unknown"]),
        ({"propertyNames": {"maxLength": 1}}, {"ab": 1}, ["/ab: has 2 length, allowed are 0 to 1"]),
        ({"properties": {"propertyNames": TEXT}}, {"propertyNames": 1}, [f"/propertyNames: {NO_STRING}"]),
        (
            {"anyOf": [TEXT, {"required": ["a"]}]},
            {},
            ["/: fits none of the alternatives (/: must be string, but is object; /a: is missing)"],
        ),
        ({"oneOf": [TEXT, {}]}, CANARY, ["/: fits 2 alternatives, but must fit exactly one"]),
        ({"not": TEXT}, CANARY, ["/: breaks the rule 'not'"]),
    ],
)  # fmt: skip
def test_a_violation_has_a_place_and_a_reason(schema: dict[str, Any], document: Any, problems: list[str]) -> None:
    assert sorted(schema_problems(schema, document)) == sorted(problems)


def test_places_begin_with_the_pointer_of_the_document() -> None:
    assert list(schema_problems({"properties": {"a": {"const": 1}}}, {"a": 2}, "/params")) == ["/params/a: must be 1"]
