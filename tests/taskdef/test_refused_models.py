"""Models that cannot be described to Conductor, and secrets in results."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

import pytest
from pydantic import BaseModel, ConfigDict, Field, Secret, SecretBytes, SecretStr, computed_field
from typing_extensions import TypeAliasType, TypedDict

from perago import TaskDefinitionError
from perago.taskdef import build_task_definition

from .tasks import Empty, make_task

T = TypeVar("T")


class Box(BaseModel, Generic[T]):
    item: T


class Node(BaseModel):
    children: list[Node] = []


class Left(BaseModel):
    right: Right | None = None


class Right(BaseModel):
    left: Left | None = None


class Holder(BaseModel):
    call: Callable[[], int]


class Infinite(BaseModel):
    limit: float = math.inf


class ForeignReference(BaseModel):
    model_config = ConfigDict(json_schema_extra={"$ref": "https://example.com/schema"})


class OddExtra(BaseModel):
    model_config = ConfigDict(json_schema_extra=lambda schema: schema.update(examples=[object()]))


class LooksLikeAReference(BaseModel):
    text: dict[str, str] = {"$ref": "#/$defs/Nothing"}


class HalfACharacter(BaseModel):
    text: str = Field(description="\ud800")


@pytest.mark.parametrize(
    ("model", "message"),
    [
        pytest.param(HalfACharacter, "has no JSON Schema: UnicodeEncodeError", id="half a surrogate pair"),
        pytest.param(Node, "Node contains itself", id="recursive"),
        pytest.param(Left, "Left contains itself", id="mutually recursive"),
        pytest.param(Holder, "has no JSON Schema: Cannot generate a JsonSchema", id="callable"),
        pytest.param(
            LooksLikeAReference, "has no JSON Schema: KeyError", id="default that pydantic takes for a reference"
        ),
        pytest.param(Infinite, "has no JSON Schema: ValueError: Out of range float values", id="infinite default"),
        pytest.param(ForeignReference, "points outside the schema", id="foreign reference"),
        pytest.param(
            OddExtra, "has no JSON Schema: TypeError: Object of type object", id="schema extra that is not JSON"
        ),
    ],
)
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


class Plain(BaseModel):
    token: SecretStr


class Bytes(BaseModel):
    token: SecretBytes | None = None


class Number(BaseModel):
    token: Secret[int]


class Listed(BaseModel):
    tokens: dict[str, list[tuple[int, SecretStr]]]


class Nested(BaseModel):
    logins: list[Plain]


class InARecord(BaseModel):
    login: Record


class InATypedDict(BaseModel):
    login: Mapped


class InANamedTuple(BaseModel):
    login: Named


class Aliases(BaseModel):
    logins: Alias


class Computed(BaseModel):
    @computed_field
    def token(self) -> SecretStr:
        return SecretStr("x")


@pytest.mark.parametrize(
    ("model", "where"),
    [
        (Plain, "Plain.token"),
        (Bytes, "Bytes.token"),
        (Number, "Number.token"),
        (Listed, "Listed.tokens"),
        (Nested, "Nested.logins.token"),
        (InARecord, "InARecord.login.token"),
        (InATypedDict, "InATypedDict.login.token"),
        (InANamedTuple, "InANamedTuple.login.token"),
        (Aliases, "Aliases.logins"),
        (Computed, "Computed.token"),
        (Box[SecretStr], "Box[SecretStr].item"),
    ],
)
def test_a_secret_anywhere_in_a_result_is_refused_and_in_params_is_not(model: type[BaseModel], where: str) -> None:
    with pytest.raises(TaskDefinitionError, match="holds a secret in") as caught:
        build_task_definition(make_task(Empty, model))
    assert where in caught.value.message
    build_task_definition(make_task(model))
