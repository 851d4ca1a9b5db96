"""The seam to time."""

from __future__ import annotations

from typing import Protocol


class Clock(Protocol):
    """Where time comes from, so that a test can own it."""

    def now(self) -> float:
        """Seconds since the epoch."""
        ...

    def sleep(self, seconds: float) -> None:
        """Return once `seconds` have passed on this clock."""
        ...
