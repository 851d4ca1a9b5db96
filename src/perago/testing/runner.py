"""Run task functions and workflows in a test, on services in memory."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from types import TracebackType
from typing import Any

from pydantic import BaseModel

from perago.authoring import Task, TaskDefinitionError
from perago.embedded.faults import FaultScript
from perago.ports import Delivery, ServiceError
from perago.taskdef.payload import workspace_block
from perago.testing.conductor import Moment
from perago.testing.interfaces import Conductor, InMemoryLakeFS, VirtualClock
from perago.testing.outcome import Outcome, Race
from perago.testing.services import BRANCH, REPOSITORY, InMemoryServices, sent_params
from perago.testing.tasks import TaskFunction, task_of
from perago.testing.trees import TreeSource, tree_of
from perago.testing.workflow_run import Branch, Racers, Signals, WorkflowRun, WorkflowRunner
from perago.trees import BadTree, Symlink
from perago.trees.differences import PublishedTree, published_below
from perago.workflows import Workflow

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
        signals: Signals | None = None,
    ) -> WorkflowRun:
        """Run a workflow with all its steps, sub-workflows, retries and waits, in virtual time.

            perago_run.workflow(nightly, Given(min_rows=5), tree={"penguins.csv": "..."}, orders=20)

        Args:
            workflow: Declared with `@workflow`, Conductor's JSON, or a `ConductorWorkflow` of the SDK in a module.
            params: The parameters of the workflow.
            tree: The workspace, in a new repository, from its root. None continues on the branch of the last run.
            functions: The task functions that Conductor's JSON names. Those of a declared workflow are known.
            lost: Steps whose first worker dies after its publication and before its report.
            orders: The number of orders of concurrent steps to run, each on new services. The run fails if two orders
                end with different results or files. Faults of this runner do not apply.
            signals: The signal for each step that waits for one, by its name: a model or its JSON, which answers each
                time, or a list of these, one for each time. It is sent when no attempt waits.

        Raises:
            AssertionError: Two orders ended differently.
            BadTree: See `perago.testing.tree_of`.
            LookupError: No attempt of a step in `lost` ran, or no step waited for a signal.
            TypeError: A function is not a task function, the workflow does not have a parameter or needs another, or
                a signal has other types.
            perago.workflows.WorkflowDefinitionError: The workflow has mistakes.
        """
        __tracebackhide__ = True
        try:
            runner = WorkflowRunner(workflow, functions)
            workflow_input = runner.input_of(sent_params(params or {}))
            if orders != 1:
                if lost:
                    raise TypeError("give orders or lost, not both")
                return runner.run_in_orders(_keys(tree or {}, ""), workflow_input, orders, signals)
            ref = self._ref_of(tree, "")  # this chooses the repository
            block = workspace_block(self._repository, BRANCH, ref)
            workflow_input = {"workspace": block, **workflow_input}
            return runner.run(self._services, self._repository, workflow_input, lost, signals=signals)
        except (TaskDefinitionError, ServiceError, BadTree) as error:  # the message has the author's line
            raise error.with_traceback(None) from None

    def schedule(
        self, workflow: Workflow[Any, Any], *, days: float = 1, tree: TreeSource | None = None
    ) -> tuple[WorkflowRun, ...]:
        """Run the schedule of a workflow for some days of virtual time, without waiting.

            runs = perago_run.schedule(nightly, days=2)

        Args:
            workflow: Declared with `@workflow(schedule=Cron(...))`.
            days: The number of days from now.
            tree: The workspace before the first run, as in `workflow`. Each run begins with what the one before it has
                published.

        Returns:
            The runs that the schedule started, in their order.

        Raises:
            BadTree: See `perago.testing.tree_of`.
            TypeError: The workflow has no schedule, or has no workspace and gets a tree.
            perago.workflows.WorkflowDefinitionError: The workflow has mistakes.
        """
        __tracebackhide__ = True
        try:
            runner, schedule = WorkflowRunner(workflow, ()), workflow._scheduled()
            if schedule is None:
                fix = "declare one with @workflow(schedule=Cron(...))"
                raise TypeError(f"workflow {workflow.name} has no schedule; {fix}")
            repository, sent = "", schedule["startWorkflowRequest"]["input"]
            if "workspace" in sent:
                self._ref_of(tree, "")  # this chooses the repository
                repository = self._repository
                sent["workspace"] = {"repository": repository, "branch": BRANCH}
            elif tree is not None:
                raise TypeError(f"workflow {workflow.name} has no workspace, so its schedule takes no tree")
        except (TaskDefinitionError, BadTree) as error:
            raise error.with_traceback(None) from None
        return runner.run_schedule(self._services, schedule, days, repository)

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
        return published_below(prefix, self._services.tree(ref, repository=self._repository))

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
