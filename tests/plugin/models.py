"""Models with one property each, for the contract tests."""

from __future__ import annotations

import datetime
import decimal
import enum
import pathlib
import threading
import uuid
from typing import Annotated, Any, Literal

from pydantic import (
    AliasChoices,
    AliasPath,
    AwareDatetime,
    Base64Bytes,
    BaseModel,
    ConfigDict,
    Field,
    HttpUrl,
    Json,
    PrivateAttr,
    RootModel,
    SecretStr,
    StringConstraints,
    computed_field,
    create_model,
    field_serializer,
    field_validator,
    model_validator,
)


class Cat(BaseModel):
    kind: Literal["cat"]
    lives: int


class Dog(BaseModel):
    kind: Literal["dog"]
    name: str


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Everything(BaseModel):
    """All the types that people fear and that survive."""

    model_config = ConfigDict(extra="forbid")

    numbers: set[int]
    labels: frozenset[str] = frozenset()
    pair: tuple[int, str]
    many: tuple[int, ...]
    price: decimal.Decimal
    limited: Annotated[decimal.Decimal, Field(max_digits=4, decimal_places=2, ge=0)]
    raw: bytes
    encoded: Base64Bytes
    naive: datetime.datetime
    aware: AwareDatetime
    day: datetime.date
    clock: datetime.time
    span: datetime.timedelta
    path: pathlib.Path
    by_number: dict[int, str]
    by_id: dict[uuid.UUID, int]
    by_choice: dict[Literal["q", "r"], int]
    ratio: float
    renamed: int = Field(alias="reNamed")
    pet: Cat | Dog = Field(discriminator="kind")
    pets: list[Cat | Dog]
    anything: Any
    embedded: Json[list[int]]
    code: Annotated[str, StringConstraints(pattern="^[A-Z]{3}$")]
    url: HttpUrl
    step: Annotated[int, Field(multiple_of=5, gt=3)]
    share: Annotated[float, Field(gt=0, lt=1)]
    three: Annotated[list[int], Field(min_length=3, max_length=4)]
    two: Annotated[set[int], Field(min_length=2)]
    level: Level
    maybe: int | None = None


class Strict(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")

    when: datetime.datetime
    pair: tuple[int, int]
    labels: set[str]


class Computed(BaseModel):
    width: int

    @computed_field  # type: ignore[prop-decorator]
    @property
    def area(self) -> int:
        return self.width**2


class ComputedAndClosed(Computed):
    model_config = ConfigDict(extra="forbid")


HoldsClosed = create_model("HoldsClosed", parts=(list[ComputedAndClosed], ...))


WrittenUnderAnotherNameAndClosed = create_model(
    "WrittenUnderAnotherNameAndClosed",
    __config__=ConfigDict(extra="forbid"),
    value=(int, Field(default=1, serialization_alias="wert", validation_alias="wert")),
)


class PrivateAndRandom(BaseModel):
    value: int = 0
    _token: uuid.UUID = PrivateAttr(default_factory=uuid.uuid4)


HoldsPrivate = create_model("HoldsPrivate", parts=(dict[str, list[PrivateAndRandom]], ...))


class PrivateAndConstant(BaseModel):
    value: int = 0
    _seen: list[int] = PrivateAttr(default_factory=list)
    _label: str = "a"
    _nothing: str = PrivateAttr()
    _lock: Any = PrivateAttr(default_factory=threading.Lock)


class Metres(BaseModel):
    size: float


class Feet(BaseModel):
    size: float


Length = create_model("Length", unit=(str, "m"), size=(float, ...))
OneFieldMore = create_model("OneFieldMore", value=(Length | Metres, ...))
ModelsThatLookAlike = create_model("ModelsThatLookAlike", value=(Metres | Feet, ...))


class ModelsThatLookAlikeInAList(BaseModel):
    values: list[Annotated[Metres | Feet, Field(description="a length")]] = []


ModelsThatLookAlikeBelow = create_model("ModelsThatLookAlikeBelow", inner=(ModelsThatLookAlike | None, None))
DateOrText = create_model("DateOrText", value=(str | datetime.date, ...))


class UnionsThatCanBeTold(BaseModel):
    by_field: Annotated[Cat | Dog, Field(discriminator="kind")]
    by_literal: Cat | Dog
    by_content: Cat | Metres | Level
    plain: int | str | None = None
    numbers: dict[str, int | float] = {}
    either: list[int | bool] = []
    level: Level | None = None
    anything: Any | int = None


class Dimension(BaseModel):
    value: Metres | Feet

    @field_validator("value")
    @classmethod
    def only_metres(cls, value: Metres | Feet) -> Metres:
        return Metres(size=value.size)


Password = create_model("Password", token=(SecretStr, Field(min_length=3)))


class Empty(BaseModel):
    pass


ReadUnderAnotherName = create_model("ReadUnderAnotherName", value=(int, Field(validation_alias="Value")))


ReadUnderSeveralNames = create_model(
    "ReadUnderSeveralNames", value=(int, Field(validation_alias=AliasChoices("a", "b")))
)
ReadInside = create_model("ReadInside", value=(int, Field(validation_alias=AliasPath("deep", "value"))))
ReadUnderBoth = create_model(
    "ReadUnderBoth", __config__=ConfigDict(populate_by_name=True), value=(int, Field(alias="Value"))
)


class Counts(RootModel[dict[str, int]]):
    pass


Mapped = create_model("Mapped", counts=(Counts, ...))
KeepsAll = create_model("KeepsAll", __config__=ConfigDict(extra="allow"))


class Lives(BaseModel):
    kind: Literal["cat"]
    lives: int = 9


Everyday = create_model("Everyday", min_rows=(int, 1), parts=(dict[str, list[Lives]], {}))


class Reshaped(BaseModel):
    value: int

    @model_validator(mode="before")
    @classmethod
    def take_the_old_name(cls, document: Any) -> Any:
        return {"value": document["old"]} if "old" in document else document


class ReshapedInside(BaseModel):
    pet: PrivateAndConstant

    @field_validator("pet", mode="before")
    @classmethod
    def take_the_old_name(cls, document: Any) -> Any:
        return {"value": document["old"]}


TupleInAny = create_model("TupleInAny", value=(Any, (1, 2)))
SetInAny = create_model("SetInAny", value=(Any, Field(default_factory=lambda: {1})))
IntKeys = create_model("IntKeys", value=(dict[Any, Any], {1: "a"}))
DecimalInAny = create_model("DecimalInAny", value=(Any, decimal.Decimal("1.5")))
BytesThatAreNoText = create_model("BytesThatAreNoText", value=(bytes, b"\xff"))
NotANumber = create_model("NotANumber", value=(float, Field(default_factory=lambda: float("nan"))))
WrongDefault = create_model("WrongDefault", value=(pathlib.Path, "a"))


class OtherForm(BaseModel):
    value: datetime.datetime

    @field_serializer("value")
    def write(self, value: datetime.datetime) -> str:
        return value.strftime("%d.%m.%Y")


class Grows(BaseModel):
    value: int

    @model_validator(mode="after")
    def grow(self) -> Grows:
        self.value += 1
        return self


SHARED = [1]
Shares = create_model("Shares", value=(list[int], Field(default_factory=lambda: SHARED)))


class LiesAboutItsForm(BaseModel):
    """Reads its own JSON back, but its schema says something else."""

    value: int

    @field_serializer("value")
    def write(self, value: int) -> int:
        return f"{value}"  # type: ignore[return-value]


class Picky(BaseModel):
    value: str

    @field_validator("value")
    @classmethod
    def check(cls, value: str) -> str:
        if not value.startswith("zz-"):
            raise ValueError("must begin with zz-")
        return value


class Explodes(BaseModel):
    value: str

    @field_validator("value")
    @classmethod
    def check(cls, value: str) -> str:
        return {"q": "1"}[value]
