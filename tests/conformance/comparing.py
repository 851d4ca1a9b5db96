"""Tells where two transcripts differ, so that a person sees it at once."""

from __future__ import annotations

import difflib
import json
from typing import Any

Transcript = list[dict[str, Any]]


def difference(expected: Transcript, seen: Transcript) -> str | None:
    """The first exchange that differs, with a unified diff; None if there is none."""
    for number, (one, other) in enumerate(zip(expected, seen, strict=False), start=1):
        if one != other:
            lines = difflib.unified_diff(_lines(one), _lines(other), "recorded", "seen", lineterm="", n=3)
            head = f"exchange {number} of {len(expected)}, {_title(other)}:"
            return "\n".join((head, *lines))
    if len(expected) != len(seen):
        return f"{len(expected)} exchanges were recorded, {len(seen)} were seen"
    return None


def _title(exchange: dict[str, Any]) -> str:
    if "noted" in exchange:
        return str(exchange["noted"])
    sent = exchange["request"]
    return f"{sent['operation']} ({sent['path']})"


def _lines(exchange: dict[str, Any]) -> list[str]:
    return json.dumps(exchange, indent=1, ensure_ascii=False, sort_keys=True).splitlines()
