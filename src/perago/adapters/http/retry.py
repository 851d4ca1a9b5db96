"""How long to wait, and how often to repeat what is harmless to repeat."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import TypeVar

from perago.back_off import BackOff
from perago.ports import ServiceError, Unavailable
from perago.repeats import REPEATS

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class CallPolicy:
    """Time limits and repetitions of one client's calls. Times are in seconds; `tries` counts all calls."""

    connect: float = 10.0
    answer: float = 60.0
    """The longest silence within an answer, and the time limit of a small one."""
    merge: float = 300.0
    """Time limit of a merge, during which the server may run other people's hooks."""
    slowest: float = 8 * 1024
    """Bytes a second below which one transfer counts as stuck."""
    tries: int = 4
    first_delay: float = 0.2
    longest_delay: float = 8.0
    largest: float = math.inf
    """Bytes of a whole answer beyond which it is given up."""

    def delay(self, repetition: int, asked: float = 0.0) -> float:
        """Seconds to wait before a repetition (0, 1, ...): exponential, less up to half at random; longer if
        the server asked."""
        jittered = BackOff(self.first_delay, self.longest_delay, jitter=True).pause(repetition)
        return max(jittered, min(asked, self.longest_delay))


class Overloaded(Unavailable):
    """The service asked for time: `retry_after` seconds (the header `Retry-After`)."""

    retry_after: float = 0.0


def retry(
    call: Callable[[], Result],
    policy: CallPolicy,
    *,
    stopped: threading.Event | None = None,
    after: tuple[type[ServiceError], ...] = (Unavailable,),
    notice: Callable[[ServiceError], object] = lambda _: None,
) -> Result:
    """The result of `call`, repeated while it raises one of `after` and tries are left. Only for harmless calls.

    Args:
        call: what is harmless to repeat.
        policy: how many tries there are, and how long the pauses between them.
        stopped: once this is set, nothing is repeated, and a pause ends.
        after: errors after which the call is repeated.
        notice: is told of each before the pause.

    Raises:
        ServiceError: of the last try, or of the current one once `stopped` is set.
    """
    event = stopped or threading.Event()
    for repetition in range(policy.tries - 1):
        try:
            return call()
        except after as error:
            notice(error)
            asked = error.retry_after if isinstance(error, Overloaded) else 0.0
            if event.wait(policy.delay(repetition, asked)):
                raise
            REPEATS.note(error.service)
    return call()


def retry_after(headers: Mapping[str, str]) -> float:
    """Seconds that a `Retry-After` header asks for (a number or an HTTP date); 0 without one that can be read."""
    value = headers.get("Retry-After", "").strip()
    if value.isascii() and value.isdigit():  # other digits, such as "²", are no number
        return float(value)
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, OverflowError):
        return 0.0
