"""The servers of a simulation: every request takes its time, and is counted."""

from __future__ import annotations

import asyncio
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from benchmarks.simulated.turns import Turns
from perago.embedded.conductor import InMemoryConductor
from perago.embedded.lakefs import InMemoryLakeFS
from perago.ports import Delivery, MergeRefused

CONDUCTOR, LAKEFS = "Conductor", "lakeFS"

KINDS: dict[str, dict[str, float]] = {
    CONDUCTOR: {
        "poll": 0.005,
        "long poll": 0.005,
        "queue_depths": 0.005,
        "is_current": 0.005,
        "read_attempt": 0.005,
        "read_workflow": 0.005,
        "extend_lease": 0.005,
        "hand_back": 0.006,
        "report": 0.006,
    },
    LAKEFS: {
        "get_commit": 0.005,
        "history": 0.006,
        "ancestry": 0.006,
        "list_branches": 0.006,
        "list_objects": 0.006,
        "checksum": 0.005,
        "diff": 0.010,
        "download": 0.006,
        "upload": 0.035,
        "create_branch": 0.030,
        "commit": 0.055,
        "merge": 0.010,
        "carry": 0.012,
        "challenge": 0.012,
        "delete_branch": 0.026,
    },
}
"""Seconds that a request takes by default, one millisecond of network included. Those of Conductor are its medians
(`docs/dev/servers/conductor.md`, "conductor-python"), those of lakeFS follow from the time of a merge and the ratios of
`docs/dev/servers/lakefs.md`, "Cost". A merge onto a staging branch is named for what it does: `carry` brings changes
there, `challenge` tries the fence."""
COSTS = {kind: seconds for kinds in KINDS.values() for kind, seconds in kinds.items()}
"""What they take now."""
OTHER = 0.006
"""Seconds of any other request."""
REFUSED = 0.7
"""Seconds more for a merge that another one overtakes: lakeFS tries it again before it runs the fence
(`docs/dev/servers/lakefs.md`, "Stress")."""
LOOK = 0.1
"""Seconds between two looks of Conductor at its queue during a long poll (`docs/dev/servers/conductor.md`, "Measured
later")."""
_MOMENT = 1e-4
_STREAMS = 16
"""Transfers at a time."""


@dataclass
class Requests:
    """What was asked of the servers."""

    turns: Turns
    kinds: Counter[tuple[str, str]] = field(default_factory=Counter)
    """By server and kind."""
    seconds: dict[str, Counter[int]] = field(default_factory=lambda: defaultdict(Counter))
    """By server and second."""

    def add(self, server: str, kind: str, number: int = 1) -> None:
        """Note requests that are made now."""
        self.kinds[server, kind] += number
        self.seconds[server][int(self.turns.now())] += number

    def of(self, server: str) -> int:
        """All that a server was asked."""
        return sum(number for (asked, _), number in self.kinds.items() if asked == server)


class Line:
    """The way to a server: an answer is of the moment at which it arrives."""

    def __init__(self, server: str, inner: object, turns: Turns, requests: Requests) -> None:
        self._server, self._inner, self._turns, self._requests = server, inner, turns, requests

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method: Callable[..., Any] = getattr(self._inner, name)
        if name == "close":
            return lambda: None

        def call(*args: Any, **options: Any) -> Any:
            self.travel(name, args)
            return method(*args, **options)

        return call

    def travel(self, kind: str, args: Sequence[Any]) -> None:
        """Count a request and let its time pass."""
        transfers = {"download": 3, "upload": 2}.get(kind)
        number = len(args[transfers]) if transfers is not None else 1
        if number:
            self._requests.add(self._server, kind, number)
            self._turns.sleep(COSTS.get(kind, OTHER) * math.ceil(number / _STREAMS))


class LakeFSLine(Line):
    """The way to lakeFS. Merges into one branch at a time get in each other's way."""

    def __init__(self, inner: InMemoryLakeFS, turns: Turns, requests: Requests) -> None:
        super().__init__(LAKEFS, inner, turns, requests)
        self._lakefs = inner
        self._merged: dict[tuple[str, str], float] = {}

    def merge(
        self, repository: str, source: str, branch: str, message: str, metadata: Mapping[str, str], **options: Any
    ) -> str:
        """Merge, and let a loser wait."""
        kind = "merge"
        if branch.startswith("perago-"):
            kind = "carry" if metadata.get("perago.phase") == "staging" else "challenge"
        sent = self._turns.now()
        self.travel(kind, ())
        try:
            commit = self._lakefs.merge(repository, source, branch, message, metadata, **options)
        except MergeRefused:
            if self._merged.get((repository, branch), 0.0) >= sent:
                self._turns.sleep(REFUSED)
            raise
        self._merged[repository, branch] = self._turns.now()
        return commit


@dataclass(eq=False, slots=True)
class _Waiter:
    """A long poll. `began` is the time of its first look."""

    worker_id: str
    began: float
    found: asyncio.Future[Sequence[Delivery]]

    def next_look(self, now: float) -> float:
        """When the server looks at the queue for it."""
        return self.began + math.ceil((now - self.began) / LOOK) * LOOK


class ConductorLine(Line):
    """The way to Conductor. A long poll looks at its queue every 100 ms; looks that would find nothing are left out.

    The requests for work are coroutines, since there are so many of them: a thread each would cost more than the rest.
    """

    def __init__(self, inner: InMemoryConductor, turns: Turns, requests: Requests) -> None:
        super().__init__(CONDUCTOR, inner, turns, requests)
        self._conductor = inner
        self._waiting: dict[str, list[_Waiter]] = defaultdict(list)
        self._armed: set[str] = set()

    async def queue_depths(self, task_names: Sequence[str]) -> Mapping[str, int]:
        """How many attempts each queue holds."""
        await self._request("queue_depths")
        return self._conductor.queue_depths(task_names)

    async def poll(self, task_name: str, worker_id: str, *, count: int, wait_seconds: float) -> Sequence[Delivery]:
        """Take deliveries; only a poll of count 1 may wait."""
        await self._request("long poll" if wait_seconds else "poll")
        found = self._conductor.poll(task_name, worker_id, count=count, wait_seconds=0)
        if found or not wait_seconds:
            return found
        if count != 1:
            raise NotImplementedError("a long poll of several")
        waiter = _Waiter(worker_id, self._turns.now(), self._turns.loop.create_future())
        self._waiting[task_name].append(waiter)
        await asyncio.wait([waiter.found], timeout=wait_seconds)
        if waiter.found.done():
            return waiter.found.result()
        self._waiting[task_name].remove(waiter)
        return ()

    async def _request(self, kind: str) -> None:
        self._requests.add(CONDUCTOR, kind)
        await asyncio.sleep(COSTS.get(kind, OTHER))

    def report(self, *args: Any, **options: Any) -> None:
        """Send a result; the next step of the workflow may be waiting then."""
        self.travel("report", ())
        self._conductor.report(*args, **options)
        self.changed()

    def hand_back(self, delivery: Delivery, seconds: int = 0) -> None:
        """Give a delivery back."""
        self.travel("hand_back", ())
        self._conductor.hand_back(delivery, seconds)
        self.changed()

    def changed(self) -> None:
        """There may be something for long polls to find."""
        for task_name in [name for name, waiting in self._waiting.items() if waiting]:
            self._arm(task_name)

    def _arm(self, task_name: str) -> None:
        waiting = self._waiting[task_name]
        if task_name in self._armed or not waiting or not self._conductor.queue_depths([task_name])[task_name]:
            return
        self._armed.add(task_name)
        now = self._turns.now() + _MOMENT
        self._turns.loop.call_at(min(each.next_look(now) for each in waiting), self._look, task_name)

    def _look(self, task_name: str) -> None:
        self._armed.discard(task_name)
        waiting = [each for each in self._waiting[task_name] if not each.found.done()]
        if waiting:
            now = self._turns.now() - _MOMENT
            waiter = min(waiting, key=lambda each: each.next_look(now))
            found = self._conductor.poll(task_name, waiter.worker_id, count=1, wait_seconds=0)
            if found:
                self._waiting[task_name].remove(waiter)
                waiter.found.set_result(found)
            self._arm(task_name)
