"""Retry delays and retries, for everything that repeats calls to a service."""

from __future__ import annotations

import math
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

from perago.ports import AccessDenied, Clock, Overloaded, ServiceError, SystemClock, Unavailable, Unclear

HEALTHY_SECONDS = 60.0
"""Seconds that a process must live to end a series of crashes."""

CHECK_INTERVAL = 0.5
"""Seconds of a sleep between two checks whether to end it."""

_MOST_STEPS = 100
"""The largest exponent. Delays have reached any `longest` by then, and larger exponents would overflow."""


@dataclass(frozen=True, slots=True)
class BackOff:
    """Retry delays: `first` seconds, then each `factor` times as long, up to `longest`."""

    first: float
    longest: float
    factor: float = 2.0
    jitter: bool = False
    """Subtract up to half at random, so that many waiting clients do not call at the same time."""

    def pause(self, repetition: int) -> float:
        """Return the seconds before repetition 0, 1, ..."""
        pause = min(self.longest, self.first * self.factor ** min(repetition, _MOST_STEPS))
        return pause * random.uniform(0.5, 1.0) if self.jitter else pause  # noqa: S311 - spreads load, guards nothing

    def tries(self, number: int, sleep: Callable[[float], object] = time.sleep) -> Iterator[int]:
        """Yield 0, 1, ... for up to `number` calls, with the delay before each but the first."""
        for repetition in range(number):
            if repetition:
                sleep(self.pause(repetition - 1))
            yield repetition


RESTARTS = BackOff(1.0, 30.0)
"""Delays of 1, 2, 4, 8, 16, 30, 30 seconds, between starts of a crashing process and while servers do not answer."""


UNTIL_ITS_RETRY_ENDS = BackOff(5.0, 60.0)
"""Delays before an attempt that waits for the end of its retry is handed out again."""


class RestartDelay:
    """Counts the crashes in a row of one process that is started again."""

    def __init__(self) -> None:
        self._crashes = 0

    def after_crash(self, lived: float) -> float:
        """Return the seconds to wait after a death that followed `lived` seconds of life."""
        if lived >= HEALTHY_SECONDS:
            self._crashes = 0
        self._crashes += 1
        return RESTARTS.pause(self._crashes - 1)


class CheckedClock:
    """A clock that calls `check` before, during and after each sleep. An exception from it ends the sleep."""

    def __init__(self, clock: Clock, check: Callable[[], object]) -> None:
        self._clock = clock
        self._check = check

    def now(self) -> float:
        return self._clock.now()

    def sleep(self, seconds: float) -> None:
        """Return once `seconds` have passed."""
        self._check()
        while seconds > 0:
            self._clock.sleep(min(seconds, CHECK_INTERVAL))
            self._check()
            seconds -= CHECK_INTERVAL


class Repeats:
    """Counts repeats by service. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()
        self._waiting: Counter[str] = Counter()
        self.listener: Callable[[str, bool], object] = lambda _service, _waits: None
        """Gets the service of each call that is about to be repeated, with True. Gets it with False when no call of
        this process waits for it any longer."""

    def note(self, service: str) -> None:
        """Count a repeated call to `service`."""
        with self._lock:
            self._counts[service] += 1
        self.listener(service, True)

    @contextmanager
    def waiting(self) -> Iterator[Callable[[str], None]]:
        """Note repetitions of one call by the yielded function. The call waits from the first one to the end of the
        block."""
        services: set[str] = set()

        def note(service: str) -> None:
            if service not in services:
                services.add(service)
                with self._lock:
                    self._waiting[service] += 1
            self.note(service)

        try:
            yield note
        finally:
            for service in services:
                with self._lock:
                    self._waiting[service] -= 1
                    is_over = not self._waiting[service]
                if is_over:
                    self.listener(service, False)

    def counts(self) -> Counter[str]:
        """Return the recorded counts."""
        with self._lock:
            return self._counts.copy()


REPEATS = Repeats()
"""The repeats of this process."""


PASSING: tuple[type[ServiceError], ...] = (Unavailable, Unclear, AccessDenied)
"""Errors that can pass without intervention."""
Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class Retries:
    """A rule for repeating failed calls: for which errors, for how long, after which delays, and how often."""

    patience: Callable[[ServiceError], float]
    """Returns the seconds, counted from the first such error, for which a call is repeated. 0: not at all."""
    delays: BackOff = BackOff(0.5, 10.0)
    calls: float = math.inf
    """The maximum number of calls, including the first one."""

    def delay(self, repetition: int, error: ServiceError) -> float:
        """Return the seconds to wait before repetition 0, 1, ...; longer if the service asked for that."""
        asked = error.retry_after if isinstance(error, Overloaded) else 0.0
        return max(self.delays.pause(repetition), min(asked, self.delays.longest))


def within(seconds: float, passing: tuple[type[ServiceError], ...] = PASSING) -> Retries:
    """Repeat for `seconds` after `passing` errors, and never after others."""
    return Retries(lambda error: seconds if isinstance(error, passing) else 0.0)


def retry(
    call: Callable[[], Answer],
    retries: Retries,
    clock: Clock | None = None,
    *,
    stopped: threading.Event | None = None,
    until: float = math.inf,
    progress: Callable[[], int] = lambda: 0,
    notice: Callable[[ServiceError], object] = lambda _: None,
    on_wait: Callable[[str, bool], object] = lambda *_: None,
) -> Answer:
    """Return the answer to `call`, which is repeated for as long as `retries` allow. The time for one kind of error
    counts from the first of them.

    Args:
        call: a call that is harmless to repeat.
        retries: how long and how often to repeat it.
        clock: measures the time, and waits; None: the system's clock.
        stopped: an event that ends delays and repetitions. Only with the system's clock.
        until: the time, by `clock`, after which no call is repeated.
        progress: returns the progress of the call. After progress, the time counts from the next error.
        notice: gets each error before the delay.
        on_wait: gets a line and False when the waiting begins, and another one and True after a success.

    Raises:
        ServiceError: the last error, once the call is no longer repeated.
    """
    clock = clock or SystemClock()
    began: dict[float, tuple[float, float]] = {}
    calls, rested, repetition, done, start = 0, 0.0, 0, progress(), 0.0
    with REPEATS.waiting() as note_repeat:
        while True:
            calls, begun = calls + 1, clock.now()
            try:
                answer = call()
            except ServiceError as error:
                if not rested:
                    start = clock.now() if progress() > done else begun
                if progress() > done:
                    began, repetition, done = {}, 0, progress()
                patience, delay = retries.patience(error), retries.delay(repetition, error)
                since, rested_before = began.setdefault(patience, (clock.now(), rested))
                waited = max(
                    rested - rested_before, clock.now() - since
                )  # the system's time may be set back in the meantime
                longest = min(patience, until - since)
                if not patience or calls >= retries.calls or waited + delay > longest:
                    raise
                notice(error)
                if not rested:
                    no_answer = f"{error.service} does not answer"
                    denied = f"{error.service} does not accept the credentials"
                    what = denied if isinstance(error, AccessDenied) else no_answer
                    on_wait(
                        f"{what} ({error.operation}: {error.detail}); trying again for up to {_words(longest)}", False
                    )
                note_repeat(error.service)
                if stopped is None:
                    clock.sleep(delay)
                elif stopped.wait(delay):
                    raise
                service = error.service
            else:
                if rested:
                    on_wait(f"{service} answers again, after {_words(max(rested, clock.now() - start))}", True)
                return answer
            rested += delay
            repetition += 1


def unless_done(look: Callable[[], Answer | None], send: Callable[[], Answer]) -> Callable[[], Answer]:
    """Repeat `send` as `retry` does, but never let it take effect twice. Before each repetition, `look` checks whether
    an earlier call arrived, and returns its answer or None."""
    tried = False

    def call() -> Answer:
        nonlocal tried
        again, tried = tried, True
        earlier = look() if again else None
        return send() if earlier is None else earlier

    return call


def _words(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
