"""Run a workflow in a test: all its steps, in the order of their queue or in every order."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from perago.authoring import Task
from perago.ports import Delivery
from perago.taskdef.payload import workspace_block
from perago.testing.conductor import WORKER
from perago.testing.differences import PublishedTree, changed_paths
from perago.testing.interfaces import DAY
from perago.testing.outcome import Outcome
from perago.testing.services import BRANCH, REPOSITORY, InMemoryServices
from perago.testing.tasks import TaskFunction, task_of
from perago.workflows import Workflow
from perago.workflows.definition import complete_input
from perago.workflows.writer import Part

_MOST_ATTEMPTS = 1_000
_AT_A_TIME = 100
"""The deliveries of a task that are taken together."""


@dataclass(frozen=True, slots=True)
class WorkflowRun:
    """A workflow that has ended, or that waits for an event that never happens."""

    status: str
    """Conductor's status: `COMPLETED`, `FAILED`, `TERMINATED`, or `RUNNING` if it waits for an event that never
    happens."""
    reason: str | None
    result: Any
    """The JSON of `output.result`; None for a workflow without one."""
    outcomes: tuple[Outcome, ...]
    """The attempts of its steps, in the order in which they ran."""
    tree: PublishedTree
    """The branch after the last attempt, from the root of the repository."""
    workflow_id: str

    def outcome(self, step: str) -> Outcome:
        """The last attempt of a step, by its task reference name.

        Raises:
            LookupError: No attempt of that step ran.
        """
        outcomes = [outcome for outcome in self.outcomes if outcome.delivery.reference_name == step]
        if not outcomes:
            ran = ", ".join(dict.fromkeys(outcome.delivery.reference_name for outcome in self.outcomes))
            raise LookupError(f"no attempt of {step!r} ran; attempts ran of {ran or 'no step'}")
        return outcomes[-1]


class WorkflowRunner:
    """Runs one workflow on services in memory."""

    def __init__(self, workflow: Workflow[Any, Any] | Mapping[str, Any], functions: Sequence[TaskFunction]) -> None:
        """
        Args:
            workflow: Declared with `@workflow`, or Conductor's JSON.
            functions: The task functions that the JSON names; those of a `Workflow` are known.

        Raises:
            TypeError: A function is not a task function.
            WorkflowDefinitionError: The workflow has mistakes.
        """
        self._definitions: list[Mapping[str, Any]] = []
        self._tasks: dict[str, Task] = {}
        self._is_declared = isinstance(workflow, Workflow)
        if isinstance(workflow, Workflow):
            self._add(workflow)
        else:
            self._definitions.append(workflow)
        self._tasks.update({(task := task_of(function)).name: task for function in functions})

    def _add(self, workflow: Part) -> None:
        built = workflow._build()
        for part in built.parts:
            self._add(part)
        self._definitions.append(workflow.definition())
        self._tasks.update({(task := task_of(function)).name: task for function in built.functions.values()})

    def input_of(self, params: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the parameters as they are sent. Those of Conductor's JSON can be any.

        Raises:
            TypeError: The workflow does not have a parameter, or needs another.
        """
        if not self._is_declared:
            return params
        try:
            return complete_input(self._definitions[-1], params)
        except ValueError as error:
            raise TypeError(str(error)) from None

    def run(
        self,
        services: InMemoryServices,
        repository: str,
        payload: Mapping[str, Any],
        lost: Collection[str] = (),
        choose: Callable[[Sequence[Delivery]], int] = lambda _: 0,
    ) -> WorkflowRun:
        """Start the workflow, and run its steps until no task is due within a day of virtual time.

        Args:
            services: Where it runs. The repository exists.
            repository: The repository of its workspace.
            payload: The input of the workflow.
            lost: Steps whose first worker ends after its publication and before its report.
            choose: Returns the index of the waiting delivery that runs next.
        """
        conductor = services.conductor
        conductor.register(*(task.function for task in self._tasks.values()))
        for definition in self._definitions:
            conductor.create_workflow_definition(definition, overwrite=True)
        started = self._definitions[-1]
        workflow_id = conductor.start_workflow(str(started["name"]), payload, version=started.get("version"))
        outcomes: list[Outcome] = []
        left = set(lost)
        for delivery in self._deliveries(services, choose):
            task = self._tasks[delivery.task_name]
            report = delivery.reference_name not in left
            left.discard(delivery.reference_name)
            outcomes.append(services.attempt(task.function, delivery, report=report))
            if len(outcomes) == _MOST_ATTEMPTS:
                raise RuntimeError(f"the workflow still has tasks after {_MOST_ATTEMPTS:,} attempts")
        if left:
            raise LookupError(f"lost: no attempt of {', '.join(sorted(left))} ran")
        ended = conductor.workflow(workflow_id)
        reason, result = ended.get("reasonForIncompletion"), ended.get("output", {}).get("result")
        tree = PublishedTree(services.tree(repository=repository))
        return WorkflowRun(ended["status"], reason, result, tuple(outcomes), tree, workflow_id)

    def _deliveries(
        self, services: InMemoryServices, choose: Callable[[Sequence[Delivery]], int]
    ) -> Iterator[Delivery]:
        """The deliveries of all tasks; those that wait at the same time in the order that `choose` gives them."""
        conductor, waiting = services.conductor, list[Delivery]()
        while True:
            conductor.sweep()
            for name in self._tasks:
                waiting += conductor.poll(name, WORKER, count=_AT_A_TIME, wait_seconds=0)
            if not waiting:
                try:
                    waiting.append(conductor.next_delivery(*self._tasks, within=DAY))
                except LookupError:
                    return
            yield waiting.pop(choose(waiting) if len(waiting) > 1 else 0)

    def run_in_orders(
        self, files: Mapping[str, str | bytes | None], payload: Mapping[str, Any], most: int
    ) -> WorkflowRun:
        """Run the workflow in every order of the steps that wait at the same time, each time on new services.

        Args:
            files: The input tree.
            payload: The input of the workflow, without its workspace.
            most: The number of orders after which it ends.

        Returns:
            The first run.

        Raises:
            AssertionError: A run ended differently from the first; the message has its order.
        """
        first: WorkflowRun | None = None
        runs = 0
        order: _Order | None = _Order()
        while order is not None and runs < most:
            with InMemoryServices() as services:
                block = workspace_block(REPOSITORY, BRANCH, services.seed(dict(files)))
                ran = self.run(services, REPOSITORY, {"workspace": block, **payload}, choose=order.choose)
            runs += 1
            first = first or ran
            _compare(first, ran)
            order = order.next()
        if first is None:
            raise ValueError("orders must be at least 1")
        return first


class _Order:
    """The choices of one run. The next order differs in the last choice that has an untried answer."""

    def __init__(self, choices: Sequence[int] = ()) -> None:
        self._given = choices
        self._made: list[tuple[int, int]] = []
        """The chosen indices, each with the number of alternatives."""

    def choose(self, waiting: Sequence[Delivery]) -> int:
        """The index of the delivery that runs next."""
        number = len(self._made)
        index = self._given[number] if number < len(self._given) else 0
        self._made.append((index, len(waiting)))
        return index

    def next(self) -> _Order | None:
        """The order after this one; None after the last."""
        made = list(self._made)
        while made and made[-1][0] + 1 == made[-1][1]:
            made.pop()
        return _Order([*(index for index, _ in made[:-1]), made[-1][0] + 1]) if made else None


def _compare(first: WorkflowRun, ran: WorkflowRun) -> None:
    __tracebackhide__ = True
    order = " -> ".join(outcome.delivery.reference_name for outcome in ran.outcomes)
    if (ran.status, ran.result) != (first.status, first.result):
        was, now = (f"{outcome.status} with the result {outcome.result}" for outcome in (first, ran))
        raise AssertionError(
            f"in the order {order} the workflow is {now} ({ran.reason}); in the first order it is {was}"
        )
    if paths := changed_paths(first.tree, ran.tree):
        signs = (
            "~" if path in first.tree and path in ran.tree else "-" if path in first.tree else "+" for path in paths
        )
        changes = ", ".join(f"{sign}{path}" for sign, path in zip(signs, paths, strict=True))
        raise AssertionError(f"in the order {order} other files are published than in the first order: {changes}")
