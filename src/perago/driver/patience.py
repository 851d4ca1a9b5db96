"""Asking again while a service does not answer: for questions, and for calls that are harmless to repeat."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeVar

from perago.attempt import events as on
from perago.ports import AccessDenied, Clock, Delivery, DeliveryCheck, ServiceError, Unavailable, Unclear

Answer = TypeVar("Answer")

_FIRST_PAUSE = 0.5
_LONGEST_PAUSE = 10.0

LATE = 2.0
"""Seconds after which the answer to a question is old news. Processes can be stopped at any point, for any time."""

PASSING: tuple[type[ServiceError], ...] = (Unavailable, Unclear, AccessDenied)
"""Errors that may pass by themselves."""

_TIME_TO_REPORT = 30.0

Patience = Callable[[ServiceError], float]
"""For how many seconds, counted from the first error, a question is asked again after this error. 0: not at all."""


def within(seconds: float, passing: tuple[type[ServiceError], ...] = PASSING) -> Patience:
    """Patience of `seconds` with `passing` errors, and none with others."""
    return lambda error: seconds if isinstance(error, passing) else 0.0


def ask(
    question: Callable[[], Answer],
    clock: Clock,
    patience: Patience,
    *,
    until: float = math.inf,
    progress: Callable[[], int] = lambda: 0,
    tell: Callable[[str], object] = lambda _: None,
) -> Answer:
    """The answer to `question`, asked again with growing pauses for as long as `patience` allows. The patience with one
    kind of error counts from its first.

    Args:
        until: the time, by `clock`, at which all patience ends.
        progress: what the question has achieved so far. If that has grown, patience counts from the next error.
        tell: gets a line when the waiting begins, and another one when it was worth it.

    Raises:
        ServiceError: the last error, once patience is at its end.
    """
    began: dict[float, tuple[float, float]] = {}
    rested, pause, done = 0.0, _FIRST_PAUSE, progress()
    while True:
        try:
            answer = question()
        except ServiceError as error:
            if progress() > done:
                began, pause, done = {}, _FIRST_PAUSE, progress()
            since, rested_before = began.setdefault(patience(error), (clock.now(), rested))
            waited = max(rested - rested_before, clock.now() - since)  # the system's time may be set back meanwhile
            longest = min(patience(error), until - since)
            if waited + pause > longest:
                raise
            if not rested:
                tell(f"{_what(error)} ({error.operation}: {error.detail}); trying again for up to {_words(longest)}")
            service = error.service
        else:
            if rested:
                tell(f"{service} answers again, after {_words(rested)} of waiting")
            return answer
        clock.sleep(pause)
        rested += pause
        pause = min(2 * pause, _LONGEST_PAUSE)


def _what(error: ServiceError) -> str:
    if isinstance(error, AccessDenied):
        return f"{error.service} does not accept the credentials"
    return f"{error.service} does not answer"


def _words(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


def time_to_fail(delivery: Delivery) -> float:
    """Seconds after which an attempt had better fail than wait on: an end by `timeoutSeconds` may cost the workflow, a
    failure that is reported in time is retried. A redelivery has spent a part of them elsewhere."""
    limit = delivery.timeout_seconds
    return limit - delivery.spent_seconds - min(_TIME_TO_REPORT, limit / 10) if limit > 0 else math.inf


def check_delivery(
    delivery_check: DeliveryCheck,
    delivery: Delivery,
    clock: Clock,
    patience: float,
    *,
    passing: tuple[type[ServiceError], ...] = PASSING,
) -> on.DeliveryConfirmed | on.DeliveryLost:
    """The answer of the delivery check, and whether it came late.

    Raises:
        ServiceError: as `ask`.
    """
    asked = 0.0

    def is_current() -> bool:
        nonlocal asked
        asked = clock.now()
        return delivery_check.is_current(delivery)

    current = ask(is_current, clock, within(patience, passing))
    return on.DeliveryConfirmed(late=abs(clock.now() - asked) > LATE) if current else on.DeliveryLost()
