"""When to ask Conductor for work, and for how much.

Idle, one long poll of count 1 costs twelve requests a minute and wakes within 112 ms (a batch poll would wait to fill
its count, `docs/servers/conductor.md` 7.8). Right after work it pays to ask for all free slots at once and not to wait:
a queue that is not empty keeps every slot full, and the next step of a workflow is usually there a few milliseconds
later. So a few quick looks lie between the two. There is never more than one poll in flight, because a poll that
nobody waits for loses its tasks until their response time-out.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from perago.ports import ServiceError

LONG_POLL_SECONDS = 5.0
QUICK_PAUSES = (0.005, 0.010, 0.020, 0.040)
"""Seconds before each further quick look at a queue that was just found empty."""

MAX_BACK_OFF = 30.0


@dataclass(frozen=True, slots=True)
class NextPoll:
    """How the next poll is to be made. `pause` comes before it and ends early when a slot becomes free."""

    count: int
    wait_seconds: float
    pause: float = 0.0


class Cadence:
    """Chooses the next poll from what the last ones brought."""

    def __init__(self) -> None:
        self._empty = len(QUICK_PAUSES) + 1

    def worked(self) -> None:
        """Something was delivered or finished: more may be waiting."""
        self._empty = 0

    def found_nothing(self) -> None:
        """A poll came back empty."""
        self._empty += 1

    def next(self, free: int) -> NextPoll:
        """The poll to make for `free` slots."""
        if self._empty > len(QUICK_PAUSES):
            return NextPoll(1, LONG_POLL_SECONDS)
        return NextPoll(free, 0.0, QUICK_PAUSES[self._empty - 1] if self._empty else 0.0)


class BackOff:
    """Grows with each failed poll in a row: 1, 2, 4 ... `MAX_BACK_OFF` seconds, less up to half at random."""

    def __init__(self) -> None:
        self._failures = 0

    def succeeded(self) -> None:
        """A poll was answered."""
        self._failures = 0

    def failed(self) -> float:
        """A poll failed; returns the seconds to wait."""
        delay = min(2.0**self._failures, MAX_BACK_OFF)
        self._failures = min(self._failures + 1, 10)
        return delay * random.uniform(0.5, 1.0)  # noqa: S311 - spreads load, guards nothing


def poll_problem(error: Exception) -> str:
    """What to tell about a failed poll."""
    return str(error) if isinstance(error, ServiceError) else f"{type(error).__name__}: {error}"
