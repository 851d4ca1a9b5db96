"""What every call of the model goes through: faults, the lock, the sweep, and waiting for the queue."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TypeVar

from perago.driver import SystemClock
from perago.embedded.conductor.background import guarded, settle
from perago.embedded.conductor.decider import decide
from perago.embedded.conductor.errors import SERVICE
from perago.embedded.conductor.payloads import PayloadLimits
from perago.embedded.conductor.state import HttpHandler, State
from perago.embedded.faults import FaultScript
from perago.ports import Clock, Unavailable

T = TypeVar("T")

LOOK_SECONDS = 0.1
"""How often a long poll looks at the queue where time does not pass by itself."""

LOCK_SECONDS = 30.0
"""How long, in real time, a call waits for others to finish theirs."""


class ModelCore:
    """The state of one server and the way to it; the calls themselves are in the classes that inherit from this."""

    def __init__(
        self,
        clock: Clock,
        faults: FaultScript | None = None,
        *,
        limits: PayloadLimits | None = None,
        sweep_seconds: float | None = None,
        seed: int | None = None,
        http: HttpHandler | None = None,
    ) -> None:
        """
        Args:
            clock: What the server goes by.
            faults: What goes wrong with which call.
            limits: Sizes of payloads.
            sweep_seconds: How often a call looks for time-outs first; None for never by itself.
            seed: Makes ids and jitter repeatable.
            http: Answers HTTP tasks: gets the request (`uri`, `method`, `headers`, `body`), gives status and body. It
                is called under the model's lock.
        """
        self._clock = clock
        self._faults = faults or FaultScript()
        self._state = State(clock, limits or PayloadLimits(), seed, http)
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self.on_change: Callable[[], None] = lambda: None
        """Called, under the lock, after a call that changed an attempt or a queue; must not call back."""
        self._told = 0
        self._waits_are_over = False
        self._sweep_seconds = sweep_seconds
        self._swept = clock.now()

    def end_waits(self) -> None:
        """Let waiting calls return at once, and later ones not wait: for a server that is about to stop."""
        with self._lock:
            self._waits_are_over = True
            self._changed.notify_all()

    @contextmanager
    def _operation(self, name: str) -> Iterator[State]:
        """One call: faults outside of the lock, the rest inside."""
        with self._around(name), self._locked() as state:
            yield state

    def _around(self, name: str) -> AbstractContextManager[None]:
        return self._faults.around(name, service=SERVICE, clock=self._clock)

    @contextmanager
    def _locked(self) -> Iterator[State]:
        if not self._lock.acquire(timeout=LOCK_SECONDS):
            raise Unavailable(SERVICE, "any call", f"the model was busy for {LOCK_SECONDS:g} s")
        try:
            self._sweep_if_due()
            settle(self._state)
            yield self._state
            settle(self._state)
        finally:
            changes = self._state.queue.pushes + len(self._state.history)
            if changes != self._told:
                self._told = changes
                self._changed.notify_all()
                self.on_change()
            self._lock.release()

    def _sweep_if_due(self) -> None:
        if self._sweep_seconds is not None and self._clock.now() - self._swept >= self._sweep_seconds:
            self._swept = self._clock.now()
            sweep(self._state)

    def _look_until(self, end: float, look: Callable[[State], T | None]) -> T:
        """What `look` finds, asked under the lock until it is not None; the last time at `end` or later.

        On the system's clock it is asked again as soon as anything changes or falls due. Any other clock is made to
        sleep between two looks, without the lock.
        """
        while True:
            with self._locked() as state:
                found = look(state)
                if found is not None:
                    return found
                left = end - self._clock.now()
                if isinstance(self._clock, SystemClock):
                    self._changed.wait(max(0.0, min(left, self._seconds_to_next_event(state))))
                    continue
            self._clock.sleep(min(LOOK_SECONDS, left))

    def _is_over(self, end: float) -> bool:
        """Whether a wait until `end` has nothing to wait for any more."""
        return self._waits_are_over or self._clock.now() >= end

    def _seconds_to_next_event(self, state: State) -> float:
        """Until a delayed message, an attempt of the server's own or a sweep falls due; infinite if there is none."""
        now = self._clock.now()
        message = state.queue.next_due(state.now())
        due = [time / 1000 - now for time in (*state.timers.values(), *([] if message is None else [message]))]
        if self._sweep_seconds is not None:
            due.append(self._swept + self._sweep_seconds - now)
        return min(due, default=math.inf)


def sweep(state: State) -> None:
    """Decide every workflow, time-outs included. One that cannot be decided holds up no other."""
    for workflow in list(state.workflows.values()):
        with guarded(workflow.workflow_id):
            decide(state, workflow)
