"""What is shown: foreign text made fit to be looked at (nothing hidden, nothing reordered, nothing endless), statuses,
times in the zone of this machine, which is also the reader's, and durations."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

LINE_LIMIT = 300
"""Characters of a name, a key, a reason in a table."""
BLOCK_LIMIT = 20_000
"""Characters of a payload, a log entry, a message."""

_STRING_LIMIT = 2_000
_ITEM_LIMIT = 200
_DEPTH_LIMIT = 40

_TONES = {
    "COMPLETED": "good",
    "COMPLETED_WITH_ERRORS": "warn",
    "RUNNING": "busy",
    "IN_PROGRESS": "busy",
    "SCHEDULED": "wait",
    "PAUSED": "wait",
    "FAILED": "bad",
    "FAILED_WITH_TERMINAL_ERROR": "bad",
    "TIMED_OUT": "bad",
    "TERMINATED": "warn",
    "CANCELED": "warn",
    "SKIPPED": "wait",
}


@dataclass(frozen=True, slots=True)
class Shown:
    """Text of which possibly only a part is shown; then `note` says so."""

    text: str
    note: str = ""


def block(text: str, limit: int = BLOCK_LIMIT) -> Shown:
    """`text` with its lines, cut to `limit` characters."""
    if len(text) <= limit:
        return Shown(text)
    return Shown(text[:limit], f"cut: the first {limit:,} of {len(text):,} characters are shown")


def tail(text: str, limit: int = BLOCK_LIMIT) -> Shown:
    """The end of `text`, which in a log matters most."""
    if len(text) <= limit:
        return Shown(text)
    return Shown(text[-limit:], f"cut: the last {limit:,} of {len(text):,} characters are shown")


def line(text: str, limit: int = LINE_LIMIT) -> Shown:
    """`text` on one line, cut to `limit` characters."""
    found = block(text, limit)
    return Shown(found.text.replace("\r\n", "\n").replace("\n", "⏎"), found.note)


def readable_json(value: Any) -> Shown:
    """`value`, which came through JSON, indented. Long strings, long lists and deep nesting are shortened inside, so
    that one large member does not hide the others."""
    shortening = _Shortening()
    found = block(json.dumps(shortening.of(value, 1), indent=2, ensure_ascii=False))
    note = "; ".join(part for part in (found.note, "long members are shortened" if shortening.happened else "") if part)
    return Shown(found.text, note)


class _Shortening:
    """Walks one value and remembers whether anything was left out."""

    def __init__(self) -> None:
        self.happened = False

    def of(self, value: Any, depth: int) -> Any:
        """A copy that is small enough."""
        if isinstance(value, str) and len(value) > _STRING_LIMIT:
            return self._left_out(f"{value[:_STRING_LIMIT]}… ({len(value):,} characters)")
        if not isinstance(value, dict | list):
            return value
        if depth > _DEPTH_LIMIT:
            return self._left_out(f"… (nested deeper than {_DEPTH_LIMIT} levels)")
        left_out = len(value) - _ITEM_LIMIT
        if isinstance(value, list):
            items = [self.of(item, depth + 1) for item in value[:_ITEM_LIMIT]]
            return [*items, self._left_out(f"… ({left_out:,} more)")] if left_out > 0 else items
        members = {block(key, LINE_LIMIT).text: self.of(value[key], depth + 1) for key in list(value)[:_ITEM_LIMIT]}
        return {**members, "…": self._left_out(f"({left_out:,} more)")} if left_out > 0 else members

    def _left_out(self, text: str) -> str:
        self.happened = True
        return text


def size(count: int) -> str:
    """A number of bytes for people."""
    if count < 1024:
        return f"{count} B"
    amount = float(count)
    for unit in ("KiB", "MiB", "GiB"):
        amount /= 1024
        if amount < 1024 or unit == "GiB":
            break
    return f"{amount:.1f} {unit}"


def unquoted(text: str) -> str:
    """A JSON text without the quotes of a string."""
    return text[1:-1] if len(text) > 2 and text.startswith('"') else text


def plural(count: int, noun: str, nouns: str | None = None) -> str:
    """`1 file`, `1,200 files`."""
    return f"{count:,} {noun if count == 1 else nouns or noun + 's'}"


@dataclass(frozen=True, slots=True)
class StatusView:
    """A status and its tone: good, bad, busy, wait or warn."""

    word: str
    tone: str


def status_view(status: str) -> StatusView:
    """`FAILED_WITH_TERMINAL_ERROR` reads `failed with terminal error`."""
    return StatusView(status.replace("_", " ").lower(), _TONES.get(status, "wait"))


@dataclass(frozen=True, slots=True)
class Moment:
    """One point in time: to the second, to the millisecond, and in ISO form (empty if it is no date at all)."""

    text: str
    fine: str
    iso: str


def moment(milliseconds: int) -> Moment | None:
    """A time in milliseconds since the epoch; 0 stands for not yet. Numbers beyond any calendar stay numbers."""
    if milliseconds == 0:
        return None
    try:
        local = datetime.fromtimestamp(milliseconds / 1000, UTC).astimezone()
    except (OverflowError, ValueError, OSError):
        return Moment(f"{milliseconds} ms", f"{milliseconds} ms", "")
    fine = local.replace(tzinfo=None).isoformat(" ", "milliseconds")
    return Moment(fine[:-4], fine, local.isoformat(timespec="milliseconds"))


def zone() -> str:
    """The zone that all times are shown in."""
    offset = datetime.now(UTC).astimezone().strftime("%z")
    return f"UTC{offset[:3]}:{offset[3:]}"


def duration(milliseconds: float) -> str:
    """A length of time in the two units that matter."""
    seconds = max(0.0, milliseconds / 1000)
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min"
    return f"{hours // 24} days {hours % 24} h"
