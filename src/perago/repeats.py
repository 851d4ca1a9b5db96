"""How often this process has repeated calls that a service did not answer: the one count for everything that does."""

from __future__ import annotations

import threading
from collections import Counter


class Repeats:
    """Counts by service. For any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()

    def note(self, service: str) -> None:
        """A call to `service` is about to be repeated."""
        with self._lock:
            self._counts[service] += 1

    def take(self) -> dict[str, int]:
        """What was noted since this was asked before."""
        with self._lock:
            counts, self._counts = self._counts, Counter()
        return dict(counts)


REPEATS = Repeats()
"""Of this process."""
