"""The clock of production."""

from __future__ import annotations

import time


class SystemClock:
    """The machine's own time."""

    def now(self) -> float:
        """Seconds since the epoch."""
        return time.time()

    def sleep(self, seconds: float) -> None:
        """Return once `seconds` have passed; a negative duration counts as 0."""
        time.sleep(max(0.0, seconds))
