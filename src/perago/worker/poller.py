"""Poll Conductor while slots are free, back off where requests fail, and hand back what no slot can take."""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections import Counter
from collections.abc import Callable, Collection, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any

from perago.ports import AccessDenied, Delivery, NotFound, Refused, ServiceError, TaskQueue
from perago.retry import BackOff
from perago.worker import cadence
from perago.worker.attempts import hand_back
from perago.worker.cadence import Cadence, DelayedQueues, Demand, shares
from perago.worker.events import ALL_TASKS, ConductorBack, ConductorUnreachable, Event, HandedBack
from perago.worker.maintenance import HostCheck
from perago.worker.plan import WorkerPlan
from perago.worker.pools import Pools
from perago.worker.slots import Slot, SlotPool

LOOK = "look at the queues"
"""The kind of request that is about all tasks, among the names of tasks."""


class Poller:
    """The one place that polls. Belongs to the event loop's thread. A poll that is given up loses its tasks until their
    response time-out, so each is awaited.

    Args:
        plan: the worker's.
        queue: the Conductor to poll.
        pools: the threads that wait for it.
        slots: where deliveries can go.
        host: says whether this host can take work.
        emit: takes the events of polling.
        now: the time, for deliveries.
        give: hands a delivery to a slot, with the time of the poll, and says whether it arrived.
        spawn: runs a coroutine on the side, to its end.
        unreported: counts the attempts that have left their slot and whose report is not through.
    """

    def __init__(
        self,
        *,
        plan: WorkerPlan,
        queue: TaskQueue,
        pools: Pools,
        slots: SlotPool,
        host: HostCheck,
        emit: Callable[[Event], None],
        now: Callable[[], float],
        give: Callable[[Delivery, Slot, float], bool],
        spawn: Callable[[Coroutine[Any, Any, None]], None],
        unreported: Callable[[], int],
    ) -> None:
        self._plan = plan
        self._queue = queue
        self._pools = pools
        self._slots = slots
        self._host = host
        self._emit = emit
        self._now = now
        self._give = give
        self._spawn = spawn
        self._unreported = unreported
        self._backlog = 2 * pools.reports.threads
        self._tasks = {task.name: task for task in plan.tasks}
        self._served = dict.fromkeys(self._tasks, 0.0)
        self._cadence = Cadence()
        self._delayed = DelayedQueues()
        self._troubles = Troubles(self._tasks, emit)
        self._most_long_polls = cadence.LONG_POLLS // len(self._tasks)
        self._long_polls: Counter[str] = Counter()
        """In flight."""
        self._next_long_poll = 0.0
        self._stopping = asyncio.Event()
        self._wake = asyncio.Event()

    def stop(self) -> None:
        """Make no further poll. Those in flight are awaited, and what they bring is given back."""
        self._stopping.set()
        self._wake.set()

    async def stopped(self) -> None:
        """Wait until `stop` is called."""
        await self._stopping.wait()

    def slots_changed(self) -> None:
        """A slot has become free, or its place."""
        if self._plan.is_shared:
            self._cadence.look_now()  # it was made, or makes place, for work that was seen
        self._wake.set()

    def attempt_reported(self) -> None:
        """Conductor has a result, so a workflow may have its next step ready."""
        self._cadence.worked()
        self._wake.set()

    async def run(self) -> None:
        """Poll until `stop`."""
        while not self._stopping.is_set():
            self._wake.clear()
            pause = await self._turn()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(None if math.isinf(pause) else pause):
                    await self._wake.wait()

    async def _turn(self) -> float:
        """Do what is to be done now. Returns the seconds until there may be more, if nothing happens before."""
        self._slots.end_idle()
        unreported = self._unreported()
        if not self._takes_work or unreported >= self._backlog:
            return math.inf
        free = self._slots.free()
        if not self._cadence.alert and not unreported and self._all_watched(free):
            return self._watch(free)  # a report on its way keeps the slot for a quick look: a next step may follow it
        if not free and not self._has_places():
            return math.inf
        now = time.monotonic()
        kind = LOOK if len(self._tasks) > 1 else next(iter(self._tasks))
        pause = max(0.0, self._cadence.due() - now, self._troubles.left(kind, now))
        if not pause:
            await self._look(free)
        return pause

    @property
    def _takes_work(self) -> bool:
        return not self._stopping.is_set() and self._host.problem is None

    # ---------------------------------------------------------------------- looking

    def _has_places(self) -> bool:
        """Whether a slot could be made."""
        return self._plan.is_shared and self._slots.running().total() < self._plan.slots

    async def _look(self, free: dict[str, list[Slot]]) -> None:
        """Find out who has work, share the free places out, and poll for those who have a slot."""
        if len(self._tasks) == 1:  # then a poll tells as much
            found = sum([await self._poll(name, slots, 0.0) for name, slots in free.items()])
        else:
            found = await self._look_at_all()
        self._cadence.looked(time.monotonic(), found=found > 0)

    async def _look_at_all(self) -> int:
        """How many attempts came."""
        names = tuple(self._tasks)
        depths = await self._ask(LOOK, lambda: self._queue.queue_depths(names))
        if depths is None or not self._takes_work:
            return 0
        now = time.monotonic()
        for name in [name for name, depth in depths.items() if not depth]:
            self._troubles.idle(name, now)
        given = self._share(self._delayed.due(depths, now))
        self._slots.arrange(given)
        free = self._slots.free()
        chosen = [(name, free[name][:number]) for name, number in given.items() if name in free]

        async def poll(name: str, slots: Sequence[Slot]) -> int:
            got = await self._poll(name, slots, 0.0)
            self._delayed.polled(name, time.monotonic(), depth=depths[name], asked=len(slots), got=got)
            return got

        return sum(await asyncio.gather(*(poll(name, slots) for name, slots in chosen)))

    def _share(self, depths: dict[str, int]) -> dict[str, int]:
        running, limits, now = self._slots.running(), self._slots.limits(), time.monotonic()
        demands = {
            name: Demand(depth, running[name], limits[name], max(self._served[name], self._slots.blocked[name]))
            for name, depth in depths.items()
            if not self._troubles.left(name, now)
        }
        return shares(demands, self._plan.slots - running.total())

    # ---------------------------------------------------------------------- watching

    def _all_watched(self, free: dict[str, list[Slot]]) -> bool:
        """Whether a long poll for each task is in flight or can be made, so that none need be looked for."""
        return self._most_long_polls > 0 and all(
            name in free or self._long_polls[name] or self._is_full(name) for name in self._tasks
        )

    def _is_full(self, name: str) -> bool:
        return self._slots.running()[name] >= self._plan.limit_of(self._tasks[name])

    def _watch(self, free: dict[str, list[Slot]]) -> float:
        """Make the next long poll; one at a time for a task whose polls fail."""
        now = time.monotonic()
        able = [
            name for name in free if self._long_polls[name] < (1 if name in self._troubles else self._most_long_polls)
        ]
        if not able:
            return math.inf
        name = min(able, key=lambda name: (self._troubles.left(name, now), self._long_polls[name]))
        pause = max(0.0, self._next_long_poll - now, self._troubles.left(name, now))
        if not pause:
            self._next_long_poll = now + cadence.SPREAD_SECONDS
            self._long_polls[name] += 1
            self._spawn(self._long_poll(name, free[name][0]))
        return pause

    async def _long_poll(self, name: str, slot: Slot) -> None:
        try:
            if await self._poll(name, [slot], cadence.LONG_POLL_SECONDS):
                self._cadence.worked()
        finally:
            self._long_polls[name] -= 1
            self._wake.set()

    # ---------------------------------------------------------------------- polling

    async def _poll(self, name: str, slots: Sequence[Slot], wait_seconds: float) -> int:
        """Poll for these slots; returns how many attempts came."""
        asked = self._now()
        for slot in slots:
            slot.expecting = True
        try:
            deliveries = await self._ask(
                name,
                lambda: self._queue.poll(name, self._plan.supervisor_id, count=len(slots), wait_seconds=wait_seconds),
            )
        finally:
            for slot in slots:
                slot.expecting = False
        for delivery in deliveries or ():
            self._hand_out(name, delivery, asked)
        return len(deliveries or ())

    async def _ask(self, kind: str, request: Callable[[], Any]) -> Any:
        """The answer to a request for work; None: it failed."""
        try:
            answer = await self._pools.polls.run(request)
        except Exception as error:  # noqa: BLE001 - no failed poll may end the worker
            self._troubles.failed(kind, error, time.monotonic())
            return None
        self._troubles.succeeded(kind, time.monotonic())
        return answer

    def _hand_out(self, name: str, delivery: Delivery, polled_at: float) -> None:
        self._served[name] = time.monotonic()
        free = self._slots.free().get(name)
        if not self._takes_work or not free or not self._give(delivery, free[0], polled_at):
            self._spawn(self._hand_back(delivery))

    async def _hand_back(self, delivery: Delivery) -> None:
        error = await self._pools.reports.run(hand_back, self._queue, delivery)
        self._emit(HandedBack(delivery, error))


BACK_OFF = BackOff(1.0, 30.0, jitter=True)
"""Between failed requests of one kind."""

ANSWERS = (AccessDenied, NotFound, Refused)
"""Conductor's word that it does not want a request: of polls for one task, it may be about that task alone."""


@dataclass(slots=True)
class Trouble:
    """Requests of one kind that fail. Times are seconds of a monotonic clock."""

    since: float
    failures: int = 0
    until: float = 0.0
    is_refused: bool = False
    """The last one was refused, and it was about one task."""


@dataclass(slots=True)
class Said:
    """What was told about one task, or all, and is not over."""

    since: float
    kinds: set[bool] = field(default_factory=set)
    """Whether the credentials are rejected: each is told once."""


class Troubles:
    """Keeps each kind of request that fails from being made too often, and says once that Conductor is unreachable or
    refuses the polls for a task, until that is over.

    Conductor counts as unreachable as long as any request gets no answer, or everything is refused.

    Args:
        tasks: the names of the tasks, which are the kinds of requests that are about one task each.
        emit: is told.
    """

    def __init__(self, tasks: Collection[str], emit: Callable[[Event], None]) -> None:
        self._tasks = tasks
        self._emit = emit
        self._kinds: dict[str, Trouble] = {}
        self._said: dict[str, Said] = {}
        """By the name of a task, or `ALL_TASKS`."""

    def __contains__(self, kind: str) -> bool:
        """Whether the last request of this kind failed."""
        return kind in self._kinds

    def left(self, kind: str, now: float) -> float:
        """Seconds until such a request may be made."""
        return max(0.0, self._kinds[kind].until - now) if kind in self._kinds else 0.0

    def failed(self, kind: str, error: Exception, now: float) -> None:
        """A request failed. Several that were under way at the same time count once."""
        trouble = self._kinds.setdefault(kind, Trouble(now))
        if now < trouble.until:
            return
        trouble.until = now + BACK_OFF.pause(trouble.failures)
        trouble.failures += 1
        trouble.is_refused = kind in self._tasks and isinstance(error, ANSWERS)
        about = kind if trouble.is_refused and not self._lasts(ALL_TASKS) else ALL_TASKS
        said = self._said.setdefault(about, Said(trouble.since))
        denied = isinstance(error, AccessDenied)
        if denied not in said.kinds:
            said.kinds.add(denied)
            self._emit(ConductorUnreachable(poll_problem(error), denied, about))
        self._tell_what_is_over(now)

    def succeeded(self, kind: str, now: float) -> None:
        """A request was answered."""
        if self._kinds.pop(kind, None) is not None:
            self._tell_what_is_over(now)

    def idle(self, kind: str, now: float) -> None:
        """There is no reason for such a request, so that it cannot be said to fail. One that is refused still is."""
        if kind in self._kinds and not self._kinds[kind].is_refused:
            self.succeeded(kind, now)

    def _lasts(self, about: str) -> bool:
        refused = sum(trouble.is_refused for trouble in self._kinds.values())
        if about == ALL_TASKS:
            return refused < len(self._kinds) or refused == len(self._tasks)
        return about in self._kinds

    def _tell_what_is_over(self, now: float) -> None:
        for about in [about for about in self._said if not self._lasts(about)]:
            self._emit(ConductorBack(now - self._said.pop(about).since, about))


def poll_problem(error: Exception) -> str:
    """What to tell about a failed poll."""
    return str(error) if isinstance(error, ServiceError) else f"{type(error).__name__}: {error}"
