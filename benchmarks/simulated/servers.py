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
"""Seconds of a request by default, including one millisecond of network. Those of Conductor are its medians
(`docs/dev/servers/conductor.md`, "conductor-python"), those of lakeFS follow from the time of a merge and the ratios of
`docs/dev/servers/lakefs.md`, "Cost". A merge onto a staging branch is named for what it does: `carry` brings changes
there, `challenge` tries the fence."""
COSTS = {kind: seconds for kinds in KINDS.values() for kind, seconds in kinds.items()}
"""Seconds of a request in this run."""
OTHER = 0.006
"""Seconds of any other request."""
REFUSED = 0.7
"""Extra seconds of a merge that another one overtakes, because lakeFS retries it before it runs the fence
(`docs/dev/servers/lakefs.md`, "Stress")."""
READ_INTERVAL = 0.1
"""Seconds between two reads of the queue during a long poll (`docs/dev/servers/conductor.md`, "Measured
later")."""
_RESOLUTION = 1e-4
_STREAMS = 16
"""Transfers at a time."""


@dataclass
class Requests:
    """The requests to the servers."""

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
        """Return the number of requests to a server."""
        return sum(number for (receiver, _), number in self.kinds.items() if receiver == server)


class Line:
    """The connection to a server. An answer is from the time at which it arrives."""

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
    """The connection to lakeFS. Simultaneous merges into one branch delay each other."""

    def __init__(self, inner: InMemoryLakeFS, turns: Turns, requests: Requests) -> None:
        super().__init__(LAKEFS, inner, turns, requests)
        self._lakefs = inner
        self._merged: dict[tuple[str, str], float] = {}

    def merge(
        self, repository: str, source: str, branch: str, message: str, metadata: Mapping[str, str], **options: Any
    ) -> str:
        """Merge, and delay a merge that loses."""
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
    """A long poll. `began` is the time of its first read."""

    worker_id: str
    began: float
    deliveries: asyncio.Future[Sequence[Delivery]]

    def next_read(self, now: float) -> float:
        """Return the time at which the server reads the queue for it."""
        return self.began + math.ceil((now - self.began) / READ_INTERVAL) * READ_INTERVAL


class ConductorLine(Line):
    """The connection to Conductor. A long poll reads its queue every 100 ms; reads of an empty queue are left out.

    The requests for work are coroutines, because threads for so many of them would cost more than the rest.
    """

    def __init__(self, inner: InMemoryConductor, turns: Turns, requests: Requests) -> None:
        super().__init__(CONDUCTOR, inner, turns, requests)
        self._conductor = inner
        self._waiting: dict[str, list[_Waiter]] = defaultdict(list)
        self._armed: set[str] = set()

    async def queue_depths(self, task_names: Sequence[str]) -> Mapping[str, int]:
        """Return the depth of each queue."""
        await self._request("queue_depths")
        return self._conductor.queue_depths(task_names)

    async def poll(self, task_name: str, worker_id: str, *, count: int, wait_seconds: float) -> Sequence[Delivery]:
        """Take deliveries; only a poll of count 1 may wait."""
        await self._request("long poll" if wait_seconds else "poll")
        deliveries = self._conductor.poll(task_name, worker_id, count=count, wait_seconds=0)
        if deliveries or not wait_seconds:
            return deliveries
        if count != 1:
            raise NotImplementedError("a long poll of several")
        waiter = _Waiter(worker_id, self._turns.now(), self._turns.loop.create_future())
        self._waiting[task_name].append(waiter)
        await asyncio.wait([waiter.deliveries], timeout=wait_seconds)
        if waiter.deliveries.done():
            return waiter.deliveries.result()
        self._waiting[task_name].remove(waiter)
        return ()

    async def _request(self, kind: str) -> None:
        self._requests.add(CONDUCTOR, kind)
        await asyncio.sleep(COSTS.get(kind, OTHER))

    def report(self, *args: Any, **options: Any) -> None:
        """Send a result, which can schedule the next step of the workflow."""
        self.travel("report", ())
        self._conductor.report(*args, **options)
        self.changed()

    def hand_back(self, delivery: Delivery, seconds: int = 0) -> None:
        """Give a delivery back."""
        self.travel("hand_back", ())
        self._conductor.hand_back(delivery, seconds)
        self.changed()

    def changed(self) -> None:
        """Schedule the next reads of long polls, because a queue can have changed."""
        for task_name in [name for name, waiting in self._waiting.items() if waiting]:
            self._arm(task_name)

    def _arm(self, task_name: str) -> None:
        waiting = self._waiting[task_name]
        if task_name in self._armed or not waiting or not self._conductor.queue_depths([task_name])[task_name]:
            return
        self._armed.add(task_name)
        now = self._turns.now() + _RESOLUTION
        self._turns.loop.call_at(min(waiter.next_read(now) for waiter in waiting), self._read_queue, task_name)

    def _read_queue(self, task_name: str) -> None:
        self._armed.discard(task_name)
        waiting = [waiter for waiter in self._waiting[task_name] if not waiter.deliveries.done()]
        if waiting:
            now = self._turns.now() - _RESOLUTION
            first = min(waiting, key=lambda waiter: waiter.next_read(now))
            deliveries = self._conductor.poll(task_name, first.worker_id, count=1, wait_seconds=0)
            if deliveries:
                self._waiting[task_name].remove(first)
                first.deliveries.set_result(deliveries)
            self._arm(task_name)
