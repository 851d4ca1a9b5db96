"""What a function returned must survive the wire."""

from __future__ import annotations

import enum
import json
import math
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Any, Literal

import pytest
from jsonschema import Draft202012Validator
from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, computed_field, create_model, field_serializer

from perago.taskdef.payload import TOO_DEEP, InvalidResult, check_recorded_result, dump_result
from perago.taskdef.schema import output_schema

from .tasks import Empty, make_task

MIB = 1 << 20
CANARY = "canary-4711"


def dump(value: BaseModel, model: type[BaseModel] | None = None, max_bytes: int = MIB) -> Any:
    return dump_result(make_task(Empty, model or type(value)), value, max_bytes)


def refusal(value: object, model: type[BaseModel], max_bytes: int = MIB, *, workspace: bool = False) -> str:
    with pytest.raises(InvalidResult) as caught:
        dump_result(make_task(Empty, model, workspace=workspace), value, max_bytes)
    assert "errors.pydantic.dev" not in str(caught.value)
    assert CANARY not in str(caught.value)
    return str(caught.value)


class Colour(enum.Enum):
    RED = "red"


@dataclass
class Record:
    n: int


class Cat(BaseModel):
    kind: Literal["cat"]


class Dog(BaseModel):
    kind: Literal["dog"]


class Result(BaseModel):
    n: int = Field(0, ge=0)
    score: float = 0.0
    text: str = ""
    maybe: float | None = None


class Rich(BaseModel):
    when: datetime = datetime(2024, 2, 29, tzinfo=UTC)
    price: Decimal = Decimal("1.10")
    raw: bytes = b"bytes"
    colour: Colour = Colour.RED
    tags: frozenset[str] = frozenset({"a"})
    pair: tuple[int, str] = (1, "x")
    record: Record = Record(1)
    inner: Result = Result()
    pets: list[Annotated[Cat | Dog, Field(discriminator="kind")]] = [Cat(kind="cat"), Dog(kind="dog")]
    numbered: dict[int, str] = {1: "x"}


class Aliased(BaseModel):
    model_config = ConfigDict(extra="forbid")
    both: int = Field(1, alias="bothWays")
    out: int = Field(2, serialization_alias="goesOut")
    split: int = Field(3, validation_alias="comesIn", serialization_alias="leaves")


class Computed(BaseModel):
    model_config = ConfigDict(extra="forbid")
    n: int

    @computed_field
    def double(self) -> int:
        return 2 * self.n


class Report(BaseModel):
    model_config = ConfigDict(extra="forbid")
    parts: list[Computed]


class Private(BaseModel):
    n: int
    _factor: int = PrivateAttr(1)

    @computed_field
    def product(self) -> int:
        return self.n * self._factor


class Child(Result):
    more: int = 1


Rules = create_model("Rules", n=(int, Field(le=5)))
Wide = create_model("Wide", __config__=ConfigDict(extra="allow"))
Strings = create_model("Strings", __config__=ConfigDict(ser_json_inf_nan="strings"), score=(float, ...))
Digests = create_model("Digests", by_name=(dict[str, list[bytes]], ...))
Renamed = create_model(
    "Renamed", __config__=ConfigDict(extra="forbid"), required=(int, Field(serialization_alias="asWritten"))
)


@pytest.mark.parametrize(
    ("value", "document"),
    [
        (Result(n=1, score=0.5), {"n": 1, "score": 0.5, "text": "", "maybe": None}),
        (
            Rich(),
            {
                "when": "2024-02-29T00:00:00Z",
                "price": "1.10",
                "raw": "bytes",
                "colour": "red",
                "tags": ["a"],
                "pair": [1, "x"],
                "record": {"n": 1},
                "inner": {"n": 0, "score": 0.0, "text": "", "maybe": None},
                "pets": [{"kind": "cat"}, {"kind": "dog"}],
                "numbered": {"1": "x"},
            },
        ),
        (Aliased(), {"bothWays": 1, "goesOut": 2, "leaves": 3}),
        (Computed(n=2), {"n": 2, "double": 4}),
        (Report(parts=[Computed(n=2)]), {"parts": [{"n": 2, "double": 4}]}),
        (Wide(any=[1, {"x": None}]), {"any": [1, {"x": None}]}),
        (
            Result(text="größe \u2028 \U0001f600"),
            {"n": 0, "score": 0.0, "text": "größe \u2028 \U0001f600", "maybe": None},
        ),
        (Empty(), {}),
    ],
)
def test_a_result_becomes_the_json_that_its_schema_describes(value: BaseModel, document: Any) -> None:
    dumped = dump(value)
    assert dumped == document
    assert json.loads(json.dumps(dumped)) == document
    Draft202012Validator(output_schema(make_task(Empty, type(value)))).validate({"result": dumped})


def test_an_instance_of_a_subclass_is_written_as_the_declared_model() -> None:
    assert dump(Child(n=1), Result) == dump(Result(n=1))


def test_computed_fields_may_use_private_attributes() -> None:
    value = Private(n=2)
    value._factor = 3
    assert dump(value) == {"n": 2, "product": 6}


def test_a_field_assigned_in_another_type_is_sent_as_the_model_reads_it() -> None:
    value = Result()
    value.n = "5"  # type: ignore[assignment]
    value.score = 1
    assert dump(value) == {"n": 5, "score": 1.0, "text": "", "maybe": None}


def test_nan_as_text_is_the_choice_of_the_model() -> None:
    assert dump(Strings(score=math.nan)) == {"score": "NaN"}


class OneWay(BaseModel):
    when: datetime

    @field_serializer("when")
    def _write(self, when: datetime) -> str:
        return f"on day {when.day}"


class Crashing(BaseModel):
    n: int = 0

    @computed_field
    def broken(self) -> int:
        raise RuntimeError(CANARY)


class CrashingSerializer(BaseModel):
    n: int = 0

    @field_serializer("n")
    def _write(self, n: int) -> int:
        raise ValueError(CANARY)


def spoilt(**changes: Any) -> Result:
    """Return a result that was changed after its validation."""
    value = Result()
    for name, item in changes.items():
        setattr(value, name, item)
    return value


def nested(levels: int) -> BaseModel:
    value: list[Any] = []
    for _ in range(levels):
        value = [value]
    return Wide(loop=value)


LOOP: dict[str, Any] = {}
LOOP["loop"] = LOOP
REFUSED: dict[str, tuple[object, type[BaseModel], str]] = {
    "nothing": (None, Result, "returned nothing (None), but declares Result"),
    "a dictionary": ({"n": 1}, Result, "returned an object of type dict, but declares Result"),
    "another model": (Empty(), Result, "returned an object of type Empty, but declares Result"),
    "the class": (Result, Result, "returned the class Result instead of an instance, but declares Result"),
    "text": (CANARY, Result, "returned an object of type str, but declares Result"),
    "rule of the model": (spoilt(n=-1), Result, "/n: Input should be greater than or equal to 0"),
    "wrong type": (spoilt(n=CANARY), Result, "/n: Input should be a valid integer"),
    "None": (spoilt(n=None), Result, "/n: Input should be a valid integer"),
    "NaN": (spoilt(score=math.nan), Result, "NaN or an infinity at /score"),
    "NaN in depth": (Wide(**{"a/b": [1, {"x": math.nan}]}), Wide, "at /a~1b/1/x"),
    "infinity where null would do": (spoilt(maybe=-math.inf), Result, "NaN or an infinity at /maybe"),
    "object": (spoilt(text=object()), Result, "cannot be written as JSON: Unable to serialize unknown type"),
    "half a surrogate pair": (spoilt(text=f"{CANARY}\ud800"), Result, "text with half a surrogate pair at /text"),
    "bytes": (
        Digests(by_name={"a": [b"text", b"\xff\xfe"]}),
        Digests,
        "bytes that are not UTF-8 text at /by_name/a/1; use pydantic.Base64Bytes",
    ),
    "made without validation": (
        Rules.model_construct(n=6),
        Rules,
        "not a valid Rules: /n: Input should be less than or equal to 5",
    ),
    "made without its field": (Rules.model_construct(), Rules, "not a valid Rules: /n: Field required"),
    "one way only": (OneWay(when=datetime(2024, 2, 29, tzinfo=UTC)), OneWay, "not a valid OneWay: /when: "),
    "computed field that raises": (Crashing(), Crashing, "cannot be written as JSON: RuntimeError"),
    "serializer that raises": (CrashingSerializer(), CrashingSerializer, "Error calling function `_write`"),
    "circular": (Wide(loop=LOOP), Wide, "cannot be written as JSON"),
    "too deep for the reader": (nested(230), Wide, TOO_DEEP),
    "too deep for the writer": (nested(5000), Wide, TOO_DEEP),
}


@pytest.mark.parametrize(("value", "model", "message"), REFUSED.values(), ids=REFUSED)
def test_a_wrong_result_is_refused_by_field(value: object, model: type[BaseModel], message: str) -> None:
    assert message in refusal(value, model)


def test_the_size_is_counted_in_bytes_of_utf_8() -> None:
    value = Wide(t="ä" * 10)
    size = len('{"t":""}') + 20
    assert dump(value, max_bytes=size)
    message = refusal(value, Wide, size - 1, workspace=True)
    assert message == (
        "the result is 28 bytes of JSON, more than 27 (PERAGO_MAX_RESULT_BYTES); "
        "write it to a file in the workspace and return the path"
    )
    assert "give the task a workspace" in refusal(value, Wide, 1)


@pytest.mark.parametrize(
    "value", [Result(n=1), Rich(), Computed(n=2), Report(parts=[Computed(n=2)] * 2), Empty(), Renamed(required=3)]
)
def test_a_recorded_result_is_valid_as_long_as_its_model_is_the_same(value: BaseModel) -> None:
    check_recorded_result(make_task(Empty, type(value)), dump(value))


def test_a_record_may_be_older_than_a_computed_field() -> None:
    check_recorded_result(make_task(Empty, Report), {"parts": [{"n": 1}]})


@pytest.mark.parametrize(
    ("model", "recorded", "message"),
    [
        (Result, {"n": -1}, "/n: is less than 0"),
        (Result, [], "/: must be object, but is array"),
        (Computed, {"n": 1, "double": 2, "gone": 3}, "/gone: is unknown"),
        (Computed, {"double": 2}, "/n: is missing"),
        (Report, {"parts": [{"n": 1, "other": 2}]}, "/parts/0/other: is unknown"),
    ],
)
def test_a_recorded_result_of_another_model_is_refused(model: type[BaseModel], recorded: Any, message: str) -> None:
    with pytest.raises(InvalidResult) as caught:
        check_recorded_result(make_task(Empty, model), recorded)
    assert message in str(caught.value)
