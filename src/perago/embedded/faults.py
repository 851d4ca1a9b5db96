"""Faults as data: which call of a model fails, and how.

A script is written before the run, and the models read it around each operation. `FaultScript.unused()` returns faults
that no call triggered, so that a test cannot pass because its fault never happened.
"""

from __future__ import annotations

import difflib
import threading
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from enum import StrEnum

from perago.ports import Clock, ServiceError

InjectedError = Exception | type[ServiceError]
"""An exception to raise as it is, or a class of service error that is filled in with the call's own words."""


class Moment(StrEnum):
    """The moment of a fault in the life of a call."""

    BEFORE = "before it takes effect"
    AFTER = "after it took effect"


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that happens to the `nth` call (from 1) of `operation`."""

    operation: str
    nth: int
    moment: Moment
    error: InjectedError | None = None
    seconds: float = 0.0
    callback: Callable[[], object] | None = None

    def __str__(self) -> str:
        what = f"wait {self.seconds:g} s" if self.callback is None else "callback"
        if self.error is not None:
            what = self.error.__name__ if isinstance(self.error, type) else repr(self.error)
        return f"{self.operation} #{self.nth}, {self.moment}: {what}"

    def happen(self, service: str, clock: Clock) -> None:
        """Execute the fault: wait, call back, or raise the error."""
        if self.seconds:
            clock.sleep(self.seconds)
        if self.callback is not None:
            self.callback()
        if isinstance(self.error, type):
            raise self.error(service, self.operation, f"injected fault ({self.moment})")
        if self.error is not None:
            raise self.error


class FaultScript:
    """The faults of one run. Methods return the script, so that calls can be chained.

    Calls are counted per operation name (the method's name: `"merge"`, `"upload"`, `"report"`) from the creation of the
    script, on any thread. Faults of one moment happen in the order in which they were written. With `known` names every
    other name is refused immediately.
    """

    def __init__(self, known: Collection[str] = ()) -> None:
        self._known = frozenset(known)
        self._faults: list[Fault] = []
        self._triggered: set[int] = set()
        self._calls: Counter[str] = Counter()
        self._lock = threading.Lock()

    def before(self, operation: str, *, nth: int = 1, error: InjectedError) -> FaultScript:
        """Fail the call; it does not take effect."""
        return self._add(Fault(operation, nth, Moment.BEFORE, error=error))

    def after(self, operation: str, *, nth: int = 1, error: InjectedError) -> FaultScript:
        """Let the call take effect (or be refused), then lose the answer: `error` is all the caller sees."""
        return self._add(Fault(operation, nth, Moment.AFTER, error=error))

    def delay(self, operation: str, *, nth: int = 1, seconds: float) -> FaultScript:
        """Let `seconds` pass on the model's clock before the call takes effect."""
        return self._add(Fault(operation, nth, Moment.BEFORE, seconds=seconds))

    def between(
        self, operation: str, callback: Callable[[], object], *, nth: int = 1, moment: Moment = Moment.BEFORE
    ) -> FaultScript:
        """Run `callback` between sending and effect, or (`Moment.AFTER`) between effect and answer.

        The model's lock is not held: the callback may use the model, and its calls are counted, too.
        """
        return self._add(Fault(operation, nth, moment, callback=callback))

    def unused(self) -> tuple[str, ...]:
        """Return the faults that no call has triggered, in the order in which they were written."""
        with self._lock:
            return tuple(str(fault) for index, fault in enumerate(self._faults) if index not in self._triggered)

    def calls(self, operation: str) -> int:
        """Count the calls of `operation`."""
        with self._lock:
            return self._calls[operation]

    def _add(self, fault: Fault) -> FaultScript:
        if self._known and fault.operation not in self._known:
            near = difflib.get_close_matches(fault.operation, self._known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else "it is the name of a method of lakeFS or Conductor"
            raise ValueError(f"fault for {fault.operation!r}: there is no such call; {hint}")
        if fault.nth < 1:
            raise ValueError(f"fault for {fault.operation!r}: calls are counted from 1, not from {fault.nth}")
        with self._lock:
            self._faults.append(fault)
        return self

    def _trigger(self, operation: str) -> tuple[Fault, ...]:
        with self._lock:
            self._calls[operation] += 1
            nth = self._calls[operation]
            triggered = [i for i, fault in enumerate(self._faults) if (fault.operation, fault.nth) == (operation, nth)]
            self._triggered.update(triggered)
            return tuple(self._faults[i] for i in triggered)


def faults_around(script: FaultScript, operation: str, *, service: str, clock: Clock) -> AbstractContextManager[None]:
    """Count a call, and return its context, which must be entered before the model takes its lock."""
    faults = script._trigger(operation)
    return _happening(faults, service, clock) if faults else nullcontext()


@contextmanager
def _happening(faults: Collection[Fault], service: str, clock: Clock) -> Iterator[None]:
    def happen(moment: Moment) -> None:
        for fault in faults:
            if fault.moment is moment:
                fault.happen(service, clock)

    happen(Moment.BEFORE)
    try:
        yield
    except ServiceError:
        happen(Moment.AFTER)
        raise
    happen(Moment.AFTER)
