"""Asking again while a service does not answer: only for questions, which harm nobody."""

from __future__ import annotations

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


def ask(
    question: Callable[[], Answer],
    clock: Clock,
    patience: float,
    *,
    passing: tuple[type[ServiceError], ...] = PASSING,
) -> Answer:
    """The answer to `question`, asked again with growing pauses for `patience` seconds while errors are `passing`.

    Raises:
        ServiceError: another answer than a passing one came, or the last error once patience is at its end.
    """
    start, slept, pause = clock.now(), 0.0, _FIRST_PAUSE
    while True:
        try:
            return question()
        except ServiceError as error:
            waited = max(slept, clock.now() - start)  # the system's time may be set back meanwhile
            if not isinstance(error, passing) or waited + pause > patience:
                raise
        clock.sleep(pause)
        slept += pause
        pause = min(2 * pause, _LONGEST_PAUSE)


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

    current = ask(is_current, clock, patience, passing=passing)
    return on.DeliveryConfirmed(late=abs(clock.now() - asked) > LATE) if current else on.DeliveryLost()
