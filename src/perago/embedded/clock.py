"""Virtual time for the models, controlled by a test. (The system's clock is `perago.driver.SystemClock`.)

Virtual time moves only on request (`advance`) or when everyone waits (`sleep`).
"""

from __future__ import annotations

import heapq
import itertools
import math
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from perago.records import dataclass, field

START = 1_767_225_600.0
"""The default start of virtual time: 2026-01-01T00:00:00Z."""

PATIENCE_SECONDS = 60.0
"""Seconds of real time that a virtual sleep waits for the other participants before it reports a deadlock."""


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

    `sleep` moves time to the earliest wake-up as soon as everyone sleeps. "Everyone" is the number of participants, at
    least one: with no or one participant a sleep ends immediately; with n, time moves when n threads sleep. A thread
    participates between `join` and `leave`. Call `join` before the thread starts, so that time does not move in the
    meantime, or wrap its work in `participant()`.

    `advance` moves time even if other threads are awake, and does not wait for the threads that it wakes.

    Callbacks (`call_at`) run in order of their time in whichever thread moves the clock, without any lock held. They
    may schedule further callbacks but not move time themselves.
    """

    def __init__(self, start: float = START) -> None:
        self._now = float(start)
        self._condition = threading.Condition()
        self._events: list[Timer] = []
        self._order = itertools.count()
        self._sleeping = 0
        self._participants = 0
        self._mover: int | None = None

    def now(self) -> float:
        """Seconds since the epoch."""
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
            self._wait_while(lambda: self._mover is not None)
            target = self._now + seconds
            while self._events and self._events[0].time <= target:
                self._step()
                self._wait_while(lambda: self._mover is not None)
            self._now = max(self._now, target)

    def sleep(self, seconds: float) -> None:
        """Return once `seconds` have passed on this clock.

        Raises:
            ValueError: `seconds` is not finite.
            RuntimeError: called from inside a callback.
            TimeoutError: the other participants did not sleep within a minute of real time.
        """
        duration = max(0.0, seconds)
        _check_duration(duration)
        with self._condition:
            self._refuse_inside_callback("sleep")
            event = Timer(self._now + duration, True, next(self._order))
            heapq.heappush(self._events, event)
            self._sleeping += 1
            try:
                while not event.done:
                    self._wait_while(lambda: not event.done and not self._everyone_waits())
                    if not event.done:
                        self._step()
            finally:
                if not event.done:
                    self._wake(event)

    def join(self) -> None:
        """Add a participant, so that time waits until that thread sleeps, too."""
        with self._condition:
            self._participants += 1

    def leave(self) -> None:
        """Remove a participant.

        Raises:
            RuntimeError: nothing waits.
        """
        with self._condition:
            if self._participants == 0:
                raise RuntimeError("VirtualClock.leave(): no thread has joined; pair each leave() with one join()")
            self._participants -= 1
            self._condition.notify_all()

    @contextmanager
    def participant(self) -> Iterator[None]:
        """Participate during the `with` block."""
        self.join()
        try:
            yield
        finally:
            self.leave()

    def _everyone_waits(self) -> bool:
        return self._mover is None and self._sleeping >= max(1, self._participants)

    def _step(self) -> None:
        """Move to the earliest event and let it happen. The lock is held on entry and exit, not during a callback."""
        event = heapq.heappop(self._events)
        if event.done:
            return
        self._now = max(self._now, event.time)
        if event.callback is None:
            self._wake(event)
            return
        event.done = True
        self._mover = threading.get_ident()
        self._condition.release()
        try:
            event.callback()
        finally:
            self._condition.acquire()
            self._mover = None
            self._condition.notify_all()

    def _wake(self, event: Timer) -> None:
        event.done = True
        self._sleeping -= 1
        self._condition.notify_all()

    def _wait_while(self, blocked: Callable[[], bool]) -> None:
        if blocked() and not self._condition.wait_for(lambda: not blocked(), PATIENCE_SECONDS):
            raise TimeoutError(
                f"virtual time stands still: {self._sleeping} of {self._participants} participants sleep and the rest "
                f"did not for {PATIENCE_SECONDS:g} s of real time; let them sleep on this clock or call leave()"
            )

    def _refuse_inside_callback(self, method: str) -> None:
        if self._mover == threading.get_ident():
            raise RuntimeError(f"VirtualClock.{method}() inside a callback: schedule with call_at() instead")


def _check_duration(seconds: float) -> None:
    if not (math.isfinite(seconds) and seconds >= 0):
        raise ValueError(f"time moves forward by a finite number of seconds, not by {seconds!r}")
