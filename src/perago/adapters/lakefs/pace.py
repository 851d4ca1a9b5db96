"""How many streams a transfer has: more while that makes it faster, fewer when the server asks for mercy."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

LARGE = 8 * 1024 * 1024
"""Bytes from which an object counts as large: few streams carry it as fast as many."""
FIRST_LARGE, FIRST_SMALL = 4, 8
"""Streams that a transfer begins with (`docs/servers/lakefs.md` 4)."""
GAIN = 1.1
"""What twice as many streams must be faster by to be kept."""
PATIENCE = 8
"""Windows after which a number of streams that was not faster is tried again."""
CALM_SECONDS = 0.25
"""For which an overload counts once: all streams meet it at about the same moment."""
_WINDOW = 4
"""Objects of each stream over which the speed is taken."""
_REQUEST = 64 * 1024
"""Bytes that take about as long as what a request costs beside its bytes."""


class Pace:
    """The number of streams of one transfer. Its methods may be called by several threads.

    Twice as many are tried for a window; where they bring less than `GAIN`, the number goes back, and is tried again
    later. An overload halves it.
    """

    def __init__(self, most: int, *, large: bool, now: Callable[[], float] = time.monotonic) -> None:
        """`most`: streams at most. `large`: whether the transfer begins with large objects."""
        self._most = most
        self._large = large
        self._now = now
        self._lock = threading.Lock()
        self.width = min(most, FIRST_LARGE if large else FIRST_SMALL)
        """How many streams there should be now."""
        self._smaller: tuple[int, float] | None = None
        """While a larger number is tried: the one before, and its speed."""
        self._hold = 0
        self._calm_at = self._open_at = 0.0
        self._begin_window()

    def finished(self, size: int) -> None:
        """A stream has brought `size` bytes with one request."""
        with self._lock:
            if self._large and size < LARGE:
                self._large, self._smaller, self._hold = False, None, 0  # their speeds cannot be compared
                self.width = max(self.width, min(self._most, FIRST_SMALL))
                self._begin_window()
                return
            self._requests += 1
            self._done += size + _REQUEST
            passed = self._now() - self._begun
            if self._requests >= _WINDOW * self.width and passed > 0:
                self._judge(self._done / passed)
                self._begin_window()

    def overloaded(self, seconds: float) -> None:
        """The server has no time, and asks for `seconds` of pause, perhaps 0."""
        with self._lock:
            now = self._now()
            self._open_at = max(self._open_at, now + seconds)
            if now >= self._calm_at:
                self.width = max(1, self.width // 2)
                self._smaller, self._hold = None, PATIENCE
                self._begin_window()
            self._calm_at = max(self._calm_at, self._open_at, now + CALM_SECONDS)

    @property
    def pause(self) -> float:
        """Seconds for which no request should begin."""
        with self._lock:
            return max(0.0, self._open_at - self._now())

    def _judge(self, speed: float) -> None:
        if self._smaller is not None:
            (width, before), self._smaller = self._smaller, None
            if speed < GAIN * before:
                self.width, self._hold = width, PATIENCE
        if self._hold:
            self._hold -= 1
        elif self.width < self._most:
            self._smaller = self.width, speed
            self.width = min(self._most, 2 * self.width)

    def _begin_window(self) -> None:
        self._begun, self._requests, self._done = self._now(), 0, 0
