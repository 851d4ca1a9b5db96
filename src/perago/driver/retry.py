"""Trying again while a service does not answer: for questions, and for calls that are harmless to repeat."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeVar

from perago.back_off import BackOff
from perago.ports import AccessDenied, Clock, ServiceError, Unavailable, Unclear
from perago.repeats import REPEATS

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
