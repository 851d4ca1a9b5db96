"""The supervisor: owns Conductor, the slots and the attempts of one worker.

Path of a delivery
------------------
1. `Poller._poll` (`poller`) polls for a free slot and gives the delivery to it: `Slot.take` (`slots`) returns an
   `Assignment`. The poller starts an `Attempt` with it.
2. `Attempt.run` (`attempts`) reads the messages of the assignment, answers the slot's questions, and extends the lease.
3. The slot's process (`slot_process`) runs the attempt. Its messages come through `processes`.
4. The last message frees the slot. `Attempt.run` reports, and is done when Conductor has the result.

Why it is safe, thread by thread and process by process
-------------------------------------------------------
* **One thread owns all state.** Slots, attempts, cadence and flags are touched by the event loop's thread only; what
  happens between two `await`s is atomic. Every other thread (`pools`) calls Conductor with immutable arguments and
  hands its result back to the loop.
* **The loop never waits.** Conductor is called on pool threads. Slots are read and written through sockets with time
limits (`channel`). Their processes start and end on a thread, too (`processes`).
* **A delivery has one owner at a time.** It comes from a poll that was made for a free slot, and goes to a free slot or
  is handed back. Its `Assignment` ends once, when the slot is done or dead; from then on nothing that is sent for it
  can reach the slot. Only then, and only if the attempt was not lost before, is there a report.
* **A slot is replaced only when nothing of it runs.** Its process ends together with its process group, so two
  attempts never share a slot, and a crash is reported when no line of the author's code can follow.
* **A slot cannot act without its supervisor.** Its delivery questions are answered here; the end of the pipe is a "no"
  for ever, and the end of the slot.
* **Everything started here ends here.** `run` returns when every slot process has ended and every pool is closed. Calls
  that are in flight then end by their own limits, or with the process.
"""

from __future__ import annotations

import asyncio
import signal
import threading
import time
from collections import Counter
from collections.abc import Coroutine
from typing import Any

from perago.driver import SystemClock
from perago.ports import Clock, TaskQueue
from perago.retry import CheckedClock
from perago.worker.attempts import Services
from perago.worker.events import Cancelling, Draining, Event, Listener, Pulse, Stopped, WorkerReady
from perago.worker.fork_server import warm_up
from perago.worker.host import HostCheck, Pools, run_maintenance
from perago.worker.plan import TaskPlan, WorkerPlan
from perago.worker.poller import Poller
from perago.worker.slots import Slot, SlotPool

PULSE_INTERVAL = 1.0
EXIT_INVALID_MODULE = 3
GIVE_UP_AFTER = 5.0
"""After a second signal: seconds, in addition to twice the grace, for reports in flight."""

POLLS_LIMIT = 7.0
"""Seconds for polls and hand-backs of a worker that stops, once it has no attempt. A long poll takes five."""

ABANDONED_REPORTS_LIMIT = 2.0
"""Seconds for logging abandoned reports."""


class Supervisor:
    """One worker. `run` blocks until it has stopped. Any thread can call `stop` and `cancel`. It does not change the
    signals of the process. `listeners` get its events, in addition to those of `exporting`."""

    def __init__(self, plan: WorkerPlan, queue: TaskQueue, *listeners: Listener, clock: Clock | None = None) -> None:
        self._plan = plan
        self._listeners = listeners
        self._pools = Pools(plan.slots)
        self._has_ended = threading.Event()
        checked = CheckedClock(clock or SystemClock(), self._check_end)
        self._host = HostCheck(plan, self._pools.host, self._emit, lambda: self._poller.slots_changed())
        self._services = Services(plan, queue, checked, self._pools, self._host, self._emit, self._spawn)
        self._slots = SlotPool(plan, self._pools.processes, self._slot_changed, self._emit, self._note_failure)
        self._poller = Poller(self._services, self._slots)
        self._tasks: set[asyncio.Task[None]] = set()
        self._ready: set[str] = set()
        """The tasks that are polled for."""
        self._lock = threading.RLock()  # a listener may call `stop`, and so may a signal handler
        self._loop: asyncio.AbstractEventLoop | None = None
        self._early: list[tuple[signal.Signals, str]] = []
        """The signals that arrived before the event loop runs."""
        self._signals = 0
        self._started = time.monotonic()
        self._exit_code = 0
        self._give_up_at = float("inf")
        self._failure: BaseException | None = None

    def run(self) -> int:
        """Work until `stop`; returns an exit code of docs/cli.md."""
        if self._plan.start_method == "forkserver":
            warm_up(self._plan.preload)
        return asyncio.run(self._run())

    def stop(self, signum: signal.Signals = signal.SIGTERM) -> None:
        """Do the same as a first signal and, if called again, as a second one. A signal handler can call it, too."""
        self._signal(signum, "")

    def cancel(self, why: str) -> None:
        """Stop, and cancel running attempts immediately. `why` becomes the reason of their loss."""
        self.stop()
        self._signal(signal.SIGTERM, why)

    def _signal(self, signum: signal.Signals, why: str) -> None:
        with self._lock:
            if self._loop is None:
                self._early.append((signum, why))
            else:
                self._loop.call_soon_threadsafe(self._on_signal, signum, why)

    async def _run(self) -> int:
        """Work until stopped, then bring everything down."""
        self._started = time.monotonic()
        with self._lock:
            self._loop = asyncio.get_running_loop()
            for request in self._early:
                self._on_signal(*request)
        try:
            await self._work()
        finally:
            with self._lock:
                self._loop, self._early = None, []
        if self._failure is not None:
            raise self._failure
        return self._exit_code

    async def _work(self) -> None:
        asyncio.get_running_loop().set_exception_handler(
            lambda _, context: self._fail(context.get("exception") or RuntimeError(context["message"]))
        )
        maintenance = asyncio.create_task(
            run_maintenance(self._plan, self._pools.maintenance, self._emit, self._services.repositories)
        )
        pulse = asyncio.create_task(self._emit_pulses())
        host = asyncio.create_task(self._host.run())
        for task in (maintenance, pulse, host):
            task.add_done_callback(self._note_failure)
        try:
            self._slots.start()
            for task_plan in self._plan.tasks if self._plan.is_shared else ():  # its slots are made when there is work
                self._is_ready(task_plan)
            self._spawn(self._poller.run())
            await self._poller.stopped()
            await self._drain()
        finally:
            maintenance.cancel()
            await self._slots.close()
            left = [maintenance, pulse, host, *self._tasks]
            for task in left[1:]:
                task.cancel()
            await asyncio.wait(left, timeout=ABANDONED_REPORTS_LIMIT)
            self._has_ended.set()
            self._pools.close()
            self._emit(Stopped(self._exit_code))

    def _slot_changed(self, slot: Slot) -> None:
        """React to a slot that has become free, has finished an attempt, failed to start, or has ended."""
        if slot.free:
            self._is_ready(slot.task)
        if not self._ready and self._slots.all_failed():
            self._exit_code = EXIT_INVALID_MODULE
            self._poller.stop()
        self._poller.slots_changed()

    def _is_ready(self, task: TaskPlan) -> None:
        if task.name not in self._ready:
            self._ready.add(task.name)
            plan, seconds = self._plan, time.monotonic() - self._started
            slots, shared = plan.limit_of(task), plan.is_shared
            self._emit(WorkerReady(task.module, task.name, plan.supervisor_id, slots, seconds, shared))

    async def _emit_pulses(self) -> None:
        while True:
            free, busy = self._slots.places()
            attempts = self._poller.attempts
            beating = max((attempt.beating for attempt in attempts), default=0.0)
            ages: dict[str, float] = {}
            for attempt in filter(lambda attempt: attempt.running, attempts):
                ages[attempt.task_name] = max(attempt.seconds, ages.get(attempt.task_name, 0.0))
            waiting = Counter(service for attempt in attempts for service in attempt.waits_for)
            state = (self._plan.slots, free, busy, self._poller.unreported, beating)
            free_bytes = {root: disk.size for root, disk in self._host.disks.items()}
            disk_bytes = {root: disk.total for root, disk in self._host.disks.items()}
            self._emit(Pulse(*state, ages, waiting, free_bytes, disk_bytes, self._slots.stopped()))
            await asyncio.sleep(PULSE_INTERVAL)

    # ----------------------------------------------------------------------- stopping

    def _on_signal(self, signum: signal.Signals, why: str) -> None:
        """First: drain. Second: cancel running attempts. From the third on: kill them. `why` replaces the name of the
        signal."""
        self._signals += 1
        running = [attempt for attempt in self._poller.attempts if attempt.running]
        if self._signals == 1:
            self._emit(Draining(len(running)))
            self._poller.stop()
            self._slots.drain()
        elif self._signals == 2:
            self._exit_code = 128 + signum
            self._give_up_at = time.monotonic() + 2 * self._plan.shutdown_grace + GIVE_UP_AFTER
            self._emit(Cancelling(signum.name, len(running)))
            for attempt in running:
                attempt.lose(why or f"a second signal ({signum.name}) stopped the worker")
        else:
            self._slots.kill()

    async def _drain(self) -> None:
        """Wait for attempts and their reports, which have their own limits, then for polls and hand-backs. Only a
        second signal limits the first wait."""
        while self._poller.attempts and time.monotonic() < self._give_up_at:
            await asyncio.wait(self._tasks, timeout=1.0)
        self._spawn(self._slots.close())
        limit = time.monotonic() + POLLS_LIMIT
        while self._tasks and (left := min(limit, self._give_up_at) - time.monotonic()) > 0:
            await asyncio.wait(self._tasks, timeout=left)  # a poll that ends may begin a hand-back
        self._has_ended.set()
        if self._poller.attempts:
            await asyncio.wait(self._tasks, timeout=ABANDONED_REPORTS_LIMIT)

    # ------------------------------------------------------------------------ plumbing

    def _emit(self, event: Event) -> None:
        for listener in self._listeners:
            listener(event)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(self._note_failure)

    def _note_failure(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self._fail(error)

    def _check_end(self) -> None:
        """End the sleeps of reports, which can be repeated for hours, once the worker ends. Any thread calls this."""
        if self._has_ended.is_set():
            raise GivenUpError("the worker was stopped before Conductor answered")

    def _fail(self, error: BaseException) -> None:
        """A defect of the supervisor ends the worker with an error, instead of leaving it half alive."""
        self._failure = self._failure or error
        self._exit_code = 1
        self._give_up_at = 0.0
        self._poller.stop()


class GivenUpError(Exception):
    """Raised to end the worker now, even if a result has not been reported to Conductor."""
