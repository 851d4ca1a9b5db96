"""Run the attempts of a case on services in memory, and compare them with the declaration or the recording of the
case."""

from __future__ import annotations

import itertools
import os
import sys
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any

import pytest
from pydantic import BaseModel

from perago.authoring import Task
from perago.authoring.context import Current, hooks_of
from perago.driver import AttemptRecord, Raised, Returned
from perago.driver.function import what_to_do
from perago.guardrails.require_glob import RequireGlob
from perago.ports import TaskStatus
from perago.settings.mask import REDACTED
from perago.taskdef.payload import InvalidResult, check_recorded_result
from perago.testing.outcome import Outcome
from perago.testing.samples import round_trip_problem
from perago.testing.services import BRANCH, REPOSITORY, InMemoryServices, call_and_note
from perago.text import listing, quoted, short
from perago.trees.cases import CaseFailed, Cause, Record, RunCase, read_tree
from perago.trees.differences import AttemptResult
from pytest_perago.attempts import NOT_COMPLETED, CaseAttempts, FaultCase
from pytest_perago.confinement import without_plugin_frames
from pytest_perago.observation import (
    Audit,
    NearbyFiles,
    Output,
    hidden_files,
    may_outlive,
    noting_questions,
    printed,
    remember_outliving,
    secrets_of,
)
from pytest_perago.session import Session
from pytest_perago.snapshots import compare_with_record
from pytest_perago.user_code import Memory

_EXPECTED = {
    "completed": "COMPLETED",
    "pre": "FAILED_WITH_TERMINAL_ERROR by a pre guardrail",
    "post": "FAILED by a post guardrail",
    "failed": "FAILED by the function",
    "terminal": "FAILED_WITH_TERMINAL_ERROR by the function or its params",
}


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt of a case. `before` and `after` are the committed trees, by their keys in the repository."""

    of: CaseAttempts
    outcome: Outcome
    output: Output | None
    """Its report and publication; None if it did not complete."""
    ended: Returned | Raised | None
    """The end of the function; None if it was not called."""
    before: frozenset[str]
    after: frozenset[str]

    @property
    def record(self) -> AttemptRecord:
        """Everything that the driver knows about it."""
        return self.outcome._record

    @property
    def ending(self) -> str:
        """Its end, in the words of `Example.expect`; empty for a lost delivery."""
        report = self.record.report
        if report is None:
            return ""
        if report.status is TaskStatus.COMPLETED:
            return "completed"
        phases = {finding.message.partition(" ")[0] for finding in self.record.findings if not finding.satisfied}
        if report.status is TaskStatus.FAILED_WITH_TERMINAL_ERROR:
            return "pre" if "pre" in phases else "terminal"
        return "post" if "post" in phases else "failed"

    @property
    def _reason(self) -> str:
        report = self.record.report
        return (report.reason or "") if report else ""

    def result(self) -> AttemptResult:
        """Return the outcome of the attempt, for a comparison with the recorded one."""
        spec = self.of.task.workspace
        if self.output is None:
            return AttemptResult(self.ending, self._reason)
        prefix = spec.key_prefix if spec else ""
        files = {path: self.output.files[prefix + path] for path in self.outcome.changed_files}
        return AttemptResult(self.ending, "", self.output.result, files, frozenset(self.outcome.removed_files))

    def failed(self, cause: Cause, summary: str, *facts: tuple[str, str]) -> CaseFailed:
        """Build a failure with all that is known about the attempt. `words` follow the label of the case."""
        changes = self.record.changes
        signed = (("+", changes.added), ("~", changes.changed), ("-", changes.removed))
        files = [f"{sign} {file.path}" for sign, changed in signed for file in changed]
        texts = "".join(text for _, text in facts)
        known = [*facts, *(("rule", message) for message in self.outcome.violations if message not in texts)]
        known += [(label, "\n".join(lines)) for label, lines in (("files", files), ("log", self.outcome.log)) if lines]
        tree = self.of.tree if self.of.task.workspace else None
        details = [without_plugin_frames(self.ended.traceback)] if isinstance(self.ended, Raised) else ()
        return CaseFailed(cause, f"case {self.of.case.label!r}{summary}", *known, tree=tree, details=details)

    def check(self) -> None:
        """Check that it ended as its case declares.

        Raises:
            CaseFailed: it ended differently.
            RuntimeError: the services have another state than the attempt reported, which is not a fault of the task.
        """
        report, expect = self.record.report, self.of.case.expect
        if report is None:
            raise RuntimeError(f"the attempt was lost: {self.record.lost_reason}")
        if self.ending != expect or self._reason.startswith("Invalid result"):
            status = f"{report.status}: {report.reason}" if report.reason else str(report.status)
            raise self.failed(*self._misjudged(), ("expected", _EXPECTED[expect]), ("actual", status))
        if self.record.left_files:
            summary = ": the function wrote to its current directory, which is not published"
            written = listing([quoted(path) for path in self.record.left_files])
            raise self.failed(Cause.MISTAKE, summary, ("written", written), ("fix", what_to_do(self.of.task)))
        if self.output is not None:
            self._check_result(self.output.result)
        self._check_files()

    def _misjudged(self) -> tuple[Cause, str]:
        """Return the cause of another ending, and a description."""
        if self._reason.startswith("Invalid result"):
            return Cause.CONTRACT, ": the result is not valid"
        broken = [finding for finding in self.record.findings if not finding.satisfied]
        if broken and all(finding.is_defect for finding in broken):
            return Cause.MISTAKE, ": a guardrail gave no verdict"
        if self.ending in ("pre", "post"):
            return Cause.RULE, f": a {self.ending} guardrail is violated"
        cause = Cause.CONTRACT if self._reason.startswith("Invalid input") else Cause.MISTAKE
        if self.ending == "completed":
            return cause, f" completed, but the case expects {self.of.case.expect!r}"
        if isinstance(self.ended, Raised):
            return cause, f": the function raised {self.ended.message.partition(chr(10))[0]}"
        return cause, f" ended as {self.ending!r}, not as {self.of.case.expect!r}"

    def _check_result(self, result: Any) -> None:
        expected = self.of.case.result
        if expected is not None and result != expected:
            facts = ("expected", repr(expected)), ("actual", repr(result))
            raise self.failed(Cause.MISTAKE, " has a different result than declared", *facts)
        problem = None
        try:
            check_recorded_result(self.of.task, result)
            if isinstance(self.ended, Returned):
                problem = round_trip_problem(self.of.task.result_model, self.ended.value, by_alias=False)
        except InvalidResult as error:
            problem = f"no later attempt could adopt it: {error}"
        if problem is not None:
            raise self.failed(Cause.CONTRACT, ": the result does not survive JSON", ("actual", problem))

    def _check_files(self) -> None:
        outcome, case, spec = self.outcome, self.of.case, self.of.task.workspace
        written, removed = outcome.changed_files, outcome.removed_files
        for word, declared, actual in (("published", case.published, written), ("removed", case.removed, removed)):
            if declared is not None and declared != actual:
                facts = ("expected", _listed(declared)), ("actual", _listed(actual))
                raise self.failed(Cause.MISTAKE, f" has different {word} files than declared", *facts)
        expected = self.before
        if self.ending == "completed" and spec is not None and not spec.read_only:
            added = {spec.key_prefix + file.path for file in outcome.changes.added}
            expected = (self.before | added) - {spec.key_prefix + path for path in removed}
        if self.after != expected:
            present, promised = (_listed(sorted(files)) for files in (self.after, expected))
            raise RuntimeError(f"the branch holds {present}, but should hold {promised}")


def _listed(paths: Iterable[str]) -> str:
    return ", ".join(paths) or "none"


_XDIST = "PYTEST_XDIST_WORKER"
_MOST_NAMED = 10
_RESPONSE_SECONDS = 60
CONTROLS: dict[str, int | str] = {
    "retryCount": 1,
    "retryLogic": "FIXED",
    **dict.fromkeys(("retryDelaySeconds", "backoffJitterMs", "timeoutSeconds", "totalTimeoutSeconds"), 0),
    "responseTimeoutSeconds": _RESPONSE_SECONDS,
}
"""Controls that replace those of the task, so that the retry after a lost report follows immediately."""


def run_case(task: Task, case: RunCase, session: Session, record: Record | None = None) -> None:
    """Run the case twice, each time on its own services.

    Args:
        task: the task.
        case: params, tree and expected outcome.
        session: has the time limit of both attempts together.
        record: the outcome of a recorded case.

    Raises:
        CaseFailed: it did not end as declared, behaved differently the second time, published twice, or took too long.
    """
    run = _Run(task, case, session, record)
    try:
        with run.watch.case(case.label):
            run.first_attempt_after_other_tests()
            run.check_nearby_files()
            run.second_attempt_with_a_lost_report()
            run.check_nearby_files()
            run.check_equal_calls()
            run.check_that_nothing_outlives_the_attempt()
    except CaseFailed as failure:
        raise (failure.with_traceback(run.frames) if run.frames else failure) from None


def run_fewest(task: Task, case: RunCase, rule: RequireGlob, matched: Sequence[str], session: Session) -> None:
    """Run a case with the fewest files that a rule accepts.

    Raises:
        CaseFailed: the function fails, other than by `TaskFailed` and `TaskTerminalError`.
    """
    failure = _failure_without(task, case, matched[rule.min_count :], session)
    if failure is None:
        return
    numbers = range(rule.min_count + 1, len(matched) + 1)
    enough = next((n for n in numbers if _failure_without(task, case, matched[n:], session) is None), None)
    if enough is None:
        pytest.skip(NOT_COMPLETED)
    problem = failure.summary.partition(": ")[2]
    failure.summary = f"no case has as few files as {rule} allows; with so few, {problem or 'it fails'}"
    otherwise = "or let the function end the task with TaskTerminalError"
    failure.facts += (("fix", f"write min_count={enough}, with which it completes; {otherwise}"),)
    failure.args = (failure.summary,)
    raise failure


def _failure_without(task: Task, case: RunCase, paths: Sequence[str], session: Session) -> CaseFailed | None:
    tree = {path: content for path, content in dict(read_tree(case.tree)).items() if path not in paths}
    label = f"{case.label} without {listing(list(paths), 3)}"
    run = _Run(task, replace(case, label=label, tree=tree, result=None, published=None), session, None)
    return run.failure_of_the_function()


class _Run(CaseAttempts):
    def __init__(self, task: Task, case: RunCase, session: Session, record: Record | None) -> None:
        super().__init__(task, case, session.watch())
        self.frames: TracebackType | None = None
        """The frames of the last error that the function raised, for a debugger. They are cleared, because they would
        keep objects alive."""
        self._session = session
        self._record = record
        self._ended: Returned | Raised | None = None
        self._processes: list[str] = []
        self._secrets: tuple[tuple[str, str], ...] = ()
        self._printed: list[str] = []
        self._memory = Memory(task.module)
        self._outputs: list[Output | None] = []
        self._nearby: list[tuple[NearbyFiles, dict[Path, bool]]] = []
        self._audits: list[Audit] = []

    def first_attempt_after_other_tests(self) -> None:
        """Run the first attempt. If it fails because of state that other tests have left in the module, report that."""
        former = self._session.memory(self.task.module)
        changes = former.changes()
        try:
            self.first_attempt()
        except CaseFailed as failure:
            if not changes or self.watch.stuck:
                raise
            former.restore()
            try:
                self.first_attempt()
            except CaseFailed:
                raise failure from None
            problem = failure.summary.removeprefix(f"case {self.case.label!r}").removeprefix(":").strip()
            summary = f"it fails only after other tests of the task, so the module keeps state between calls; {problem}"
            facts = ("state", "\n".join(changes)), *failure.facts
            raise self.failed(summary, *facts, cause=Cause.CONTRACT, needs_others=True) from None

    def first_attempt(self) -> None:
        """Run a plain attempt in a fresh repository."""
        with self.started(self._call) as services:
            attempt = self._attempt(services)
        self._outputs.append(attempt.output)
        if self._record is not None:
            self.case = self._compared(self._record, attempt.result())
        attempt.check()
        self._check_secrets(attempt)
        outcome = attempt.outcome
        if outcome.status is not (outcome._record.report.status if outcome._record.report else None):
            raise RuntimeError(f"the report did not reach Conductor: {outcome._delivered}")

    def failure_of_the_function(self) -> CaseFailed | None:
        """Run one attempt. Return its failure, unless a `pre` guardrail or the function itself refuses the input."""
        try:
            with self.watch.case(self.case.label), self.started(self._call) as services:
                attempt = self._attempt(services)
                is_declined = self._ended is None or (isinstance(self._ended, Raised) and self._ended.kind != "error")
                if attempt.ending != "completed" and not is_declined:
                    attempt.check()
        except CaseFailed as failure:
            return failure
        return None

    def second_attempt_with_a_lost_report(self) -> None:
        """Run a second attempt in the same process. If it publishes, its report is lost, and Conductor delivers the
        task again."""
        with self.started(self._call, CONTROLS) as services:
            attempt = self._attempt(services, report=False)
            self._outputs.append(attempt.output)
            self._check_same_ending(attempt)
            record = attempt.record
            if record.input_ref is not None and record.published_commit not in (None, record.input_ref):
                self._check_published_once(services, record.input_ref, str(record.published_commit))

    def check_nearby_files(self) -> None:
        """Refuse files that a call wrote next to its workspace, because they are not published. It runs after each
        attempt: files that can belong to another process must come from both calls."""
        if not self._nearby:
            return
        files, first = self._nearby[0]
        repeat = self._nearby[1][1] if len(self._nearby) > 1 else {}
        paths = files.confirmed(first, repeat, is_alone=_XDIST not in os.environ)
        if paths:
            what, place = "files, and only a workspace is published", "to a store, or give the task a workspace"
            if self.task.workspace is not None:
                what, place = "outside of its workspace, and only the workspace is published", "below `workspace`"
            raise self.failed(
                f"the function wrote {what}",
                ("written", "\n".join(map(files.shown, paths[:_MOST_NAMED]))),
                ("fix", f"write {place}; temporary files belong in a directory of `tempfile`"),
            )

    def check_equal_calls(self) -> None:
        """Decide whether the memory of the module is the reason for a different second attempt.

        It is, if two calls with the initial memory are equal and one with a later memory differs. Random numbers and
        time make calls differ with any memory, and are not a reason to complain.
        """
        first, second = self._outputs
        changes = self._memory.changes()
        if first == second or not changes:
            return
        self._memory.restore()
        fresh, later = self._next_output(), self._next_output()
        self._memory.restore()
        if fresh == self._next_output() != later:
            nothing = Output(None, {})
            summary = "the second run in the same process had another output than the first"
            facts = ("state", "\n".join(changes)), *(first or nothing).difference(second or nothing)
            raise self.failed(f"{summary}, so the module keeps state between calls", *facts, cause=Cause.CONTRACT)

    def check_that_nothing_outlives_the_attempt(self) -> None:
        """Compare calls with the files outside of the attempt and calls without them.

        It decides the same on a machine where an earlier run has left these files, and on one where none has.
        """
        files = self._outside_files(everywhere=self._outputs[0] != self._outputs[-1])
        if not files:
            return
        case = FaultCase(self.task, self.case, self.watch, memory=self._memory)
        try:
            with hidden_files(files):
                first = case.first.output  # it decides on the conditions
        except pytest.skip.Exception:
            return
        with_files = case.call_again().output

        def without(paths: list[Path]) -> Output:
            with hidden_files(paths):
                return case.call_again().output

        absent = without(files)
        if with_files == absent or absent != first or case.call_again().output != with_files:
            return
        if len(files) > 1:
            files = [path for path in files if without([path]) == absent] or files
        remember_outliving(files)
        shown = listing([quoted(str(path)) for path in files], 3)
        raise self.failed(
            f"something outlives the attempt: with {shown} the function leaves something else than without it",
            *absent.difference(with_files, "without", "with"),
            ("fix", "keep what a later attempt must know in the workspace: another worker does not have this file"),
            cause=Cause.CONTRACT,
        )

    def _outside_files(self, *, everywhere: bool) -> list[Path]:
        project = [
            self._session.settings.root,
            Path(self.task.file).parent,
            *(Path(directory) for directory in sys.path if directory),
        ]
        return may_outlive(self._audits, project, everywhere=everywhere)

    def _check_secrets(self, attempt: Attempt) -> None:
        """Refuse a function that prints or logs a secret of its params."""
        lines = ["".join(self._printed), *attempt.outcome.log]
        for name, secret in self._secrets:
            line = next((line for text in lines for line in text.splitlines() if secret in line), None)
            if line is not None:
                stars = "print the param itself, which shows stars"
                raise self.failed(
                    f"the function prints or logs {name}, which is a secret",
                    ("line", line.replace(secret, REDACTED)),
                    ("fix", f"{stars}; call get_secret_value() only where the secret is used"),
                )

    def _check_same_ending(self, attempt: Attempt) -> None:
        try:
            attempt.check()
        except CaseFailed as failure:
            failure.args = (failure.summary,)
            changes = self._memory.changes()
            files = [quoted(str(path)) for path in self._outside_files(everywhere=True)]
            reason = " by chance, or because of state outside of the module"
            if changes:
                reason = ", so the module keeps state between calls"
            elif files:
                reason = f", because something outlives the attempt: {listing(files, 3)}"
            failure.summary = f"the second run in the same process ended differently{reason}; {failure.summary}"
            failure.facts += tuple(("state", change) for change in changes)
            failure.cause = Cause.CONTRACT
            raise

    def _check_published_once(self, services: InMemoryServices, ref: str, published: str) -> None:
        """Check that the next attempt adopts the publication or refuses it by name, and never publishes again."""
        tree = self.committed(services)
        services.clock.advance(_RESPONSE_SECONDS + 1)
        services.conductor.sweep()
        services.clock.advance(1)
        repeat = services.attempt(self.task.function)
        commits = services.lakefs.history(REPOSITORY, BRANCH, until=ref, limit=100)
        trees = [services.lakefs.get_commit(REPOSITORY, ref), *reversed(commits)]
        changing = sum(new.meta_range_id != old.meta_range_id for old, new in itertools.pairwise(trees))
        is_named = repeat.status is TaskStatus.COMPLETED or short(published) in (repeat.reason or "")
        if changing != 1 or self.committed(services) != tree or not is_named:
            raise RuntimeError(
                f"after a lost report the task published {changing} times; the next attempt ended as {repeat.status}: "
                f"{repeat.reason}"
            )

    def _compared(self, record: Record, now: AttemptResult) -> RunCase:
        """Compare the outcome with the record, or update the record. Return the case with the current record.

        Raises:
            CaseFailed: the outcome differs, and must not be recorded.
        """
        tree = {path: file for path, file in self.tree.items() if isinstance(file, bytes)}

        def repeat() -> AttemptResult:
            with self.started(self._call) as services:
                return self._attempt(services).result()

        return compare_with_record(self._session, self.case, record, now, tree, repeat)

    def _next_output(self) -> Output | None:
        """Return the output of one more plain attempt."""
        with self.started(self._call) as services:
            return self.published(services, services.attempt(self.task.function)._record)

    def _attempt(self, services: InMemoryServices, *, report: bool = True) -> Attempt:
        """Run an attempt, and report it.

        Raises:
            CaseFailed: the function left processes running.
        """
        before = frozenset(self.committed(services))
        outcome = services.attempt(self.task.function, report=report)
        output, after = self.published(services, outcome._record), frozenset(self.committed(services))
        attempt = Attempt(self, outcome, output, self._ended, before, after)
        if self._processes:
            summary = f": the function left processes running: {listing(list(self._processes), 5)}"
            what_now = "perago ended them, as a worker would; wait for them in the function"
            raise attempt.failed(Cause.MISTAKE, summary, ("what now", what_now))
        return attempt

    def _call(self, task: Task, workspace: Path | None, params: BaseModel, current: Current) -> Returned | Raised:
        """Call the function within the limit, and keep how it ended."""

        def keep_frames(error: BaseException) -> None:
            traceback = error.__traceback__
            if self._session.settings.debugging and traceback is not None:
                own = traceback.tb_next  # without the two that called the function
                self.frames = own and own.tb_next

        self._ended = self.frames = None
        nearby = NearbyFiles(workspace)
        self._secrets = tuple(secrets_of(params))
        listening: AbstractContextManager[list[str]] = printed() if self._secrets else nullcontext([])
        audit = Audit([workspace, *(hooks_of(current).scratch or ())])
        self._audits.append(audit)

        def function(**arguments: Any) -> Any:
            with audit, noting_questions(audit):  # around nothing but user code
                return task.function(**arguments)

        with listening as self._printed, self.watch.task_function() as self._processes:
            watched = replace(task, function=function)
            self._ended = call_and_note(watched, workspace, params, current, on_error=keep_frames)
        self._nearby.append((nearby, nearby.differences()))
        return self._ended
