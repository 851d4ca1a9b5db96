"""The slots of a worker: places for attempts, each with a process that is replaced when it ends.

If all tasks together may run at most as many attempts as there are slots, each task has its own slots from the start.
If they may run more, tasks share the slots. Then a slot starts when there is work for it, and ends after a time without
work, or earlier if another task needs its place.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from perago.hanging import service_in
from perago.ports import Delivery, Report, TaskStatus
from perago.processes import is_stopped
from perago.retry import RestartDelay
from perago.taskdef.payload import TOO_DEEP
from perago.worker import channel, events
from perago.worker.fork_server import end_fork_server
from perago.worker.host import Pool
from perago.worker.plan import TaskPlan, WorkerPlan, located
from perago.worker.processes import SlotProcess

MOST_QUESTIONS = 100
"""Maximum number of unanswered delivery questions of one attempt. An attempt asks one after the other, but can stop
waiting."""

MOST_WAITS = 1000
"""Maximum number of lines of an attempt about waits for lakeFS: at most two for each call."""

LONGEST_SERVICE, MOST_SERVICES = 100, 10
"""Maximum number of services for which an attempt can wait at the same time."""

LONGEST_LOG = 66_000
"""Maximum length of a piece of an attempt's log: a tail and the words about omitted lines."""
LONGEST_REASON = 2000
"""The largest number of characters. Conductor accepts fewer (500), and slots write fewer."""

STOP_LIMIT = 2.0
"""Seconds that an idle slot gets to end after `Stop`."""

IDLE_LIMIT = 300.0
"""Seconds without an attempt after which a shared slot ends, to give back its memory."""

CLOSE_LIMIT = 5.0
"""Seconds for idle slots to end: first after `Stop`, then after KILL."""


@dataclass(frozen=True, slots=True)
class ProcessEnded:
    """The slot's process ended in the middle of an attempt, together with its process group."""

    how: str
    had_delivery: bool
    """Whether the process may have read the delivery. If not, nothing of the attempt has run."""


class Assignment:
    """A delivery that a slot is working on, and its messages in both directions.

    The slot puts the messages about it into `messages`; `Finished` or `ProcessEnded` is the last one. From then on the
    assignment has ended, and no message for it may be sent, because it could reach the slot's next attempt.
    """

    def __init__(self, delivery: Delivery, task: TaskPlan, worker_id: str, worker: str) -> None:
        """`worker`: the worker id with the host and the slot's process."""
        self.delivery = delivery
        self.task = task
        self.worker_id = worker_id
        self.worker = worker
        self.messages: asyncio.Queue[
            channel.DeliveryQuestion | channel.Publishing | channel.LogSoFar | channel.Finished | ProcessEnded
        ]
        self.messages = asyncio.Queue()
        self.is_over: bool = False
        self.waiting: set[str] = set()
        """The services that do not answer its calls."""
        self.begun: float = time.monotonic()
        self.seconds: float = 0.0
        """Time for which the slot had the delivery, once it has ended."""
        self._questions = self._waits = self._log_asked = 0
        self._is_called = False

    def end(self, last: channel.Finished | ProcessEnded) -> None:
        """Put the last message. Then the slot is free, or has no process."""
        self.is_over = True
        self.seconds = time.monotonic() - self.begun
        self.messages.put_nowait(last)

    def may_send(self, message: channel.DeliveryAnswer | channel.AskLog) -> bool:
        """Whether the process may get this message about its attempt now. Counts the messages that it answers."""
        if self.is_over:
            return False
        if isinstance(message, channel.AskLog):
            self._log_asked += 1
        else:
            self._questions -= 1
        return True

    def accepts(self, message: channel.FromSlot) -> bool:
        """Whether the process may send this message about its attempt now. Counts the messages that are limited."""
        if (
            isinstance(message, channel.Ready | channel.StartFailed | events.Watched)
            or message.identity != self.delivery.identity
        ):
            return False
        match message:
            case channel.DeliveryQuestion():
                self._questions += 1
                return self._questions <= MOST_QUESTIONS
            case channel.Calling():
                was_called, self._is_called = self._is_called, True
                return not was_called
            case channel.Finished(_, report):
                if message.hand_back and self._is_called:
                    return False
                usage, verdicts = message.usage, message.usage.verdicts
                is_short = (
                    len(message.steps) <= channel.MOST_STEPS
                    and len(message.remarks) <= channel.MOST_REMARKS
                    and len(message.log_chunks) <= channel.MOST_CHUNKS
                    and len(verdicts) <= events.MOST_VERDICTS
                )
                texts = [report and report.reason, message.lost_reason, message.unfit, *message.remarks]
                texts += [usage.input_ref, usage.failed_step, usage.error_type]
                texts += [text for row in verdicts for text in (row.phase, row.rule, row.message)]
                return is_short and all(len(text or "") <= LONGEST_REASON for text in texts)
            case channel.LogSoFar(_, text):
                self._log_asked -= 1
                return self._log_asked >= 0 and len(text) <= LONGEST_LOG
            case channel.Publishing():
                return len(message.reason_if_killed) <= LONGEST_REASON
            case channel.Repeating(_, service):
                return len(service) <= LONGEST_SERVICE and len(self.waiting | {service}) <= MOST_SERVICES
            case channel.Waiting(_, text):
                self._waits += 1
                return self._waits <= MOST_WAITS and len(text) <= LONGEST_REASON


class Slot:
    """Keeps one slot process alive and hands deliveries to it. Belongs to the event loop's thread.

    Args:
        plan: the worker's.
        task: what the slot runs.
        worker_id: the slot's, which its results carry.
        threads: the threads that start and end processes.
        changed: is called when the slot is free, or cannot start.
        emit: takes the events of the slot.
        delay: the delay of the task of a shared slot. Such a slot ends if its process crashes.
    """

    def __init__(
        self,
        plan: WorkerPlan,
        task: TaskPlan,
        worker_id: str,
        threads: Pool,
        changed: Callable[[Slot], None],
        emit: Callable[[events.Event], None],
        delay: RestartDelay | None = None,
    ) -> None:
        self.task = task
        self.worker_id = worker_id
        self.start_failure: str | None = None
        self.assignment: Assignment | None = None
        self._plan = plan.for_slot(task)
        self._threads = threads
        self._changed = changed
        self._emit = emit
        self._process: SlotProcess | None = None
        self.expecting = False
        """Whether a poll is in flight that was made for this slot."""
        self.idle_since: float = time.monotonic()
        self.restart_seconds: float = 0.0
        """The delay of the next process, after the end of the last one."""
        self._ready = False
        self._retiring: str | None = None
        """The reason why the process is about to be replaced."""
        self._closing = asyncio.Event()
        self._gives_way = ""
        self._delay = delay or RestartDelay()
        self._is_shared = delay is not None
        self._ready_since: float | None = None
        self._failed_start: float | None = None
        """Seconds until the next start, if the current process has failed to start."""

    @property
    def located(self) -> str:
        """The worker id with the host and the process."""
        return located(self.worker_id, self._process.pid if self._process else 0)

    @property
    def free(self) -> bool:
        """Whether it can take a delivery now."""
        return self._ready and self.assignment is None and self._retiring is None and not self.closing

    @property
    def busy(self) -> bool:
        """Whether it has an attempt, or is about to get one."""
        return self.assignment is not None or self.expecting

    @property
    def is_stopped(self) -> bool:
        """Whether a signal has stopped its process."""
        return self._process is not None and is_stopped(self._process.pid)

    @property
    def closing(self) -> bool:
        """Whether the slot is ending and takes no more deliveries."""
        return self._closing.is_set()

    async def keep(self) -> None:
        """Start a process, and another whenever one ends, until `close`."""
        while not self.closing:
            self.restart_seconds = await self._live_once()
            if self._is_shared and self.restart_seconds:
                self._closing.set()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self.restart_seconds):
                    await self._closing.wait()

    def take(self, delivery: Delivery) -> Assignment | None:
        """Hand over a delivery. Return None if the process could not be reached, so that nothing was started.

        An input that is nested too deeply to be sent ends immediately, with its report, and leaves the slot free.
        """
        assignment = Assignment(delivery, self.task, self.worker_id, self.located)
        try:
            if not self.send(channel.Deliver(delivery)):
                self._ready = False
                return None
        except RecursionError:
            report = Report(TaskStatus.FAILED_WITH_TERMINAL_ERROR, reason=f"Invalid input: it {TOO_DEEP}")
            assignment.end(channel.Finished(delivery.identity, report))
        else:
            self.assignment = assignment
        return assignment

    def send(self, message: channel.ToSlot) -> bool:
        """Send a message. Return False if the process cannot be reached."""
        return self._process is not None and self._process.send(message)

    def cancel(self, reason: str) -> None:
        """Stop the current attempt: TERM, grace, KILL. Then replace the process."""
        self._retiring = reason
        self.send(channel.Cancel(reason))
        if self._process is not None:
            self._process.terminate(self._plan.shutdown_grace)

    def kill(self) -> None:
        """End the process and its group now."""
        if self._process is not None:
            self._process.kill()

    def drain(self) -> None:
        """Start no further process. The current one ends as soon as it has no attempt."""
        self._closing.set()
        if self.assignment is None:
            self._end_process()

    def give_way(self, reason: str) -> None:
        """End the slot, which has no attempt. `reason` is logged."""
        self._gives_way = reason
        self.drain()

    def close(self) -> None:
        """Start no further process, and end the current one, even if it has an attempt."""
        self.drain()
        if self.assignment is not None:
            self.kill()

    def _end_process(self) -> None:
        process = self._process
        if process is None:
            return
        if self._ready and self._retiring is None and process.send(channel.Stop()):
            asyncio.get_running_loop().call_later(STOP_LIMIT, process.kill)
        else:
            process.kill()

    async def _live_once(self) -> float:
        """Run one process to its end. Return the seconds until the next one may start."""
        self._ready_since = self._failed_start = None
        try:
            process = await SlotProcess.start(self._plan, self.worker_id, self._on_message, self._threads)
        except (OSError, RuntimeError) as error:  # no thread can be started, either
            if self.closing:
                return 0.0
            return self._report_failed_start(f"the slot's process could not be started: {error}")
        self._process = process
        if self.closing:
            self._end_process()
        overdue = asyncio.get_running_loop().call_later(self._plan.start_limit, self._kill_unless_ready)
        await process.exit
        overdue.cancel()
        self._ready = False
        how = await process.ended()
        self._process = None
        assignment, self.assignment = self.assignment, None
        wait = self._died(process.pid, how, assignment.delivery if assignment is not None else None)
        if assignment is not None:
            assignment.end(ProcessEnded(how, process.has_delivery))
        return wait

    def _kill_unless_ready(self) -> None:
        if not self._ready:
            self._start_failed(f"the task module was not imported within {self._plan.start_limit:g} s")
            self.kill()

    def _start_failed(self, reason: str) -> None:
        self.start_failure = reason
        self._failed_start = self._report_failed_start(reason)
        self._changed(self)

    def _report_failed_start(self, reason: str) -> float:
        """Return the seconds until the next start."""
        delay = self._delay.after_crash(0.0)
        self._emit(events.SlotStartFailed(self.worker_id, reason, self.task.name, delay))
        return delay

    def _died(self, pid: int, how: str, delivery: Delivery | None = None) -> float:
        reason, self._retiring = self._retiring, None
        if self.closing:
            if self._gives_way:
                self._emit(events.SlotEnded(self.worker_id, pid, self._gives_way))
            return 0.0
        if reason is not None:
            self._emit(events.SlotReplaced(self.worker_id, pid, reason, delivery))
            return 0.0
        if self._failed_start is not None:
            return self._failed_start
        lived = 0.0 if self._ready_since is None else time.monotonic() - self._ready_since
        delay = self._delay.after_crash(lived)
        self._emit(events.SlotDied(self.worker_id, pid, how, delay, delivery, self.task.name))
        return delay

    def _on_message(self, message: channel.FromSlot) -> None:
        """Handle a message of the process.

        Raises:
            BadMessage: the process must not send this message, or not now. No later message can be trusted.
        """
        if not self._expects(message):
            raise channel.BadMessage(f"an unexpected message ({type(message).__name__})")
        match message:
            case channel.Ready():
                self.start_failure, self._ready = None, True
                self.idle_since = self._ready_since = time.monotonic()
                self._emit(events.SlotReady(self.worker_id, self._process.pid if self._process else 0, self.task.name))
                self._changed(self)
            case channel.StartFailed(reason):
                self._start_failed(reason)
            case channel.Waiting(_, text, is_over) if self.assignment is not None:
                silent = self.assignment.waiting
                (silent.discard if is_over else silent.add)(service_in(text).removeprefix("the "))
                event = events.LakeFSBack if is_over else events.WaitingForLakeFS
                self._emit(event(self.worker_id, text, self.assignment.delivery))
            case channel.Repeating(_, service, waits) if self.assignment is not None:
                if waits:
                    self.assignment.waiting.add(service)
                    self._emit(events.CallRepeated(self.worker_id, service))
                else:
                    self.assignment.waiting.discard(service)
            case channel.Finished():
                self._on_finished(message)
            case channel.DeliveryQuestion() | channel.Publishing() | channel.LogSoFar() if self.assignment is not None:
                self.assignment.messages.put_nowait(message)
            case events.Watched():
                self._emit(message)

    def _expects(self, message: channel.FromSlot) -> bool:
        match message:
            case channel.Ready() | channel.StartFailed():
                return not self._ready and self.assignment is None
            case events.Logged():
                return self._plan.logs.forward
            case events.Watched():
                return self._plan.watch
        return self.assignment is not None and self.assignment.accepts(message)

    def _on_finished(self, message: channel.Finished) -> None:
        assignment, self.assignment = self.assignment, None
        self.idle_since = time.monotonic()
        if self._retiring is None:
            self._retiring = message.unfit
        if self._retiring is not None:
            self.kill()
        elif self.closing:
            self._end_process()
        if assignment is not None:
            assignment.end(message)
        self._changed(self)


class SlotPool:
    """All slots with their tasks. The object belongs to the event loop's thread.

    Args:
        plan: the worker's.
        threads: the threads that start and end processes.
        changed: is called with each slot that is free, cannot start, or has ended.
        emit: takes the events of slots.
        ended: is called with the task of each slot that has ended, which may be a defect.
    """

    def __init__(
        self,
        plan: WorkerPlan,
        threads: Pool,
        changed: Callable[[Slot], None],
        emit: Callable[[events.Event], None],
        ended: Callable[[asyncio.Task[None]], None],
    ) -> None:
        self._plan = plan
        self._threads = threads
        self._changed = changed
        self._emit = emit
        self._ended = ended
        self._slots: dict[Slot, asyncio.Task[None]] = {}
        self._free_ids = list(plan.slot_ids)
        self._delays = {task.name: RestartDelay() for task in plan.tasks}
        self.blocked: dict[str, float] = dict.fromkeys(self._delays, 0.0)
        """The times until which no slot is created for a task after a crash, in seconds of the monotonic clock."""
        self._draining = False

    def start(self) -> None:
        """Create the slots that each task has from the start."""
        if not self._plan.is_shared:
            for task in self._plan.tasks:
                for _ in range(self._plan.limit_of(task)):
                    self._open(task)

    def free(self) -> dict[str, list[Slot]]:
        """Return the slots for which a poll may be made, by the names of their tasks."""
        free_slots: dict[str, list[Slot]] = {}
        for slot in self._slots:
            if slot.free and not slot.expecting:
                free_slots.setdefault(slot.task.name, []).append(slot)
        return free_slots

    def running(self) -> Counter[str]:
        """Count the slots that each task occupies: with attempts, or for polls that are in flight."""
        return Counter(slot.task.name for slot in self._slots if slot.busy)

    def limits(self) -> dict[str, int]:
        """Return the number of attempts of each task that may run now: no more for a task whose slots crash."""
        held, now = Counter(slot.task.name for slot in self._slots), time.monotonic()
        return {
            task.name: self._plan.limit_of(task) if self.blocked[task.name] <= now else held[task.name]
            for task in self._plan.tasks
        }

    def places(self) -> tuple[int, int]:
        """Return the number of attempts that could be taken now, and of those that run. Shared slots are created on
        demand."""
        busy = sum(slot.assignment is not None for slot in self._slots)
        return self._plan.slots - busy if self._plan.is_shared else sum(slot.free for slot in self._slots), busy

    def stopped(self) -> int:
        """Count the slots whose process a signal has stopped, so that its attempt does not continue."""
        return sum(slot.is_stopped for slot in self._slots)

    def all_failed(self) -> bool:
        """Whether no slot could be started."""
        return bool(self._slots) and all(slot.start_failure for slot in self._slots)

    def arrange(self, places: Mapping[str, int]) -> None:
        """Create slots, so that each task has as many idle slots as it can use now. Surplus idle slots of other tasks
        are ended."""
        if self._draining or not self._plan.is_shared:
            return
        idle: dict[str, list[Slot]] = {}
        for slot in sorted(self._slots, key=lambda slot: slot.idle_since):
            if not slot.busy and not slot.closing:
                idle.setdefault(slot.task.name, []).append(slot)
        short = -sum(slot.closing for slot in self._slots)
        for task in self._plan.tasks:
            for _ in range(places.get(task.name, 0) - len(idle.get(task.name, []))):
                if self._free_ids:
                    self._open(task)
                else:
                    short += 1
        surplus = [slot for name, slots in idle.items() for slot in slots[: max(0, len(slots) - places.get(name, 0))]]
        for slot in sorted(surplus, key=lambda slot: slot.idle_since)[: max(0, short)]:
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
        """End all remaining slots, even if they have attempts."""
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
        slot = Slot(self._plan, task, heapq.heappop(self._free_ids), self._threads, self._changed, self._emit, delay)
        keeper = self._slots[slot] = asyncio.create_task(slot.keep())

        def ended(keeper: asyncio.Task[Any]) -> None:
            del self._slots[slot]
            heapq.heappush(self._free_ids, slot.worker_id)
            self.blocked[task.name] = max(self.blocked[task.name], time.monotonic() + slot.restart_seconds)
            self._ended(keeper)
            self._changed(slot)

        keeper.add_done_callback(ended)
