"""Events of several workers, told one attempt after the other.

Over HTTP the next step's worker has its attempt before the worker of the step before has heard that its report
arrived. Whoever watches is told the one story to its end before the next begins.
"""

from __future__ import annotations

import threading
from collections import deque

from perago.worker import Event, Listener
from perago.worker.events import AttemptEnded, AttemptReceived


class InTurn:
    """Passes events on to `listener`, one at a time; those of other workers wait while an attempt is being told."""

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self._lock = threading.Lock()
        self._teller: int | None = None
        self._waiting: deque[tuple[int, Event]] = deque()

    def hear(self, worker: int, event: Event) -> None:
        """Something happened in worker number `worker`. May be called by several threads."""
        with self._lock:
            self._waiting.append((worker, event))
            self._tell()

    def finish(self) -> None:
        """All workers are down: tell what is left."""
        with self._lock:
            for _, event in self._waiting:
                self._listener(event)
            self._waiting.clear()

    def _tell(self) -> None:
        """Tell what may be told; from the front again after every attempt that ends."""
        position = 0
        while position < len(self._waiting):
            worker, event = self._waiting[position]
            if self._teller not in (None, worker):
                position += 1
                continue
            del self._waiting[position]
            self._listener(event)
            if isinstance(event, AttemptReceived):
                self._teller = worker
            elif isinstance(event, AttemptEnded):
                self._teller, position = None, 0
