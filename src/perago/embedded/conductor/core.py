"""The steps of every call of the model: faults, the lock, the sweep, waiting for the queue, and the server's own work.

The model does this work before the call returns, and its workers first: a JOIN that waits for a sub-workflow ends
before the end of that sub-workflow causes a decision. A real server needs 50 to 300 ms for it, and up to 30 s for a
JOIN that has waited for a long time.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TypeVar

from loguru import logger

from perago.driver import SystemClock
from perago.embedded.conductor.context import DecisionContext, SystemTask, system_task
from perago.embedded.conductor.decider import decide
from perago.embedded.conductor.state import HistoryEvent, HttpHandler, State, Status, TaskRow, WorkflowRow
from perago.embedded.conductor.system_tasks import SUB_WORKFLOW, end_as
from perago.embedded.conductor.wire import SERVICE, PayloadLimits
from perago.embedded.faults import FaultScript, faults_around
from perago.ports import Clock, Unavailable


def settle(state: State) -> None:
    """Do the work that is due at this moment, and the work that follows from it."""
    _wake(state)
    while state.attention:
        workflow_id = next(iter(state.attention))
        must_decide = state.attention.pop(workflow_id)
        workflow = state.workflows.get(workflow_id)
        if workflow is None or workflow.status.terminal:
            continue
        with guarded(state, workflow_id):
            _work(state, workflow)
            if must_decide:
                _repair_sub_workflows(state, workflow)
                decide(state, workflow)


@contextmanager
def guarded(state: State, workflow_id: str) -> Iterator[None]:
    """Let other workflows continue when one cannot be decided. Each problem of a workflow is logged once."""
    try:
        yield
    except Exception as error:  # noqa: BLE001 - whatever it is, it concerns this workflow alone
        problem = f"{type(error).__name__}: {error}"
        if state.problems.get(workflow_id) != problem:
            state.problems[workflow_id] = problem
            logger.warning("Conductor cannot decide workflow {}: {}", workflow_id, problem)


def _repair_sub_workflows(state: State, workflow: WorkflowRow) -> None:
    """End steps whose sub-workflows have ended. A rerun wakes the parent of a sub-workflow that ends immediately.

    The server's sweeper copies the status and the output, but no reason.
    """
    for row in [row.copy() for row in workflow.tasks if row.kind == SUB_WORKFLOW and row.status is Status.IN_PROGRESS]:
        child = state.workflows.get(row.sub_workflow_id or "")
        if child is not None and child.status.terminal:
            end_as(row, child)
            state.store(row, HistoryEvent.CHANGED)


def _work(state: State, workflow: WorkflowRow) -> None:
    for task_id in [row.task_id for row in workflow.tasks]:
        row = state.tasks.get(task_id)
        if row is None or row.status.terminal or workflow.status.terminal:
            continue
        task = system_task(row)
        if task is not None and task.background and state.timers.get(task_id, 0) <= state.now():
            _work_on(state, workflow, row.copy(), task)


def _wake(state: State) -> None:
    """Schedule a check of the workflows in which an attempt of the server is due."""
    for task_id, due in list(state.timers.items()):
        if due <= state.now():
            del state.timers[task_id]
            row = state.tasks.get(task_id)
            if row is not None:
                state.call_attention(row.workflow_id)


def _work_on(state: State, workflow: WorkflowRow, row: TaskRow, task: SystemTask) -> None:
    scheduled = row.status is Status.SCHEDULED
    if not scheduled and not task.ends_by_itself:
        return
    before = (row.status, row.output)
    context = DecisionContext.of(state, workflow)
    if scheduled:
        row.start_time = state.now()
        task.start(context, row)
    else:
        task.execute(context, row)
    if row.poll_count and (row.status, row.output) == before:
        return
    row.poll_count += 1
    done = row.status.terminal or (scheduled and not task.ends_by_itself)
    if done:
        state.queue.remove(row.task_id)
    state.store(row, HistoryEvent.CHANGED)
    if done:
        decide(state, workflow)


T = TypeVar("T")

LOOK_SECONDS = 0.1
"""Seconds between two checks of the queue by a long poll, if time does not pass on its own."""

LOCK_SECONDS = 30.0
"""Seconds of real time that a call waits for others to finish theirs."""


class ModelCore:
    """The state of one server and the access to it. The calls are in derived classes."""

    def __init__(
        self,
        clock: Clock,
        faults: FaultScript | None = None,
        *,
        limits: PayloadLimits | None = None,
        sweep_seconds: float | None = None,
        seed: int | None = None,
        http: HttpHandler | None = None,
    ) -> None:
        """
        Args:
            clock: The clock of the server.
            faults: The script of faults of calls.
            limits: Sizes of payloads.
            sweep_seconds: The seconds after which a call first checks for timeouts; None: only on request.
            seed: Makes ids and jitter repeatable.
            http: Answers HTTP tasks: gets the request (`uri`, `method`, `headers`, `body`), and returns status and
                body. It is called under the model's lock.
        """
        self._clock = clock
        self._faults = faults or FaultScript()
        self._state = State(clock, limits or PayloadLimits(), seed, http)
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self.on_change: Callable[[], None] = lambda: None
        """Called, under the lock, after a call that changed an attempt or a queue; must not call back."""
        self._told = 0
        self._waits_are_over = False
        self._sweep_seconds = sweep_seconds
        self._swept = clock.now()

    def end_waits(self) -> None:
        """Make waiting calls return immediately, and later ones not wait, for a server that is about to stop."""
        with self._lock:
            self._waits_are_over = True
            self._changed.notify_all()

    @contextmanager
    def _operation(self, name: str) -> Iterator[State]:
        """Run one call: faults outside of the lock, the rest inside."""
        with self._around(name), self._locked() as state:
            yield state

    def _around(self, name: str) -> AbstractContextManager[None]:
        return faults_around(self._faults, name, service=SERVICE, clock=self._clock)

    @contextmanager
    def _locked(self) -> Iterator[State]:
        if not self._lock.acquire(timeout=LOCK_SECONDS):
            raise Unavailable(SERVICE, "any call", f"the model was busy for {LOCK_SECONDS:g} s")
        try:
            if self._sweep_seconds is not None and self._clock.now() - self._swept >= self._sweep_seconds:
                self._swept = self._clock.now()
                sweep(self._state)
            settle(self._state)
            yield self._state
            settle(self._state)
        finally:
            changes = self._state.queue.pushes + len(self._state.history)
            if changes != self._told:
                self._told = changes
                self._changed.notify_all()
                self.on_change()
            self._lock.release()

    def _look_until(self, end: float, look: Callable[[State], T | None]) -> T:
        """Call `look` under the lock until it does not return None, for the last time at `end` or later.

        On the system's clock it is called again as soon as anything changes or is due. Any other clock sleeps between
        two calls, without the lock.
        """
        while True:
            with self._locked() as state:
                found = look(state)
                if found is not None:
                    return found
                left = end - self._clock.now()
                if isinstance(self._clock, SystemClock):
                    self._changed.wait(max(0.0, min(left, self._seconds_to_next_event(state))))
                    continue
            self._clock.sleep(min(LOOK_SECONDS, left))

    def _is_over(self, end: float) -> bool:
        """Whether a wait until `end` has ended."""
        return self._waits_are_over or self._clock.now() >= end

    def _seconds_to_next_event(self, state: State) -> float:
        """Until a delayed message, an attempt of the server's own or a sweep falls due; infinite without any."""
        now = self._clock.now()
        message = state.queue.next_due(state.now())
        due = [time / 1000 - now for time in (*state.timers.values(), *([] if message is None else [message]))]
        if self._sweep_seconds is not None:
            due.append(self._swept + self._sweep_seconds - now)
        return min(due, default=math.inf)


def sweep(state: State) -> None:
    """Decide every workflow, including timeouts. A workflow that cannot be decided does not block others."""
    for workflow in list(state.workflows.values()):
        with guarded(state, workflow.workflow_id):
            decide(state, workflow)
