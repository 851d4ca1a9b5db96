"""An in-memory lakeFS and an in-memory Conductor on one virtual clock, and the real attempt protocol between them.

coverage.py lets each child process write a data file. A relative name would put it into the function's current
directory, which is removed with the attempt. The data would be lost, and would look like a file that the function left.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from perago.attempt.state import Step
from perago.authoring import Task
from perago.authoring.context import Current
from perago.driver import (
    AttemptRecord,
    AttemptRuntime,
    Delivered,
    FunctionCaller,
    Limits,
    Raised,
    Returned,
    call_function,
    deliver_report,
    run_attempt,
)
from perago.driver.fencing import FenceProofs
from perago.driver.runtime import Observer
from perago.embedded.faults import FaultScript
from perago.embedded.lakefs import InMemoryLakeFS
from perago.ports import Delivery, Report, TaskStatus, VirtualClock
from perago.taskdef.definition import workflow_of_one
from perago.taskdef.payload import HEAD_OF, workspace_block
from perago.testing.conductor import WORKER, Interruptions, VirtualConductor
from perago.testing.outcome import Outcome, attempt_log
from perago.testing.tasks import TaskFunction, task_of
from perago.trees import fast_directory
from perago.trees.differences import PublishedTree, published_below
from perago.workspace.changes import Changes

if TYPE_CHECKING:
    from perago.testing.interfaces import EmbeddedServices


_OPTION, _VARIABLE = "run:data_file", "COVERAGE_FILE"


@contextmanager
def measured_children() -> Iterator[None]:
    """Let children of this process write their coverage data next to that of this process, if coverage measures it."""
    coverage = sys.modules.get("coverage")
    measuring = coverage.Coverage.current() if coverage is not None else None
    if measuring is None:
        yield
        return
    file = os.path.abspath(str(measuring.get_option(_OPTION)))  # noqa: PTH100 - no links are resolved
    measuring.set_option(_OPTION, file)  # a forked child copies it
    before = os.environ.get(_VARIABLE)
    os.environ[_VARIABLE] = file  # one of multiprocessing reads the configuration again
    try:
        yield
    finally:
        os.environ.pop(_VARIABLE)
        if before is not None:
            os.environ[_VARIABLE] = before


REPOSITORY = "workspace"
BRANCH = "main"


def call_and_note(
    task: Task,
    workspace: Path | None,
    params: BaseModel,
    current: Current,
    *,
    on_error: Callable[[BaseException], None] = lambda _: None,
) -> Returned | Raised:
    """Call `perago.driver.call_function`, and log the call for coverage and attempts.

    Args:
        task: the task of the function.
        workspace: its directory; None for a task without one.
        params: the model for the function.
        current: the value of `perago.current()` during the call.
        on_error: gets an exception that the function raised, with its frames.

    Returns:
        the end of the function.
    """
    attempt_log().add_call(task)
    with measured_children():
        return call_function(task, workspace, params, current, on_error=on_error)


Tree = Mapping[str, str | bytes | None] | Path


class InMemoryServices:
    """Runs attempts in this process. Use it as a context manager, or call `close`.

    `lakefs`, `conductor` and `clock` are the in-memory services, and `faults` is their script of faults. `proofs` has
    the challenge results of the worker. `call` calls the task function.
    """

    def __init__(self, *, limits: Limits | None = None, call: FunctionCaller = call_and_note) -> None:
        self.clock: VirtualClock = VirtualClock()
        self.faults: FaultScript = FaultScript({*_calls_of(InMemoryLakeFS), *_calls_of(VirtualConductor)})
        self.lakefs: InMemoryLakeFS = InMemoryLakeFS(self.clock, self.faults)
        self.conductor: VirtualConductor = VirtualConductor(self.clock, self.faults, self.attempt)
        self.interruptions: Interruptions = Interruptions(self.conductor)
        self.limits: Limits = limits or Limits()
        self.proofs: FenceProofs = FenceProofs(self.clock)
        self.proofs.note(REPOSITORY, enforced=True)  # a script of faults need not count a challenge
        self._call = call
        self._scratch = tempfile.TemporaryDirectory(prefix="perago-test-", dir=fast_directory())
        self.workspace_root: Path = Path(self._scratch.name)

    def __enter__(self) -> InMemoryServices:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Remove the written files."""
        self.lakefs.close()
        self._scratch.cleanup()

    # --------------------------------------------------------------------- whole attempts

    def run(self, function: TaskFunction, params: BaseModel | Mapping[str, Any], tree: Tree | None = None) -> Outcome:
        """Seed the workspace with `tree`, start a workflow of this one task, and run its first attempt to the end.

        `params` go through JSON as on the wire. A mapping is sent as it is, so invalid input can be tried.
        """
        task = task_of(function)
        self.start(task, params, ref=self.seed(tree or {}) if task.workspace else None)
        return self.attempt(function)

    def attempt(self, function: TaskFunction, delivery: Delivery | None = None, *, report: bool = True) -> Outcome:
        """Take the next delivery of the task (or the given one), run it and report it.

        `report=False` ends the worker before its report.

        Raises:
            LookupError: no delivery is waiting.
        """
        task = task_of(function)
        function_log = _FunctionLog()
        record = self.run_delivery(task, delivery or self.take(task), function_log)
        lines = tuple(function_log.lines)
        read = None if task.workspace is None else self._reader(record.delivery, task.workspace.key_prefix)
        if report:
            return self.report(record, lines, function_log.traceback, read)
        return Outcome(record, None, self._row(record), lines, function_log.traceback, read)

    def sdk_attempt(self, function: Callable[..., Any], delivery: Delivery, *, report: bool = True) -> Outcome:
        """Run a function with `@worker_task` as the worker of conductor-python does, and report its result.

        Raises:
            ImportError: the extra `sdk` is not installed.
        """
        from perago.clients import run_worker_task  # few tests need it

        result = run_worker_task(function, self.conductor.get_task(delivery.task_id))
        status, lines = str(result["status"]), tuple(str(line["log"]) for line in result.get("logs") or ())
        ended = None
        if status in list(TaskStatus):
            ended = Report(TaskStatus(status), result.get("outputData") or {}, result.get("reasonForIncompletion"))
        record = AttemptRecord(delivery, ended, None, Step.RAN, (), (), Changes(), None, None)
        if report:
            self.conductor.update_task({**result, "workerId": WORKER})
        return Outcome(record, Delivered() if report else None, self._row(record), lines)

    def report(
        self,
        record: AttemptRecord,
        lines: tuple[str, ...] = (),
        traceback: str = "",
        read: Callable[[str], PublishedTree] | None = None,
    ) -> Outcome:
        """Report an attempt that was run, if there is something to report. `read` becomes that of its `Outcome`."""
        delivered = None
        if record.waits:
            self.conductor.hand_back(record.delivery, _HAND_BACK_SECONDS)
        elif record.report is not None:
            delivered = deliver_report(self.conductor, self.clock, record.delivery, record.report, WORKER, self.limits)
        return Outcome(record, delivered, self._row(record), lines, traceback, read)

    # ----------------------------------------------------------------------------- pieces

    def seed(self, tree: Tree, *, repository: str = REPOSITORY) -> str:
        """Commit files to the workspace branch. Return the commit id, which is an input ref."""
        return self.lakefs.seed(repository, BRANCH, tree).id

    def start(
        self,
        task: Task,
        params: BaseModel | Mapping[str, Any],
        *,
        ref: Any = None,
        controls: Mapping[str, Any] | None = None,
        repository: str = REPOSITORY,
    ) -> str:
        """Start a workflow of this one task.

        Args:
            task: the task, which is registered first.
            params: a model, or a mapping that is sent as it is.
            ref: sent as `workspace.ref`, as it is; None for a task without a workspace.
            controls: replaces fields of the TaskDef: `{"retryCount": 0}`.
            repository: where the workspace is.

        Returns:
            The id of the workflow.
        """
        payload: dict[str, Any] = {"params": sent_params(params)}
        if ref is not None:
            payload["workspace"] = workspace_block(repository, BRANCH, ref)
        return self.start_raw(task, payload, controls=controls)

    def start_raw(self, task: Task, payload: Mapping[str, Any], *, controls: Mapping[str, Any] | None = None) -> str:
        """Start a workflow whose one task gets exactly `payload` as its input."""
        self.conductor.register(task.function, controls=controls)
        workflow = f"test.{task.name}"
        definition = workflow_of_one(workflow, task.name, payload, "step")
        self.conductor.create_workflow_definition(definition, overwrite=True)
        return self.conductor.start_workflow(workflow, payload)

    def take(self, task: Task) -> Delivery:
        """Poll once, as a worker does.

        Raises:
            LookupError: no delivery is waiting.
        """
        for delivery in self.conductor.poll(task.name, WORKER, count=1, wait_seconds=0):
            return delivery
        raise LookupError(f"no delivery of {task.name} is waiting; a retry may be delayed: advance the clock")

    def run_delivery(self, task: Task, delivery: Delivery, observer: Observer | None = None) -> AttemptRecord:
        """Run one delivery up to, and without, its report."""
        function_log = observer or _FunctionLog()
        with self.interruptions.attempt(delivery) as running:

            def call(task: Task, workspace: Path | None, params: BaseModel, current: Current) -> Returned | Raised:
                with running.function(current) as watched:
                    ended = self._call(task, workspace, params, watched)
                if isinstance(function_log, _FunctionLog):
                    function_log.traceback = ended.traceback if isinstance(ended, Raised) else ""
                return ended

            record = run_attempt(
                task,
                delivery,
                AttemptRuntime(
                    store=self.lakefs,
                    delivery_check=self.conductor,
                    workspace_root=self.workspace_root,
                    clock=self.clock,
                    limits=self.limits,
                    call=call,
                    observer=function_log,
                    worker_id=WORKER,
                    interruptible=running.interruptible,
                    proofs=self.proofs,
                ),
            )
        record = running.record(record)
        attempt_log().add_findings(task, record.findings)
        return record

    def tree(self, ref: str = BRANCH, *, repository: str = REPOSITORY) -> dict[str, bytes]:
        """Return the committed workspace at `ref`, without the hooks in `_lakefs_actions/`."""
        contents = self.lakefs.tree(repository, f"{ref}@" if ref == BRANCH else ref)
        return {key: content for key, content in contents.items() if not key.startswith("_lakefs_actions/")}

    def _reader(self, delivery: Delivery, prefix: str) -> Callable[[str], PublishedTree]:
        """Reads the workspace of a delivery at a commit."""

        def read(ref: str) -> PublishedTree:
            block = delivery.input.get(HEAD_OF) or delivery.input["workspace"]
            return published_below(prefix, self.tree(ref, repository=block["repository"]))

        return read

    def _row(self, record: AttemptRecord) -> Mapping[str, Any]:
        return self.conductor.get_task(record.delivery.task_id)


_HAND_BACK_SECONDS = 5
"""The delay of an attempt that waits for another one of its workflow."""


def sent_params(params: BaseModel | Mapping[str, Any]) -> dict[str, Any]:
    """Return params in the form of a workflow's input.

    Raises:
        TypeError: they are neither a model nor a mapping.
    """
    if isinstance(params, BaseModel):
        return params.model_dump(mode="json", by_alias=True, round_trip=True)
    if not isinstance(params, Mapping):
        raise TypeError(f"the params are {params!r:.80}; give a model or a dictionary")
    return dict(params)


def _calls_of(model: type) -> set[str]:
    return {name for name in dir(model) if not name.startswith("_") and callable(getattr(model, name))}


class _FunctionLog(Observer):
    """An observer that keeps the log lines of the function."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.traceback = ""
        """The traceback of an exception that the function raised."""

    def log(self, text: str) -> None:
        """Keep a line."""
        self.lines.append(text)


@contextmanager
def serve() -> Iterator[EmbeddedServices]:
    """A Conductor and a lakeFS in real time on a free port of 127.0.0.1, until the end of the `with` block.

    Clients use `conductor_url`, `lakefs_url` and `environment()`. `url` is a page for people. `conductor` and `lakefs`
    are the in-memory services.

    Raises:
        ImportError: the extra `embedded` is not installed.
        TimeoutError: the server did not start within 20 s.
    """
    try:
        from perago.console import console_of
        from perago.embedded.services import EmbeddedServices
    except ImportError as error:
        raise ImportError(f"serving needs more packages: pip install jinja2 starlette uvicorn ({error})") from error
    with EmbeddedServices(page=console_of) as services:
        yield services
