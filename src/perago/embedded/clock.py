"""Virtual time for the models, controlled by a test. (The system's clock is `perago.driver.SystemClock`.)"""

from __future__ import annotations

import math
import threading

START = 1_767_225_600.0
"""The default start of virtual time: 2026-01-01T00:00:00Z."""


class VirtualClock:
    """A `perago.ports.Clock` whose time moves only on request (`advance`), or when a thread waits (`sleep`)."""

    def __init__(self, start: float = START) -> None:
        self._now = float(start)
        self._lock = threading.Lock()

    def now(self) -> float:
        """Return seconds since the epoch."""
        return self._now

    def advance(self, seconds: float) -> None:
        """Move time forward by `seconds`.

        Raises:
            ValueError: `seconds` is negative or not finite.
        """
        if not (math.isfinite(seconds) and seconds >= 0):
            raise ValueError(f"time moves forward by a finite number of seconds, not by {seconds!r}")
        with self._lock:
            self._now += seconds

    def sleep(self, seconds: float) -> None:
        """Move time forward by `seconds`, even if other threads are awake.

        Raises:
            ValueError: `seconds` is not finite.
        """
        self.advance(max(0.0, seconds))
