"""Whether a value fits where it is put is decided by the types as JSON has them."""

from __future__ import annotations

import copy
from collections.abc import Callable
from datetime import date, datetime
from decimal import Decimal
from enum import Enum
from pathlib import Path
from typing import Any, Literal

import pytest
from pydantic import BaseModel
from typing_extensions import TypedDict

from perago.authoring.declaration import InvalidDeclaration
from perago.workflows.values import Recorded, Scope, Value, fits


class Strict(BaseModel, extra="forbid"):
    a: int


class StrictAndMore(Strict):
    b: int


class Open(BaseModel):
    a: int


class OpenAndMore(Open):
    b: int


class Record(TypedDict):
    a: int


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


@pytest.mark.parametrize(
    ("source", "target"),
    [
        (int, float),
        (int, int | None),
        (Literal["a"], Literal["a", "b"]),
        (Colour, str),
        (Decimal, Decimal),
        (datetime, str),
        (Path, str),
        (set[int], list[int]),
        (tuple[int, str], tuple[int, str]),
        (tuple[int, int], list[int]),
        (dict[int, int], dict[str, int]),
        (dict[Colour, int], dict[str, float]),
        (OpenAndMore, Open),
        (Record, Record),
        (list, list),
    ],
    ids=str,
)
def test_a_value_fits(source: Any, target: Any) -> None:
    assert fits(source, target)


@pytest.mark.parametrize(
    ("source", "target"),
    [
        (float, int),
        (int | None, int),
        (str, Colour),
        (str, datetime),
        (datetime, date),
        (list[int | None], list[int]),
        (list, list[int]),
        (list[int], tuple[int, int]),
        (tuple[int, str], tuple[str, int]),
        (dict[str, int], dict[int, int]),
        (dict[str, int], dict[Colour, int]),
        (StrictAndMore, Strict),
        (list[StrictAndMore], list[Strict]),
    ],
    ids=str,
)
def test_a_value_does_not_fit(source: Any, target: Any) -> None:
    assert not fits(source, target)


USES: dict[str, Callable[[Any], object]] = {
    "round": round,
    "repr": lambda value: f"{value!r}",
    "path": Path,
    "bytes": bytes,
    "reversed": reversed,
    "matmul": lambda value: value @ value,
    "invert": lambda value: ~value,
}


@pytest.mark.parametrize("use", USES.values(), ids=USES)
def test_a_value_cannot_be_used_as_if_it_existed(use: Callable[[Any], object]) -> None:
    with pytest.raises(InvalidDeclaration, match=r"given\.a has no value while the workflow is written"):
        use(_value())


def test_a_copy_of_a_value_is_the_value() -> None:
    value = _value()
    assert copy.copy(value) is value
    assert copy.deepcopy([value])[0] is value


def _value() -> Value:
    return Value(Recorded("${workflow.input.a}", "given.a", int, (Scope("flow", ""),), "workflow", ("a",)))
