"""Makes what two servers showed comparable: ids and times become the order of their appearance."""

from __future__ import annotations

import re
from typing import Any

_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_NAME = re.compile(r"\b(w_)?[tw]_[0-9a-f]{10}\b")
_ELAPSED = re.compile(r"(after|elapsed) \d+ seconds")

_TIMES = frozenset(
    (
        "createTime",
        "updateTime",
        "updatedTime",
        "firstScheduledTime",
        "endTime",
        "startTime",
        "scheduledTime",
        "lastRetriedTime",
        "createdTime",
        "queueWaitTime",
    )
)

_LONG = 2000


class Normal:
    """Replaces ids and names by the order of their appearance; times by whether they are set."""

    def __init__(self) -> None:
        self._known: dict[str, str] = {}

    def __call__(self, value: Any, key: str | None = None) -> Any:
        """A comparable copy of `value`."""
        if isinstance(value, dict):
            return {self._text(name): self(item, name) for name, item in sorted(value.items())}
        if isinstance(value, list | tuple):
            return [self(item) for item in value]
        if isinstance(value, str):
            return f"<{len(value)} characters>" if len(value) > _LONG else self._text(value)
        if key in _TIMES:
            return "not yet" if value == 0 and key != "queueWaitTime" else "time"
        return value

    def _text(self, text: str) -> str:
        text = _UUID.sub(lambda match: self._known.setdefault(match[0], f"<id {len(self._known)}>"), text)
        text = _NAME.sub(lambda match: self._known.setdefault(match[0], f"<name {len(self._known)}>"), text)
        return _ELAPSED.sub(r"\1 n seconds", text)


_SCRIPT = re.compile(r"Error evaluating the script .*", re.DOTALL)


def without_wording(seen: Any) -> Any:
    """A copy of what was seen without the messages of refusals, `[404, message]`, and of script engines."""
    if isinstance(seen, dict):
        return {name: without_wording(item) for name, item in seen.items()}
    if isinstance(seen, list):
        refused = len(seen) == 2 and isinstance(seen[0], int) and 400 <= seen[0] < 600
        return seen[:1] if refused else [without_wording(item) for item in seen]
    return _SCRIPT.sub("", seen) if isinstance(seen, str) else seen
