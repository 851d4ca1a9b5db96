"""Takes deliveries from Conductor while slots are free, and gives back what no slot can take.

When to ask Conductor for work, and for how much.

Idle, one long poll of count 1 costs twelve requests a minute and wakes within 112 ms (a batch poll would wait to fill
its count, `docs/servers/conductor.md` 7.8). Right after work it pays to ask for all free slots at once and not to wait:
a queue that is not empty keeps every slot full, and the next step of a workflow is usually there a few milliseconds
later. So a few quick looks lie between the two. There is never more than one poll in flight, because a poll that
is given up loses its tasks until their response time-out.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any

from perago.back_off import BackOff
from perago.ports import AccessDenied, Delivery, ServiceError, TaskQueue
from perago.worker.events import ConductorBack, ConductorUnreachable, Event, HandedBack
from perago.worker.pools import Pools
from perago.worker.reporting import hand_back
from perago.worker.slots import Slot

LONG_POLL_SECONDS = 5.0
QUICK_PAUSES = (0.005, 0.010, 0.020, 0.040)
"""Seconds before each further quick look at a queue that was just found empty."""

BACK_OFF = BackOff(1.0, 30.0, jitter=True)
"""Between failed polls."""


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


def poll_problem(error: Exception) -> str:
    """What to tell about a failed poll."""
    return str(error) if isinstance(error, ServiceError) else f"{type(error).__name__}: {error}"


class Poller:
    """The one place that polls. Belongs to the event loop's thread.

    Args:
        queue: the Conductor to poll.
        pools: the threads that wait for it.
        worker_id: the supervisor's, which polls.
        slots: where deliveries can go.
        emit: takes the events of polling.
        now: the time.
        give: hands a delivery to a slot, with the time of the poll, and says whether it arrived.
        spawn: runs a coroutine on the side.
        unreported: counts the attempts that have left their slot and whose report is not through.
    """

    def __init__(
        self,
        *,
        queue: TaskQueue,
        pools: Pools,
        worker_id: str,
        slots: Sequence[Slot],
        emit: Callable[[Event], None],
        now: Callable[[], float],
        give: Callable[[Delivery, Slot, float], bool],
        spawn: Callable[[Coroutine[Any, Any, None]], None],
        unreported: Callable[[], int],
    ) -> None:
        self._queue = queue
        self._pools = pools
        self._worker_id = worker_id
        self._slots = slots
        self._emit = emit
        self._now = now
        self._give = give
        self._spawn = spawn
        self._unreported = unreported
        self._backlog = 2 * pools.reports.threads
        self._cadence = Cadence()
        self._failures = 0
        self._failing_since: float | None = None
        self._denied = False
        self._stopping = asyncio.Event()
        self._wake = asyncio.Event()

    def stop(self) -> None:
        """Make no further poll. One in flight is awaited, and what it brings is given back."""
        self._stopping.set()
        self._wake.set()

    def slot_freed(self) -> None:
        """A slot has become free."""
        self._wake.set()

    def attempt_reported(self) -> None:
        """Conductor has a result, so a workflow may have its next step ready."""
        self._cadence.worked()
        self._wake.set()

    async def run(self) -> None:
        """Poll until `stop`."""
        while not self._stopping.is_set():
            self._wake.clear()
            free = self._free()
            if not free or self._unreported() >= self._backlog:
                await self._wake.wait()
                continue
            poll = self._cadence.next(len(free))
            if poll.pause and await self._woken_within(poll.pause):
                continue
            await self._poll(free[0].task.name, poll)

    def _free(self) -> list[Slot]:
        return [slot for slot in self._slots if slot.free]

    async def _woken_within(self, seconds: float) -> bool:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        return self._wake.is_set()

    async def _poll(self, task_name: str, poll: NextPoll) -> None:
        asked = self._now()
        try:
            deliveries = await self._pools.polls.run(
                self._queue.poll, task_name, self._worker_id, count=poll.count, wait_seconds=poll.wait_seconds
            )
        except Exception as error:  # noqa: BLE001 - no failed poll may end the worker
            await self._failed(error)
            return
        self._succeeded()
        if not deliveries:
            self._cadence.found_nothing()
            return
        self._cadence.worked()
        self._hand_out(deliveries, asked)

    def _hand_out(self, deliveries: Sequence[Delivery], polled_at: float) -> None:
        for delivery in deliveries:
            free = self._free()
            given = bool(free) and not self._stopping.is_set() and self._give(delivery, free[0], polled_at)
            if not given:
                self._spawn(self._hand_back(delivery))

    async def _hand_back(self, delivery: Delivery) -> None:
        error = await self._pools.reports.run(hand_back, self._queue, delivery)
        self._emit(HandedBack(delivery, error))

    def _succeeded(self) -> None:
        self._failures = 0
        if self._failing_since is not None:
            self._emit(ConductorBack(time.monotonic() - self._failing_since))
            self._failing_since, self._denied = None, False

    async def _failed(self, error: Exception) -> None:
        denied = isinstance(error, AccessDenied)
        if self._failing_since is None or denied != self._denied:
            self._emit(ConductorUnreachable(poll_problem(error), denied))
        if self._failing_since is None:
            self._failing_since = time.monotonic()
        self._denied = denied
        pause = BACK_OFF.pause(self._failures)
        self._failures += 1
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(pause):
                await self._stopping.wait()
