"""The TaskDef and its schemas, and the models that cannot be described to Conductor."""

from __future__ import annotations

import enum
import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any, Generic, Literal, NamedTuple, TypeVar

import pytest
from jsonschema import Draft202012Validator
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    RootModel,
    Secret,
    SecretBytes,
    SecretStr,
    computed_field,
    create_model,
)
from typing_extensions import TypeAliasType, TypedDict

from perago import ExecutionLimits, RetryPolicy, TaskControls, TaskDefinitionError, TimeoutPolicy
from perago.taskdef import build_task_definition, canonical_json
from perago.taskdef.schema import input_schema, output_schema

from .tasks import Empty, make_task

T = TypeVar("T")
COMMIT = "0123456789abcdef" * 4


def walk(value: Any) -> list[dict[str, Any]]:
    """Every object in a JSON value."""
    if isinstance(value, dict):
        return [value, *(inner for item in value.values() for inner in walk(item))]
    return [inner for item in value for inner in walk(item)] if isinstance(value, list) else []


def test_every_control_has_its_field() -> None:
    controls = TaskControls(
        retry=RetryPolicy(
            count=5,
            logic="LINEAR_BACKOFF",
            delay_seconds=7,
            max_delay_seconds=70,
            jitter_ms=300,
            backoff_scale_factor=2,
        ),
        timeout=TimeoutPolicy(policy="RETRY", seconds=900, response_seconds=90, poll_seconds=30, total_seconds=9000),
        limits=ExecutionLimits(
            concurrent_exec_limit=4, rate_limit_per_frequency=10, rate_limit_frequency_in_seconds=60
        ),
    )
    definition = build_task_definition(make_task(controls=controls))
    assert {key: value for key, value in definition.items() if not key.endswith(("Schema", "Keys"))} == {
        "name": "sample",
        "ownerEmail": "data@example.com",
        "retryCount": 5,
        "retryLogic": "LINEAR_BACKOFF",
        "retryDelaySeconds": 7,
        "maxRetryDelaySeconds": 70,
        "backoffJitterMs": 300,
        "backoffScaleFactor": 2,
        "timeoutPolicy": "RETRY",
        "timeoutSeconds": 900,
        "responseTimeoutSeconds": 90,
        "pollTimeoutSeconds": 30,
        "totalTimeoutSeconds": 9000,
        "concurrentExecLimit": 4,
        "rateLimitPerFrequency": 10,
        "rateLimitFrequencyInSeconds": 60,
    }


def test_the_canonical_text_is_sorted_indented_and_ends_with_a_newline() -> None:
    text = canonical_json({"b": {"größe": 1}, "a": [1]})
    assert text == '{\n  "a": [\n    1\n  ],\n  "b": {\n    "größe": 1\n  }\n}\n'
    assert canonical_json(json.loads(text)) == text


WORKSPACE = {"repository": "data", "branch": "main", "ref_type": "commit", "ref": COMMIT}


OLDER = {key: value for key, value in WORKSPACE.items() if key != "ref_type"} | {"refType": "commit"}


@pytest.mark.parametrize(
    ("payload", "valid"),
    [
        ({"workspace": WORKSPACE, "params": {}}, True),
        ({"workspace": OLDER, "params": {}}, True),
        *(
            ({"workspace": WORKSPACE | wrong, "params": {}}, False)
            for wrong in ({"refType": "commit"}, {"extra": 1}, {"ref": "main"}, {"ref_type": "branch"})
        ),
        ({"workspace": WORKSPACE, "params": {}, "more": 1}, False),
        ({"workspace": WORKSPACE}, False),
        ({"params": {}}, False),
    ],
)
def test_the_input_schema_is_closed_around_workspace_and_params(payload: dict[str, Any], valid: bool) -> None:
    assert Draft202012Validator(input_schema(make_task(workspace=True))).is_valid(payload) is valid


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Point(BaseModel):
    x: int
    y: int


class Cat(BaseModel):
    kind: Literal["cat"]
    at: Point


class Dog(BaseModel):
    kind: Literal["dog"]
    at: Point


class Line(BaseModel):
    start: Point
    end: Point = Field(Point(x=0, y=0), description="Where it ends.")


class Pet(BaseModel):
    pet: Annotated[Cat | Dog, Field(discriminator="kind")]


class Odd(BaseModel):
    """Names that look like keywords of JSON Schema."""

    reference: str = Field("#/$defs/Point", alias="$ref")
    definitions: dict[str, Any] = Field({"required": ["b", "a"]}, alias="$defs")
    properties: Point | None = None
    required: list[str] = ["b", "a"]


class Aliased(BaseModel):
    both: int = Field(alias="bothWays")
    split: int = Field(validation_alias="comesIn", serialization_alias="goesOut")

    @computed_field
    def double(self) -> int:
        return self.both * 2


class Box(BaseModel, Generic[T]):
    item: T


class Sets(BaseModel):
    plain: set[str] = {"delta", "alpha", "charlie", "bravo"}
    maybe: frozenset[str] | None = frozenset({"delta", "alpha", "charlie", "bravo"})
    within: dict[str, set[str]] = {"a": {"delta", "alpha", "charlie", "bravo"}}
    boxes: list[Box[set[str]]] = [Box(item={"delta", "alpha", "charlie", "bravo"})]
    box: Box[set[str]] = Box(item={"delta", "alpha", "charlie", "bravo"})


class Everything(BaseModel):
    when: datetime
    price: Decimal
    raw: bytes = b"\xff"
    colour: Colour = Colour.RED
    tags: set[str]
    pair: tuple[int, str]
    rows: RootModel[list[int]]


@pytest.mark.parametrize("model", [Line, Pet, Odd, Aliased, Box[Line], Sets, Everything])
def test_every_reference_is_inlined(model: type[BaseModel]) -> None:
    task = make_task(model, model)
    for schema in (input_schema(task), output_schema(task)):
        Draft202012Validator.check_schema(schema)
        if model is not Odd:
            assert not [part for part in walk(schema) if "$ref" in part or "$defs" in part or "mapping" in part]


def test_text_next_to_a_reference_is_kept() -> None:
    line = input_schema(make_task(Line))["properties"]["params"]["properties"]
    assert line["start"]["properties"].keys() == {"x", "y"}
    assert line["end"]["description"] == "Where it ends."
    assert line["end"]["default"] == {"x": 0, "y": 0}
    assert line["end"]["required"] == ["x", "y"]


def test_the_branches_of_a_discriminated_union_are_inlined() -> None:
    schema = input_schema(make_task(Pet))
    pet = schema["properties"]["params"]["properties"]["pet"]
    assert pet["discriminator"] == {"propertyName": "kind"}
    validator = Draft202012Validator(schema)
    assert validator.is_valid({"params": {"pet": {"kind": "cat", "at": {"x": 1, "y": 2}}}})
    assert not validator.is_valid({"params": {"pet": {"kind": "cow", "at": {"x": 1, "y": 2}}}})


def test_names_and_defaults_that_look_like_keywords_are_left_alone() -> None:
    odd = input_schema(make_task(Odd))["properties"]["params"]["properties"]
    assert odd["$ref"]["default"] == "#/$defs/Point"
    assert odd["$defs"]["default"] == {"required": ["b", "a"]}
    assert odd["required"]["default"] == ["b", "a"]
    assert odd["properties"]["anyOf"][0]["properties"].keys() == {"x", "y"}


def test_input_is_described_as_validated_and_output_as_serialized() -> None:
    task = make_task(Aliased, Aliased)
    assert set(input_schema(task)["properties"]["params"]["properties"]) == {"bothWays", "comesIn"}
    assert set(output_schema(task)["properties"]["result"]["properties"]) == {"bothWays", "goesOut", "double"}


def test_the_members_of_a_default_set_have_an_order() -> None:
    """Otherwise a module would not always give the same bytes."""
    members = ["alpha", "bravo", "charlie", "delta"]
    sets = input_schema(make_task(Sets))["properties"]["params"]["properties"]
    assert {name: schema["default"] for name, schema in sets.items()} == {
        "plain": members,
        "maybe": members,
        "within": {"a": members},
        "boxes": [{"item": members}],
        "box": {"item": members},
    }


# ---------------------------------------------------------------------------------- refused models


class Node(BaseModel):
    children: list[Node] = []


class Left(BaseModel):
    right: Right | None = None


class Right(BaseModel):
    left: Left | None = None


Holder = create_model("Holder", call=(Callable[[], int], ...))
Infinite = create_model("Infinite", limit=(float, math.inf))
LooksLikeAReference = create_model("LooksLikeAReference", text=(dict[str, str], {"$ref": "#/$defs/Nothing"}))
HalfACharacter = create_model("HalfACharacter", text=(str, Field(description="\ud800")))


class ForeignReference(BaseModel):
    model_config = ConfigDict(json_schema_extra={"$ref": "https://example.com/schema"})


class OddExtra(BaseModel):
    model_config = ConfigDict(json_schema_extra=lambda schema: schema.update(examples=[object()]))


REFUSED: dict[str, tuple[type[BaseModel], str]] = {
    "half a surrogate pair": (HalfACharacter, "has no JSON Schema: UnicodeEncodeError"),
    "recursive": (Node, "Node contains itself"),
    "mutually recursive": (Left, "Left contains itself"),
    "callable": (Holder, "has no JSON Schema: Cannot generate a JsonSchema"),
    "default that pydantic takes for a reference": (LooksLikeAReference, "has no JSON Schema: KeyError"),
    "infinite default": (Infinite, "has no JSON Schema: ValueError: Out of range float values"),
    "foreign reference": (ForeignReference, "points outside the schema"),
    "schema extra that is not JSON": (OddExtra, "has no JSON Schema: TypeError: Object of type object"),
}


@pytest.mark.parametrize(("model", "message"), REFUSED.values(), ids=REFUSED)
def test_a_model_without_a_usable_schema_is_refused_at_the_task(model: type[BaseModel], message: str) -> None:
    for task, label in ((make_task(model), "params model"), (make_task(Empty, model), "result model")):
        with pytest.raises(TaskDefinitionError) as caught:
            build_task_definition(task)
        assert message in caught.value.message
        assert f"{label} {model.__name__}" in caught.value.message
        assert (caught.value.file, caught.value.line) == (task.file, task.line)
        assert "errors.pydantic.dev" not in str(caught.value)


@dataclass
class Record:
    token: SecretStr


class Mapped(TypedDict):
    token: SecretStr


class Named(NamedTuple):
    token: SecretStr


Alias = TypeAliasType("Alias", list[SecretStr])


class Computed(BaseModel):
    @computed_field
    def token(self) -> SecretStr:
        return SecretStr("x")


Plain = create_model("Plain", token=(SecretStr, ...))
SECRETS: dict[str, type[BaseModel]] = {
    "Plain.token": Plain,
    "Bytes.token": create_model("Bytes", token=(SecretBytes | None, None)),
    "Number.token": create_model("Number", token=(Secret[int], ...)),
    "Listed.tokens": create_model("Listed", tokens=(dict[str, list[tuple[int, SecretStr]]], ...)),
    "Nested.logins.token": create_model("Nested", logins=(list[Plain], ...)),
    "InARecord.login.token": create_model("InARecord", login=(Record, ...)),
    "InATypedDict.login.token": create_model("InATypedDict", login=(Mapped, ...)),
    "InANamedTuple.login.token": create_model("InANamedTuple", login=(Named, ...)),
    "Aliases.logins": create_model("Aliases", logins=(Alias, ...)),
    "Computed.token": Computed,
    "Box[SecretStr].item": Box[SecretStr],
}


@pytest.mark.parametrize(("where", "model"), SECRETS.items(), ids=SECRETS)
def test_a_secret_anywhere_in_a_result_is_refused_and_in_params_is_not(where: str, model: type[BaseModel]) -> None:
    with pytest.raises(TaskDefinitionError, match="holds a secret in") as caught:
        build_task_definition(make_task(Empty, model))
    assert where in caught.value.message
    build_task_definition(make_task(model))
