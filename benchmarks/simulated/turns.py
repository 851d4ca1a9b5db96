"""An event loop in virtual time, and threads that take turns with it.

A worker's supervisor is asynchronous, its attempts and requests are not. Here each of these runs in a thread, and only
one of all threads moves at any moment: it has its turn until it sleeps or waits, and then the loop continues. So the
order of everything follows from the virtual time alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import selectors
import threading
import time
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from perago.ports import VirtualClock

P = ParamSpec("P")
T = TypeVar("T")

_TURN_LIMIT = 60.0
"""Seconds of real time that one turn may take."""


class Deadlock(Exception):
    """Everything waits, and no timer is left."""


class Killed(BaseException):
    """The end of a process, as far as a thread can have one."""


class _VirtualSelector(selectors.SelectSelector):
    """Lets virtual time pass instead of waiting."""

    def __init__(self, clock: VirtualClock) -> None:
        super().__init__()
        self._clock = clock

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise Deadlock
        if timeout > 0:
            self._clock.advance(timeout)
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """Its time is that of `clock`, which it alone moves."""

    def __init__(self, clock: VirtualClock) -> None:
        self._virtual = clock
        super().__init__(_VirtualSelector(clock))
        self._clock_resolution = 1e-6  # as fine as a float has the seconds since the epoch

    def time(self) -> float:
        """Seconds since the epoch."""
        return self._virtual.now()


class Turn:
    """A thread that carries out one call after the other, each in turns with the loop."""

    def __init__(self, turns: Turns) -> None:
        self._turns = turns
        self._go, self._back = threading.Lock(), threading.Lock()
        self._go.acquire()
        self._back.acquire()
        self._job: Callable[[], None] | None = None
        self._killed = False
        threading.Thread(target=self._live, daemon=True).start()

    def begin(self, job: Callable[[], None]) -> None:
        """Carry out `job` until it waits. For the loop."""
        self._job = job
        self.move()

    def move(self) -> None:
        """Let the thread move until it waits again. For the loop; without effect if the thread has no job."""
        if self._job is None:
            return
        self._turns.moving = self
        self._go.release()
        arrived = self._back.acquire(timeout=_TURN_LIMIT)
        self._turns.moving = None
        if not arrived:
            raise TimeoutError(f"a turn took more than {_TURN_LIMIT:g} s of real time")

    def wait(self) -> None:
        """Let others move until the next `move`. For the thread itself.

        Raises:
            Killed: the thread was killed.
        """
        self._back.release()
        self._go.acquire()
        if self._killed:
            raise Killed

    def kill(self) -> None:
        """End the job where it waits. For the loop."""
        if self._job is not None:
            self._killed = True
            self.move()

    def end(self) -> None:
        """End the thread. For the loop."""
        self.kill()
        self._go.release()

    def _live(self) -> None:
        self._turns.join()
        while True:
            self._go.acquire()
            if self._job is None:
                return
            with contextlib.suppress(Killed):
                self._job()
            self._job, self._killed = None, False
            self._turns.idle.append(self)
            self._back.release()


class Turns:
    """All threads of one simulation, and a `perago.ports.Clock` for what runs in them."""

    def __init__(self, clock: VirtualClock) -> None:
        self._clock = clock
        self.loop = VirtualLoop(clock)
        self.idle: list[Turn] = []
        self._all: list[Turn] = []
        self.moving: Turn | None = None
        self._joined = threading.local()
        self._real = time.monotonic

    def now(self) -> float:
        """Seconds since the epoch."""
        return self._clock.now()

    def join(self) -> None:
        """Make the calling thread one of the simulation."""
        self._joined.has = True

    def monotonic(self) -> float:
        """Virtual seconds for the threads of the simulation. Real ones for others, whose event loops would sleep for
        years."""
        return self._clock.now() if hasattr(self._joined, "has") else self._real()

    def sleep(self, seconds: float) -> None:
        """Let virtual time pass for the thread that moves."""
        turn = self.mine
        timer = self.loop.call_later(max(0.0, seconds), turn.move)
        try:
            turn.wait()
        finally:
            timer.cancel()  # a killed one is not woken in its next life

    @property
    def mine(self) -> Turn:
        """The thread that moves."""
        if self.moving is None:
            raise RuntimeError("only a thread of the simulation may wait")
        return self.moving

    def start(self, job: Callable[[], None]) -> Turn:
        """Have a thread carry out `job`, from the next turn of the loop on."""
        if not self.idle:
            self.idle.append(Turn(self))
            self._all.append(self.idle[-1])
        turn = self.idle.pop()
        self.loop.call_soon(turn.begin, job)
        return turn

    def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> asyncio.Future[T]:
        """Call `function` in a thread, and return a future of its value."""
        future: asyncio.Future[T] = self.loop.create_future()

        def job() -> None:
            try:
                returned = function(*args, **kwargs)
            except Exception as error:  # the caller's
                if not future.cancelled():
                    future.set_exception(error)
            else:
                if not future.cancelled():
                    future.set_result(returned)

        self.start(job)
        return future

    def close(self) -> None:
        """End all threads and the loop."""
        for turn in self._all:
            turn.end()
        self.loop.close()
