"""Growing pauses between repetitions: the one rule for everything that tries again."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

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
