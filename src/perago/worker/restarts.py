"""How long a slot waits before its next process starts."""

from __future__ import annotations

DELAYS = (1.0, 2.0, 4.0, 8.0, 16.0, 30.0)
"""Seconds after the first, second, ... crash in a row; the last one repeats (docs/design/contract.md 7)."""

HEALTHY_SECONDS = 60.0
"""A process that lived this long ends the row."""


class RestartDelay:
    """Counts one slot's crashes in a row. Other slots have their own."""

    def __init__(self) -> None:
        self._crashes = 0

    def after_crash(self, lived: float) -> float:
        """Seconds to wait now that a process died after `lived` seconds."""
        if lived >= HEALTHY_SECONDS:
            self._crashes = 0
        delay = DELAYS[min(self._crashes, len(DELAYS) - 1)]
        self._crashes += 1
        return delay
