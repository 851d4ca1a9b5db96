"""The slots of a worker: places for attempts, each with a process that is replaced whenever it ends.

If all tasks together may run no more attempts than there are slots, each has its own from the start and keeps them.
Otherwise they are shared: a slot is made when there is work for it, ends after a while without any, and gives way
before that if another task needs its place.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

from perago.ports import Delivery
from perago.retry import RestartDelay
from perago.worker.channel import (
    MOST_CHUNKS,
    MOST_REMARKS,
    MOST_STEPS,
    AskLog,
    BadMessage,
    Calling,
    Cancel,
    Deliver,
    DeliveryAnswer,
    DeliveryQuestion,
    Finished,
    ForwardedEvent,
    FromSlot,
    LogSoFar,
    Publishing,
    Ready,
    StartFailed,
    Stop,
    Waiting,
)
from perago.worker.events import (
    Event,
    Logged,
    SlotDied,
    SlotEnded,
    SlotReady,
    SlotReplaced,
    SlotStartFailed,
    WaitingForLakeFS,
)
from perago.worker.plan import TaskPlan, WorkerPlan
from perago.worker.pools import Pool
from perago.worker.processes import SlotProcess, end_fork_server

MOST_QUESTIONS = 100
"""Delivery questions of one attempt that wait for their answers. It asks one after the other, and gives up waiting."""

MOST_WAITS = 1000
"""Lines of an attempt about waits for lakeFS: two for each call, at most."""

LONGEST_LOG = 66_000
"""Characters of a piece of an attempt's log: a tail and the words about what it leaves out."""
LONGEST_REASON = 2000
"""Characters; more than Conductor takes (500) and than any slot writes."""

STOP_LIMIT = 2.0
"""Seconds that an idle slot gets to end after `Stop`."""


class RunningAttempt(Protocol):
    """The attempt in a slot, as far as the slot knows it."""

    delivery: Delivery

    def finished(self, message: Finished) -> None:
        """The slot is done with it."""
        ...

    def publishing(self, message: Publishing) -> None:
        """Its merge is about to be sent, or was answered."""
        ...

    def said(self, text: str) -> None:
        """What it said since it was asked before."""
        ...

    def process_died(self, how: str) -> None:
        """The slot's process ended in the middle of it, and its whole process group is gone."""
        ...

    def not_taken(self, how: str) -> None:
        """The slot's process ended before it had read the delivery, so that nothing of the attempt has run."""
        ...


class SlotListener(Protocol):
    """What a slot tells the supervisor."""

    def slot_changed(self, slot: Slot) -> None:
        """The slot became free, or failed to start."""
        ...

    def slot_asks(self, slot: Slot, question: DeliveryQuestion) -> None:
        """The attempt in the slot asks a delivery question."""
        ...


class Slot:
    """Keeps one slot process alive and hands attempts to it. Belongs to the event loop's thread.

    Args:
        plan: the worker's.
        task: what the slot runs.
        worker_id: the slot's, which its results carry.
        threads: those that start and end processes.
        listener: is told when the slot is free, cannot start, or asks a delivery question.
        emit: takes the events of the slot.
        delay: of a shared slot, the one of its task. Such a slot ends with its process, if that crashes.
    """

    def __init__(
        self,
        plan: WorkerPlan,
        task: TaskPlan,
        worker_id: str,
        threads: Pool,
        listener: SlotListener,
        emit: Callable[[Event], None],
        delay: RestartDelay | None = None,
    ) -> None:
        self.task = task
        self.worker_id = worker_id
        self.start_failure: str | None = None
        self.attempt: RunningAttempt | None = None
        self._plan = plan.for_slot(task)
        self._threads = threads
        self._listener = listener
        self._emit = emit
        self._process: SlotProcess | None = None
        self.expecting = False
        """Whether a poll is in flight that was made for this slot."""
        self.restart_seconds = 0.0
        """What must pass after its process before there is another one."""
        self.idle_since = time.monotonic()
        self._ready = False
        self._retiring: str | None = None
        self._closing = asyncio.Event()
        self._gives_way = ""
        self._delay = delay or RestartDelay()
        self._is_shared = delay is not None
        self._ready_since: float | None = None
        self._questions = self._waits = self._log_asked = 0
        """Of the attempt at hand that have not been answered."""
        self._is_called = False
        """Whether its function was called."""

    @property
    def free(self) -> bool:
        """Whether it can take a delivery now."""
        return self._ready and self.attempt is None and self._retiring is None and not self._closing.is_set()

    @property
    def busy(self) -> bool:
        """Whether it has an attempt, or is about to get one."""
        return self.attempt is not None or self.expecting

    @property
    def closing(self) -> bool:
        """Whether it takes nothing more and ends."""
        return self._closing.is_set()

    async def keep(self) -> None:
        """Start a process, and another whenever one ends, until `close`."""
        while not self._closing.is_set():
            self.restart_seconds = await self._live_once()
            if self._is_shared and self.restart_seconds:
                self._closing.set()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self.restart_seconds):
                    await self._closing.wait()

    def take(self, attempt: RunningAttempt) -> bool:
        """Hand over a delivery; False when the process could not be reached, and nothing was started.

        Raises:
            RecursionError: the input is nested too deeply to be sent. The slot is as it was.
        """
        if self._process is None or not self._process.send(Deliver(attempt.delivery)):
            self._ready = False
            return False
        self.attempt, self._questions, self._waits, self._log_asked = attempt, 0, 0, 0
        self._is_called = False
        return True

    def answer(self, answer: DeliveryAnswer) -> None:
        """Send the answer to a delivery question, if the process still lives."""
        self._questions -= 1
        if self._process is not None:
            self._process.send(answer)

    def ask_log(self) -> None:
        """Have the process tell what its attempt has said since it was asked before."""
        self._log_asked += 1
        if self._process is not None:
            self._process.send(AskLog())

    def cancel(self, reason: str) -> None:
        """Stop the attempt at hand: TERM, grace, KILL. The process is replaced."""
        self._retiring = reason
        self.ask_log()
        if self._process is not None:
            self._process.send(Cancel(reason))
            self._process.terminate(self._plan.shutdown_grace)

    def kill(self) -> None:
        """End the process and its group now."""
        if self._process is not None:
            self._process.kill()

    def drain(self) -> None:
        """Start no further process; the present one ends as soon as it has no attempt."""
        self._closing.set()
        if self.attempt is None:
            self._end_process()

    def give_way(self, reason: str) -> None:
        """End for good, without an attempt; `reason` is what is said of it."""
        self._gives_way = reason
        self.drain()

    def close(self) -> None:
        """Start no further process and end the present one, also with an attempt in it."""
        self.drain()
        if self.attempt is not None:
            self.kill()

    def _end_process(self) -> None:
        process = self._process
        if process is None:
            return
        if self._ready and self._retiring is None and process.send(Stop()):
            asyncio.get_running_loop().call_later(STOP_LIMIT, process.kill)
        else:
            process.kill()

    async def _live_once(self) -> float:
        """Run one process to its end; returns the seconds until the next may start."""
        self._ready_since = None
        try:
            process = await SlotProcess.start(self._plan, self.worker_id, self._on_message, self._threads)
        except (OSError, RuntimeError) as error:  # no thread can be started, either
            return self._died(0, f"the slot's process could not be started: {error}")
        self._process = process
        if self._closing.is_set():
            self._end_process()
        overdue = asyncio.get_running_loop().call_later(self._plan.start_limit, self._kill_unless_ready)
        await process.exit
        overdue.cancel()
        self._ready = False
        how = await process.ended()
        self._process = None
        attempt, self.attempt = self.attempt, None
        wait = self._died(process.pid, how)
        if attempt is not None and process.has_delivery:
            attempt.process_died(how)
        elif attempt is not None:
            attempt.not_taken(how)
        return wait

    def _kill_unless_ready(self) -> None:
        if not self._ready:
            self.start_failure = f"the task module was not imported within {self._plan.start_limit:g} s"
            self._emit(SlotStartFailed(self.worker_id, self.start_failure, self.task.name))
            self.kill()
            self._listener.slot_changed(self)

    def _died(self, pid: int, how: str) -> float:
        reason, self._retiring = self._retiring, None
        if self._closing.is_set():
            if self._gives_way:
                self._emit(SlotEnded(self.worker_id, pid, self._gives_way))
            return 0.0
        if reason is not None:
            self._emit(SlotReplaced(self.worker_id, pid, reason))
            return 0.0
        lived = 0.0 if self._ready_since is None else time.monotonic() - self._ready_since
        delay = self._delay.after_crash(lived)
        self._emit(SlotDied(self.worker_id, pid, how, delay))
        return delay

    def _on_message(self, message: FromSlot) -> None:
        """What the process says.

        Raises:
            BadMessage: it may not say that, or not now. Nothing else that it sends may be believed.
        """
        if not self._expects(message):
            raise BadMessage(f"a message that nothing called for ({type(message).__name__})")
        match message:
            case Ready():
                self.start_failure, self._ready = None, True
                self.idle_since = self._ready_since = time.monotonic()
                self._emit(SlotReady(self.worker_id, self._process.pid if self._process else 0, self.task.name))
                self._listener.slot_changed(self)
            case StartFailed(reason):
                self.start_failure = reason
                self._emit(SlotStartFailed(self.worker_id, reason, self.task.name))
                self._listener.slot_changed(self)
            case DeliveryQuestion():
                self._questions += 1
                self._listener.slot_asks(self, message)
            case Calling():
                self._is_called = True
            case Finished():
                self._on_finished(message)
            case Publishing():
                if self.attempt is not None:
                    self.attempt.publishing(message)
            case LogSoFar(_, text):
                self._log_asked -= 1
                if self.attempt is not None:
                    self.attempt.said(text)
            case ForwardedEvent(event):
                self._emit(event)
            case Waiting(_, text):
                self._waits += 1
                self._emit(WaitingForLakeFS(self.worker_id, text))

    def _expects(self, message: FromSlot) -> bool:
        match message:
            case Ready() | StartFailed():
                return not self._ready and self.attempt is None
            case ForwardedEvent(event):
                return self._plan.logs.forward if isinstance(event, Logged) else self._plan.watch
        if self.attempt is None or message.identity != self.attempt.delivery.identity:
            return False
        match message:
            case DeliveryQuestion():
                return self._questions < MOST_QUESTIONS
            case Calling():
                return not self._is_called
            case Finished(_, report):
                if message.hand_back and self._is_called:
                    return False
                lists = (message.steps, MOST_STEPS), (message.remarks, MOST_REMARKS), (message.log_chunks, MOST_CHUNKS)
                if any(len(items) > most for items, most in lists):
                    return False
                texts = (report and report.reason, message.lost_reason, message.unfit, *message.remarks)
                return all(len(text or "") <= LONGEST_REASON for text in texts)
            case LogSoFar(_, text):
                return self._log_asked > 0 and len(text) <= LONGEST_LOG
            case Publishing():
                return len(message.words) <= LONGEST_REASON
            case Waiting(_, text):
                return len(text) <= LONGEST_REASON and self._waits < MOST_WAITS

    def _on_finished(self, message: Finished) -> None:
        attempt, self.attempt = self.attempt, None
        self.idle_since = time.monotonic()
        if self._retiring is None:
            self._retiring = message.unfit
        if self._retiring is not None:
            self.kill()
        elif self._closing.is_set():
            self._end_process()
        if attempt is not None:
            attempt.finished(message)
        self._listener.slot_changed(self)


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
