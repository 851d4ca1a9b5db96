"""pydantic's validation errors as lines for people: a JSON pointer and a reason, never a value
(docs/design/contract.md 4)."""

from __future__ import annotations

import re
import typing
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError
from pydantic_core.core_schema import ErrorType

from perago.taskdef.pointer import join_pointer

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

MOST_PROBLEMS = 50
"""So many lines are listed; the rest is counted."""

_WORDED_BY_PYDANTIC = frozenset(typing.get_args(ErrorType)) - {"value_error", "assertion_error"}
_QUOTING_THE_INPUT = frozenset({"uuid_parsing", "timezone_offset", "bytes_invalid_encoding"})
_LONGEST_REASON = 200


def problem_lines(error: ValidationError, document: Any, root: str) -> tuple[str, ...]:
    """One line per error, without repetition.

    `document` is the JSON value that was validated and `root` the pointer to it. Text that the author's validators
    wrote is kept, with everything blanked out that stands in the rejected value.
    """
    lines: dict[str, None] = {}
    for details in error.errors(include_url=False):
        pointer = root
        for key in location_of(details, document):
            pointer = join_pointer(pointer, key)
        lines[f"{pointer or '/'}: {_reason(details)}"] = None
    listed = tuple(lines)
    if len(listed) > MOST_PROBLEMS:
        return (*listed[:MOST_PROBLEMS], f"and {len(listed) - MOST_PROBLEMS} more problems")
    return listed


def location_of(details: ErrorDetails, document: Any) -> tuple[str | int, ...]:
    """The keys that lead to an error in the document.

    pydantic's location also names branches of unions and validators; what is not in the document is left out,
    except the key that is missing.
    """
    keys: list[str | int] = []
    here = document
    last = len(details["loc"]) - 1
    for index, key in enumerate(details["loc"]):
        is_item = isinstance(here, list) and isinstance(key, int) and key < len(here)
        if is_item or (isinstance(here, Mapping) and key in here):
            keys.append(key)
            here = here[key]
        elif index == last and details["type"] == "missing":
            keys.append(key)
    return tuple(keys)


def _reason(details: ErrorDetails) -> str:
    kind, context = details["type"], details.get("ctx", {})
    if kind == "union_tag_invalid":
        return f"{context['discriminator']} is none of {context['expected_tags']}"
    if kind in _QUOTING_THE_INPUT:
        return f"is not valid ({kind})"
    if kind in _WORDED_BY_PYDANTIC:
        return details["msg"]
    text = str(context["error"]) if "error" in context else details["msg"]
    return _without_values(" ".join(text.split()), details["input"])[:_LONGEST_REASON] or f"is not valid ({kind})"


def _without_values(text: str, value: Any) -> str:
    for leaf in sorted({str(leaf) for leaf in _leaves(value)}, key=len, reverse=True):
        if leaf:
            text = re.sub(rf"(?<!\w){re.escape(leaf)}(?!\w)", "…", text)
    return text


def _leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, Mapping):
        for item in value.values():
            yield from _leaves(item)
    elif isinstance(value, list | tuple | set | frozenset):
        for item in value:
            yield from _leaves(item)
    elif hasattr(value, "__dict__") and not isinstance(value, type):
        yield from _leaves(vars(value))
    elif value is not None and not isinstance(value, bool):
        yield value
