"""What JavaScript makes of the values of a payload: truth, numbers, texts, equality, members."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from perago.embedded.conductor.javatext import java_text

_NUMBER = re.compile(r"\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*")

_MAX_EXACT = 2**53


class ScriptError(Exception):
    """The expression failed, with the words of the server."""

    def __init__(self, problem: str) -> None:
        super().__init__(f"Error evaluating the script `{problem}` at line 1")


class _Undefined:
    """The value of what is not there, which is not null."""


UNDEFINED = _Undefined()


def member(value: Any, name: Any) -> Any:
    """`value[name]`: of an object, a list or a text; nothing else has members."""
    if value is None or value is UNDEFINED:
        shown = "null" if value is None else "undefined"
        raise ScriptError(f"TypeError: Cannot read property '{text(name)}' of {shown}")
    if isinstance(value, Mapping):
        return value.get(text(name), UNDEFINED)
    if isinstance(value, list | str):
        if name == "length":
            return len(value)
        if isinstance(name, int) and not isinstance(name, bool) and 0 <= name < len(value):
            return value[name]
    return UNDEFINED


def truthy(value: Any) -> bool:
    """Objects and lists are true, however empty."""
    if isinstance(value, Mapping | list):
        return True
    if isinstance(value, float) and math.isnan(value):
        return False
    return value is not UNDEFINED and bool(value)


def number(value: Any) -> float | int:
    """The number that an operator sees; NaN for a text that is none."""
    if value is UNDEFINED:
        return math.nan
    if value is None or isinstance(value, bool):
        return int(bool(value))
    if isinstance(value, int):
        return value if abs(value) <= _MAX_EXACT else float(value)
    if isinstance(value, float):
        return value
    if isinstance(value, str):
        if not value.strip():
            return 0
        return normal(float(value)) if _NUMBER.fullmatch(value) else math.nan
    raise NotImplementedError("InMemoryConductor: script: an object as a number is not modelled")


def normal(value: float | int) -> float | int:
    """Whole numbers have no point."""
    whole = isinstance(value, float) and value.is_integer() and abs(value) <= _MAX_EXACT
    return int(value) if whole else value


def text(value: Any) -> str:
    """The text that `+ ''` makes of a value; objects are spelled as Java spells them."""
    if value is UNDEFINED:
        return "undefined"
    if not isinstance(value, float) or isinstance(value, bool):
        return java_text(value)
    if math.isnan(value) or math.isinf(value):
        return special(value)
    shown = normal(value)
    if "e" in repr(shown):
        raise NotImplementedError(f"InMemoryConductor: script: the text of {value!r} is not modelled")
    return repr(shown)


def special(value: float) -> str:
    """NaN and the infinities, which are texts in a payload."""
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def loosely_equal(left: Any, right: Any) -> bool:
    """`==`: null and undefined are equal, texts and booleans are compared with numbers as numbers."""
    nothing = (left is None or left is UNDEFINED, right is None or right is UNDEFINED)
    if any(nothing):
        return all(nothing)
    if isinstance(left, Mapping | list) and isinstance(right, Mapping | list):
        return left is right
    if isinstance(left, str) and isinstance(right, str):
        return left == right
    return number(left) == number(right)


def strictly_equal(left: Any, right: Any) -> bool:
    """`===`: no conversions."""
    return _type(left) == _type(right) and (left is right if _type(left) == "object" else bool(left == right))


def _type(value: Any) -> str:
    if value is UNDEFINED:
        return "undefined"
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int | float):
        return "number"
    return "string" if isinstance(value, str) else "object"
