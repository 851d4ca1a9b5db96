"""JSON bodies as Go reads them; `json_words` has what it says to what is none."""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from typing import Any, NoReturn

from perago.embedded.http.lakefs.json_words import problem_of

_INTEGER = re.compile(r"-?[0-9]+")
_INTEGERS = range(-(1 << 63), 1 << 63)
_LONGEST_INTEGER = 20
_HALF_CHARACTER = re.compile("[\ud800-\udfff]")


class JsonError(ValueError):
    """What is no JSON, in Go's words."""


@dataclass(frozen=True, slots=True)
class Number:
    """A number as it was written."""

    text: str

    @property
    def is_beyond_floats(self) -> bool:
        return math.isinf(float(self.text))

    @property
    def is_whole(self) -> bool:
        """Whether its value is, however it was written."""
        return float(self.text).is_integer()

    @property
    def integer(self) -> int | None:
        """What Go puts into an integer of 64 bits; None if it was written otherwise, or is too large."""
        if not _INTEGER.fullmatch(self.text) or len(self.text) > _LONGEST_INTEGER:
            return None
        value = int(self.text)
        return value if value in _INTEGERS else None


def read_json(raw: bytes) -> Any:
    """The first JSON value of `raw`, with numbers as `Number`; what follows it is not looked at.

    Raises:
        JsonError: no JSON.
        RecursionError: nested too deeply for Python.
    """
    text = raw.decode("utf-8", "replace").lstrip(" \t\r\n")
    try:
        value = _DECODER.raw_decode(text)[0]
        return _mended(value) if b"\\u" in raw else value
    except (ValueError, RecursionError):
        problem = problem_of(raw)
        if problem is None:
            raise
        raise JsonError(problem) from None


def _mended(value: Any) -> Any:
    """The value with U+FFFD for each half of a character that was escaped without its other half."""
    match value:
        case str():
            return _HALF_CHARACTER.sub("\ufffd", value)
        case list():
            return [_mended(item) for item in value]
        case dict():
            return {_mended(key): _mended(item) for key, item in value.items()}
    return value


def _no_constant(token: str) -> NoReturn:
    raise ValueError(token)


_DECODER = json.JSONDecoder(parse_int=Number, parse_float=Number, parse_constant=_no_constant)
