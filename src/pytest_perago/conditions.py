"""The conditions under which user code runs, and interruptions of its calls."""

from __future__ import annotations

import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any

from perago.driver import Interrupted
from pytest_perago.clock import TICK, fake_clock
from pytest_perago.confinement import drops_exceptions, patched
from pytest_perago.machine import another_machine, listing_order, seeded
from pytest_perago.threads import Threads
from pytest_perago.user_code import UserCode

START_TIME = 1_767_607_230.0
"""2026-01-05 10:00:30 UTC."""
MUCH_LATER = START_TIME + 397 * 86_400 + 11_111
"""A moment with a different year, month, day, hour, minute and second."""
MUCH_SLOWER = 7 * TICK
"""A tick that also changes durations."""


@dataclass(frozen=True, slots=True)
class Conditions:
    """The conditions of a call."""

    start: float = START_TIME
    """The time at which the function starts, in seconds since the epoch."""
    tick: float = TICK
    """The seconds that each read of the clock adds."""
    seed: int = 1
    """The seed of the random numbers."""
    backwards: bool = False
    """Whether directory listings are in descending order."""
    swapped: int = 0
    """The order of the threads: see `Threads`."""
    threads: int = 0
    """The number of threads that are expected."""
    ordered: bool = True
    """Whether threads have an order at all."""
    pinned: bool = True
    """Whether clock and random numbers are replaced."""
    machine: tuple[str, ...] = ()
    """The parts of `MACHINE` that differ."""
    home: str = ""
    """The home directory, if it is one of these parts."""


@contextmanager
def under(conditions: Conditions, user_code: UserCode, used: set[str]) -> Iterator[Threads]:
    """Run user code under these conditions. Yield the counter of its threads. `used` gets the used sources:
    `time`, `random`, `listing`."""
    with ExitStack() as stack:
        if conditions.pinned:
            stack.enter_context(seeded(conditions.seed, lambda: used.add("random")))
            stack.enter_context(
                fake_clock(user_code.modules, conditions.start, conditions.tick, lambda: used.add("time"))
            )
        stack.enter_context(listing_order(backwards=conditions.backwards, note=lambda: used.add("listing")))
        threads = Threads(
            user_code, swapped=conditions.swapped, expected=conditions.threads, ordered=conditions.ordered
        )
        stack.enter_context(threads)
        if conditions.machine:  # the last, because it copies modules as they are now
            stack.enter_context(another_machine(user_code.modules, conditions.machine, conditions.home))
        yield threads


Place = tuple[str, int]
"""The file and the line of the call."""


class Interruption:
    """Counts the calls of user code in its block, in the current thread.

    Args:
        user_code: whose code it is.
        at: the number of the call, from 0, at which `act` is called; None: at none.
        act: may raise an exception there. If the function has set a signal handler, that is called instead.
        counts: False switches the counter off.
    """

    def __init__(
        self, user_code: UserCode, *, at: int | None = None, act: Callable[[], None] | None = None, counts: bool = True
    ) -> None:
        self._files = user_code.files
        self._at = sys.maxsize if at is None else at
        self._act = act
        self._counts = counts
        self._inside_c: set[FrameType] = set()
        self.calls: list[Place] = []
        """The place of each call."""
        self.place: Place | None = None
        """The place at which it happened."""
        self.dropped: list[BaseException] = []
        """Exceptions that Python dropped with a warning. If the raised exception is one of them, no code has seen
        it."""
        self.handled: bool = False
        """Whether a signal handler of the function handled it."""

    @property
    def is_planned(self) -> bool:
        """Whether an interruption is planned."""
        return self._act is not None

    def __enter__(self) -> Interruption:
        self._former = sys.getprofile()
        self._owner = os.getpid()
        self._handler = signal.getsignal(signal.SIGTERM)
        if self._counts:
            sys.setprofile(self._profile)
        return self

    def __exit__(self, *_: object) -> None:
        if self._counts:
            sys.setprofile(self._former)
        self._inside_c.clear()

    def _profile(self, frame: FrameType, event: str, _: Any) -> None:
        caller = frame.f_back if event == "call" else frame
        if caller is None or event == "return" or caller.f_code.co_filename not in self._files:
            return
        if event in ("c_return", "c_exception"):
            self._inside_c.discard(caller)
            return
        if event == "call" and caller in self._inside_c:
            return  # a callback, such as that of a fork: Python may drop what is raised there
        if event == "c_call":
            self._inside_c.add(caller)
        place = caller.f_code.co_filename, caller.f_lineno
        self.calls.append(place)
        due = len(self.calls) > self._at and self._act is not None and not self.place
        if due and os.getpid() == self._owner and not drops_exceptions(frame):
            self.place = place
            self._interrupt(caller)

    def _interrupt(self, frame: FrameType) -> None:
        handler = signal.getsignal(signal.SIGTERM)
        self.handled = handler is not self._handler
        if not self.handled and self._act is not None:
            self._act()
        elif callable(handler):
            handler(signal.SIGTERM, frame)


@contextmanager
def silenced() -> Iterator[list[BaseException]]:
    """Silence reports about unfinished work of an interrupted function: coroutines, threads without their files. The
    list then has the exceptions that Python dropped, for instance in a destructor."""
    dropped: list[BaseException] = []

    def drop(unraisable: Any) -> None:
        dropped.append(unraisable.exc_value)

    with warnings.catch_warnings(), patched(sys, unraisablehook=drop), patched(threading, excepthook=lambda _: None):
        warnings.simplefilter("ignore")
        yield dropped


def choose(places: list[Place], most: int) -> list[int]:
    """Return the numbers of up to `most` calls, in order, spread over the lines that make calls."""
    last = {place: number for number, place in enumerate(places)}
    numbers = sorted(last.values())
    if len(numbers) <= most:
        return numbers
    return [numbers[index * (len(numbers) - 1) // (most - 1)] for index in range(most)]


def end() -> None:
    """Interrupt a function as a worker does when its attempt is canceled or lost.

    Raises:
        Interrupted: inside the function.
    """
    raise Interrupted
