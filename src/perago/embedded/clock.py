"""Virtual time for the models, controlled by a test. (The system's clock is `perago.driver.SystemClock`.)

Virtual time moves only on request (`advance`) or when a thread waits (`sleep`).
"""

from __future__ import annotations

import heapq
import itertools
import math
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

START = 1_767_225_600.0
"""The default start of virtual time: 2026-01-01T00:00:00Z."""

PATIENCE_SECONDS = 60.0
"""Seconds of real time that a move of the clock waits for a callback of another thread before it reports a deadlock."""


@dataclass(order=True, slots=True)
class Timer:
    """A callback or a sleeper that waits for its time, in seconds since the epoch. At the same time, callbacks run
    before sleepers wake, each in order of arrival."""

    time: float
    wakes: bool
    order: int
    callback: Callable[[], object] | None = field(compare=False, default=None)
    done: bool = field(compare=False, default=False)

    def cancel(self) -> None:
        """Do not run it. Harmless when it has run already."""
        self.done = True


class VirtualClock:
    """A `perago.ports.Clock` with virtual time.

    `sleep` and `advance` move time to the earliest timers, even if other threads are awake, and do not wait for the
    threads that they wake.

    Callbacks (`call_at`) run in order of their time in whichever thread moves the clock, without any lock held. They
    may schedule further callbacks but not move time themselves.
    """

    def __init__(self, start: float = START) -> None:
        self._now = float(start)
        self._condition = threading.Condition()
        self._events: list[Timer] = []
        self._order = itertools.count()
        self._mover: int | None = None

    def now(self) -> float:
        """Return seconds since the epoch."""
        return self._now

    def call_at(self, time: float, callback: Callable[[], object]) -> Timer:
        """Run `callback` when the clock reaches `time`; a time that has passed is due at the next move of the clock."""
        event = Timer(time, False, next(self._order), callback)
        with self._condition:
            heapq.heappush(self._events, event)
        return event

    def advance(self, seconds: float) -> None:
        """Move time forward by `seconds`, running callbacks and waking sleepers on the way.

        Raises:
            ValueError: `seconds` is negative or not finite.
            RuntimeError: called from inside a callback.
        """
        _check_duration(seconds)
        with self._condition:
            self._refuse_inside_callback("advance")
            self._wait_for(lambda: self._mover is None)
            target = self._now + seconds
            while self._events and self._events[0].time <= target:
                self._step()
                self._wait_for(lambda: self._mover is None)
            self._now = max(self._now, target)

    def sleep(self, seconds: float) -> None:
        """Return once `seconds` have passed on this clock.

        Raises:
            ValueError: `seconds` is not finite.
            RuntimeError: called from inside a callback.
            TimeoutError: a callback of another thread did not return within a minute of real time.
        """
        duration = max(0.0, seconds)
        _check_duration(duration)
        with self._condition:
            self._refuse_inside_callback("sleep")
            event = Timer(self._now + duration, True, next(self._order))
            heapq.heappush(self._events, event)
            try:
                while not event.done:
                    self._wait_for(lambda: event.done or self._mover is None)
                    if not event.done:
                        self._step()
            finally:
                event.cancel()

    def _step(self) -> None:
        """Move to the earliest event and let it happen. The lock is held on entry and exit, not during a callback."""
        event = heapq.heappop(self._events)
        if event.done:
            return
        self._now = max(self._now, event.time)
        event.done = True
        if event.callback is None:
            self._condition.notify_all()
            return
        self._mover = threading.get_ident()
        self._condition.release()
        try:
            event.callback()
        finally:
            self._condition.acquire()
            self._mover = None
            self._condition.notify_all()

    def _wait_for(self, possible: Callable[[], bool]) -> None:
        if not self._condition.wait_for(possible, PATIENCE_SECONDS):
            raise TimeoutError(
                f"virtual time stands still: a callback of another thread did not return for {PATIENCE_SECONDS:g} s"
            )

    def _refuse_inside_callback(self, method: str) -> None:
        if self._mover == threading.get_ident():
            raise RuntimeError(f"VirtualClock.{method}() inside a callback: schedule with call_at() instead")


def _check_duration(seconds: float) -> None:
    if not (math.isfinite(seconds) and seconds >= 0):
        raise ValueError(f"time moves forward by a finite number of seconds, not by {seconds!r}")
