"""Run task functions in a test: single attempts, and the branches of a small fork in every order."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, TypeAlias

from pydantic import BaseModel

from perago.attempt.publication import FENCE_PATH, FENCE_TEXT
from perago.authoring import Task, WorkspaceSpec
from perago.embedded.faults import FaultScript
from perago.ports import Delivery, TaskStatus
from perago.taskdef import build_task_definition
from perago.taskdef.payload import workspace_block
from perago.testing.conductor import WORKER, Moment
from perago.testing.differences import PublishedTree, changed_paths, described
from perago.testing.interfaces import Conductor, InMemoryLakeFS, VirtualClock
from perago.testing.outcome import Outcome, attempt_log, logging_attempts
from perago.testing.services import BRANCH, REPOSITORY, InMemoryServices, sent_params
from perago.testing.tasks import TaskFunction, task_of
from perago.testing.tree_files import BadTree, Symlink, TreeSource, tree_of
from perago.testing.workflow_run import WorkflowRun, WorkflowRunner
from perago.workflows import Workflow

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
class Race:
    """The result of `TaskRunner.race`, which is the same for every run."""

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
        __tracebackhide__ = True
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
            lines += ["These also failed:", *(f"  {story}" for story in others[:_MOST_LISTED])]
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


_OPERATOR_SECONDS = 1.0
"""The minimum seconds between operator actions, because a rerun attempt differs from its earlier run only in its start
time."""


class TaskRunner:
    """Runs task functions as a worker does, on services in memory: `perago_run` is one.

        with TaskRunner() as run:
            outcome = run(build_features, Params(), tree={"raw/a.csv": "x\\n1\\n"})

    Paths are relative to the task's workspace, without its prefix. Faults that no call triggered are an error at the
    end, so that no test passes because its fault never happened.
    """

    def __init__(self) -> None:
        self._services: InMemoryServices = InMemoryServices()
        self._task: Task | None = None
        self._last: Outcome | None = None
        self._repositories = 0
        self._repository = REPOSITORY

    @property
    def clock(self) -> VirtualClock:
        """The time of both services: `perago_clock`."""
        return self._services.clock

    @property
    def lakefs(self) -> InMemoryLakeFS:
        """The lakeFS of the workspaces: `perago_lakefs`."""
        return self._services.lakefs

    @property
    def conductor(self) -> Conductor:
        """The Conductor of the attempts: `perago_conductor`."""
        return self._services.conductor

    @property
    def faults(self) -> FaultScript:
        """The script of faults of both services: `run.faults.after("merge", error=Unclear)`."""
        return self._services.faults

    @property
    def repository(self) -> str:
        """The repository of the last run; its branch is `perago.testing.BRANCH`."""
        return self._repository

    # ------------------------------------------------------------------------ running

    def __call__(
        self,
        function: TaskFunction,
        params: BaseModel | Mapping[str, Any] | None = None,
        *,
        tree: TreeSource | None = None,
        ref: Any = None,
        controls: Mapping[str, Any] | None = None,
        delivery: Delivery | None = None,
        report: bool = True,
    ) -> Outcome:
        """Start a workflow of this one task, and run its first attempt.

        Args:
            function: the task function.
            params: a model, or a mapping that is sent as it is, so that invalid input can be tried. It goes through
                JSON as on the wire.
            tree: the workspace, in a new repository. None continues on the branch of the last run.
            ref: sent as `workspace.ref` instead, of the repository of the last run: a commit id, a list of them, or the
                output of a JOIN.
            controls: replaces fields of the TaskDef: `{"retryCount": 0}`.
            delivery: a delivery to run instead of starting a workflow, for example an outdated one.
            report: False ends the worker after the publication, before the report.

        Raises:
            TypeError: the function is not a task function; a task without a workspace gets a tree or a ref; both are
                given; or a delivery is given with params, tree, ref or controls.
            BadTree: see `perago.testing.tree_of`.
        """
        task = task_of(function)
        if delivery is None:
            delivery = self.deliver(function, params, tree=tree, ref=ref, controls=controls)
        elif any(argument is not None for argument in (params, tree, ref, controls)):
            raise TypeError("a delivery has its params, its tree and its controls already")
        return self._attempt(task, delivery, report=report)

    def deliver(
        self,
        function: TaskFunction,
        params: BaseModel | Mapping[str, Any] | None = None,
        *,
        tree: TreeSource | None = None,
        ref: Any = None,
        controls: Mapping[str, Any] | None = None,
    ) -> Delivery:
        """Start a workflow as a call does, and take its first attempt, which the test can run later.

        Args:
            function, params, tree, controls: as in a call.

        Raises:
            TypeError, BadTree: as in a call.
        """
        task = task_of(function)
        if task.workspace is None and (tree is not None or ref is not None):
            raise TypeError(f"{task.name} has no workspace, so it takes no {'tree' if ref is None else 'ref'}")
        if tree is not None and ref is not None:
            raise TypeError("give a tree, which is committed first, or the ref of an existing commit, not both")
        self._task, self._last = task, None
        if task.workspace is not None and ref is None:
            ref = self._ref_of(tree, _prefix(task))
        self._services.start(task, params or {}, ref=ref, controls=controls, repository=self._repository)
        return self._services.take(task)

    def again(self, *, report: bool = True) -> Outcome:
        """Run the next attempt of the last task once it is due: a retry after its delay or, without a report, the
        redelivery after the response timeout.

        Raises:
            LookupError: nothing ran before, or there is no next attempt.
        """
        task = self._known_task()
        return self._attempt(task, self.conductor.next_delivery(task.name), report=report)

    def redeliver(self, *, report: bool = True) -> Outcome:
        """Give the last attempt back, as a stopping worker does, and run its next delivery, which has the same task id.
        The attempt must not have been reported.

        Raises:
            LookupError: nothing ran before, or Conductor no longer waits for the last attempt.
        """
        self.conductor.hand_back(self.last.delivery)
        return self.again(report=report)

    def rerun(self, *, report: bool = True) -> Outcome:
        """Rerun the finished workflow from its last attempt, as an operator does, and run this attempt, which has the
        same task id.

        Raises:
            LookupError: nothing ran before.
            perago.testing.ServiceError: the workflow has not ended.
        """
        delivery = self.last.delivery
        self.conductor.advance(_OPERATOR_SECONDS)
        self.conductor.rerun_workflow(delivery.workflow_id, delivery.task_id)
        return self.again(report=report)

    def restart(self, *, report: bool = True) -> Outcome:
        """Restart the finished workflow, as an operator does, and run its first attempt.

        Raises:
            LookupError: nothing ran before.
            perago.testing.ServiceError: the workflow has not ended.
        """
        self.conductor.advance(_OPERATOR_SECONDS)
        self.conductor.restart_workflow(self.last.delivery.workflow_id)
        return self.again(report=report)

    def report(self, outcome: Outcome) -> Outcome:
        """Send the late report of an attempt that was run with `report=False`."""
        return self._services.report(outcome._record, outcome.log, outcome.traceback, outcome._read)

    # ------------------------------------------------------------------------ in a fork

    def race(self, *branches: Branch, tree: TreeSource | None = None, compare: bool = True) -> Race:
        """Run a fork of these tasks in every order in which they can publish to one branch.

            perago_run.race((clean, Params(year=2024)), (measure, Params(unit="mm")), tree={"raw/a.csv": "1"})

        Each order is run twice, each time on new services. First the branches run one after the other, so that later
        ones find a moved head. Then all branches are staged before the first of them merges, so that later ones must
        build their publication again. Faults and interruptions of this runner do not apply.

        Args:
            branches: 2 to 4 task functions, each alone or as a pair with its params. A task can be in several branches.
            tree: the input of all branches. Paths are relative to the workspace, or to the root of the repository if
                the tasks have different prefixes. None takes a copy of the branch of the last run.
            compare: False does not compare files and results of the runs, for example for a function that writes the
                time.

        Raises:
            AssertionError: a branch failed, or two runs ended with different files or results. The message names the
                order.
            TypeError: a branch is neither a task function nor a pair of it and its params.
            ValueError: there are too few or too many branches, or one publishes nothing.
            BadTree: see `perago.testing.tree_of`.
        """
        __tracebackhide__ = True  # pytest shows the line of the test
        racers = Racers(branches)
        if tree is not None or not self._repositories:
            files = _keys(tree or {}, racers.prefix)
        else:
            files = dict(self._services.tree(repository=self._repository))
        return racers.race(files, compare=compare)

    # -------------------------------------------------------------------- whole workflows

    def workflow(
        self,
        workflow: Workflow[Any, Any] | Mapping[str, Any],
        params: BaseModel | Mapping[str, Any] | None = None,
        *,
        tree: TreeSource | None = None,
        functions: Sequence[TaskFunction] = (),
        lost: Collection[str] = (),
        orders: int = 1,
    ) -> WorkflowRun:
        """Run a workflow with all its steps, sub-workflows, retries and waits, in virtual time.

            perago_run.workflow(nightly, Given(min_rows=5), tree={"penguins.csv": "..."}, orders=20)

        Args:
            workflow: Declared with `@workflow`, or Conductor's JSON.
            params: The parameters of the workflow.
            tree: The workspace, in a new repository, from its root. None continues on the branch of the last run.
            functions: The task functions that Conductor's JSON names. Those of a declared workflow are known.
            lost: Steps whose first worker dies after its publication and before its report.
            orders: The number of orders of concurrent steps to run, each on new services. The run fails if two orders
                end with different results or files. Faults of this runner do not apply.

        Raises:
            AssertionError: Two orders ended differently.
            BadTree: See `perago.testing.tree_of`.
            LookupError: No attempt of a step in `lost` ran.
            TypeError: A function is not a task function, or the workflow does not have a parameter or needs another.
            perago.workflows.WorkflowDefinitionError: The workflow has mistakes.
        """
        __tracebackhide__ = True
        runner = WorkflowRunner(workflow, functions)
        workflow_input = runner.input_of(sent_params(params or {}))
        if orders != 1:
            if lost:
                raise TypeError("give orders or lost, not both")
            return runner.run_in_orders(_keys(tree or {}, ""), workflow_input, orders)
        ref = self._ref_of(tree, "")  # this chooses the repository
        block = workspace_block(self._repository, BRANCH, ref)
        return runner.run(self._services, self._repository, {"workspace": block, **workflow_input}, lost)

    # ----------------------------------------------------- in the middle of the function

    def cancel(self, at: Moment | float | None = None, *, n: int = 1) -> None:
        """Terminate the workflow during the next attempt's function, as an operator does.

        The function ends as in a worker. An exception that does not inherit from `Exception` is raised in it, so that
        its `finally` blocks run, and `current().cancelled` is true from then on. Nothing is published or reported.

        Args:
            at: the moment: the function's n-th `"log"` or `"progress"`, its n-th read of `"cancelled"`, or a number of
                seconds of `time.sleep`, which lets virtual time pass in that attempt. None means now, for a test double
                that the function calls.
            n: the number of the call, counted from 1.

        Raises:
            ValueError: there is no such moment.
            RuntimeError: now, but no function runs.
        """
        self._services.interruptions.plan("cancel", at, n)

    def time_out(self, at: Moment | float | None = None, *, n: int = 1) -> None:
        """Let the next attempt exceed the `timeoutSeconds` of its task during its function. `again` runs the retry, if
        the timeout policy allows one. Arguments and effects are those of `cancel`."""
        self._services.interruptions.plan("time out", at, n)

    def lose(self, at: Moment | float | None = None, *, n: int = 1) -> None:
        """Let Conductor give up the next attempt during its function, as if its worker had been disconnected for longer
        than `responseTimeoutSeconds`. `again` runs the retry. Arguments and effects are those of `cancel`."""
        self._services.interruptions.plan("lose", at, n)

    # ------------------------------------------------------------------------ looking

    @property
    def last(self) -> Outcome:
        """The outcome of the last attempt.

        Raises:
            LookupError: nothing ran before.
        """
        if self._last is None:
            raise LookupError("nothing ran yet: call the runner with a task function first")
        return self._last

    def tree(self, ref: str = BRANCH) -> PublishedTree:
        """Return the committed workspace of the last run: at the head of its branch, or at a commit id.

        Raises:
            LookupError: nothing ran before, or the task has no workspace.
        """
        prefix = _prefix(self._known_task())
        contents = self._services.tree(ref, repository=self._repository)
        return PublishedTree({key.removeprefix(prefix): contents[key] for key in contents if key.startswith(prefix)})

    def commit(self, tree: TreeSource, message: str = "Another client's commit") -> str:
        """Commit files to the branch of the last run, as another client would. Return the commit id.

        Raises:
            LookupError: nothing ran before, or the task has no workspace.
            BadTree: see `perago.testing.tree_of`.
        """
        files = _keys(tree, _prefix(self._known_task()))
        return self.lakefs.seed(self._repository, BRANCH, files, message=message).id

    # ---------------------------------------------------------------------------- end

    def __enter__(self) -> TaskRunner:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._services.close()
        unused = self.faults.unused()
        if unused and error is None:
            raise AssertionError(f"faults that no call triggered: {'; '.join(map(str, unused))}")
        planned = self._services.interruptions.unused()
        if planned and error is None:
            raise AssertionError(f"no attempt ran after the test planned to {'; '.join(map(str, planned))}")

    def _attempt(self, task: Task, delivery: Delivery, *, report: bool) -> Outcome:
        self._task = task
        self._last = self._services.attempt(task.function, delivery, report=report)
        return self._last

    def _known_task(self) -> Task:
        if self._task is None:
            raise LookupError("nothing ran yet: call the runner with a task function first")
        return self._task

    def _ref_of(self, tree: TreeSource | None, prefix: str) -> str:
        if tree is None and self._repositories:
            return self.lakefs.get_commit(self._repository, BRANCH).id
        self._repositories += 1
        self._repository = REPOSITORY if self._repositories == 1 else f"{REPOSITORY}-{self._repositories}"
        self._services.proofs.note(self._repository, enforced=True)  # a script of faults need not count a challenge
        return self._services.seed(_keys(tree or {}, prefix), repository=self._repository)


def _keys(tree: TreeSource, prefix: str) -> dict[str, str | bytes | None]:
    """The objects of the tree by their keys in the repository."""
    contents: dict[str, str | bytes | None] = {}
    for path, content in tree_of(tree).items():
        if isinstance(content, Symlink):
            raise BadTree(f"{path!r} is a symlink: lakeFS cannot hold one; build it with perago_tree instead")
        contents[prefix + path] = content
    return contents


def _prefix(task: Task) -> str:
    if task.workspace is None:
        raise LookupError(f"{task.name} has no workspace")
    return task.workspace.key_prefix
