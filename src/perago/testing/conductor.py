"""The in-memory Conductor of tests: it advances virtual time, runs waiting attempts, and interrupts attempts.

A worker interrupts its slot, whose main thread then raises inside the function (`perago.worker.slot_process`). Here the
call at which the test interrupts raises in the same way, and the attempt sends nothing after that.
"""

from __future__ import annotations

import dataclasses
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal

from perago.authoring import Task
from perago.authoring.context import Current, with_hooks
from perago.driver import AttemptRecord, Interrupted
from perago.embedded.conductor import InMemoryConductor
from perago.embedded.conductor.context import timeouts
from perago.embedded.conductor.state import State
from perago.embedded.faults import FaultScript
from perago.ports import Delivery, VirtualClock
from perago.taskdef import build_task_definition
from perago.testing.interfaces import DAY
from perago.testing.outcome import Outcome
from perago.testing.tasks import TaskFunction, task_of

WORKER = "test0001"
_MOST_ATTEMPTS = 1_000


class VirtualConductor(InMemoryConductor):
    """The Conductor of a test: a `perago.testing.Conductor`. `run` runs an attempt."""

    def __init__(
        self, clock: VirtualClock, faults: FaultScript, run: Callable[[TaskFunction, Delivery], Outcome]
    ) -> None:
        super().__init__(clock, faults)
        self.clock = clock
        self.faults = faults
        self._run = run
        self._functions: dict[str, TaskFunction] = {}

    def register(self, *functions: TaskFunction, controls: Mapping[str, Any] | None = None) -> None:
        tasks: list[Task] = [task_of(function) for function in functions]
        if tasks:
            self.register_task_definitions([{**build_task_definition(task), **(controls or {})} for task in tasks])
        self._functions.update({task.name: task.function for task in tasks})

    def advance(self, seconds: float) -> None:
        end = self.clock.now() + seconds
        self.sweep()
        while self.step(end):
            pass
        self.clock.advance(max(0.0, end - self.clock.now()) if seconds >= 0 else seconds)
        self.sweep()

    def next_delivery(self, *task_names: str, within: float = DAY) -> Delivery:
        delivery = self._take(task_names, self.clock.now() + within)
        if delivery is None:
            states = self._workflow_states() or "no workflow was started"
            raise LookupError(f"no attempt of {' or '.join(task_names)} came within {within:g} s: {states}")
        return delivery

    def drain(self, *functions: TaskFunction, within: float = DAY) -> tuple[Outcome, ...]:
        self.register(*(function for function in functions if task_of(function).name not in self._functions))
        names = [task_of(function).name for function in functions] or list(self._functions)
        outcomes: list[Outcome] = []
        while (delivery := self._take(names, self.clock.now() + within)) is not None:
            if len(outcomes) == _MOST_ATTEMPTS:
                raise RuntimeError(f"drain: {_MOST_ATTEMPTS:,} attempts, and {delivery.task_name} still waits")
            outcomes.append(self._run(self._functions[delivery.task_name], delivery))
        return tuple(outcomes)

    def _take(self, task_names: tuple[str, ...] | list[str], end: float) -> Delivery | None:
        self.sweep()
        while True:
            for name in task_names:
                for delivery in self.poll(name, WORKER, count=1, wait_seconds=0):
                    return delivery
            if not self.step(end):
                return None

    def step(self, end: float) -> bool:
        """Advance to the next moment at which an event is due, if it is not after `end`."""
        with self._locked() as state:
            now = state.now()
            due = [moment for moment in _timeout_times(state) if moment > now]
            due.append(now + self._seconds_to_next_event(state) * 1000)
        moment = min(due) / 1000
        if moment > end:
            return False
        self.clock.advance(max(0.0, moment - self.clock.now()))
        self.sweep()
        return True

    def _workflow_states(self) -> str:
        workflows = (self.workflow(workflow_id, include_tasks=False) for workflow_id in self.workflow_ids())
        return ", ".join(
            f"workflow {workflow['workflowId']} is {workflow['status']}"
            + (f" ({workflow['reasonForIncompletion']})" if workflow.get("reasonForIncompletion") else "")
            for workflow in workflows
        )


def _timeout_times(state: State) -> Iterator[float]:
    """Yield the times, in milliseconds since the epoch, at which an open item may time out, including past ones
    (`docs/dev/servers/conductor.md`, "Attempt state machine")."""
    for workflow in state.workflows.values():
        if workflow.status.terminal:
            continue
        if (seconds := workflow.definition["timeoutSeconds"]) > 0:
            yield (workflow.last_retried_time or workflow.create_time) + seconds * 1000
        for row in workflow.tasks:
            if not row.status.terminal:
                yield from (due for _, due in timeouts(row))


Kind = Literal["cancel", "time out", "lose"]
Moment = Literal["log", "progress", "cancelled"]

_MARGIN = 1.0
"""Seconds that are added to a time limit of Conductor, so that it has passed."""
_GRACE = 30.0
"""Seconds that a worker gives a function to end, unless PERAGO_SHUTDOWN_GRACE says otherwise."""
_BEATS = 3
"""Heartbeats within one response timeout."""


@dataclass(frozen=True, slots=True)
class Interruption:
    """An interruption of an attempt: at the n-th of these calls, or after so many seconds of `time.sleep`."""

    kind: Kind
    at: Moment | float
    n: int

    def __str__(self) -> str:
        return f"{self.kind} at {self.at} {self.n}" if isinstance(self.at, str) else f"{self.kind} after {self.at:g} s"


class Interruptions:
    """The interruptions that a test has planned for its next attempts, and the attempt that runs."""

    def __init__(self, conductor: VirtualConductor) -> None:
        self._conductor = conductor
        self._planned: list[Interruption] = []
        self._running: RunningAttempt | None = None
        self._virtual_sleep = False
        """Whether an interruption was planned. From then on sleeps are virtual, so that a retry takes no real time
        either."""

    def plan(self, kind: Kind, at: Moment | float | None, n: int) -> None:
        """Interrupt the next attempt at that moment. None interrupts the running attempt now.

        Raises:
            RuntimeError: `at` is None, but no function is running.
            ValueError: there is no such moment.
        """
        if at is None:
            if self._running is None:
                raise RuntimeError(
                    f"no function runs: name the moment of the next attempt at which to {kind}, as in at='log'"
                )
            self._running.interrupt(kind)
        elif isinstance(at, str) and at not in ("log", "progress", "cancelled"):
            raise ValueError(f"at={at!r}: must be 'log', 'progress', 'cancelled' or a number of seconds")
        elif n < 1 or (not isinstance(at, str) and at < 0):
            raise ValueError("n counts from 1, and seconds from 0")
        else:
            self._planned.append(Interruption(kind, at, n))
            self._virtual_sleep = True

    def unused(self) -> list[Interruption]:
        """Return the interruptions of attempts that have not run."""
        return self._planned

    @contextmanager
    def attempt(self, delivery: Delivery) -> Iterator[RunningAttempt]:
        """Run one delivery in this block, with the first planned interruption.

        Raises:
            ValueError: it must time out, but its task has no time limit.
        """
        planned = self._planned.pop(0) if self._planned else None
        if planned is not None and planned.kind == "time out":
            _time_limit(delivery)
        self._running = RunningAttempt(self._conductor, delivery, planned, self._virtual_sleep)
        try:
            yield self._running
        finally:
            self._running = None


class RunningAttempt:
    """One attempt that the test can interrupt.

    Args:
        conductor: the Conductor of its workflow.
        delivery: the attempt.
        planned: the planned interruption; None: none.
        virtual_sleep: whether `time.sleep` advances virtual time in the function.
    """

    def __init__(
        self, conductor: VirtualConductor, delivery: Delivery, planned: Interruption | None, virtual_sleep: bool
    ) -> None:
        self._conductor = conductor
        self._delivery = delivery
        self._planned = planned
        self._virtual_sleep = virtual_sleep
        self._calls: Counter[str] = Counter()
        self._slept = 0.0
        self._thread = threading.get_ident()
        self._reason: str | None = None
        self._interrupted_at = 0.0
        self._ended_at = 0.0

    # --------------------------------------------------------------- around the function

    @contextmanager
    def function(self, current: Current) -> Iterator[Current]:
        """Run the function in this block, with the yielded `Current`."""
        sleep = time.sleep
        if self._virtual_sleep:
            time.sleep = self._sleep  # type: ignore[assignment]
        try:
            yield with_hooks(
                current,
                log=self._then("log", current.log),
                progress=self._then("progress", current.progress),
                is_cancelled=self._is_cancelled,
            )
        finally:
            time.sleep = sleep
            self._ended_at = self._conductor.clock.now()

    def interruptible(self) -> AbstractContextManager[None]:
        """The hook at which the driver checks whether the delivery is lost (`perago.driver.runtime`)."""
        if self._reason is not None:
            raise Interrupted
        return nullcontext()

    def record(self, record: AttemptRecord) -> AttemptRecord:
        """Return the record of the ended attempt, without a report if the worker gave the attempt up.

        Raises:
            AssertionError: the planned interruption never came.
        """
        if self._reason is None:
            if self._planned is not None:
                raise AssertionError(self._never_came(record))
            return record
        late = self._ended_at - self._interrupted_at
        note = f"The function continued for {late:g} s after that. A worker ends its process after {_GRACE:g} s."
        notes = (*record.notes, note) if late > _GRACE else record.notes
        return dataclasses.replace(record, report=None, lost_reason=self._reason, notes=notes)

    def _never_came(self, record: AttemptRecord) -> str:
        counts = ", ".join(f"{name} {count}" for name, count in sorted(self._calls.items())) or "nothing"
        ended = record.report.status.value if record.report else "lost"
        return (
            f"the attempt ended ({ended}) before the test could {self._planned}. Until then its function called "
            f"{counts}, and slept {self._slept:g} s"
        )

    # ----------------------------------------------------------------------- interrupting

    def interrupt(self, kind: Kind) -> None:
        """Trigger the interruption, and end the function if this is its thread.

        Raises:
            Interrupted: in the thread of the function, as in a worker.
        """
        if self._reason is None:
            self._reason = self._apply(kind)
            self._interrupted_at = self._conductor.clock.now()
            if threading.get_ident() == self._thread:
                raise Interrupted

    def _apply(self, kind: Kind) -> str:
        delivery, conductor = self._delivery, self._conductor
        if kind == "cancel":
            conductor.terminate_workflow(delivery.workflow_id, "canceled by the test")
        elif kind == "time out":
            limit = _time_limit(delivery)
            self._pass(max(0.0, delivery.start_time / 1000 + limit + _MARGIN - conductor.clock.now()))
            return f"it ran longer than its time limit of {limit:g} s"
        else:
            conductor.advance(delivery.response_timeout_seconds + _MARGIN)
        return "Conductor is no longer waiting for this delivery"

    def _then(self, moment: Moment, call: Callable[..., None]) -> Callable[..., None]:
        def called(*arguments: object) -> None:
            call(*arguments)
            self._reached(moment)

        return called

    def _is_cancelled(self) -> bool:
        if self._reason is None:
            self._reached("cancelled")
        return self._reason is not None

    def _reached(self, moment: Moment) -> None:
        self._calls[moment] += 1
        planned = self._planned
        if planned is not None and (planned.at, planned.n) == (moment, self._calls[moment]):
            self.interrupt(planned.kind)

    def _sleep(self, seconds: float) -> None:
        """Replace `time.sleep` in the function. The worker sends heartbeats until the interruption."""
        if seconds < 0:
            raise ValueError("sleep length must be non-negative")
        planned = self._planned
        at = planned.at if planned is not None and self._reason is None else None
        if planned is None or at is None or isinstance(at, str) or self._slept + seconds < at:
            self._slept += seconds
            self._pass(seconds)
            return
        self._pass(at - self._slept)
        self._slept = at
        self.interrupt(planned.kind)

    def _pass(self, seconds: float) -> None:
        """Let virtual time pass, with the heartbeats of a worker unless it has given the attempt up."""
        conductor, interval = self._conductor, self._delivery.response_timeout_seconds / _BEATS
        while seconds > 0:
            step = min(seconds, interval)
            conductor.advance(step)
            seconds -= step
            if self._reason is None and conductor.is_current(self._delivery):
                conductor.extend_lease(self._delivery)


def _time_limit(delivery: Delivery) -> float:
    """Return the `timeoutSeconds` of the task.

    Raises:
        ValueError: it has none.
    """
    if delivery.timeout_seconds <= 0:
        raise ValueError(
            f"{delivery.task_name} has no time limit: declare TimeoutPolicy(seconds=...), or run it with "
            "controls={'timeoutSeconds': 60}"
        )
    return delivery.timeout_seconds
