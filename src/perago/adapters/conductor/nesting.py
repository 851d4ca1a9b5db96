"""Reading JSON that is nested more deeply than Python's decoder can read (about 1,000 levels on Python 3.11).

Conductor stores and delivers such inputs. One of them must not keep a worker from reading what is next to it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

_TOKEN = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"|[\[\]{}]', re.DOTALL)
_LEVELS = (900, 600, 300)
"""Of what is read in spite of deeper values: the most that the decoder can read now, which depends on its caller."""


class TooDeep(str):
    """The placeholder for a value that is nested too deeply to be read."""

    __slots__ = ()


TOO_DEEP = TooDeep("(nested too deeply)")


def loads(body: bytes) -> Any:
    """The value of a JSON document, with `TOO_DEEP` for what is nested too deeply. The `inputData` of a task in a list
    is replaced as a whole if it holds such a value.

    Raises:
        ValueError: it is not JSON.
    """
    try:
        return json.loads(body)
    except RecursionError:
        pass
    for levels in _LEVELS:
        try:
            value = json.loads(b"".join(_pruned(body, levels)), parse_constant=lambda _: TOO_DEEP)
        except RecursionError:
            continue
        for task in value if isinstance(value, list) else ():
            if isinstance(task, dict) and _is_pruned(task.get("inputData")):
                task["inputData"] = TOO_DEEP
        return value
    raise ValueError("it is nested too deeply")


def _pruned(body: bytes, levels: int) -> Iterator[bytes]:
    """The document in pieces, with a constant that JSON does not have for each value below so many levels."""
    depth = start = 0
    for token in _TOKEN.finditer(body):
        if token[0] in b"[{":
            depth += 1
            if depth == levels + 1:
                yield body[start : token.start()] + b"NaN"
        elif token[0] in b"]}":
            if depth == levels + 1:
                start = token.end()
            depth -= 1
    yield body[start:]


def _is_pruned(value: Any) -> bool:
    """Whether `TOO_DEEP` is somewhere in a value."""
    left = [value]
    while left:
        value = left.pop()
        if isinstance(value, TooDeep):
            return True
        left += value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return False
