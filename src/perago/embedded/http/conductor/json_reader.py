"""JSON bodies as Jackson reads them: what it takes that Python does not; `json_words` has what it says to the rest."""

from __future__ import annotations

import json
import math
from typing import Any

from perago.embedded.conductor.errors import Malformed, malformed
from perago.embedded.conductor.jackson import wrong_token
from perago.embedded.conductor.wire import MAX_DEPTH
from perago.embedded.http.conductor.json_words import deepest, no_json, unknown_token


class _Refused(ValueError):
    """A token that Python would take."""


def read_json(operation: str, raw: bytes, *, wanted: str) -> Any:
    """The first JSON value of `raw`; what follows it is not looked at. `wanted` is its Java type.

    Raises:
        Malformed: no JSON.
    """
    text = _decoded(operation, raw)
    if _is_too_deep(raw, text):
        raise _too_deep(operation)
    start = len(text) - len(text.lstrip(" \t\r\n"))
    try:
        return _DECODER.raw_decode(text, start)[0]
    except _Refused as error:
        raise malformed(operation, str(error)) from None
    except RecursionError:
        raise _too_deep(operation) from None
    except json.JSONDecodeError as error:
        if text[start : start + 1] == "[" and "List" not in wanted:
            raise malformed(operation, wrong_token(wanted, [])) from None
        if text[start : start + 1] == "{" and "List" in wanted:
            raise malformed(operation, wrong_token(wanted, {})) from None
        raise malformed(operation, no_json(text, error.msg, error.pos)) from None


def _decoded(operation: str, raw: bytes) -> str:
    try:
        return raw.removeprefix(b"\xef\xbb\xbf").decode()
    except UnicodeDecodeError as error:
        wrong = raw[error.start]
        if raw[: error.start].count(b'"') % 2:
            raise malformed(operation, f"Invalid UTF-8 start byte {hex(wrong)}") from None
        raise malformed(operation, unknown_token(chr(wrong))) from None


def _is_too_deep(raw: bytes, text: str) -> bool:
    """Whether anything is nested deeper than Jackson allows; only few bodies have brackets enough to be looked at."""
    return raw.count(b"[") + raw.count(b"{") > MAX_DEPTH and deepest(text) > MAX_DEPTH


def _too_deep(operation: str) -> Malformed:
    limit = f"exceeds the maximum allowed ({MAX_DEPTH}, from `StreamReadConstraints.getMaxNestingDepth()`)"
    return malformed(operation, f"Document nesting depth ({MAX_DEPTH + 1}) {limit}")


def _constant(token: str) -> Any:
    raise _Refused(f"Non-standard token '{token}': enable `JsonReadFeature.ALLOW_NON_NUMERIC_NUMBERS` to allow")


def _integer(token: str) -> int:
    digits = len(token)
    if digits > 1000:
        limit = "exceeds the maximum allowed (1000, from `StreamReadConstraints.getMaxNumberLength()`)"
        raise _Refused(f"Number value length ({digits}) {limit}")
    return int(token)


def _float(token: str) -> float | str:
    """A number beyond all is stored as a text (`reference/conductor.md` 2 "Payload fidelity")."""
    number = float(token)
    if math.isinf(number):
        return "Infinity" if number > 0 else "-Infinity"
    return number


_DECODER = json.JSONDecoder(parse_constant=_constant, parse_int=_integer, parse_float=_float)
