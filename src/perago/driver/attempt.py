"""Runs an attempt from its delivery to `cleaned`, when only the report is left."""

from __future__ import annotations

import errno
import json
import secrets
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel

import perago
from perago.attempt import commands as do
from perago.attempt import events as on
from perago.attempt import outcome
from perago.attempt.events import CommandFailed, GuardrailsChecked
from perago.attempt.outcome import Next, end_by_defect, violated
from perago.attempt.protocol import advance, begin
from perago.attempt.publication import FENCE_PATH
from perago.attempt.state import Plan, State, Step
from perago.authoring import Task
from perago.authoring.context import Measurements
from perago.driver.delivery import check_delivery, read_lineage, read_workflows, time_to_fail
from perago.driver.environment import ON_THE_NETWORK, SILENT, TIDYING, Interrupted, Interruptible, Limits, Observer
from perago.driver.fencing import FenceProofs, fence_upload
from perago.driver.function import (
    FunctionCaller,
    Raised,
    Returned,
    call_function,
    current_of,
    left_files,
    left_words,
    what_to_do,
)
from perago.driver.local_workspace import LocalWorkspace, attempt_directory
from perago.driver.publisher import Publisher
from perago.driver.record import AttemptRecord, StepTime
from perago.guardrails.evaluation import ContentGuardrail, Finding
from perago.ports import Clock, Delivery, DeliveryCheck, Forbidden, NotFound, ServiceError, Upload, WorkspaceStore
from perago.taskdef.payload import (
    TOO_DEEP,
    InvalidInput,
    InvalidResult,
    check_recorded_result,
    dump_result,
    parse_input,
)
from perago.text import quoted
from perago.workspace.changes import Changes
from perago.workspace.directory import DirectoryRefused, root_problem
from perago.workspace.layout import RESERVE, NoRoom
from perago.workspace.scan import EXHAUSTED, WorkspaceError, WorkspaceRefused

_OF_THE_INPUT = (Step.VALIDATED, Step.RECOVERED, Step.LISTED)


def failure_of(error: ServiceError | WorkspaceError | OSError, step: Step) -> CommandFailed:
    """The event for a command that could not be carried out at `step`.

    An unknown repository, branch or commit is final, as long as it is the input's; names that perago made itself can
    only have been taken away. A listing or an id that no disk takes is final, a disk that is full or too small is not.
    """
    if isinstance(error, WorkspaceRefused):
        return CommandFailed(str(error), terminal=not error.retryable)
    if isinstance(error, ServiceError):
        return CommandFailed(str(error), terminal=isinstance(error, NotFound) and step in _OF_THE_INPUT)
    if isinstance(error, OSError):
        return CommandFailed(_words(error), terminal=False)
    return CommandFailed(str(error), terminal=False)


MOST_HAND_BACKS = 5
"""Deliveries of an attempt whose input would not fit even into an empty root. Another host gets this many chances."""


def is_of_this_host(error: Exception | SystemExit, root: Path, poll_count: int) -> bool:
    """Whether the disk of this host is why a command failed, so that another host could carry it out now.

    An input that is larger than the disk is a failure of the attempt, and so is a connection that broke. Where other
    programs leave too little space even for an empty `root`, it is a failure from delivery `MOST_HAND_BACKS` on.
    """
    if isinstance(error, NoRoom):
        return error.is_passing or poll_count < MOST_HAND_BACKS
    if isinstance(error, ConnectionError | TimeoutError) or not isinstance(error, OSError | DirectoryRefused):
        return False
    number = error.errno if isinstance(error, OSError) else None
    return number in _OF_THE_DISK or (number not in EXHAUSTED and root_problem(root, RESERVE) is not None)


def judged(findings: Sequence[Finding]) -> CommandFailed | GuardrailsChecked:
    """The event for the verdicts of one phase. Where only guardrails are wrong, not the data, another attempt may find
    them mended, so that is not final in any phase."""
    broken = tuple(finding.message for finding in findings if not finding.satisfied)
    if broken and all(finding.satisfied or finding.is_defect for finding in findings):
        return CommandFailed(violated(broken), terminal=False)
    return GuardrailsChecked(broken)


_CHECKED = {do.ValidateInput: "input", do.ValidateResult: "result"}
_DEEPEST_FRAMES = -15


def unexpected(error: Exception | SystemExit, command: do.Command) -> CommandFailed:
    """The event for a command that ended in an unforeseen way: a defect, no memory, an author's validator.

    What is nested too deeply in an input or a result stays so; everything else may go better another time. The text of
    the exception is left out where it may quote params or the result (docs/design/contract.md 4).
    """
    checked = _CHECKED.get(type(command))
    if checked and isinstance(error, RecursionError):
        return CommandFailed(f"Invalid {checked}: it {TOO_DEEP}", terminal=True)
    text = "" if checked or isinstance(command, do.RunFunction) else f": {error}"
    return CommandFailed(
        f"perago could not carry out {type(command).__name__}: {type(error).__name__}{text}", terminal=False
    )


def where(error: BaseException) -> str:
    """The frames that an exception came through, for the log; without its text, which may quote values."""
    return f"{type(error).__name__}, raised at:\n{''.join(traceback.format_tb(error.__traceback__, _DEEPEST_FRAMES))}"


def _words(error: OSError) -> str:
    if isinstance(error, ConnectionError | TimeoutError):
        return f"A connection broke: {error.strerror or type(error).__name__}."
    if error.errno in EXHAUSTED:
        return (
            f"Too many files are open here ({errno.errorcode[error.errno]}). A task function must close its files; if "
            "it needs so many at once, raise the limit (ulimit -n)."
        )
    where = f": {error.filename}" if error.filename else ""
    reason = error.strerror or str(error) or type(error).__name__
    advice = " Free space, or point PERAGO_WORKSPACE_ROOT elsewhere." if error.errno in _FULL else ""
    return f"The local disk refused{where}: {reason}.{advice}"


_FULL = (errno.ENOSPC, errno.EDQUOT)
_OF_THE_DISK = (*_FULL, errno.EROFS)


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptRuntime:
    """What a worker gives its attempts."""

    store: WorkspaceStore | None
    """lakeFS; None only for a task without a workspace."""
    delivery_check: DeliveryCheck
    """Answers whether the delivery is still current."""
    workspace_root: Path
    """Where attempt directories are made."""
    clock: Clock
    limits: Limits = field(default_factory=Limits)
    call: FunctionCaller = call_function
    """How the task function is called; a worker captures its output there."""
    observer: Observer = SILENT
    store_notes: Callable[[], tuple[str, ...]] = tuple
    """What an operator should know of the store's transfers since the last call, such as a way that did not work."""
    worker_id: str = ""
    interruptible: Interruptible = nullcontext
    """Makes the blocks in which a loss that is noticed elsewhere ends the attempt at once."""
    around_guardrails: Callable[[], AbstractContextManager[object]] = nullcontext
    """Entered while guardrails look into files, as some are code of the author's."""
    proofs: FenceProofs | None = None
    """What this process knows of lakeFS servers that were tried; None: the attempt tries its server itself."""


_EXTERNAL = (
    "Conductor moved the input to external storage because of its size, where workers cannot read it. Put large data "
    "into the workspace and pass references."
)
ENDED = (Step.PUBLISHED, Step.FAILED, Step.LOST)
_BEFORE_THE_FUNCTION = (
    Step.RECEIVED,
    Step.VALIDATED,
    Step.RECOVERED,
    Step.LISTED,
    Step.FETCHED,
    Step.PRE_CHECKED,
)
_FORBIDDEN = (
    "Invalid input: /workspace: this worker may not work on branch {1} of repository {0}; "
    "PERAGO_ALLOWED_WORKSPACES of the worker does not have it. Nothing was asked of lakeFS."
)


def run_attempt(task: Task, delivery: Delivery, runtime: AttemptRuntime) -> AttemptRecord:
    """Run one delivery up to, and without, its report (for that see `deliver_report`).

    Never raises for anything that the author, the data or the services did: it is in the record.
    """
    return _AttemptRun(task, delivery, runtime).run()


class _AttemptRun:
    """The state of the driver for one delivery, and a method for each command."""

    def __init__(self, task: Task, delivery: Delivery, runtime: AttemptRuntime) -> None:
        self._task = task
        self._delivery = delivery
        self._runtime = runtime
        self._local: LocalWorkspace | None = None
        self._remote: Publisher | None = None
        self._until = runtime.clock.now() + time_to_fail(delivery)
        if task.workspace is not None:
            if runtime.store is None:
                raise ValueError(f"task {task.name} has a workspace and needs a store")
            self._local = LocalWorkspace(task.workspace, runtime.workspace_root, delivery, runtime.limits)
            budget = task.controls.publish_budget
            self._remote = Publisher(
                runtime.store,
                runtime.clock,
                runtime.limits,
                runtime.observer,
                runtime.proofs or FenceProofs(runtime.clock),
                root=runtime.workspace_root,
                merge_within=budget.lakefs_merge_timeout_seconds if budget else None,
                until=self._until,
            )
        self._is_called = self._hand_back = False
        self._params: BaseModel | None = None
        self._returned: Any = None
        self._findings: tuple[Finding, ...] = ()
        self._changes = Changes()
        self._steps: list[StepTime] = []
        self._left_files: tuple[str, ...] = ()
        self._notes: list[str] = []
        self._measurements = Measurements(task.name, task.metrics)
        self._ignored: tuple[str, ...] = ()
        self._handlers: dict[type[Any], Callable[[Any], on.Event]] = {
            do.ValidateInput: self._validate_input,
            do.ResolveJoin: lambda command: self._publisher.resolve_join(command),
            do.ReadBranch: lambda command: self._publisher.read_branch(command),
            do.ReadLineage: self._read_lineage,
            do.ReadWorkflows: self._read_workflows,
            do.FindLeftovers: lambda command: self._publisher.find_leftovers(command),
            do.ListObjects: self._list_objects,
            do.Fetch: lambda command: self._publisher.fetch(command, self._workspace),
            do.CheckGuardrails: self._check_guardrails,
            do.RunFunction: self._run_function,
            do.ValidateResult: self._validate_result,
            do.ValidateRecordedResult: self._validate_recorded,
            do.DetectChanges: self._detect_changes,
            do.CheckDelivery: self._check_delivery,
            do.CreateStagingBranch: lambda command: self._publisher.create_branch(command),
            do.RevertStale: lambda command: self._publisher.revert_stale(command),
            do.CompareWithOthers: self._compare_with_others,
            do.FindCommits: lambda command: self._publisher.rebase.find_commits(command),
            do.ReadAdopted: lambda command: self._publisher.rebase.read_adopted(command),
            do.AwaitTurn: lambda command: self._publisher.rebase.await_turn(command),
            do.StageChanges: self._stage,
            do.CarryChanges: lambda command: self._publisher.rebase.carry(command),
            do.StageFence: lambda command: self._publisher.stage_fence(command),
            do.CommitStaging: lambda command: self._publisher.commit(command),
            do.VerifyStaging: self._verify_staging,
            do.CheckPublishFence: lambda command: self._publisher.check_publish_fence(command),
            do.TryPublishFence: lambda command: self._publisher.try_publish_fence(command),
            do.Merge: lambda command: self._publisher.merge(command),
            do.ReadPublication: lambda command: self._publisher.read_publication(command),
            do.RemoveStagingBranches: self._remove_branches,
            do.RemoveDirectory: self._remove_directory,
        }

    def run(self) -> AttemptRecord:
        """Advance until the report is all that is left, or the delivery is lost."""
        state, command = begin(self._plan())
        reached = state.step
        try:
            while command is not None and state.step is not Step.CLEANED:
                merge = command if isinstance(command, do.Merge) else None
                if merge is not None:
                    self._tell(merge, state, outcome.unanswered_merge(state))
                elif self._remote is not None and (state.step in ENDED or isinstance(command, do.ReadPublication)):
                    self._remote.rebase.end_turn()
                event = self._carry_out(command, state)
                if state.step not in (Step.FAILED, Step.LOST):
                    reached = state.step
                state, command = self._advance(state, event, is_merge=merge is not None)
                if merge is not None:
                    self._tell(merge, state, state.open_merge)
        except Exception:
            if self._local is not None:
                self._local.remove()
            raise
        finally:
            if self._remote is not None:
                self._remote.rebase.end_turn()
        return self._record(state, reached)

    def _advance(self, state: State, event: on.Event, *, is_merge: bool) -> Next:
        """Take the next step. A defect of the protocol ends the attempt, because nothing else would report it."""
        try:
            return advance(state, event)
        except Exception as error:  # noqa: BLE001 - a defect may raise anything
            self._note(where(error))
            if self._local is not None and state.step in ENDED:
                self._local.remove()
            what = f"perago could not continue after {type(event).__name__} at step {state.step}"
            return end_by_defect(state, f"{what}: {type(error).__name__}: {error}", is_merge=is_merge)

    def _plan(self) -> Plan:
        spec, budget = self._task.workspace, self._task.controls.publish_budget
        rebase = spec is not None and spec.on_moved_head == "rebase"
        return Plan(
            self._delivery,
            perago.__version__,
            secrets.token_hex(6),
            prefix=spec.prefix if spec else "",
            read_only=spec.read_only if spec else False,
            max_changed_objects=budget.max_changed_objects if budget else None,
            max_changed_bytes=budget.max_changed_bytes if budget else None,
            publish_fence=self._runtime.limits.publish_fence,
            rebase=rebase,
            has_reads=bool(spec and spec.reads),
            looks_into_input=any(isinstance(rule, ContentGuardrail) for rule in (spec.pre if spec else ())),
            rebuild_tries=self._runtime.limits.rebase_tries if rebase else 3,
        )

    def _tell(self, merge: do.Merge, state: State, words: str | None) -> None:
        """Say what to report of the merge, should this process die."""
        self._runtime.observer.publishing(merge.repository, merge.branch, state.expected_head, words or "")

    def _carry_out(self, command: do.Command, state: State) -> on.Event:
        name = type(command).__name__
        self._runtime.observer.step(name)
        start = time.perf_counter()
        try:
            return self._handle(command)
        except NotImplementedError:  # a model says what it cannot do; that is no failed attempt
            raise
        except (Exception, SystemExit) as error:  # noqa: BLE001 - author's validators and our defects end in any way
            return self._gone_wrong(command, error, state.step)
        finally:
            self._steps.append(StepTime(name, time.perf_counter() - start))

    def _handle(self, command: do.Command) -> on.Event:
        """Carry out a command unless the delivery is lost by then, or until it is."""
        handler, sent = self._handlers[type(command)], False
        if isinstance(command, TIDYING):
            return handler(command)
        try:
            with self._runtime.interruptible():
                sent = True
                if isinstance(command, ON_THE_NETWORK):
                    return handler(command)
            return handler(command)
        except Interrupted:
            is_open = sent and isinstance(command, do.Merge)
            return on.MergeUnclear("the delivery was lost meanwhile") if is_open else on.DeliveryLost()

    def _gone_wrong(self, command: do.Command, error: Exception | SystemExit, step: Step) -> on.Event:
        """The event for a command that raised. Clean-up does not fail: it leaves something behind, which is noted. Only
        lakeFS's own word settles a merge."""
        is_before = step in _BEFORE_THE_FUNCTION and not self._is_called
        if is_before and is_of_this_host(error, self._runtime.workspace_root, self._delivery.poll_count):
            self._hand_back = True
        if isinstance(error, ServiceError | WorkspaceError | OSError):
            event = failure_of(error, step)
        else:
            event = unexpected(error, command)
            self._note(where(error))
        if isinstance(command, do.RemoveStagingBranches):
            names = ", ".join(command.branches)
            self._note(f"Staging branches of {command.repository} are left behind: {names}. {event.reason}")
            return on.StagingBranchesRemoved()
        if isinstance(command, do.FindLeftovers) and isinstance(error, Forbidden):
            self._note(f"Staging branches of earlier deliveries could not be looked for. {event.reason}")
            return on.LeftoversFound((), complete=False)
        if isinstance(command, do.RemoveDirectory):
            self._note(f"The attempt directory is left behind. {event.reason}")
            return on.DirectoryRemoved()
        if isinstance(command, do.Merge) and not isinstance(error, ServiceError):
            return on.MergeUnclear(event.reason)
        return event

    def _record(self, state: State, reached: Step) -> AttemptRecord:
        self._notes += self._runtime.store_notes()
        return AttemptRecord(
            delivery=self._delivery,
            report=state.report,
            lost_reason=state.problem if state.step is Step.LOST else None,
            reached=reached,
            steps=tuple(self._steps),
            findings=self._findings,
            changes=self._changes,
            input_ref=(state.workspace.ref or None) if state.workspace else None,
            published_commit=state.publication,
            adopted_commit=state.adopts,
            changed_since_adopted=state.changed_since,
            rebased_onto=state.rebased_onto,
            lost_races=state.lost_races,
            fence_refusals=self._remote.fence_refusals if self._remote else 0,
            superseded_commits=state.base.stale if state.base and state.publication else (),
            fence=state.fence,
            brought_fence=state.brings_fence and state.publication is not None,
            left_files=self._left_files,
            objects=self._local.total_objects if self._local else 0,
            from_cache=self._remote.from_cache if self._remote else 0,
            hand_back=self._hand_back and state.report is not None,
            notes=(*self._notes, *(self._local.unread if self._local else ())),
            ignored_params=self._ignored,
            metrics=self._measurements.all(),
        )

    # ------------------------------------------------------------------------ the commands

    def _validate_input(self, _: do.ValidateInput) -> on.Event:
        if self._delivery.external_input:
            return on.CommandFailed(_EXTERNAL, terminal=True)
        if self._delivery.input_is_too_deep:
            return on.CommandFailed(f"Invalid input: it {TOO_DEEP}", terminal=True)
        try:
            found = parse_input(self._task, self._delivery.input)
        except InvalidInput as error:
            return on.CommandFailed(f"Invalid input: {error}", terminal=True)
        self._params, self._ignored = found.params, found.ignored
        if found.ignored:
            self._note(f"{self._task.params_model.__name__} ignores what the params set: {', '.join(found.ignored)}")
        block = found.workspace
        if block is None:
            return on.InputAccepted(None, found.params_sha256)
        if not self._runtime.limits.allows(block.repository, block.branch):
            return on.CommandFailed(_FORBIDDEN.format(quoted(block.repository), quoted(block.branch)), terminal=True)
        joined = block.refs if len(block.refs) > 1 else ()
        workspace = on.WorkspaceRef(block.repository, block.branch, "" if joined else block.refs[0], block.ref_key)
        return on.InputAccepted(workspace, found.params_sha256, joined)

    def _list_objects(self, command: do.ListObjects) -> on.Event:
        self._workspace.create()
        listed = self._publisher.list_objects(command, self._workspace)
        self._note(self._workspace.blindness())
        return listed

    def _check_guardrails(self, command: do.CheckGuardrails) -> on.Event:
        if command.phase == "post":
            findings = self._workspace.check("post", self._runtime.around_guardrails)
            self._findings = (*self._findings, *findings)
        elif command.phase == "pre":
            self._findings = findings = self._workspace.check("pre", self._runtime.around_guardrails)
        else:
            self._findings = findings = self._workspace.check_listing()
        for finding in findings:
            self._note(finding.detail)
        return judged(findings)

    def _run_function(self, _: do.RunFunction) -> on.Event:
        if self._params is None:
            raise ValueError("the input has not been validated")
        with attempt_directory(self._local, self._runtime.workspace_root, self._delivery, self._note) as made:
            runtime = self._runtime
            current = current_of(self._delivery, runtime.worker_id, runtime.observer, made, self._measurements)
            self._is_called = True
            called = runtime.call(self._task, made.workspace if self._local else None, self._params, current)
            self._left_files = left_files(made.current, self._task)
        left = left_words(self._left_files, self._task)
        if left and self._runtime.limits.fail_on_left_files and isinstance(called, Returned):
            return on.CommandFailed(f"{left} {what_to_do(self._task)}", terminal=False)
        self._note(left)
        if isinstance(called, Raised):
            return on.CommandFailed(called.message, terminal=called.kind == "terminal")
        self._returned = called.value
        return on.FunctionReturned()

    def _validate_result(self, _: do.ValidateResult) -> on.Event:
        try:
            return on.ResultAccepted(dump_result(self._task, self._returned, self._runtime.limits.max_result_bytes))
        except InvalidResult as error:
            return on.CommandFailed(f"Invalid result: {error}", terminal=True)

    def _validate_recorded(self, command: do.ValidateRecordedResult) -> on.Event:
        try:
            recorded = json.loads(command.recorded)
            check_recorded_result(self._task, recorded)
        except (ValueError, RecursionError, InvalidResult) as error:
            return on.CommandFailed(
                f"An earlier attempt of this step has published, but the result that it recorded cannot be taken over: "
                f"{error}. Nothing is published twice: check the head of the branch and continue from it.",
                terminal=True,
            )
        return on.ResultAccepted(recorded)

    def _detect_changes(self, _: do.DetectChanges) -> on.Event:
        changes, prefix = self._workspace.changes(), self._workspace.key_prefix
        self._changes = changes
        return on.ChangesDetected(
            tuple(file.path for file in changes.added),
            tuple(file.path for file in changes.changed),
            tuple(file.path for file in changes.removed),
            sum(file.size for file in (*changes.added, *changes.changed)),
            frozenset(prefix + file.path for file in changes.changed if not file.is_certain),
        )

    def _check_delivery(self, _: do.CheckDelivery) -> on.Event:
        return check_delivery(
            self._runtime.delivery_check, self._delivery, self._runtime.clock, self._runtime.limits.answer_patience
        )

    def _read_lineage(self, command: do.ReadLineage) -> on.Event:
        runtime, patience = self._runtime, self._runtime.limits.answer_patience
        ids = command.task_ids, command.chain
        return read_lineage(runtime.delivery_check, self._delivery, *ids, runtime.clock, patience)

    def _read_workflows(self, command: do.ReadWorkflows) -> on.Event:
        runtime, patience = self._runtime, self._runtime.limits.answer_patience
        return read_workflows(runtime.delivery_check, self._delivery, command, runtime.clock, patience, self._until)

    def _verify_staging(self, command: do.VerifyStaging) -> on.Event:
        planned = dict[str, Upload | None]()
        if command.fence:
            with fence_upload() as upload:
                planned[FENCE_PATH] = upload
        if command.changes:
            uploads, deletions = self._to_stage(command.shared)
            planned |= {upload.key: upload for upload in uploads} | dict.fromkeys(deletions)
        return self._publisher.verify(command, planned)

    def _stage(self, command: do.StageChanges) -> on.Event:
        return self._publisher.stage(command, *self._to_stage(command.shared))

    def _to_stage(self, shared: frozenset[str]) -> tuple[list[Upload], list[str]]:
        local = self._workspace
        uploads = [upload for upload in local.uploads(self._changes) if upload.key not in shared]
        return uploads, [key for key in local.deletions(self._changes) if key not in shared]

    def _compare_with_others(self, command: do.CompareWithOthers) -> on.Event:
        reads = self._task.workspace.reads if self._task.workspace else ()
        return self._publisher.rebase.compare(command, self._workspace, self._changes, reads)

    def _remove_branches(self, command: do.RemoveStagingBranches) -> on.Event:
        for problem in self._publisher.remove_branches(command):
            self._note(problem)
        return on.StagingBranchesRemoved()

    def _remove_directory(self, _: do.RemoveDirectory) -> on.Event:
        self._note(self._workspace.remove())
        return on.DirectoryRemoved()

    # ------------------------------------------------------------------------------ parts

    @property
    def _workspace(self) -> LocalWorkspace:
        if self._local is None:
            raise ValueError("this task has no workspace")
        return self._local

    @property
    def _publisher(self) -> Publisher:
        if self._remote is None:
            raise ValueError("this task has no workspace")
        return self._remote

    def _note(self, problem: str | None) -> None:
        if problem is not None:
            self._notes.append(problem)
