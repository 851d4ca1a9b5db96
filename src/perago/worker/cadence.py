"""When to ask Conductor for work, and who gets it.

Right after work it pays to ask again at once and not to wait: a queue that is not empty keeps every slot full, and the
next step of a workflow is usually there a few milliseconds later. So a few quick looks come first. Then there are two
ways to wait, and both stay below sixty requests a minute:

* **Watching**, where every task has a free slot: long polls of count 1 (a batch poll would wait to fill its count,
  `docs/servers/conductor.md` 7.8). The server looks at its queue every 100 ms, so several that are begun at different
  moments notice a task sooner than one.
* **Looking**, where there are more tasks than free slots: one request for the depths of all queues, now and then.

A poll is only made for slots that stand ready, and no two polls are made for the same slot.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from perago.retry import BackOff

LONG_POLL_SECONDS = 5.0
LONG_POLLS = 4
"""In flight at most: 48 requests a minute."""
SPREAD_SECONDS = 0.1 / LONG_POLLS
"""Between the beginnings of two long polls."""

QUICK_PAUSES = (0.005, 0.010, 0.020, 0.040)
"""Seconds before each further quick look after one that found nothing."""
LOOK_INTERVAL = 1.25
"""Seconds between two looks at all queues, in the long run: 48 requests a minute. The longest that a task waits to be
seen, too."""
LOOK_PAUSES = BackOff(QUICK_PAUSES[0], LOOK_INTERVAL)

DELAYED_PAUSES = BackOff(LOOK_INTERVAL, LONG_POLL_SECONDS)
"""Between polls of a queue that holds only what is not due yet: retries that wait for their delay, for example."""


class Cadence:
    """How long to wait before the next quick look or look at all queues. Times are seconds of a monotonic clock."""

    def __init__(self) -> None:
        self._empty = len(QUICK_PAUSES) + 1
        self._looked_at = float("-inf")

    @property
    def alert(self) -> bool:
        """Whether work was seen a moment ago, so that more may be waiting."""
        return self._empty <= len(QUICK_PAUSES)

    def worked(self) -> None:
        """Something was delivered or finished."""
        self._empty = 0

    def look_now(self) -> None:
        """There may be something for one more look, and no reason to expect more after it."""
        self._looked_at = float("-inf")

    def looked(self, now: float, *, found: bool) -> None:
        """A look at `now` has found work, or none."""
        self._looked_at = now
        self._empty = 0 if found else self._empty + 1

    def due(self) -> float:
        """The time of the next look."""
        return self._looked_at + (LOOK_PAUSES.pause(self._empty - 1) if self._empty else 0.0)


@dataclass(slots=True)
class Delayed:
    """A queue that holds attempts and delivers none."""

    depth: int
    polls: int
    until: float


class DelayedQueues:
    """Tells which queues deliver nothing at present although they are not empty: their depth counts attempts that are
    not due yet (`docs/servers/conductor.md` 1)."""

    def __init__(self) -> None:
        self._queues: dict[str, Delayed] = {}

    def polled(self, name: str, now: float, *, depth: int, asked: int, got: int) -> None:
        """A queue of `depth` was asked for some attempts, and gave as many as it could."""
        before = self._queues.pop(name, None)
        if got < min(asked, depth):
            polls = before.polls + 1 if before is not None and not got else 0
            self._queues[name] = Delayed(depth - got, polls, now + DELAYED_PAUSES.pause(polls))

    def due(self, depths: Mapping[str, int], now: float) -> dict[str, int]:
        """The queues that it makes sense to poll, with their depths."""
        for name in [name for name in self._queues if not depths.get(name)]:
            del self._queues[name]
        found = {name: depth for name, depth in depths.items() if depth > 0}
        return {name: depth for name, depth in found.items() if not self._is_delayed(name, depth, now)}

    def _is_delayed(self, name: str, depth: int, now: float) -> bool:
        known = self._queues.get(name)
        return known is not None and depth <= known.depth and now < known.until


@dataclass(slots=True)
class Demand:
    """What a task could do now, and what it has."""

    waiting: int
    """Attempts in its queue."""
    running: int
    """Attempts of it that occupy slots."""
    limit: int
    """How many may."""
    served: float
    """When it was given a slot last, or may have one again after a crash: it has had its turn."""


def shares(demands: Mapping[str, Demand], places: int) -> dict[str, int]:
    """How many of the free `places` each task gets: one after the other goes to the task that occupies the fewest
    slots; among equals to the one that waits for longest."""
    given = dict.fromkeys(demands, 0)

    def wants(name: str) -> bool:
        demand = demands[name]
        return given[name] < min(demand.waiting, demand.limit - demand.running)

    for _ in range(places):
        candidates = [name for name in demands if wants(name)]
        if not candidates:
            break
        given[min(candidates, key=lambda name: (demands[name].running + given[name], demands[name].served))] += 1
    return {name: number for name, number in given.items() if number}
