"""The end of every attempt: the reasons of refusals and failures, the clean-up, and the report.

The report is a separate state machine, `begin_report` and `advance_report`: the supervisor sends it, not the process of
the attempt, and it does not need the state of the attempt.

The server silently cuts reasons at 500 characters, so the most useful part comes first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from perago.attempt import commands as do
from perago.attempt import events as on
from perago.attempt import refusals
from perago.attempt.refusals import Check, Refusal, described, shortened
from perago.attempt.state import State, Step
from perago.ports import Commit, Report, TaskStatus
from perago.text import listing, short

REASON_LIMIT = 500
_CONFLICTS_NAMED = 3
_STALE_NAMED = 3


def completed(state: State) -> Report:
    """Build the report of a success. If the input only asks for the newest commit of a branch, there is no result."""
    is_run = state.workspace is None or state.params_sha256
    output: dict[str, Any] = {"result": state.result} if is_run else {}
    if state.workspace is not None:
        workspace = state.workspace
        block = {"repository": workspace.repository, "branch": workspace.branch, workspace.ref_key: "commit"}
        output = {"workspace": {**block, "ref": state.publication}, **output}
    return Report(TaskStatus.COMPLETED, output)


def failed(state: State, reason: str, *, terminal: bool) -> Report:
    """Return a failure. `terminal`: a retry could not succeed, so Conductor must not try.

    A merge that may have taken place is mentioned, however long the reason is.
    """
    status = TaskStatus.FAILED_WITH_TERMINAL_ERROR if terminal else TaskStatus.FAILED
    return Report(status, reason=fitted(reason, f" {state.merge.open}" if state.merge.open else ""))


def fitted(reason: str, ending: str = "", limit: int = REASON_LIMIT) -> str:
    """Return `reason` and `ending` as text that every server can store, within the limit; an ellipsis shows where it
    was cut.

    Conductor counts UTF-16 units, as Java does. File names may hold surrogates, which UTF-8 cannot carry, and a NUL is
    refused by some databases.
    """
    reason, ending = _storable(reason), _storable(ending)
    room = limit - _length(ending)
    if _length(reason) > room:
        reason = reason.encode("utf-16-le")[: 2 * (room - 1)].decode("utf-16-le", errors="ignore") + "…"
    return reason + ending


def _storable(text: str) -> str:
    return text.encode(errors="backslashreplace").decode().replace("\0", "\\0")


def _length(text: str) -> int:
    return len(text.encode("utf-16-le")) // 2


def violated(violations: Sequence[str]) -> str:
    """Join guardrail violations to one reason."""
    return "; ".join(violations)


def conflict(state: State, commits: Mapping[str, str]) -> str:
    """Fail because others have changed keys that this attempt changes or reads. `commits` has the last known commit of
    each key. The reason names as many paths as fit."""
    found = {commit.id: commit for commit in (state.read.since if state.read else ())}

    def text(shown: int, commits: Mapping[str, str]) -> str:
        listed = []
        for key, problem in list(state.conflicts.items())[:shown]:
            commit = found.get(commits.get(key, ""))
            by = f" (commit {short(commit.id)} {described(commit)})" if commit else ""
            listed.append(f"{shortened(key)} {problem}{by}")
        more = f" and {len(state.conflicts) - shown} more" if len(state.conflicts) > shown else ""
        return refusals.CONFLICT.text(state, listed="; ".join(listed) + more)

    texts = (text(shown, commits) for shown in range(_CONFLICTS_NAMED, 0, -1))
    return next((each for each in texts if _length(_storable(each)) <= _room(state)), text(1, {}))


def _room(state: State) -> int:
    return REASON_LIMIT - (_length(state.merge.open) + 1 if state.merge.open else 0)


def violated_together(state: State, violations: Sequence[str]) -> str:
    """Fail because both changes together violate the post guardrails."""
    return fitted(violated(violations), refusals.VIOLATED_TOGETHER.text(state, violations=""), _room(state))


def cannot_undo(ref: on.WorkspaceRef, stale: Sequence[str], why: str, *, merge_open: bool = False) -> str:
    """Fail because publications of an earlier run cannot be undone after later changes of others."""
    commits = listing(list(map(short, stale)), _STALE_NAMED)
    nothing = "" if merge_open else refusals.NOTHING
    facts = {"repository": ref.repository, "branch": ref.branch, "commits": commits, "why": why}
    return refusals.CANNOT_UNDO.text(None, **facts, nothing=nothing)


def lost(state: State) -> str:
    """Conductor no longer waits for this delivery."""
    return fitted(refusals.LOST.text(state), f". {state.merge.open}" if state.merge.open else "")


def unanswered_merge(state: State) -> str:
    """Describe a merge whose answer did not arrive."""
    return refusals.UNANSWERED_MERGE.text(state)


def wrong_publication(state: State, commit: Commit) -> str | None:
    """Return how the merge commit differs from the intended publication, or None."""
    staging, expected = state.staged, state.expected_head
    if commit.parents[:1] not in [(parent,) for parent in (expected, *(state.merge.doubles or ()))]:
        found = short(commit.parents[0]) if commit.parents else "nothing"
        wrong = f"its first parent is {found}, not the expected head {short(expected)}: another commit came between"
    elif commit.meta_range_id != staging.meta_range_id:
        wrong = f"its tree differs from the staging commit {short(staging.id)}"
    else:
        return None
    return refusals.WRONG_PUBLICATION.text(state, commit=short(commit.id), wrong=wrong)


LATE_ANSWERS = 2
ENDED = (Step.PUBLISHED, Step.FAILED, Step.LOST)
"""The steps with a known outcome. Only the clean-up remains."""

Next = tuple[State, do.Command | None]


def published(state: State, commit_id: str) -> Next:
    """Success: `commit_id` now holds the workspace."""
    state = state.at(Step.PUBLISHED, publication=commit_id)
    return clean(state.evolve(report=completed(state)))


def fail(state: State, reason: str, *, terminal: bool) -> Next:
    """Failure, for the reason given."""
    return clean(state.at(Step.FAILED, report=failed(state, reason, terminal=terminal)))


def refuse(state: State, refusal: Refusal, **given: str) -> Next:
    """Fail for a declared reason. `given` has the values that only its message names."""
    return fail(state, refusal.text(state, **given), terminal=refusal.terminal)


def refuse_on(check: Check, state: State) -> Next | None:
    """Fail for the first refusal whose condition applies at this check. Return None if none applies."""
    for refusal in refusals.REFUSALS:
        if refusal.check == check and refusal.condition is not None:
            given = refusal.condition(state)
            if given is not None:
                return refuse(state, refusal, **given)
    return None


def end_by_defect(state: State, reason: str, *, is_merge: bool) -> Next:
    """Fail because the protocol could not continue. A known outcome stays.

    Args:
        state: before the event that could not be handled.
        reason: a complete sentence without its full stop.
        is_merge: the event answers a merge, which may have taken place.
    """
    if state.step in ENDED:
        return state, None
    if is_merge:
        open_merge = state.merge.open or unanswered_merge(state)
        state = state.evolve(merge=replace(state.merge, open=open_merge, unanswered=True))
    return fail(state, f"{reason}.", terminal=False)


def clean(state: State) -> Next:
    """Remove the attempt's staging branch and, after a publication, those of earlier deliveries of its step.

    A staging branch whose merge can still arrive stays, because only this branch shows that merge to a rerun or a
    restart. After a publication, no such merge can succeed."""
    own = () if state.staging.branch is None or state.merge.unanswered else (state.staging.branch,)
    branches = own + (state.staging.leftovers if state.step is Step.PUBLISHED else ())
    if branches:
        return state, do.RemoveStagingBranches(state.ref.repository, branches)
    return clean_directory(state)


def clean_directory(state: State) -> Next:
    """Remove the attempt directory, if there is one."""
    return (state, do.RemoveDirectory()) if state.has_directory else cleaned(state)


def cleaned(state: State) -> Next:
    """End the attempt. Only the report remains, if there is one."""
    return (state if state.step is Step.LOST else state.at(Step.CLEANED)), None


def check_again(state: State, event: on.DeliveryConfirmed | on.BranchRead) -> Next | None:
    """Repeat the delivery check if an answer came late, because a process can be paused anywhere, for any time. Return
    None to continue."""
    if not event.late or state.merge.late_answers >= LATE_ANSWERS:
        return None
    check = do.CheckDelivery(with_line=state.step is Step.PLANNED)
    return state.evolve(merge=replace(state.merge, late_answers=state.merge.late_answers + 1)), check


def command_failed(state: State, event: on.CommandFailed) -> Next:
    """Fail with the reason of the command. A failed clean-up does not fail the attempt."""
    if state.step in ENDED:
        raise ValueError(f"CommandFailed cannot happen to an attempt that is {state.step}")
    return fail(state, event.reason, terminal=event.terminal)


def delivery_lost(state: State, _: on.DeliveryLost) -> Next:
    """Clean up without a report, because Conductor no longer waits for the delivery."""
    return clean(state.at(Step.LOST, report=None, problem=lost(state)))


REPORT_TRIES = 150
"""More than an hour with the driver's retry delays, and more than any response timeout (`perago.driver.delivery`)."""


@dataclass(frozen=True, slots=True)
class Reporting:
    """The state of the report after the clean-up of an attempt."""

    report: Report
    step: Step = Step.CLEANED
    """`cleaned`, then `reported` or `lost`."""
    sent: int = 0
    """The number of times that the report was sent."""
    is_open: bool = False
    """Whether a report without an answer was sent, which may have arrived."""
    late_answers: int = 0
    """The number of late answers in a row, as in `State`."""
    problem: str | None = None
    """Why the delivery was lost, or why the report could not be delivered."""


def begin_report(report: Report) -> tuple[Reporting, do.Command | None]:
    """Begin with the question whether Conductor still waits for the report."""
    return Reporting(report), do.CheckDelivery()


def advance_report(state: Reporting, event: on.Event) -> tuple[Reporting, do.Command | None]:
    """Return the next state and its command. Without a command, the report has arrived, or is given up.

    The report is sent a limited number of times, each time right after a delivery check with a timely answer, because
    Conductor accepts a report by the task id alone, even for a later delivery. After a report without an answer, the
    delivery check shows whether it arrived.

    Raises:
        ValueError: the event cannot happen to a report.
    """
    match event:
        case on.DeliveryConfirmed(late):
            if late and state.late_answers < LATE_ANSWERS:
                return replace(state, late_answers=state.late_answers + 1), do.CheckDelivery()
            if state.sent >= REPORT_TRIES:
                return state, None
            return replace(state, sent=state.sent + 1, late_answers=0), do.SendReport(state.report)
        case on.ReportUnclear(detail, sent):
            return replace(state, problem=detail, is_open=state.is_open or sent), do.CheckDelivery()
        case on.ReportSent():
            return replace(state, step=Step.REPORTED, problem=None), None
        case on.DeliveryLost():  # also what success looks like after a report whose answer was lost
            arrived = replace(state, step=Step.REPORTED, problem=None)
            return arrived if state.is_open else replace(state, step=Step.LOST, problem=refusals.LOST.message), None
        case on.CommandFailed(reason):
            return replace(state, problem=reason), None
    raise ValueError(f"{type(event).__name__} cannot happen to a report")
