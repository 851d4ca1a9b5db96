"""The branches of a small fork, published to one workspace branch in every order."""

from __future__ import annotations

import hashlib
import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from pydantic import BaseModel

from perago.attempt.publication import FENCE_PATH, FENCE_TEXT
from perago.authoring import Task, WorkspaceSpec
from perago.embedded.faults import FaultScript
from perago.ports import Delivery, TaskStatus
from perago.taskdef import build_task_definition
from perago.testing.conductor import WORKER
from perago.testing.outcome import Outcome, attempt_log, logging_attempts
from perago.testing.published import PublishedTree, changed_paths
from perago.testing.services import BRANCH, REPOSITORY, InMemoryServices, sent_params
from perago.testing.tasks import TaskFunction, task_of

Branch: TypeAlias = TaskFunction | tuple[TaskFunction, BaseModel | Mapping[str, Any]]
"""A task function, alone or with its params."""

_MOST_BRANCHES = 4
_MOST_LISTED = 5
_LIMITS = ("concurrentExecLimit", "rateLimitPerFrequency", "rateLimitFrequencyInSeconds")
"""They would keep the branches of one task type from running side by side."""
_SAME_INPUT = (
    "Each function got the same input in each run. What it makes of it depends on something else, such as the time, "
    "chance, or what an earlier call left in this process. If that is meant, say compare=False."
)


@dataclass(frozen=True, slots=True)
class Race:
    """The result of `TaskRunner.race`: every run ended like this."""

    tree: PublishedTree
    """The workspace as it was published."""
    results: tuple[Any, ...]
    """The JSON of the results, in the order of the branches."""
    orders: int
    """The number of orders of publication."""
    runs: int
    """The number of forks that were run: each order in two ways."""


@dataclass(frozen=True, slots=True)
class _Run:
    """One fork, published in one order."""

    ended: Mapping[int, Outcome]
    """By branch, in the order in which they ended; the first that failed is the last."""
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
    """Up to four branches of a fork."""

    def __init__(self, branches: Sequence[Branch]) -> None:
        """
        Raises:
            TypeError: one is not a task function, or no pair of it and its params.
            ValueError: there are too few or too many of them, or one publishes nothing.
        """
        __tracebackhide__ = True
        pairs = list(itertools.starmap(_pair, enumerate(branches, 1)))
        self.tasks = [task_of(function) for function, _ in pairs]
        self._params = [sent_params(params) for _, params in pairs]
        self._specs = _specs(self.tasks)
        names = [task.name for task in self.tasks]
        self._names = [
            name if names.count(name) == 1 else f"{name} (branch {number})" for number, name in enumerate(names, 1)
        ]
        prefixes = {spec.key_prefix for spec in self._specs}
        self.prefix = prefixes.pop() if len(prefixes) == 1 else ""
        """The common root of all workspaces. Tasks with different prefixes meet in the root of the repository."""
        definitions = {task.name: build_task_definition(task) for task in self.tasks}
        self._definitions = [
            {field: value for field, value in definition.items() if field not in _LIMITS}
            for definition in definitions.values()
        ]

    def race(self, files: Mapping[str, str | bytes | None], *, compare: bool) -> Race:
        """Play all orders, each in two ways, on a repository with these objects.

        Raises:
            AssertionError: a branch failed, or (with `compare`) two runs ended differently.
        """
        __tracebackhide__ = True  # pytest shows the line of the test
        orders = list(itertools.permutations(range(len(self.tasks))))
        with logging_attempts() as log:  # a failure has the outcome that counts
            runs = [self._run(order, files, overtaken) for overtaken in (False, True) for order in orders]
        attempt_log().tried |= log.tried
        problem = self._failure(runs) or (self._difference(runs) if compare else None)
        if problem is not None:
            raise AssertionError(f"race of {', '.join(self._names[:-1])} and {self._names[-1]}: {problem}")
        cut = len(self.prefix)
        tree = {key[cut:]: content for key, content in runs[0].tree.items() if key.startswith(self.prefix)}
        return Race(PublishedTree(tree), runs[0].results, len(orders), len(runs))

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
        """Start the fork, and take all its attempts at once, by branch."""
        conductor = services.conductor
        conductor.register_task_definitions(self._definitions)
        block = {"repository": REPOSITORY, "branch": BRANCH, "ref_type": "commit", "ref": ref}
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
        first, *others = dict.fromkeys(map(self._story, failed))
        if len(failed[0].ended) == 1:
            others = []  # it fails by itself
        lines = [f"{len(failed)} of {len(runs)} runs failed", f"{first}:", *self._details(failed[0])]
        if others:
            lines += ["These failed, too:", *(f"  {story}" for story in others[:_MOST_LISTED])]
        if len(others) > _MOST_LISTED:
            lines.append(f"  and {len(others) - _MOST_LISTED} more")
        return "\n".join(lines)

    def _details(self, run: _Run) -> Iterator[str]:
        """The outcome that failed, and what to do about it."""
        *before, (number, outcome) = run.ended.items()
        yield str(outcome)
        if self._specs[number].on_moved_head == "fail" and any(_published(earlier) for _, earlier in before):
            yield (
                f"As it is declared, {self.tasks[number].name} fails when others have published since its input. "
                'To have it publish on top of them, declare WorkspaceSpec(on_moved_head="rebase").'
            )

    def _story(self, run: _Run) -> str:
        """Say who published first, and what followed."""
        numbers, failed = list(run.ended), run.failed
        if numbers[0] == failed:
            return f"{self._names[failed]} failed, before any other had published"
        verb = "published" if _published(run.ended[numbers[0]]) else "ran"
        told = [f"{self._names[numbers[0]]} {verb} first"]
        told += [f"then {self._names[number]}{' failed' if number == failed else ''}" for number in numbers[1:]]
        return ", ".join(told) + (" (all were staged before the first merge)" if run.overtaken else "")

    def _difference(self, runs: Sequence[_Run]) -> str | None:
        """Describe the first run that did not end as the first one."""
        first = runs[0]
        for run in runs[1:]:
            both = (first, run)
            for number, (one, other) in enumerate(zip(first.results, run.results, strict=True)):
                if one != other:
                    told = (f"  {self._story(each)}: {each.results[number]!r}" for each in both)
                    return "\n".join([f"the result of {self._names[number]} differs", *told, _SAME_INPUT])
            keys = sorted(itertools.chain(*changed_paths(first.tree, run.tree)))
            if keys:
                told = (line for each in both for line in self._contents(each, keys[:_MOST_LISTED]))
                more = f" and {len(keys) - _MOST_LISTED} more" if len(keys) > _MOST_LISTED else ""
                paths = ", ".join(repr(key.removeprefix(self.prefix)) for key in keys[:_MOST_LISTED])
                return "\n".join([f"what is published differs: {paths}{more}", *told, _SAME_INPUT])
        return None

    def _contents(self, run: _Run, keys: Sequence[str]) -> Iterator[str]:
        yield f"  {self._story(run)}:"
        for key in keys:
            content = run.tree.get(key)
            size = "is missing" if content is None else f"has {len(content):,} bytes"
            digest = "" if content is None else f", sha256 {hashlib.sha256(content).hexdigest()[:12]}"
            yield f"    {key.removeprefix(self.prefix)!r} {size}{digest}"


def _overtake(faults: FaultScript, order: Sequence[int], run: Callable[[int], None]) -> None:
    """Publish in this order; each branch has been staged when the one before it begins."""
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
    __tracebackhide__ = True
    if not isinstance(branch, tuple) and callable(branch):
        return branch, {}
    if isinstance(branch, tuple) and len(branch) == 2 and isinstance(branch[1], BaseModel | Mapping):
        return branch
    raise TypeError(
        f"branch {number} is not a branch: give a task function, or a pair of it and its params, as in "
        f"race((clean, Params()), measure); a list of branches needs a `*` before it"
    )


def _specs(tasks: Sequence[Task]) -> list[WorkspaceSpec]:
    __tracebackhide__ = True
    if len(tasks) < 2:
        raise ValueError(f"a race is run by 2 to {_MOST_BRANCHES} branches, not by {len(tasks)}")
    if len(tasks) > _MOST_BRANCHES:
        orders = math.factorial(len(tasks))
        raise ValueError(
            f"a race of {len(tasks)} branches has {2 * orders} runs: {orders} orders, each in two ways. "
            f"Race at most {_MOST_BRANCHES}: those whose files may meet"
        )
    specs: list[WorkspaceSpec] = []
    for task in tasks:
        if task.workspace is None or task.workspace.read_only:
            why = "no workspace" if task.workspace is None else "a read-only workspace"
            raise ValueError(f"{task.name} has {why}: it publishes nothing, and no order matters to it. Leave it out")
        specs.append(task.workspace)
    return specs


def _completed(outcome: Outcome) -> bool:
    return outcome.status is TaskStatus.COMPLETED


def _published(outcome: Outcome) -> bool:
    return outcome.commit not in (None, outcome.record.input_ref)
