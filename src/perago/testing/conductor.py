"""The in-memory Conductor of tests: one that lets virtual time pass, and has what waits in it run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from perago.authoring import Task
from perago.embedded.clock import VirtualClock
from perago.embedded.conductor import InMemoryConductor, Status
from perago.embedded.conductor.rows import TaskRow, WorkflowRow
from perago.embedded.conductor.state import State
from perago.embedded.faults import FaultScript
from perago.ports import Delivery
from perago.taskdef import build_task_definition
from perago.testing.outcome import Outcome
from perago.testing.tasks import TaskFunction, task_of

WORKER = "test0001"
DAY = 86_400.0
_MOST_ATTEMPTS = 1_000
_LIMITS = ("timeoutSeconds", "responseTimeoutSeconds", "pollTimeoutSeconds", "totalTimeoutSeconds")


class Conductor(InMemoryConductor):
    """The Conductor of a test, on a virtual clock.

    Nothing times out and no retry falls due until time passes: `advance` lets it pass, `next_delivery` until an attempt
    is handed out, `drain` until nothing is left to do. `faults` is the script that its calls obey; `run` is how an
    attempt is run.
    """

    def __init__(
        self, clock: VirtualClock, faults: FaultScript, run: Callable[[TaskFunction, Delivery], Outcome]
    ) -> None:
        super().__init__(clock, faults)
        self.clock = clock
        self.faults = faults
        self._run = run
        self._functions: dict[str, TaskFunction] = {}

    def register(self, *functions: TaskFunction, controls: Mapping[str, Any] | None = None) -> None:
        """Register the TaskDefs of these task functions, and let `drain` run them.

        `controls` replaces fields of the TaskDefs: `{"retryDelaySeconds": 0}`.

        Raises:
            TypeError: one is no task function.
        """
        tasks: list[Task] = [task_of(function) for function in functions]
        if tasks:
            self.register_task_definitions([{**build_task_definition(task), **(controls or {})} for task in tasks])
        self._functions.update({task.name: task.function for task in tasks})

    def advance(self, seconds: float) -> None:
        """Let so many virtual seconds pass. What falls due on the way happens at its time, as on a server.

        Raises:
            ValueError: `seconds` is negative or not finite.
        """
        end = self.clock.now() + seconds
        self.sweep()
        while self._step(end):
            pass
        self.clock.advance(max(0.0, end - self.clock.now()) if seconds >= 0 else seconds)
        self.sweep()

    def next_delivery(self, *task_names: str, within: float = DAY) -> Delivery:
        """The next attempt of one of these task types, taken as a worker does; time passes until there is one.

        Raises:
            LookupError: none comes within so many virtual seconds; the message says how the workflows stand.
        """
        delivery = self._take(task_names, self.clock.now() + within)
        if delivery is None:
            standing = self._standing() or "no workflow was started"
            raise LookupError(f"no attempt of {' or '.join(task_names)} comes within {within:g} s: {standing}")
        return delivery

    def drain(self, *functions: TaskFunction, within: float = DAY) -> tuple[Outcome, ...]:
        """Run every attempt of these task functions, retries included, until none comes within so many virtual seconds.

        Without functions: of all that were registered or run before. Returns the outcomes, in order.

        Raises:
            TypeError: one is no task function.
            RuntimeError: there is no end to it after 1,000 attempts.
        """
        self.register(*(function for function in functions if task_of(function).name not in self._functions))
        names = [task_of(function).name for function in functions] or list(self._functions)
        outcomes: list[Outcome] = []
        while (delivery := self._take(names, self.clock.now() + within)) is not None:
            if len(outcomes) == _MOST_ATTEMPTS:
                raise RuntimeError(f"drain: {_MOST_ATTEMPTS:,} attempts, and still {delivery.task_name} waits")
            outcomes.append(self._run(self._functions[delivery.task_name], delivery))
        return tuple(outcomes)

    def _take(self, task_names: tuple[str, ...] | list[str], end: float) -> Delivery | None:
        self.sweep()
        while True:
            for name in task_names:
                for delivery in self.poll(name, WORKER, count=1, wait_seconds=0):
                    return delivery
            if not self._step(end):
                return None

    def _step(self, end: float) -> bool:
        """Go to the next moment at which something may happen, if it comes by `end`."""
        with self._locked() as state:
            now = state.now()
            due = [moment for moment in _moments(state) if moment > now]
            due.append(now + self._seconds_to_next_event(state) * 1000)
        moment = min(due) / 1000
        if moment > end:
            return False
        self.clock.advance(max(0.0, moment - self.clock.now()))
        self.sweep()
        return True

    def _standing(self) -> str:
        workflows = (self.workflow(workflow_id, include_tasks=False) for workflow_id in self.workflow_ids())
        return ", ".join(
            f"workflow {found['workflowId']} is {found['status']}"
            + (f" ({found['reasonForIncompletion']})" if found.get("reasonForIncompletion") else "")
            for found in workflows
        )


def _moments(state: State) -> Iterator[float]:
    """When, in milliseconds since the epoch, a time may be up of what is not over; past ones included
    (`docs/servers/conductor.md` 2)."""
    for workflow in state.workflows.values():
        if workflow.status.terminal:
            continue
        yield from _workflow_moments(workflow)
        for row in workflow.tasks:
            if not row.status.terminal:
                yield from _row_moments(row)


def _workflow_moments(workflow: WorkflowRow) -> Iterator[float]:
    seconds = workflow.definition["timeoutSeconds"]
    if seconds > 0:
        yield (workflow.last_retried_time or workflow.create_time) + seconds * 1000


def _row_moments(row: TaskRow) -> Iterator[float]:
    seconds = {name: row.definition.get(name) or 0 for name in _LIMITS}
    callback, delay = row.callback_after_seconds, row.start_delay_seconds
    if seconds["totalTimeoutSeconds"]:
        yield row.first_scheduled_time + seconds["totalTimeoutSeconds"] * 1000
    if row.status is Status.SCHEDULED and seconds["pollTimeoutSeconds"]:
        yield row.scheduled_time + (delay + callback + seconds["pollTimeoutSeconds"]) * 1000
    if row.status is Status.IN_PROGRESS and seconds["responseTimeoutSeconds"]:
        yield row.update_time + (callback + seconds["responseTimeoutSeconds"]) * 1000
    if row.start_time and seconds["timeoutSeconds"]:
        yield row.start_time + (delay + seconds["timeoutSeconds"]) * 1000
