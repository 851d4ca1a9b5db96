"""The slots of a worker: whose they are, and how they change hands.

If all tasks together may run no more attempts than there are slots, each has its own from the start and keeps them.
Otherwise they are shared: a slot is made when there is work for it, ends after a while without any, and gives way
before that if another task needs its place.
"""

from __future__ import annotations

import asyncio
import heapq
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from perago.back_off import RestartDelay
from perago.worker.events import Event
from perago.worker.fork_server import end_fork_server
from perago.worker.plan import TaskPlan, WorkerPlan
from perago.worker.pools import Pool
from perago.worker.slots import Slot, SlotListener

IDLE_LIMIT = 300.0
"""Seconds without an attempt after which a shared slot ends, to give back its memory."""

CLOSE_LIMIT = 5.0
"""Seconds for idle slots to end, by themselves and then by KILL."""


class SlotPool:
    """Belongs to the event loop's thread.

    Args:
        plan: the worker's.
        threads: those that start and end processes.
        listener: is told what each slot does.
        emit: takes the events of slots.
        ended: is told of each slot's end, which may be a defect.
    """

    def __init__(
        self,
        plan: WorkerPlan,
        threads: Pool,
        listener: SlotListener,
        emit: Callable[[Event], None],
        ended: Callable[[asyncio.Task[None]], None],
    ) -> None:
        self._plan = plan
        self._threads = threads
        self._listener = listener
        self._emit = emit
        self._ended = ended
        self._slots: dict[Slot, asyncio.Task[None]] = {}
        self._free_ids = list(plan.slot_ids)
        self._delays = {task.name: RestartDelay() for task in plan.tasks}
        self.blocked = dict.fromkeys(self._delays, 0.0)
        """Until when no slot is made for a task, since the last one crashed. Seconds of the monotonic clock."""
        self._draining = False

    def start(self) -> None:
        """Make the slots that each task has from the start."""
        if not self._plan.is_shared:
            for task in self._plan.tasks:
                for _ in range(self._plan.limit_of(task)):
                    self._open(task)

    def free(self) -> dict[str, list[Slot]]:
        """The slots that a poll may be made for, by the names of their tasks."""
        found: dict[str, list[Slot]] = {}
        for slot in self._slots:
            if slot.free and not slot.expecting:
                found.setdefault(slot.task.name, []).append(slot)
        return found

    def running(self) -> Counter[str]:
        """How many slots each task occupies: with attempts, or for polls that are in flight."""
        return Counter(slot.task.name for slot in self._slots if slot.busy)

    def limits(self) -> dict[str, int]:
        """How many attempts of each task may run now. There are no further slots for one whose slots crash."""
        held, now = Counter(slot.task.name for slot in self._slots), time.monotonic()
        return {
            task.name: self._plan.limit_of(task) if self.blocked[task.name] <= now else held[task.name]
            for task in self._plan.tasks
        }

    def places(self) -> tuple[int, int]:
        """How many attempts could be taken now, and how many are running. A shared slot need not be there for that."""
        busy = sum(slot.attempt is not None for slot in self._slots)
        return self._plan.slots - busy if self._plan.is_shared else sum(slot.free for slot in self._slots), busy

    def all_failed(self) -> bool:
        """Whether no slot could be started."""
        return bool(self._slots) and all(slot.start_failure for slot in self._slots)

    def arrange(self, wanted: Mapping[str, int]) -> None:
        """Make slots, so that each task has as many that are not busy as it can use now; idle ones of others give
        way."""
        if self._draining or not self._plan.is_shared:
            return
        idle: dict[str, list[Slot]] = {}
        for slot in self._slots:
            if not slot.busy and not slot.closing:
                idle.setdefault(slot.task.name, []).append(slot)
        short = -sum(slot.closing for slot in self._slots)
        for task in self._plan.tasks:
            for _ in range(wanted.get(task.name, 0) - len(idle.get(task.name, []))):
                if self._free_ids:
                    self._open(task)
                else:
                    short += 1
        surplus: list[Slot] = []
        for name, slots in idle.items():
            surplus += _by_idleness(slots)[: max(0, len(slots) - wanted.get(name, 0))]
        for slot in _by_idleness(surplus)[: max(0, short)]:
            slot.give_way("another task needs its place")

    def end_idle(self) -> None:
        """End shared slots that have had nothing to do for a long time."""
        over = time.monotonic() - IDLE_LIMIT
        for slot in self._slots if self._plan.is_shared else ():
            if slot.idle_since < over and not slot.busy and not slot.closing:
                slot.give_way(f"it had nothing to do for {IDLE_LIMIT:g} s")

    def drain(self) -> None:
        """Start no further process; each ends as soon as it has no attempt."""
        self._draining = True
        for slot in self._slots:
            slot.drain()

    def kill(self) -> None:
        """End all processes now."""
        for slot in self._slots:
            slot.kill()

    async def close(self) -> None:
        """End everything that is left, also with attempts in it."""
        self._draining = True
        for slot in self._slots:
            slot.close()
        left: Iterable[asyncio.Task[None]] = self._slots.values()
        if left:
            _, left = await asyncio.wait(left, timeout=CLOSE_LIMIT)
        if left:
            end_fork_server(f"did not report the end of its slots within {CLOSE_LIMIT:g} s")
            await asyncio.wait(left, timeout=CLOSE_LIMIT)

    def _open(self, task: TaskPlan) -> None:
        delay = self._delays[task.name] if self._plan.is_shared else None
        slot = Slot(self._plan, task, heapq.heappop(self._free_ids), self._threads, self._listener, self._emit, delay)
        keeper = self._slots[slot] = asyncio.create_task(slot.keep())

        def ended(keeper: asyncio.Task[Any]) -> None:
            del self._slots[slot]
            heapq.heappush(self._free_ids, slot.worker_id)
            self.blocked[task.name] = max(self.blocked[task.name], time.monotonic() + slot.restart_seconds)
            self._ended(keeper)
            self._listener.slot_changed(slot)

        keeper.add_done_callback(ended)


def _by_idleness(slots: list[Slot]) -> list[Slot]:
    return sorted(slots, key=lambda slot: slot.idle_since)
