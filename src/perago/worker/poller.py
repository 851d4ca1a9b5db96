"""Poll Conductor while slots are free. Give each delivery to a slot, and hand back deliveries that no slot can take.

Right after an attempt, more work is likely: the queue may not be empty, and the next step of a workflow usually follows
within milliseconds. So the poller first makes a few quick polls. Then it waits in one of two ways, each with fewer than
sixty requests a minute:

* **Long polls**, if every task has a free slot. Each poll has count 1, because a batch poll waits until its count is
  reached (`docs/dev/servers/conductor.md`, "Fifteen behaviors", point 8). The server checks its queue every 100 ms, so
  several polls that begin at different times get a task sooner than one poll.
* **Queue depths**, if there are more tasks than free slots. One request reads the depths of all queues.

The poller polls for ready slots only, and never twice for the same slot.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from perago.cache import CacheUnusable, give_room
from perago.hanging import HANGING_AFTER
from perago.ports import POLL_MARGIN, AccessDenied, Delivery, NotFound, Refused, ServiceError
from perago.retry import BackOff
from perago.worker.attempts import REDELIVERY, Attempt, Services, hand_back
from perago.worker.events import ALL_TASKS, ConductorBack, ConductorUnreachable, Event, HandedBack
from perago.worker.host import LONG_POLLS
from perago.worker.plan import located
from perago.worker.slots import Slot, SlotPool
from perago.workspace.layout import RESERVE

QUEUE_DEPTHS = "read the depths of the queues"
"""The kind of requests about all tasks. The other kinds are names of tasks."""

LONG_POLL_SECONDS = 5.0
SPREAD_SECONDS = 0.1 / LONG_POLLS
"""Seconds between the starts of two long polls."""

FIRST_QUICK_DELAYS = (0.005, 0.010, 0.020, 0.040)
"""Seconds before each further quick poll after an empty one."""
DEPTHS_INTERVAL = 1.25
"""Average seconds between two requests for all queue depths, which makes 48 requests a minute. It is also the longest
time that a task waits in a queue while a slot is free."""
QUICK_DELAYS = BackOff(FIRST_QUICK_DELAYS[0], DEPTHS_INTERVAL)

DELAYED_QUEUE_DELAYS = BackOff(DEPTHS_INTERVAL, LONG_POLL_SECONDS)
"""Seconds between polls of a queue that has no due attempts, such as one with delayed retries only."""

BACK_OFF = BackOff(1.0, 30.0, jitter=True)
"""The delays between failed requests of one kind."""

ANSWERS = (AccessDenied, NotFound, Refused)
"""Errors with which Conductor refuses a request. A refused poll can be about one task only."""


class Poller:
    """Polls for all slots of a worker. All methods run on the event loop's thread.

    Every poll is awaited, because the tasks of an abandoned poll are delivered again only after their response timeout.

    Args:
        services: the Conductor to poll, and the host, which may be unable to take work.
        slots: the slots that get the deliveries.
    """

    def __init__(self, services: Services, slots: SlotPool) -> None:
        self.attempts: set[Attempt] = set()
        """The attempts of deliveries that slots accepted, until Conductor has their reports."""
        self._services = services
        self._plan = services.plan
        self._worker = located(self._plan.supervisor_id)
        self._slots = slots
        self._backlog = 2 * services.pools.reports.threads
        self._tasks = {task.name: task for task in self._plan.tasks}
        self._served = dict.fromkeys(self._tasks, 0.0)
        self._cadence = Cadence()
        self._delayed = DelayedQueues()
        self._failures = PollFailures(self._tasks, services.emit)
        self._most_long_polls = LONG_POLLS // len(self._tasks)
        self._long_polls: Counter[str] = Counter()
        """The polls in flight."""
        self._next_long_poll = 0.0
        self._stopping = asyncio.Event()
        self._wake = asyncio.Event()

    def stop(self) -> None:
        """Stop polling. Await open polls, and hand back their deliveries."""
        self._stopping.set()
        self._wake.set()

    async def stopped(self) -> None:
        """Wait until `stop` is called."""
        await self._stopping.wait()

    def slots_changed(self) -> None:
        """Poll soon, because a slot or its place has become free."""
        if self._plan.is_shared:
            self._cadence.poll_now()  # a queue that has work waits for the slot
        self._wake.set()

    @property
    def unreported(self) -> int:
        """The number of attempts that have left their slot and whose report Conductor has not accepted."""
        return sum(not attempt.running for attempt in self.attempts)

    async def run(self) -> None:
        """Poll until `stop`."""
        while not self._stopping.is_set():
            self._wake.clear()
            pause = await self._poll_if_due()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(None if math.isinf(pause) else pause):
                    await self._wake.wait()

    async def _poll_if_due(self) -> float:
        """Make the polls that are due. Return the seconds until the next ones."""
        self._slots.end_idle()
        unreported = self.unreported
        if not self._takes_work or unreported >= self._backlog:
            return math.inf
        free, occupied = self._slots.free(), self._slots.running()
        # The next step of a workflow may follow a pending report, so the slot stays free for a quick poll.
        if not self._cadence.expects_work and not unreported and self._can_wait_for_all(free, occupied):
            return self._start_long_poll(free)
        if not free and not (self._plan.is_shared and occupied.total() < self._plan.slots):
            return math.inf
        now = time.monotonic()
        kind = QUEUE_DEPTHS if len(self._tasks) > 1 else next(iter(self._tasks))
        pause = max(0.0, self._cadence.due() - now, self._failures.left(kind, now))
        if not pause:
            await self._poll_quickly(free)
        return pause

    @property
    def _takes_work(self) -> bool:
        return not self._stopping.is_set() and self._services.host.problem is None

    # ---------------------------------------------------------------------- quick polls and queue depths

    async def _poll_quickly(self, free: dict[str, list[Slot]]) -> None:
        """Poll for the tasks that have work and get a slot."""
        if len(self._tasks) == 1:  # its queue depth would not tell more than a poll
            deliveries = sum([await self._poll(name, slots, 0.0) for name, slots in free.items()])
        else:
            deliveries = await self._poll_by_depth()
        self._cadence.polled(time.monotonic(), has_work=deliveries > 0)

    async def _poll_by_depth(self) -> int:
        """Read the depths of all queues, and poll for the tasks that get a place. Return the number of attempts."""
        names = tuple(self._tasks)
        depths = await self._ask(QUEUE_DEPTHS, lambda: self._services.queue.queue_depths(names))
        if depths is None or not self._takes_work:
            return 0
        now = time.monotonic()
        for name in [name for name, depth in depths.items() if not depth]:
            self._failures.idle(name, now)
        places = self._share(self._delayed.due(depths, now))
        self._slots.arrange(places)
        free = self._slots.free()
        chosen = [(name, free[name][:number]) for name, number in places.items() if name in free]

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
            if not self._failures.left(name, now)
        }
        return shares(demands, self._plan.slots - running.total())

    # ---------------------------------------------------------------------- long polls

    def _can_wait_for_all(self, free: dict[str, list[Slot]], occupied: Counter[str]) -> bool:
        """Whether a long poll for each task is in flight or can be made. Then no queue depths are needed."""
        return self._most_long_polls > 0 and all(
            name in free or self._long_polls[name] or occupied[name] >= self._plan.limit_of(task)
            for name, task in self._tasks.items()
        )

    def _start_long_poll(self, free: dict[str, list[Slot]]) -> float:
        """Make the next long poll. Return the seconds until the one after it.

        A task whose polls fail gets one poll at a time.
        """
        now = time.monotonic()
        able = [
            name for name in free if self._long_polls[name] < (1 if name in self._failures else self._most_long_polls)
        ]
        if not able:
            return math.inf
        name = min(able, key=lambda name: (self._failures.left(name, now), self._long_polls[name]))
        pause = max(0.0, self._next_long_poll - now, self._failures.left(name, now))
        if not pause:
            self._next_long_poll = now + SPREAD_SECONDS
            self._long_polls[name] += 1
            self._services.spawn(self._long_poll(name, free[name][0]))
        return pause

    async def _long_poll(self, name: str, slot: Slot) -> None:
        try:
            if await self._poll(name, [slot], LONG_POLL_SECONDS):
                self._cadence.worked()
        finally:
            self._long_polls[name] -= 1
            self._wake.set()

    # ---------------------------------------------------------------------- polling

    async def _poll(self, name: str, slots: Sequence[Slot], wait_seconds: float) -> int:
        """Poll for these slots. Return the number of received attempts."""
        asked = self._services.clock.now()
        for slot in slots:
            slot.expecting = True
        try:
            deliveries = await self._ask(
                name,
                lambda: self._services.queue.poll(name, self._worker, count=len(slots), wait_seconds=wait_seconds),
                wait_seconds,
            )
        finally:
            for slot in slots:
                slot.expecting = False
        for delivery in deliveries or ():
            self._served[name] = time.monotonic()
            free = self._slots.free().get(name)
            lack = self._services.host.lacks_space_for(delivery)
            assignment = free[0].take(delivery) if self._takes_work and free and not lack else None
            if free and assignment is not None:
                attempt = Attempt(free[0], assignment, self._services, asked)
                self.attempts.add(attempt)
                self._services.spawn(self._attend(attempt))
            else:
                self._services.spawn(self._hand_back(delivery, lack))
        return len(deliveries or ())

    async def _attend(self, attempt: Attempt) -> None:
        """Run an attempt. When Conductor has its result, the next step of the workflow may be in a queue."""
        try:
            await attempt.run()
        finally:
            self.attempts.discard(attempt)
            self._cadence.worked()
            self._wake.set()

    async def _ask(self, kind: str, request: Callable[[], Any], expected: float = 0.0) -> Any:
        """Return the answer to a request for work; None: the request failed. It takes `expected` seconds if there is no
        work."""
        begun, loop = time.monotonic(), asyncio.get_running_loop()
        late = loop.call_later(expected + HANGING_AFTER, self._failures.hangs, kind, begun, expected)
        try:
            answer = await self._services.pools.polls.run(request)
        except Exception as error:  # noqa: BLE001 - no failed poll may end the worker
            self._failures.failed(kind, error, time.monotonic())
            return None
        finally:
            late.cancel()
        self._failures.succeeded(kind, time.monotonic())
        return answer

    async def _hand_back(self, delivery: Delivery, lack: str) -> None:
        """Hand back a delivery. One that lacks space is delivered again later, and the cache makes room for it."""
        services, seconds = self._services, 0
        if lack:
            seconds = round(REDELIVERY.pause(delivery.poll_count - 1))
            with contextlib.suppress(CacheUnusable, OSError):
                await services.pools.host.run(give_room, services.plan.workspace_root, RESERVE)
        error = await services.pools.reports.run(hand_back, services.queue, delivery, seconds)
        services.emit(HandedBack(delivery, error, lack))


class Cadence:
    """Decides when to make the next quick poll or the next request for queue depths. Times are seconds of a monotonic
    clock."""

    def __init__(self) -> None:
        self._empty = len(FIRST_QUICK_DELAYS) + 1
        self._polled_at = float("-inf")

    @property
    def expects_work(self) -> bool:
        """Whether there was work recently, so that more may be in the queue."""
        return self._empty <= len(FIRST_QUICK_DELAYS)

    def worked(self) -> None:
        """Record that an attempt was delivered or has ended."""
        self._empty = 0

    def poll_now(self) -> None:
        """Make the next request immediately, without quick polls after it."""
        self._polled_at = float("-inf")

    def polled(self, now: float, *, has_work: bool) -> None:
        """Record whether a request at `now` returned work."""
        self._polled_at = now
        self._empty = 0 if has_work else self._empty + 1

    def due(self) -> float:
        """Return the time of the next request."""
        return self._polled_at + (QUICK_DELAYS.pause(self._empty - 1) if self._empty else 0.0)


@dataclass(slots=True)
class Delayed:
    """A queue that contains attempts but delivers none."""

    depth: int
    polls: int
    until: float


class DelayedQueues:
    """The queues that deliver nothing although they are not empty, because their depth includes attempts that are not
    due (`docs/dev/servers/conductor.md`, "REST surface")."""

    def __init__(self) -> None:
        self._queues: dict[str, Delayed] = {}

    def polled(self, name: str, now: float, *, depth: int, asked: int, got: int) -> None:
        """Record the result of a poll of a queue with this `depth`."""
        before = self._queues.pop(name, None)
        if got < min(asked, depth):
            polls = before.polls + 1 if before is not None and not got else 0
            self._queues[name] = Delayed(depth - got, polls, now + DELAYED_QUEUE_DELAYS.pause(polls))

    def due(self, depths: Mapping[str, int], now: float) -> dict[str, int]:
        """Return the queues that are worth a poll, with their depths."""
        for name in [name for name in self._queues if not depths.get(name)]:
            del self._queues[name]
        filled = {name: depth for name, depth in depths.items() if depth > 0}

        def is_delayed(name: str) -> bool:
            known = self._queues.get(name)
            return known is not None and filled[name] <= known.depth and now < known.until

        return {name: depth for name, depth in filled.items() if not is_delayed(name)}


@dataclass(slots=True)
class Demand:
    """The waiting and running attempts of a task."""

    waiting: int
    """Attempts in its queue."""
    running: int
    """Attempts of the task that occupy slots."""
    limit: int
    """Number of attempts that may run."""
    served: float
    """The time at which the task last got a slot, or can get one again after a crash."""


def shares(demands: Mapping[str, Demand], free: int) -> dict[str, int]:
    """Return the number of the `free` places that each task gets. Each place goes to the task that occupies the fewest
    slots. Among several such tasks, it goes to the one that has waited longest."""
    places = dict.fromkeys(demands, 0)

    def wants(name: str) -> bool:
        demand = demands[name]
        return places[name] < min(demand.waiting, demand.limit - demand.running)

    for _ in range(free):
        candidates = [name for name in demands if wants(name)]
        if not candidates:
            break
        places[min(candidates, key=lambda name: (demands[name].running + places[name], demands[name].served))] += 1
    return {name: number for name, number in places.items() if number}


@dataclass(slots=True)
class FailingRequest:
    """Requests of one kind that fail. Times are seconds of a monotonic clock."""

    since: float
    failures: int = 0
    until: float = 0.0
    is_refused: bool = False
    """Whether the last request was refused and was about one task."""


@dataclass(slots=True)
class Outage:
    """A reported problem with the polls for one task or for all tasks that still exists."""

    since: float
    reported: set[bool] = field(default_factory=set)
    """Whether the credentials are rejected."""


class PollFailures:
    """Backs off each kind of request that fails. Reports each outage once at its begin and once at its end.

    In an outage, Conductor is unreachable, or refuses the polls for one task. It counts as unreachable while any
    request gets no answer, or while it refuses every request.

    Args:
        tasks: the names of the tasks. Polls for one task are one kind of requests.
        emit: gets the events.
    """

    def __init__(self, tasks: Collection[str], emit: Callable[[Event], None]) -> None:
        self._tasks = tasks
        self._emit = emit
        self._kinds: dict[str, FailingRequest] = {}
        self._outages: dict[str, Outage] = {}
        """The failing requests by the name of a task, or `ALL_TASKS`."""

    def __contains__(self, kind: str) -> bool:
        """Whether the last request of this kind failed."""
        return kind in self._kinds

    def left(self, kind: str, now: float) -> float:
        """Seconds until such a request may be made."""
        return max(0.0, self._kinds[kind].until - now) if kind in self._kinds else 0.0

    def hangs(self, kind: str, begun: float, expected: float) -> None:
        """Record that a request has had no answer for `HANGING_AFTER` seconds more than `expected`, and still waits."""
        outage = self._outages.setdefault(ALL_TASKS, Outage(self._kinds.setdefault(kind, FailingRequest(begun)).since))
        if False not in outage.reported:
            outage.reported.add(False)
            what = "the request for the depths of queues" if kind == QUEUE_DEPTHS else f"the poll for {kind}"
            what += f" has had no answer for {expected + HANGING_AFTER:.0f} s"
            self._emit(ConductorUnreachable(f"{what}; it ends after {expected + POLL_MARGIN:.0f} s", denied=False))

    def failed(self, kind: str, error: Exception, now: float) -> None:
        """Record a failed request. Several requests that were in flight at the same time count once."""
        failing = self._kinds.setdefault(kind, FailingRequest(now))
        if now < failing.until:
            return
        failing.until = now + BACK_OFF.pause(failing.failures)
        failing.failures += 1
        failing.is_refused = kind in self._tasks and isinstance(error, ANSWERS)
        about = kind if failing.is_refused and not self._lasts(ALL_TASKS) else ALL_TASKS
        outage = self._outages.setdefault(about, Outage(failing.since))
        denied = isinstance(error, AccessDenied)
        if denied not in outage.reported:
            outage.reported.add(denied)
            problem = str(error) if isinstance(error, ServiceError) else f"{type(error).__name__}: {error}"
            self._emit(ConductorUnreachable(problem, denied, about))
        self._report_ends(now)

    def succeeded(self, kind: str, now: float) -> None:
        """Record an answered request."""
        if self._kinds.pop(kind, None) is not None:
            self._report_ends(now)

    def idle(self, kind: str, now: float) -> None:
        """Record that such a request is no longer needed, so that it no longer counts as failing, unless it was
        refused."""
        if kind in self._kinds and not self._kinds[kind].is_refused:
            self.succeeded(kind, now)

    def _lasts(self, about: str) -> bool:
        refused = sum(failing.is_refused for failing in self._kinds.values())
        if about == ALL_TASKS:
            return refused < len(self._kinds) or refused == len(self._tasks)
        return about in self._kinds

    def _report_ends(self, now: float) -> None:
        for about in [about for about in self._outages if not self._lasts(about)]:
            self._emit(ConductorBack(now - self._outages.pop(about).since, about))
