"""Whether an attempt ended as its case declares."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from perago.authoring import Task
from perago.driver import AttemptRecord, Raised, Returned
from perago.driver.scratch import what_to_do
from perago.ports import TaskStatus
from perago.taskdef.payload import InvalidResult, check_recorded_result
from perago.testing.cases import RunCase
from perago.testing.failures import CaseFailed, Cause
from perago.testing.round_trip import round_trip_problem
from perago.workspace.changes import Changes
from perago.workspace.text import listing, quoted
from pytest_perago.frames import without_plugin_frames

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

    task: Task
    case: RunCase
    tree: Mapping[str, str | bytes | None]
    record: AttemptRecord
    ended: Returned | Raised | None
    """How the function ended; None if it was not called."""
    log: tuple[str, ...]
    before: frozenset[str]
    after: frozenset[str]

    @property
    def ending(self) -> str:
        """How it ended, in the words of `Example.expect`; empty for a lost delivery."""
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
    def invalid_result(self) -> bool:
        """Whether the function returned something that cannot be reported."""
        return self._reason.startswith("Invalid result")

    @property
    def _reason(self) -> str:
        report = self.record.report
        return (report.reason or "") if report else ""

    def case_failed(self, cause: Cause, summary: str, *facts: tuple[str, str]) -> CaseFailed:
        """A failure with all that is known about the attempt."""
        known = [*facts, *_findings(self.record), *_changed(self.record.changes)]
        if self.log:
            known.append(("log", "\n".join(self.log)))
        return CaseFailed(
            cause,
            summary,
            facts=known,
            tree=self.tree if self.task.workspace else None,
            details=[without_plugin_frames(self.ended.traceback)] if isinstance(self.ended, Raised) else (),
        )


def check_attempt(attempt: Attempt) -> None:
    """Judge it.

    Raises:
        CaseFailed: it ended otherwise than declared.
        RuntimeError: the services hold something else than the attempt reported, which is no fault of the task.
    """
    record, case = attempt.record, attempt.case
    if record.report is None:
        raise RuntimeError(f"the attempt was lost: {record.lost_reason}")
    if attempt.ending != case.expect or attempt.invalid_result:
        status = f"{record.report.status}: {record.report.reason}" if record.report.reason else record.report.status
        raise attempt.case_failed(
            _cause(attempt),
            _summary(attempt),
            ("expected", _EXPECTED[case.expect]),
            ("actual", str(status)),
        )
    _check_left_files(attempt)
    if attempt.ending == "completed":
        _check_result(attempt)
    _check_files(attempt)
    _check_store(attempt)


def _cause(attempt: Attempt) -> Cause:
    reason = attempt.record.report.reason or "" if attempt.record.report else ""
    if reason.startswith(("Invalid result", "Invalid input")):
        return Cause.CONTRACT
    if attempt.ending in ("pre", "post"):
        return Cause.RULE
    return Cause.MISTAKE


def _summary(attempt: Attempt) -> str:
    label = f"case {attempt.case.label!r}"
    if attempt.invalid_result:
        return f"{label}: the result is not valid"
    if attempt.ending in ("pre", "post"):
        return f"{label}: a {attempt.ending} guardrail is violated"
    if attempt.ending == "completed":
        return f"{label} completed, but should not"
    if isinstance(attempt.ended, Raised):
        return f"{label}: the function raised {attempt.ended.message.partition(chr(10))[0]}"
    return f"{label} ended as {attempt.ending!r}, not as {attempt.case.expect!r}"


def _check_result(attempt: Attempt) -> None:
    report, expected = attempt.record.report, attempt.case.result
    result = report.output["result"] if report else None
    if expected is not None and result != expected:
        raise attempt.case_failed(
            Cause.MISTAKE,
            f"case {attempt.case.label!r} has another result than declared",
            ("expected", repr(expected)),
            ("actual", repr(result)),
        )
    problem = _lost_on_the_wire(attempt.task, attempt.ended, result)
    if problem is not None:
        raise attempt.case_failed(
            Cause.CONTRACT, f"case {attempt.case.label!r}: the result does not survive JSON", ("actual", problem)
        )


def _lost_on_the_wire(task: Task, ended: Returned | Raised | None, result: object) -> str | None:
    try:
        check_recorded_result(task, result)
    except InvalidResult as error:
        return f"no later attempt could adopt it: {error}"
    if isinstance(ended, Returned):
        return round_trip_problem(task.result_model, ended.value, by_alias=False)
    return None


def _check_left_files(attempt: Attempt) -> None:
    left = attempt.record.left_files
    if left:
        raise attempt.case_failed(
            Cause.MISTAKE,
            f"case {attempt.case.label!r}: the function wrote to its current directory, which nothing publishes",
            ("written", listing([quoted(path) for path in left])),
            ("fix", what_to_do(attempt.task)),
        )


def _check_files(attempt: Attempt) -> None:
    changes, case = attempt.record.changes, attempt.case
    written = tuple(sorted(file.path for file in (*changes.added, *changes.changed)))
    removed = tuple(file.path for file in changes.removed)
    for word, declared, actual in (("published", case.published, written), ("removed", case.removed, removed)):
        if declared is not None and declared != actual:
            raise attempt.case_failed(
                Cause.MISTAKE,
                f"case {case.label!r} has other files {word} than declared",
                ("expected", _listed(declared)),
                ("actual", _listed(actual)),
            )


def _check_store(attempt: Attempt) -> None:
    spec, changes = attempt.task.workspace, attempt.record.changes
    if spec is None:
        return
    expected = attempt.before
    if attempt.ending == "completed" and not spec.read_only:
        added = {spec.key_prefix + file.path for file in changes.added}
        removed = {spec.key_prefix + file.path for file in changes.removed}
        expected = (attempt.before | added) - removed
    if attempt.after != expected:
        raise RuntimeError(
            f"the branch holds {_listed(sorted(attempt.after))}, but should hold {_listed(sorted(expected))}"
        )


def _findings(record: AttemptRecord) -> Iterable[tuple[str, str]]:
    for finding in record.findings:
        if not finding.satisfied:
            yield "rule", finding.message


def _changed(changes: Changes) -> Iterable[tuple[str, str]]:
    parts = (("+", changes.added), ("~", changes.changed), ("-", changes.removed))
    lines = [f"{sign} {file.path}" for sign, files in parts for file in files]
    if lines:
        yield "files", "\n".join(lines)


def _listed(paths: Iterable[str]) -> str:
    return ", ".join(paths) or "none"
