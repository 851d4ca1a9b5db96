"""Tells where two transcripts differ in something that a client acts on.

For example, a 404 with `{"message": "branch not found"}` equals a 404 with any other message, and no 400.
This is the rule; recordings keep all that the real server said, and the comparison leaves out what the rule leaves out:

1. Requests, statuses, headers and the bodies of successes count as they are.
2. Of the body of an error (400 and above) the members in `ERROR_MEMBERS` count. Of its message only `SIGNALS` count:
   the parts that clients look for. That there are validation errors counts, and not which. If the real server's error
   is no JSON object, the status alone counts.
3. An error within a success (one item of a batch) counts as an error does.
4. The media type counts where an answer is not JSON, without its parameters.
5. Lists under `SETS` have no order.
6. A reason about the syntax of a script counts up to the words of the engine.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Mapping
from typing import Any

from perago.ports import FENCE_MARKER

Transcript = list[dict[str, Any]]

ERROR_MEMBERS = ("message", "reference", "retryable", "status", "validationErrors")
SIGNALS = (
    FENCE_MARKER,
    "hook aborted",
    "invalid API endpoint",
    "no changes",
    "predicate failed",
    "repository not found",
    "uncommitted changes",
    "Content-Type",
    "JSON parse error",
    "No static resource",
    "Required request body",
)
"""Parts of error messages by which `perago.adapters` tells errors of one status apart."""
SETS = frozenset(("failedReferenceTaskNames", "failedTaskNames", "bulkSuccessfulResults"))
_SYNTAX_ERROR = re.compile(r"(`SyntaxError: ).*", re.DOTALL)


def difference(expected: Transcript, seen: Transcript) -> str | None:
    """The first exchange that differs by the rule of this module, with a unified diff; None if there is none."""
    for number, (one, other) in enumerate(zip(expected, seen, strict=False), start=1):
        left, right = comparable(one), comparable(other)
        if _status_alone(one):
            for side in (left, right):
                side["response"] = {"status": side["response"]["status"]}
        if left != right:
            lines = difflib.unified_diff(_lines(left), _lines(right), "recorded", "seen", lineterm="", n=3)
            title = other.get("noted") or f"{other['request']['operation']} ({other['request']['path']})"
            head = f"exchange {number} of {len(expected)}, {title}:"
            return "\n".join((head, *lines))
    if len(expected) != len(seen):
        return f"{len(expected)} exchanges were recorded, {len(seen)} were seen"
    return None


def comparable(exchange: Mapping[str, Any]) -> dict[str, Any]:
    """What counts of a normalised exchange."""
    if "noted" in exchange:
        return {**exchange, "value": _value(exchange["value"])}
    response = dict(exchange["response"])
    body = response.get("body")
    headers = {name: _header(name, text, body) for name, text in response.pop("headers", {}).items()}
    if shown := {name: text for name, text in headers.items() if text is not None}:
        response["headers"] = shown
    if body is not None:
        response["body"] = _error(body) if response["status"] >= 400 else _value(body)
    return {**exchange, "response": response}


def _status_alone(recorded: Mapping[str, Any]) -> bool:
    response = recorded.get("response", {})
    return response.get("status", 0) >= 400 and "body" in response and not isinstance(response["body"], dict)


def _header(name: str, text: str, body: Any) -> str | None:
    if name != "content-type":
        return text
    return text.partition(";")[0].strip().lower() if isinstance(body, str) else None


def _error(body: Any) -> Any:
    if not isinstance(body, dict):
        return body
    shown = {name: body[name] for name in ERROR_MEMBERS if name in body}
    if "message" in shown:
        shown["message"] = [signal for signal in SIGNALS if signal in str(shown["message"])]
    if "validationErrors" in shown:
        shown["validationErrors"] = bool(shown["validationErrors"])
    return shown


def _value(value: Any, key: str | None = None) -> Any:
    if isinstance(value, dict):
        if "status_code" in value and "message" in value:
            value = {**value, **_error(value)}
        if key == "bulkErrorResults":
            return sorted(value)
        return {name: _value(item, name) for name, item in value.items()}
    if isinstance(value, list):
        found = [_value(item) for item in value]
        return sorted(found, key=lambda item: json.dumps(item, sort_keys=True)) if key in SETS else found
    return _SYNTAX_ERROR.sub(r"\1", value) if isinstance(value, str) else value


def _lines(exchange: dict[str, Any]) -> list[str]:
    return json.dumps(exchange, indent=1, ensure_ascii=False, sort_keys=True).splitlines()
