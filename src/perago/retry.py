"""Retry delays and retries: the one rule for everything that calls a service again."""

from __future__ import annotations

import math
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from perago.ports import AccessDenied, Clock, ServiceError, Unavailable, Unclear

HEALTHY_SECONDS = 60.0
"""A process that lived this long ends the row of crashes."""

_MOST_STEPS = 100
"""Pauses have reached any `longest` by then; more would overflow."""


@dataclass(frozen=True, slots=True)
class BackOff:
    """Pauses of `first` seconds, then each `factor` times as long, up to `longest`."""

    first: float
    longest: float
    factor: float = 2.0
    jitter: bool = False
    """Less up to half at random, so that many who wait do not come at once."""

    def pause(self, repetition: int) -> float:
        """Seconds before repetition 0, 1, ..."""
        pause = min(self.longest, self.first * self.factor ** min(repetition, _MOST_STEPS))
        return pause * random.uniform(0.5, 1.0) if self.jitter else pause  # noqa: S311 - spreads load, guards nothing

    def tries(self, number: int, sleep: Callable[[float], object] = time.sleep) -> Iterator[int]:
        """0, 1, ... up to `number` tries, with the pause before each but the first."""
        for repetition in range(number):
            if repetition:
                sleep(self.pause(repetition - 1))
            yield repetition


RESTARTS = BackOff(1.0, 30.0)
"""1, 2, 4, 8, 16, 30, 30 seconds: between starts of a process that crashes (docs/design/contract.md 7), and while
servers are away."""


class RestartDelay:
    """Counts the crashes in a row of one process that is started again."""

    def __init__(self) -> None:
        self._crashes = 0

    def after_crash(self, lived: float) -> float:
        """Seconds to wait now that it died after `lived` seconds."""
        if lived >= HEALTHY_SECONDS:
            self._crashes = 0
        self._crashes += 1
        return RESTARTS.pause(self._crashes - 1)


class Repeats:
    """Counts by service. For any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()

    def note(self, service: str) -> None:
        """A call to `service` is about to be repeated."""
        with self._lock:
            self._counts[service] += 1

    def counts(self) -> Counter[str]:
        """Return what was noted so far."""
        with self._lock:
            return self._counts.copy()


REPEATS = Repeats()
"""Of this process."""


Answer = TypeVar("Answer")

_BACK_OFF = BackOff(0.5, 10.0)

PASSING: tuple[type[ServiceError], ...] = (Unavailable, Unclear, AccessDenied)
"""Errors that may pass by themselves."""

RetryPolicy = Callable[[ServiceError], float]
"""For how many seconds, counted from the first error, a call is repeated after this error. 0: not at all."""


def within(seconds: float, passing: tuple[type[ServiceError], ...] = PASSING) -> RetryPolicy:
    """Repeat for `seconds` after `passing` errors, and never after others."""
    return lambda error: seconds if isinstance(error, passing) else 0.0


def retry(
    call: Callable[[], Answer],
    clock: Clock,
    policy: RetryPolicy,
    *,
    until: float = math.inf,
    progress: Callable[[], int] = lambda: 0,
    tell: Callable[[str], object] = lambda _: None,
) -> Answer:
    """The answer to `call`, repeated with growing pauses for as long as `policy` allows. Its time for one kind of error
    counts from the first of them.

    Args:
        until: the time, by `clock`, after which nothing is repeated.
        progress: what the call has achieved so far. If that has grown, the time counts from the next error.
        tell: gets a line when the waiting begins, and another one when it was worth it.

    Raises:
        ServiceError: the last error, once the time is over.
    """
    began: dict[float, tuple[float, float]] = {}
    rested, pauses, done = 0.0, 0, progress()
    while True:
        try:
            answer = call()
        except ServiceError as error:
            if progress() > done:
                began, pauses, done = {}, 0, progress()
            since, rested_before = began.setdefault(policy(error), (clock.now(), rested))
            waited = max(rested - rested_before, clock.now() - since)  # the system's time may be set back meanwhile
            longest = min(policy(error), until - since)
            pause = _BACK_OFF.pause(pauses)
            if waited + pause > longest:
                raise
            if not rested:
                tell(f"{_what(error)} ({error.operation}: {error.detail}); trying again for up to {_words(longest)}")
            service = error.service
        else:
            if rested:
                tell(f"{service} answers again, after {_words(rested)} of waiting")
            return answer
        REPEATS.note(service)
        clock.sleep(pause)
        rested += pause
        pauses += 1


def unless_done(look: Callable[[], Answer | None], send: Callable[[], Answer]) -> Callable[[], Answer]:
    """`send`, for `retry`, where it may not take effect twice: before it is repeated, `look` gives the answer of an
    earlier try that has come through, or None."""
    tried = False

    def call() -> Answer:
        nonlocal tried
        again, tried = tried, True
        found = look() if again else None
        return send() if found is None else found

    return call


def _what(error: ServiceError) -> str:
    if isinstance(error, AccessDenied):
        return f"{error.service} does not accept the credentials"
    return f"{error.service} does not answer"


def _words(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
