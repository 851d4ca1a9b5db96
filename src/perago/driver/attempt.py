"""Run an attempt from its delivery to `cleaned`. Then only the report remains."""

from __future__ import annotations

import errno
import json
import re
import secrets
import time
import traceback
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel

import perago
from perago.attempt import commands as do
from perago.attempt import events as on
from perago.attempt import outcome
from perago.attempt.events import CommandFailed, GuardrailsChecked
from perago.attempt.outcome import Next, end_by_defect, violated
from perago.attempt.protocol import advance, begin, first_staging_branch
from perago.attempt.state import Plan, State, Step
from perago.authoring import Task
from perago.authoring.context import Current, Measurements, with_hooks
from perago.driver.delivery import DeliveryQuestions, time_to_fail
from perago.driver.fencing import FenceProofs
from perago.driver.function import Raised, Returned, left_files, left_words, what_to_do
from perago.driver.local_workspace import LocalWorkspace, attempt_directory
from perago.driver.publisher import PatientStore, Publisher
from perago.driver.runtime import Ahead, AttemptRecord, AttemptRuntime, CleanUp, Interrupted, StepTime
from perago.guardrails.evaluation import ContentGuardrail, Finding
from perago.ports import Delivery, Forbidden, NotFound, ServiceError
from perago.taskdef.payload import (
    HEAD_OF,
    TOO_DEEP,
    InvalidInput,
    InvalidResult,
    check_recorded_result,
    dump_result,
    parse_head_request,
    parse_input,
)
from perago.text import quoted
from perago.workspace.changes import Changes
from perago.workspace.directory import DirectoryRefused, root_problem
from perago.workspace.layout import FULL, RESERVE, NoRoom, says_full
from perago.workspace.scan import EXHAUSTED, WorkspaceError, WorkspaceRefused

_OF_THE_INPUT = (Step.VALIDATED, Step.RECOVERED, Step.LISTED)
_COMMIT_ID = re.compile(r"\b[0-9a-f]{64}\b")
_LOST = (
    "lakeFS does not find commit {commit} by its id, but the log of the branch has it. This happens after a person has "
    "cherry-picked a commit with metadata. lakeFS finds it again after a restart; then retry"
)


def failure_of(
    error: ServiceError | WorkspaceError | OSError, step: Step, root: Path, logged: Collection[str] = ()
) -> CommandFailed:
    """Return the event for a command that could not be carried out at `step`. `logged`: the commits that the log of the
    branch has.

    An unknown repository, branch or commit is final if the input names it, because a branch that perago made can only
    have been deleted. A listing or an id that no disk accepts is final. A disk that is full or too small is not.
    `root` is the workspace root.
    """
    if isinstance(error, WorkspaceRefused):
        return CommandFailed(str(error), terminal=not error.retryable)
    is_final = isinstance(error, NotFound) and step in _OF_THE_INPUT
    commits = _COMMIT_ID.findall(error.detail) if isinstance(error, NotFound) else []
    if isinstance(error, NotFound) and commits and set(commits) <= set(logged):
        text = f"{error.service}: {error.operation}: {_LOST.format(commit=' or '.join(commits))}"
        return CommandFailed(text, terminal=is_final)
    return CommandFailed(_words(error, root) if isinstance(error, OSError) else str(error), terminal=is_final)


MOST_HAND_BACKS = 5
"""Number of deliveries of an attempt whose input would not fit even into an empty root, so that other hosts can try."""


def is_of_this_host(error: Exception | SystemExit, root: Path, poll_count: int) -> bool:
    """Whether a command failed because of the disk of this host, so that another host could carry it out now.

    An input that is larger than the disk is a failure of the attempt, and so is a broken connection. If other programs
    leave too little space even for an empty `root`, the attempt fails from delivery `MOST_HAND_BACKS` on.
    """
    if isinstance(error, NoRoom):
        return error.is_passing or poll_count < MOST_HAND_BACKS
    if isinstance(error, ConnectionError | TimeoutError) or not isinstance(error, OSError | DirectoryRefused):
        return False
    number = error.errno if isinstance(error, OSError) else None
    return number in _OF_THE_DISK or (number not in EXHAUSTED and root_problem(root, RESERVE) is not None)


def judged(findings: Sequence[Finding]) -> CommandFailed | GuardrailsChecked:
    """Return the event for the verdicts of one phase. If only guardrails are defective, the failure is not final in any
    phase, because a later attempt may run with corrected guardrails."""
    broken = tuple(finding.message for finding in findings if not finding.satisfied)
    if broken and all(finding.satisfied or finding.is_defect for finding in findings):
        return CommandFailed(violated(broken), terminal=False)
    return GuardrailsChecked(broken)


_BEFORE_STAGING = do.CheckDelivery(with_line=True)
_CHECKED_AHEAD: dict[type[do.Command], do.CheckDelivery] = {
    do.CreateStagingBranch: _BEFORE_STAGING,
    do.CommitStaging: do.CheckDelivery(),
    do.VerifyStaging: do.CheckDelivery(),
}
"""Commands that a delivery check follows. Its question need not wait for their answers (docs/dev/protocol.md, "What
runs at the same time"). A question that was sent with an earlier command is sent again if it has become too old."""
_CHECKED = {do.ValidateInput: "input", do.ValidateResult: "result"}
_DEEPEST_FRAMES = -15


def unexpected(error: Exception | SystemExit, command: do.Command) -> CommandFailed:
    """Return the event for a command that ended unexpectedly, for example by a defect, a lack of memory, or a
    validator.

    The failure is final only for a value that is nested too deeply. The text of the exception is left out if it can
    quote params or the result.
    """
    checked = _CHECKED.get(type(command))
    if checked and isinstance(error, RecursionError):
        return CommandFailed(f"Invalid {checked}: it {TOO_DEEP}", terminal=True)
    text = "" if checked or isinstance(command, do.RunFunction) else f": {error}"
    return CommandFailed(
        f"perago could not carry out {type(command).__name__}: {type(error).__name__}{text}", terminal=False
    )


def where(error: BaseException) -> str:
    """Return the frames of an exception for the log, without its text, because that can quote values."""
    return f"{type(error).__name__}, raised at:\n{''.join(traceback.format_tb(error.__traceback__, _DEEPEST_FRAMES))}"


def _words(error: OSError, root: Path) -> str:
    if isinstance(error, ConnectionError | TimeoutError):
        return f"A connection broke: {error.strerror or type(error).__name__}."
    if error.errno in EXHAUSTED:
        return (
            f"Too many files are open here ({errno.errorcode[error.errno]}). A task function must close its files; if "
            "it needs so many at once, raise the limit (ulimit -n)."
        )
    reason = error.strerror or str(error) or type(error).__name__
    advice = " Free space, or point PERAGO_WORKSPACE_ROOT elsewhere." if error.errno in FULL else ""
    return f"The local disk refused: {error.filename or root}: {reason}.{advice}"


_OF_THE_DISK = (*FULL, errno.EROFS)


_EXTERNAL = (
    "Conductor moved the input to external storage because of its size, where workers cannot read it. Put large data "
    "into the workspace and pass references."
)
_BEFORE_THE_FUNCTION = (
    Step.RECEIVED,
    Step.VALIDATED,
    Step.RECOVERED,
    Step.LISTED,
    Step.FETCHED,
    Step.PRE_CHECKED,
)
_FORBIDDEN = (
    "Invalid input: /workspace: PERAGO_ALLOWED_WORKSPACES of this worker does not allow branch {1} of repository "
    "{0}. perago did not ask lakeFS."
)


def run_attempt(task: Task, delivery: Delivery, runtime: AttemptRuntime) -> AttemptRecord:
    """Run one delivery without its report, which `deliver_report` sends.

    It never raises an exception for a problem of the author's code, the data or the services. The record has them.
    """
    return _AttemptRun(task, delivery, runtime).run()


class _AttemptRun:
    """The state of the driver for one delivery, and a method for each command."""

    def __init__(self, task: Task, delivery: Delivery, runtime: AttemptRuntime) -> None:
        self._task = task
        self._delivery = delivery
        self._runtime = runtime
        self._local: LocalWorkspace | None = None
        self._publisher: Publisher | None = None
        self._is_called = self._hand_back = False
        self._params: BaseModel | None = None
        self._returned: Any = None
        self._findings: tuple[Finding, ...] = ()
        self._steps: list[StepTime] = []
        self._left_files: tuple[str, ...] = ()
        self._notes: list[str] = []
        self._measurements = Measurements(task.name, task.metrics)
        self._ignored: tuple[str, ...] = ()
        self._failed_step = self._error_type = ""
        self._is_published = False
        clock, limits, until = runtime.clock, runtime.limits, runtime.clock.now() + time_to_fail(delivery)
        patience, self._ahead = limits.answer_patience, Ahead(runtime.threads)
        self._questions = DeliveryQuestions(
            runtime.delivery_check,
            delivery,
            clock,
            patience=patience,
            until=until,
            roots=runtime.roots,
            ahead=self._ahead,
        )
        owners: list[object] = [self, self._questions]
        if task.workspace is not None:
            if runtime.store is None:
                raise ValueError(f"task {task.name} has a workspace and needs a store")
            budget = task.controls.publish_budget
            self._local = LocalWorkspace(task.workspace, runtime.workspace_root, delivery, limits)
            self._publisher = Publisher(
                PatientStore(runtime.store, clock, limits, runtime.observer, until=until, ahead=self._ahead),
                self._local,
                runtime.proofs or FenceProofs(clock),
                self._note,
                root=runtime.workspace_root,
                merge_within=budget.lakefs_merge_timeout_seconds if budget else None,
                clean=self._clean,
            )
            owners += [self._publisher, self._publisher.rebase]
        self._handlers: dict[type[Any], Callable[[Any], on.Event]] = {
            kind: getattr(owner, declared.name)
            for kind, declared in do.COMMANDS.items()
            for owner in owners
            if hasattr(owner, declared.name)
        }

    def run(self) -> AttemptRecord:
        """Advance until only the report remains, or the delivery is lost."""
        state, command = begin(self._plan())
        reached = state.step
        try:
            while command is not None:
                merge = command if isinstance(command, do.Merge) else None
                if merge is not None:
                    self._announce(merge, state, outcome.unanswered_merge(state))
                elif state.step in outcome.ENDED or isinstance(command, do.ReadPublication):
                    self._end_turn()
                event = self._carry_out(command, state)
                if state.step not in (Step.FAILED, Step.LOST):
                    reached = state.step
                carried_out = type(command).__name__
                state, command = self._advance(state, event, is_merge=merge is not None)
                if state.step in (Step.FAILED, Step.LOST):
                    self._failed_step = self._failed_step or carried_out
                if merge is not None:
                    self._announce(merge, state, state.merge.open)
        except Exception:
            if self._local is not None:
                self._local.remove()
            raise
        finally:
            self._ahead.end()
            self._end_turn()
            if self._publisher is not None and (remove := self._publisher.unneeded_branch()) is not None:
                self._is_published = state.publication is not None
                self._clean(remove)
        return self._record(state, reached)

    def _end_turn(self) -> None:
        if self._publisher is not None:
            self._publisher.rebase.end_turn()

    def _advance(self, state: State, event: on.Event, *, is_merge: bool) -> Next:
        """Take the next step. A defect of the protocol ends the attempt, because nothing else would report it."""
        try:
            return advance(state, event)
        except Exception as error:  # noqa: BLE001 - a defect may raise anything
            self._note(where(error))
            if self._local is not None and state.step in outcome.ENDED:
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
            worker=self._runtime.worker,
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

    def _announce(self, merge: do.Merge, state: State, words: str | None) -> None:
        """Tell the observer what to report about the merge if this process dies."""
        self._runtime.observer.publishing(merge.repository, merge.branch, state.expected_head, words or "")

    def _carry_out(self, command: do.Command, state: State) -> on.Event:
        name = type(command).__name__
        self._runtime.observer.step(name)
        self._is_published = state.step is Step.PUBLISHED
        start = time.perf_counter()
        try:
            if self._runtime.is_likely_to_publish:
                self._prepare_publication(command, state)
            return self._handle(command)
        except NotImplementedError:  # a model says what it cannot do; that is no failed attempt
            raise
        except (Exception, SystemExit) as error:  # noqa: BLE001 - author's validators and our defects end in any way
            return self._error_event(command, error, state.step)
        finally:
            self._steps.append(StepTime(name, time.perf_counter() - start))

    def _prepare_publication(self, command: do.Command, state: State) -> None:
        """Create the staging branch while the workspace is fetched, and check the delivery while changes are looked for
        (docs/dev/protocol.md, "What runs at the same time")."""
        if self._runtime.threads is None or self._publisher is None:
            return
        if isinstance(command, do.ListObjects) and (create := first_staging_branch(state)) is not None:
            self._publisher.create_ahead(create)
        elif isinstance(command, do.DetectChanges):
            self._questions.begin(_BEFORE_STAGING)

    def _handle(self, command: do.Command) -> on.Event:
        """Carry out a command. A lost delivery keeps it from starting, or ends it."""
        handler, declared, sent = self._handlers[type(command)], do.COMMANDS[type(command)], False
        if declared.is_clean_up:
            return handler(command)
        if self._runtime.threads is not None and (check := _CHECKED_AHEAD.get(type(command))):
            self._questions.begin(check)
        try:
            with self._runtime.interruptible():
                sent = True
                if declared.is_cut_short:
                    return handler(command)
            return handler(command)
        except Interrupted:
            is_open = sent and isinstance(command, do.Merge)
            return on.MergeUnclear("the delivery was lost in the meantime") if is_open else on.DeliveryLost()

    def _error_event(self, command: do.Command, error: Exception | SystemExit, step: Step) -> on.Event:
        """Return the event for a command that raised an exception. A clean-up does not fail, but notes what it leaves
        behind. Only an answer of lakeFS itself settles a merge."""
        is_before = step in _BEFORE_THE_FUNCTION and not self._is_called
        if is_before and is_of_this_host(error, self._runtime.workspace_root, self._delivery.poll_count):
            self._hand_back = True
        if isinstance(error, ServiceError | WorkspaceError | OSError):
            logged = self._publisher.logged if self._publisher else ()
            event = failure_of(error, step, self._runtime.workspace_root, logged)
        else:
            event = unexpected(error, command)
            self._note(where(error))
        if isinstance(command, do.RemoveStagingBranches):
            names = ", ".join(command.branches)
            self._note(f"Staging branches of {command.repository} were not removed: {names}. {event.reason}")
            return on.StagingBranchesRemoved()
        if isinstance(command, do.FindLeftovers) and isinstance(error, Forbidden):
            self._note(f"perago could not look for staging branches of earlier deliveries. {event.reason}")
            return on.LeftoversFound((), complete=False)
        if isinstance(command, do.RemoveDirectory):
            self._note(f"The attempt directory was not removed. {event.reason}")
            return on.DirectoryRemoved()
        if isinstance(command, do.Merge) and not isinstance(error, ServiceError):
            return on.MergeUnclear(event.reason)
        return event

    def _record(self, state: State, reached: Step) -> AttemptRecord:
        store_notes = self._runtime.store_notes()
        return AttemptRecord(
            delivery=self._delivery,
            report=state.report,
            lost_reason=state.problem if state.step is Step.LOST else None,
            reached=reached,
            steps=tuple(self._steps),
            findings=self._findings,
            changes=self._local.changes if self._local else Changes(),
            input_ref=(state.workspace.ref or None) if state.workspace else None,
            published_commit=state.publication,
            adopted_commit=state.adopts,
            changed_since_adopted=state.changed_since,
            rebased_onto=state.rebased_onto,
            lost_races=state.lost_races,
            fence_refusals=self._publisher.fence_refusals if self._publisher else 0,
            superseded_commits=state.base.stale if state.base and state.publication else (),
            fence=state.fence.state,
            brought_fence=state.fence.is_new and state.publication is not None,
            left_files=self._left_files,
            objects=self._local.total_objects if self._local else 0,
            from_cache=self._publisher.from_cache if self._publisher else 0,
            cache_damaged=store_notes.damaged,
            hand_back=(self._hand_back or state.hand_back) and state.report is not None,
            waits=state.hand_back,
            notes=(*self._notes, *store_notes.texts, *(self._local.unread if self._local else ())),
            ignored_params=self._ignored,
            metrics=self._measurements.all(),
            failed_step=self._failed_step,
            error_type=self._error_type,
        )

    # ------------------------------------------------------------------------ the commands

    def validate_input(self, _: do.ValidateInput) -> on.Event:
        """Check the payload, and whether this worker may work on its branch."""
        if self._delivery.external_input:
            return on.CommandFailed(_EXTERNAL, terminal=True)
        if self._delivery.input_is_too_deep:
            return on.CommandFailed(f"Invalid input: it {TOO_DEEP}", terminal=True)
        try:
            if self._task.workspace is not None and HEAD_OF in self._delivery.input:
                asked = on.WorkspaceRef(*parse_head_request(self._delivery.input), ref="")
                return self._refused(asked) or on.InputAccepted(asked, params_sha256="")
            found = parse_input(self._task, self._delivery.input)
        except InvalidInput as error:
            return on.CommandFailed(f"Invalid input: {error}", terminal=True)
        self._params, self._ignored = found.params, found.ignored
        if found.ignored:
            self._note(f"{self._task.params_model.__name__} ignores these params: {', '.join(found.ignored)}")
        block = found.workspace
        if block is None:
            return on.InputAccepted(None, found.params_sha256)
        joined = block.refs if len(block.refs) > 1 else ()
        workspace = on.WorkspaceRef(block.repository, block.branch, "" if joined else block.refs[0], block.ref_key)
        if (refused := self._refused(workspace)) is not None:
            return refused
        is_read_only = self._task.workspace is not None and self._task.workspace.read_only
        if self._publisher is not None and not (joined or is_read_only or self._delivery.retried):
            self._publisher.read_ahead(workspace)
        return on.InputAccepted(workspace, found.params_sha256, joined)

    def _refused(self, workspace: on.WorkspaceRef) -> on.CommandFailed | None:
        if self._runtime.limits.allows(workspace.repository, workspace.branch):
            return None
        place = quoted(workspace.repository), quoted(workspace.branch)
        return on.CommandFailed(_FORBIDDEN.format(*place), terminal=True)

    def check_guardrails(self, command: do.CheckGuardrails) -> on.Event:
        """Judge the listing or the tree, and keep the verdicts."""
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

    def run_function(self, _: do.RunFunction) -> on.Event:
        """Call the author's function in the attempt directory."""
        if self._params is None:
            raise ValueError("the input has not been validated")
        runtime = self._runtime
        root, later = runtime.workspace_root, runtime.later
        with attempt_directory(self._local, root, self._delivery, self._note, later) as made:
            self._is_called = True
            place = made.workspace if self._local else None
            called = runtime.call(self._task, place, self._params, self._current((made.current, made.temporary)))
            self._left_files = left_files(made.current, self._task)
        left = left_words(self._left_files, self._task)
        if left and self._runtime.limits.fail_on_left_files and isinstance(called, Returned):
            return on.CommandFailed(f"{left} {what_to_do(self._task)}", terminal=False)
        self._note(left)
        if isinstance(called, Raised):
            self._error_type = called.error_type
            where = f"; the attempt ran below {root}" if called.kind == "error" and says_full(called.message) else ""
            return on.CommandFailed(called.message + where, terminal=called.kind == "terminal")
        self._returned = called.value
        return on.FunctionReturned()

    def validate_result(self, _: do.ValidateResult) -> on.Event:
        """Convert the result to JSON."""
        try:
            return on.ResultAccepted(dump_result(self._task, self._returned, self._runtime.limits.max_result_bytes))
        except InvalidResult as error:
            return on.CommandFailed(f"Invalid result: {error}", terminal=True)

    def validate_recorded_result(self, command: do.ValidateRecordedResult) -> on.Event:
        """Check a result that an earlier attempt has recorded."""
        try:
            recorded = json.loads(command.recorded)
            check_recorded_result(self._task, recorded)
        except (ValueError, RecursionError, InvalidResult) as error:
            return on.CommandFailed(
                f"An earlier attempt of this step has published, but the result that it recorded cannot be adopted: "
                f"{error}. Nothing is published twice: check the head of the branch and continue from it.",
                terminal=True,
            )
        return on.ResultAccepted(recorded)

    def detect_changes(self, _: do.DetectChanges) -> on.Event:
        """Name the paths that the function has changed."""
        changes, prefix = self._workspace.detect_changes(), self._workspace.key_prefix
        return on.ChangesDetected(
            tuple(file.path for file in changes.added),
            tuple(file.path for file in changes.changed),
            tuple(file.path for file in changes.removed),
            sum(file.size for file in (*changes.added, *changes.changed)),
            frozenset(prefix + file.path for file in changes.changed if not file.is_certain),
        )

    def remove_directory(self, _: do.RemoveDirectory) -> on.Event:
        """Remove the attempt directory."""
        if self._workspace.is_small:
            self._clean(self._workspace.remove)
        else:
            self._note(self._workspace.remove())
        return on.DirectoryRemoved()

    # ------------------------------------------------------------------------------ parts

    def _clean(self, clean_up: CleanUp) -> None:
        """Do a clean-up. After a publication, nothing depends on it, so its report need not wait for it."""
        if self._is_published and self._runtime.later is not None:
            self._runtime.later(clean_up)
        else:
            self._note(clean_up())

    def _current(self, scratch: tuple[Path, Path]) -> Current:
        """Return the attempt for `current()`, with the functions that take its reports."""
        delivery, observer = self._delivery, self._runtime.observer
        current = Current(
            workflow_id=delivery.workflow_id,
            task_id=delivery.task_id,
            task_name=delivery.task_name,
            reference_name=delivery.reference_name,
            iteration=delivery.iteration,
            retry_count=delivery.retry_count,
            worker_id=self._runtime.worker_id,
        )
        return with_hooks(
            current,
            log=observer.log,
            progress=observer.progress,
            measure=self._measurements,
            scratch=scratch,
            environment={"TRACEPARENT": delivery.trace.traceparent} if delivery.trace else {},
        )

    @property
    def _workspace(self) -> LocalWorkspace:
        if self._local is None:
            raise ValueError("this task has no workspace")
        return self._local

    def _note(self, problem: str | None) -> None:
        if problem is not None:
            self._notes.append(problem)
