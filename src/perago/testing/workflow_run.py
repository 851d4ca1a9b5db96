"""Run workflows in a test: all steps of a workflow or the branches of a fork, in one order or in every order."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from pydantic import BaseModel

from perago.attempt.publication import FENCE_PATH, FENCE_TEXT
from perago.authoring import Task, WorkspaceSpec
from perago.clients import worker_task_definition
from perago.conductor_json import mapping
from perago.embedded.faults import FaultScript
from perago.failure import Failure
from perago.ports import Delivery, TaskStatus
from perago.taskdef import build_task_definition
from perago.taskdef.payload import workspace_block
from perago.testing.conductor import WORKER, VirtualConductor
from perago.testing.interfaces import DAY
from perago.testing.outcome import Outcome, Race, attempt_log, logging_attempts
from perago.testing.services import BRANCH, REPOSITORY, InMemoryServices, sent_params
from perago.testing.tasks import TaskFunction, task_of
from perago.text import count, listing, one_line, quoted
from perago.trees.differences import PublishedTree, changed_paths, described, published_below
from perago.workflows import Workflow
from perago.workflows.definition import complete_input
from perago.workflows.picture import walk
from perago.workflows.sdk import is_worker_task, sdk_workflow_of, worker_task_name
from perago.workflows.values import nearest
from perago.workflows.waiting import LONGEST_MINUTES, deliver, is_wait, waits_of
from perago.workflows.writer import Part

__tracebackhide__ = True  # pytest shows the line of the test

Signal: TypeAlias = BaseModel | Mapping[str, Any]
Signals: TypeAlias = Mapping[str, Signal | Sequence[Signal | None]]
"""The signals of a test, by the name of the step that waits for them. None in a list lets the step wait."""

_MOST_ATTEMPTS = 1_000
_LONGEST_SIGNAL = 120
"""The characters of a signal in a message."""
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
    scheduled: float | None = None
    """The time of its schedule, in seconds since the epoch; None if no schedule started it."""

    def outcome(self, step: str) -> Outcome:
        """The last attempt of a step, by its task reference name.

        Raises:
            LookupError: No attempt of that step ran.
        """
        outcomes = [outcome for outcome in self.outcomes if outcome.delivery.reference_name == step]
        if not outcomes:
            raise LookupError(f"no attempt of {step!r} ran; attempts ran of {_steps(self.outcomes)}")
        return outcomes[-1]


def _steps(outcomes: Sequence[Outcome]) -> str:
    return ", ".join(dict.fromkeys(outcome.delivery.reference_name for outcome in outcomes)) or "no step"


class WorkflowRunner:
    """Runs one workflow on services in memory."""

    def __init__(self, workflow: object, functions: Sequence[TaskFunction]) -> None:
        """
        Args:
            workflow: Declared with `@workflow`, Conductor's JSON, or a `ConductorWorkflow` of the SDK in a module.
            functions: The task functions that the JSON names; those of a declared workflow are known.

        Raises:
            TypeError: A function is not a task function.
            WorkflowDefinitionError: The workflow has mistakes.
        """
        self._definitions: list[Mapping[str, Any]] = []
        self._tasks: dict[str, Task] = {}
        self._worker_tasks: dict[str, Callable[..., Any]] = {}
        """The functions with `@worker_task` of conductor-python, by the names of their tasks."""
        self._is_declared = isinstance(workflow, Workflow)
        if isinstance(workflow, Workflow):
            self._add(workflow)
        elif isinstance(workflow, Mapping):
            self._definitions.append(workflow)
        elif (sdk_workflow := sdk_workflow_of(workflow)) is not None:
            self._add(sdk_workflow)
        else:
            kinds = (
                "a function with @workflow, Conductor's JSON, or a ConductorWorkflow that a module assigns to a name"
            )
            raise TypeError(f"{workflow!r:.80} is not a workflow; give {kinds}")
        for function in functions:
            if is_worker_task(function):
                self._worker_tasks[worker_task_name(function)] = function
            else:
                self._tasks[task_of(function).name] = task_of(function)

    def _add(self, workflow: Part) -> None:
        built = workflow._build()
        for part in built.parts:
            self._add(part)
        self._definitions.append(workflow.definition())
        self._tasks.update({(task := task_of(function)).name: task for function in built.functions.values()})
        self._worker_tasks |= built.worker_tasks

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
        signals: Signals | None = None,
    ) -> WorkflowRun:
        """Start the workflow, and run its steps until no task is due within ten years of virtual time.

        Args:
            services: Where it runs. The repository exists.
            repository: The repository of its workspace.
            payload: The input of the workflow.
            lost: Steps whose first worker ends after its publication and before its report.
            signals: A signal for each time that a step waits, by its reference, or a list of them.
            choose: Returns the index of the waiting delivery that runs next.
        """
        conductor = services.conductor
        sender = _Sender(conductor, self._definitions, signals)
        self._register(services)
        started = self._definitions[-1]
        workflow_id = conductor.start_workflow(str(started["name"]), payload, version=started.get("version"))
        outcomes: list[Outcome] = []
        unused_losses = set(lost)
        for delivery in self._deliveries(services, choose, sender):
            report = delivery.reference_name not in unused_losses
            unused_losses.discard(delivery.reference_name)
            outcomes.append(self._attempt(services, delivery, report=report))
            if len(outcomes) == _MOST_ATTEMPTS:
                raise RuntimeError(f"the workflow still has tasks after {_MOST_ATTEMPTS:,} attempts")
        if unused_losses:
            unused = ", ".join(sorted(unused_losses))
            raise LookupError(f"lost: no attempt of {unused} ran; attempts ran of {_steps(outcomes)}")
        sender.check_all_sent()
        tree = PublishedTree(services.tree(repository=repository))
        return _ended(conductor.workflow(workflow_id), outcomes, tree)

    def _attempt(self, services: InMemoryServices, delivery: Delivery, *, report: bool = True) -> Outcome:
        if (worker_task := self._worker_tasks.get(delivery.task_name)) is not None:
            return services.sdk_attempt(worker_task, delivery, report=report)
        return services.attempt(self._tasks[delivery.task_name].function, delivery, report=report)

    def _register(self, services: InMemoryServices) -> None:
        services.conductor.register(*(task.function for task in self._tasks.values()))
        for task_definition in filter(None, map(worker_task_definition, self._worker_tasks.values())):
            services.conductor.register_task_definitions([task_definition])
        for definition in self._definitions:
            services.conductor.create_workflow_definition(definition, overwrite=True)

    def run_schedule(
        self, services: InMemoryServices, schedule: Mapping[str, Any], days: float, repository: str
    ) -> tuple[WorkflowRun, ...]:
        """Keep a schedule for some days of virtual time. Return the runs that it started, in their order.

        The run of a launcher that has failed is in the place of the one that it did not start.
        """
        conductor = services.conductor
        self._register(services)
        conductor.save_schedule(schedule)
        before, outcomes = set(conductor.workflow_ids()), list[tuple[Outcome, PublishedTree]]()
        end = conductor.clock.now() + days * DAY
        while True:
            try:
                left = end - conductor.clock.now()
                delivery = conductor.next_delivery(*self._tasks, *self._worker_tasks, within=left)
            except LookupError:
                break
            outcome = self._attempt(services, delivery)
            outcomes.append((outcome, PublishedTree(services.tree(repository=repository) if repository else {})))
            if len(outcomes) == _MOST_ATTEMPTS:
                raise RuntimeError(f"the schedule ran {_MOST_ATTEMPTS:,} attempts; give fewer days")
        conductor.delete_schedule(str(schedule["name"]))

        def root(workflow_id: str) -> str:
            row = conductor.workflow(workflow_id, include_tasks=False)
            parent = row.get("parentWorkflowId") or mapping(row["input"].get("failedWorkflow")).get("workflowId")
            return root(parent) if parent else workflow_id

        roots = [root(outcome.delivery.workflow_id) for outcome, _ in outcomes]
        runs: list[WorkflowRun] = []
        for workflow_id in set(conductor.workflow_ids()) - before:
            row = conductor.workflow(workflow_id)  # a failure handler has the input of the workflow, too
            if row["workflowName"] != schedule["startWorkflowRequest"]["name"]:
                continue
            scheduled = row["input"]["_scheduledTime"] / 1000
            row = conductor.workflow(row["output"].get("workflowId") or workflow_id) if repository else row
            own = [pair for pair, of in zip(outcomes, roots, strict=True) if of == row["workflowId"]]
            tree = own[-1][1] if own else PublishedTree({})
            runs.append(_ended(row, [outcome for outcome, _ in own], tree, scheduled))
        return tuple(sorted(runs, key=lambda run: run.scheduled or 0))

    def _deliveries(
        self, services: InMemoryServices, choose: Callable[[Sequence[Delivery]], int], sender: _Sender
    ) -> Iterator[Delivery]:
        """The deliveries of all tasks; those that wait at the same time in the order that `choose` gives them.

        Signals are sent when no delivery waits, and before time passes."""
        conductor, waiting = services.conductor, list[Delivery]()
        while True:
            conductor.sweep()
            for name in (*self._tasks, *self._worker_tasks):
                waiting += conductor.poll(name, WORKER, count=_AT_A_TIME, wait_seconds=0)
            if waiting:
                yield waiting.pop(choose(waiting) if len(waiting) > 1 else 0)
            elif not sender.send() and not conductor.step(conductor.clock.now() + 60 * LONGEST_MINUTES):
                return

    def run_in_orders(
        self, files: Mapping[str, str | bytes | None], payload: Mapping[str, Any], most: int, signals: Signals | None
    ) -> WorkflowRun:
        """Run the workflow in every order of the steps that wait at the same time, each time on new services.

        Args:
            files: The input tree.
            payload: The input of the workflow, without its workspace.
            most: The number of orders after which it ends.
            signals: See `run`.

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
                ran = self.run(
                    services, REPOSITORY, {"workspace": block, **payload}, choose=order.choose, signals=signals
                )
            runs += 1
            first = first or ran
            _compare(first, ran)
            order = order.next()
        if first is None:
            raise ValueError("orders must be at least 1")
        return first


def _ended(
    workflow: Mapping[str, Any], outcomes: Sequence[Outcome], tree: PublishedTree, scheduled: float | None = None
) -> WorkflowRun:
    reason, result = workflow.get("reasonForIncompletion"), workflow.get("output", {}).get("result")
    return WorkflowRun(workflow["status"], reason, result, tuple(outcomes), tree, workflow["workflowId"], scheduled)


class _Sender:
    """Sends the signals of a test when a step waits for one, also in sub-workflows and workflows after a failure."""

    def __init__(
        self, conductor: VirtualConductor, definitions: Sequence[Mapping[str, Any]], signals: Signals | None
    ) -> None:
        """
        Raises:
            LookupError: no step waits for one of the signals.
            TypeError: a signal has another form than the step waits for.
        """
        self._conductor = conductor
        self._earlier = frozenset(conductor.workflow_ids())
        self._models: dict[str, str | None] = {}
        """The model of each signal; None for any model, also if two workflows wait for one name with two models."""
        for step in walk([definition.get("tasks") for definition in definitions]):
            is_step = "taskReferenceName" in step
            if is_step and is_wait({"taskType": step.get("type"), "inputData": step.get("inputParameters")}):
                name, schema = step["taskReferenceName"], mapping(step.get("taskDefinition")).get("outputSchema")
                model = mapping(schema).get("name")
                self._models[name] = model if self._models.get(name, model) == model else None
        waits = listing([f"{quoted(name)} ({model or 'any object'})" for name, model in self._models.items()])
        self._awaited = f"the workflow waits for {waits or 'no signal'}"
        if not isinstance(signals, Mapping | None):
            raise TypeError(f"signals is {_shown(signals)}, not a dictionary of signals by name; {self._awaited}")
        self._signals = {name: self._checked(name, answers) for name, answers in (signals or {}).items()}
        self._asked: dict[tuple[str, str], str] = {}
        """The names of the steps that have waited, by workflow and reference."""

    def _checked(self, name: str, answers: Any) -> Signal | list[Signal | None]:
        """Return the signals for a step, if a step has this name and they have a form that it can take."""
        if name not in self._models:
            near = nearest(name, self._models, "correct the name")
            raise LookupError(f"signals: no step waits for {quoted(str(name))}; {near} ({self._awaited})")
        model, is_list = self._models[name], isinstance(answers, Sequence) and not isinstance(answers, str | bytes)
        signals = list(answers) if is_list else [answers]
        for signal in signals:
            classes = {kind.__name__ for kind in type(signal).__mro__}
            if isinstance(signal, BaseModel) and model not in (None, *classes):
                raise TypeError(f"signals: {_shown(signal)} was sent to {quoted(name)}, but it waits for {model}")
            if not isinstance(signal, BaseModel | Mapping) and not (is_list and signal is None):
                fix = f"give {model or 'a model'}(...), its JSON, or a list of these"
                raise TypeError(f"signals: {_shown(signal)} was sent to {quoted(name)}, and is not a signal; {fix}")
            try:
                json.dumps(sent_params(signal or {}))
            except (TypeError, ValueError) as error:
                raise TypeError(f"signals: {_shown(signal)} was sent to {quoted(name)}: {error}") from None
        return signals if is_list else answers

    def send(self) -> bool:
        """Answer a step that waits. Return whether there was one.

        Raises:
            TypeError: The signal has other types than the step waits for.
        """
        started = (name for name in self._conductor.workflow_ids() if self._signals and name not in self._earlier)
        for wait in (wait for name in started for wait in waits_of(self._conductor.workflow(name))):
            if (wait.workflow_id, wait.reference) in self._asked:
                continue
            number = self._times(wait.name)
            self._asked[wait.workflow_id, wait.reference] = wait.name
            signal = self._signals.get(wait.name)
            if isinstance(signal, list):
                signal = signal[number] if number < len(signal) else None
            if signal is not None:
                try:
                    deliver(self._conductor, wait, sent_params(signal))
                except Failure as failure:
                    model = self._models.get(wait.name) or "any object"
                    text = f"{failure.message} (sent: {_shown(signal)}; the step waits for {model})"
                    raise TypeError(text) from None
                return True
        return False

    def _times(self, name: str) -> int:
        """The number of times that steps of this name have waited."""
        return list(self._asked.values()).count(name)

    def check_all_sent(self) -> None:
        """
        Raises:
            LookupError: no step waited for a signal, or less often than there are signals.
        """
        for name, signals in self._signals.items():
            times = self._times(name)
            if times == 0:
                raise LookupError(f"signals: no step waited for {name}")
            if isinstance(signals, list) and any(signal is not None for signal in signals[times:]):
                waited = f"step {quoted(name)} waited {count(times, 'time')}"
                raise LookupError(f"signals: {waited}, but the list has {count(len(signals), 'signal')}")


def _shown(signal: object) -> str:
    text = one_line(repr(signal))
    return text if len(text) <= _LONGEST_SIGNAL else f"{text[:_LONGEST_SIGNAL]}…"


class _Order:
    """The choices of one run. The next order differs in the last choice that has an untried answer."""

    def __init__(self, choices: Sequence[int] = ()) -> None:
        self._planned = choices
        self._choices: list[tuple[int, int]] = []
        """The chosen indices, each with the number of alternatives."""

    def choose(self, waiting: Sequence[Delivery]) -> int:
        """The index of the delivery that runs next."""
        number = len(self._choices)
        index = self._planned[number] if number < len(self._planned) else 0
        self._choices.append((index, len(waiting)))
        return index

    def next(self) -> _Order | None:
        """The order after this one; None after the last."""
        choices = list(self._choices)
        while choices and choices[-1][0] + 1 == choices[-1][1]:
            choices.pop()
        return _Order([*(index for index, _ in choices[:-1]), choices[-1][0] + 1]) if choices else None


def _compare(first: WorkflowRun, ran: WorkflowRun) -> None:
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


# ------------------------------------------------------------------------------------------ races

Branch: TypeAlias = TaskFunction | tuple[TaskFunction, BaseModel | Mapping[str, Any]]
"""A task function, alone or with its params."""

_MOST_BRANCHES = 4
_MOST_LISTED = 5
_LIMITS = ("concurrentExecLimit", "rateLimitPerFrequency", "rateLimitFrequencyInSeconds")
"""Limits that would prevent tasks of one type from running at the same time in a race."""
_SAME_INPUT = (
    "Each function got the same input in each run, so its output depends on something else, such as the time, "
    "chance, or state that an earlier call left in this process. If this is intended, pass compare=False."
)


@dataclass(frozen=True, slots=True)
class _Run:
    """One fork, published in one order."""

    ended: Mapping[int, Outcome]
    """The results by branch, in the order in which they ended. A failed branch is the last one."""
    overtaken: bool
    tree: Mapping[str, bytes]

    @property
    def failed(self) -> int | None:
        """The branch that failed."""
        return next((number for number, outcome in self.ended.items() if not _completed(outcome)), None)

    @property
    def results(self) -> tuple[Any, ...]:
        return tuple(self.ended[number].result for number in sorted(self.ended))


class Racers:
    """Two to four branches of a fork."""

    def __init__(self, branches: Sequence[Branch]) -> None:
        """
        Raises:
            TypeError: a branch is neither a task function nor a pair of it and its params.
            ValueError: there are too few or too many branches, or one publishes nothing.
        """
        pairs = list(itertools.starmap(_pair, enumerate(branches, 1)))
        self.tasks: list[Task] = [task_of(function) for function, _ in pairs]
        self._params = [sent_params(params) for _, params in pairs]
        self._specs = _specs(self.tasks)
        names = [task.name for task in self.tasks]
        self._names = [
            name if names.count(name) == 1 else f"{name} (branch {number})" for number, name in enumerate(names, 1)
        ]
        prefixes = {spec.key_prefix for spec in self._specs}
        self.prefix: str = prefixes.pop() if len(prefixes) == 1 else ""
        """The common root of all workspaces. Tasks with different prefixes meet in the root of the repository."""
        definitions = {task.name: build_task_definition(task) for task in self.tasks}
        self._definitions = [
            {field: value for field, value in definition.items() if field not in _LIMITS}
            for definition in definitions.values()
        ]

    def race(self, files: Mapping[str, str | bytes | None], *, compare: bool) -> Race:
        """Run all orders, each in two ways, on a repository with these objects.

        Raises:
            AssertionError: a branch failed, or (with `compare`) two runs ended differently.
        """
        orders = list(itertools.permutations(range(len(self.tasks))))
        with logging_attempts() as log:  # a failure has the outcome that counts
            runs = [self._run(order, files, overtaken) for overtaken in (False, True) for order in orders]
        attempt_log().tried |= log.tried
        problem = self._failure(runs) or (self._difference(runs) if compare else None)
        if problem is not None:
            raise AssertionError(f"race of {', '.join(self._names[:-1])} and {self._names[-1]}: {problem}")
        return Race(published_below(self.prefix, runs[0].tree), runs[0].results, len(orders), len(runs))

    # ------------------------------------------------------------------------ running

    def _run(self, order: Sequence[int], files: Mapping[str, str | bytes | None], overtaken: bool) -> _Run:
        ended: dict[int, Outcome] = {}
        with InMemoryServices() as services:
            deliveries = self._fork(services, services.seed({FENCE_PATH: FENCE_TEXT, **files}))

            def goes_on() -> bool:
                return all(map(_completed, ended.values()))

            def run(number: int) -> None:
                if goes_on():
                    outcome = services.attempt(self.tasks[number].function, deliveries[number])
                    if goes_on():  # otherwise one that overtook it has failed, and this one is lost
                        ended[number] = outcome

            if overtaken:
                _overtake(services.faults, order, run)
            else:
                for number in order:
                    run(number)
            return _Run(ended, overtaken, services.tree())

    def _fork(self, services: InMemoryServices, ref: str) -> list[Delivery]:
        """Start the fork, and take all its attempts, by branch."""
        conductor = services.conductor
        conductor.register_task_definitions(self._definitions)
        block = workspace_block(REPOSITORY, BRANCH, ref)
        steps: list[dict[str, Any]] = []
        payload: dict[str, Any] = {}
        for task, params in zip(self.tasks, self._params, strict=True):
            name = f"branch{len(steps) + 1}"
            inputs = {key: f"${{workflow.input.{name}.{key}}}" for key in ("params", "workspace")}
            steps.append({"name": task.name, "taskReferenceName": name, "type": "SIMPLE", "inputParameters": inputs})
            payload[name] = {"params": params, "workspace": block}
        names = list(payload)
        fork = {"name": "fork", "taskReferenceName": "fork", "type": "FORK_JOIN", "forkTasks": [[s] for s in steps]}
        join = {"name": "join", "taskReferenceName": "join", "type": "JOIN", "joinOn": names}
        definition = {"name": "race", "version": 1, "schemaVersion": 2, "tasks": [fork, join]}
        conductor.start_workflow("race", payload, definition=definition)
        taken = {
            delivery.reference_name: delivery
            for name in {task.name for task in self.tasks}
            for delivery in conductor.poll(name, WORKER, count=len(names), wait_seconds=0)
        }
        return [taken[name] for name in names]

    # ------------------------------------------------------------------------ telling

    def _failure(self, runs: Sequence[_Run]) -> str | None:
        failed = [run for run in runs if run.failed is not None]
        if not failed:
            return None
        first, *others = dict.fromkeys(map(self._course, failed))
        if len(failed[0].ended) == 1:
            others = []  # it fails by itself
        lines = [f"{len(failed)} of {len(runs)} runs failed", f"{first}:", *self._details(failed[0])]
        if others:
            lines += ["These also failed:", *(f"  {course}" for course in others[:_MOST_LISTED])]
        if len(others) > _MOST_LISTED:
            lines.append(f"  and {len(others) - _MOST_LISTED} more")
        return "\n".join(lines)

    def _details(self, run: _Run) -> Iterator[str]:
        """Return the lines about the failed outcome, with advice."""
        *before, (number, outcome) = run.ended.items()
        yield str(outcome)
        if self._specs[number].on_moved_head == "fail" and any(_published(earlier) for _, earlier in before):
            yield (
                f"{self.tasks[number].name} is declared to fail if others have published since its input. "
                'To have it publish on top of them, declare WorkspaceSpec(on_moved_head="rebase").'
            )

    def _course(self, run: _Run) -> str:
        """Say who published first, and what followed."""
        numbers, failed = list(run.ended), run.failed
        if numbers[0] == failed:
            return f"{self._names[failed]} failed before any other task had published"
        verb = "published" if _published(run.ended[numbers[0]]) else "ran"
        steps = [f"{self._names[numbers[0]]} {verb} first"]
        steps += [f"then {self._names[number]}{' failed' if number == failed else ''}" for number in numbers[1:]]
        return ", ".join(steps) + (" (all were staged before the first merge)" if run.overtaken else "")

    def _difference(self, runs: Sequence[_Run]) -> str | None:
        """Describe the first run whose outcome differs from that of the first run."""
        first = runs[0]
        for run in runs[1:]:
            both = (first, run)
            for number, (result, other) in enumerate(zip(first.results, run.results, strict=True)):
                if result != other:
                    lines = (f"  {self._course(racing)}: {racing.results[number]!r}" for racing in both)
                    return "\n".join([f"the result of {self._names[number]} differs", *lines, _SAME_INPUT])
            keys = changed_paths(first.tree, run.tree)
            if keys:
                lines = (line for racing in both for line in self._contents(racing, keys[:_MOST_LISTED]))
                more = f" and {len(keys) - _MOST_LISTED} more" if len(keys) > _MOST_LISTED else ""
                paths = ", ".join(repr(key.removeprefix(self.prefix)) for key in keys[:_MOST_LISTED])
                return "\n".join([f"the published trees differ: {paths}{more}", *lines, _SAME_INPUT])
        return None

    def _contents(self, run: _Run, keys: Sequence[str]) -> Iterator[str]:
        yield f"  {self._course(run)}:"
        for key in keys:
            content = described(run.tree[key]) if key in run.tree else "is missing"
            yield f"    {key.removeprefix(self.prefix)!r} {content}"


def _overtake(faults: FaultScript, order: Sequence[int], run: Callable[[int], None]) -> None:
    """Publish in this order. Each branch is staged when the previous one begins to merge."""
    *earlier, last = order
    waiting = bool(earlier)

    def overtake() -> None:
        nonlocal waiting
        if waiting:
            waiting = False
            _overtake(faults, earlier, run)

    if waiting:
        faults.between("merge", overtake, nth=faults.calls("merge") + 1)
    run(last)
    overtake()  # for a task that merges nothing


def _pair(number: int, branch: Branch) -> tuple[TaskFunction, BaseModel | Mapping[str, Any]]:
    if not isinstance(branch, tuple) and callable(branch):
        return branch, {}
    if isinstance(branch, tuple) and len(branch) == 2 and isinstance(branch[1], BaseModel | Mapping):
        return branch
    raise TypeError(
        f"branch {number} is not a branch: give a task function, or a pair of it and its params, as in "
        f"race((clean, Params()), measure); a list of branches needs a `*` before it"
    )


def _specs(tasks: Sequence[Task]) -> list[WorkspaceSpec]:
    if len(tasks) < 2:
        raise ValueError(f"a race is run by 2 to {_MOST_BRANCHES} branches, not by {len(tasks)}")
    if len(tasks) > _MOST_BRANCHES:
        orders = math.factorial(len(tasks))
        raise ValueError(
            f"a race of {len(tasks)} branches has {2 * orders} runs: {orders} orders, each in two ways. "
            f"Race at most {_MOST_BRANCHES}: choose those that can write the same files"
        )
    specs: list[WorkspaceSpec] = []
    for task in tasks:
        if task.workspace is None or task.workspace.read_only:
            why = "no workspace" if task.workspace is None else "a read-only workspace"
            raise ValueError(f"{task.name} has {why}: it publishes nothing, so its order does not matter. Leave it out")
        specs.append(task.workspace)
    return specs


def _completed(outcome: Outcome) -> bool:
    return outcome.status is TaskStatus.COMPLETED


def _published(outcome: Outcome) -> bool:
    return outcome.commit not in (None, outcome.input_ref)
