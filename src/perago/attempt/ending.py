"""The end of every attempt, however it goes: clean-up, and the report."""

from __future__ import annotations

from perago.attempt import commands as do
from perago.attempt import events as on
from perago.attempt import outcome
from perago.attempt.state import State
from perago.attempt.steps import Step

LATE_ANSWERS = 2
REPORT_TRIES = 150
"""More than an hour with the driver's pauses, and more than any response time-out (`perago.driver.reporting`)."""

Next = tuple[State, do.Command | None]


def published(state: State, commit_id: str) -> Next:
    """Success: `commit_id` now holds the workspace."""
    state = state.at(Step.PUBLISHED, publication=commit_id)
    return clean(state.evolve(report=outcome.completed(state)))


def fail(state: State, reason: str, *, terminal: bool) -> Next:
    """Failure, for the reason given."""
    return clean(state.at(Step.FAILED, report=outcome.failed(state, reason, terminal=terminal)))


def end_by_defect(state: State, reason: str, *, is_merge: bool) -> Next:
    """Fail because the protocol itself could not continue. An outcome that is known already stays.

    Args:
        state: before the event that could not be handled.
        reason: a complete sentence without its full stop.
        is_merge: the event answers a merge, which may have taken place.
    """
    if state.step in (Step.PUBLISHED, Step.FAILED, Step.LOST):
        return state, None
    if is_merge:
        open_merge = state.open_merge or outcome.unanswered_merge(state)
        state = state.evolve(open_merge=open_merge, merge_unanswered=True)
    return fail(state, f"{reason}.", terminal=False)


def clean(state: State) -> Next:
    """Remove what the attempt made for itself, and what earlier deliveries of its step left, but no staging branch
    whose merge may still arrive: it is all that tells a rerun or a restart of that. Who has published has shut all of
    these merges out."""
    own = () if state.staging_branch is None or state.merge_unanswered else (state.staging_branch,)
    branches = own + (state.leftovers if state.step is Step.PUBLISHED else ())
    if branches:
        return state, do.RemoveStagingBranches(state.ref.repository, branches)
    return staging_branches_removed(state, None)


def staging_branches_removed(state: State, _: on.StagingBranchesRemoved | None) -> Next:
    """The directory is next."""
    if state.has_directory:
        return state, do.RemoveDirectory()
    return directory_removed(state, None)


def directory_removed(state: State, _: on.DirectoryRemoved | None) -> Next:
    """Only the report is left, if there is one to send."""
    return (state, None) if state.step is Step.LOST else cleaned(state)


def cleaned(state: State) -> Next:
    """Ask once more whether Conductor waits for the report."""
    return state.at(Step.CLEANED), do.CheckDelivery()


def check_again(state: State, event: on.DeliveryConfirmed | on.BranchRead) -> Next | None:
    """An answer that came late is old news, so the delivery check is made again; None: go on. A process can be stopped
    anywhere, for any time."""
    if not event.late or state.late_answers >= LATE_ANSWERS:
        return None
    return state.evolve(late_answers=state.late_answers + 1), do.CheckDelivery()


def confirmed_before_report(state: State, event: on.DeliveryConfirmed) -> Next:
    """Report, a bounded number of times; not on old news, for Conductor takes a report by the task's id alone, also for
    a later delivery."""
    if state.report is None:
        raise ValueError("the outcome of this attempt is open")
    if (again := check_again(state, event)) is not None:
        return again
    if state.reports_sent >= REPORT_TRIES:
        return state, None
    return state.evolve(reports_sent=state.reports_sent + 1, late_answers=0), do.SendReport(state.report)


def report_unclear(state: State, event: on.ReportUnclear) -> Next:
    """The delivery check tells whether it arrived."""
    return state.evolve(problem=event.detail, report_open=state.report_open or event.sent), do.CheckDelivery()


def report_sent(state: State, _: on.ReportSent) -> Next:
    """The attempt is over."""
    return state.at(Step.REPORTED, problem=None), None


def command_failed(state: State, event: on.CommandFailed) -> Next:
    """Before the outcome is known, a command that fails is the outcome. Afterwards only the report is left; clean-up
    does not fail, it leaves something behind."""
    if state.step is Step.CLEANED:
        return state.evolve(problem=event.reason), None
    if state.step in (Step.PUBLISHED, Step.FAILED, Step.LOST):
        raise ValueError(f"CommandFailed cannot happen to an attempt that is {state.step}")
    return fail(state, event.reason, terminal=event.terminal)


def delivery_lost(state: State, _: on.DeliveryLost) -> Next:
    """Conductor no longer waiting is what success looks like after a report whose answer was lost."""
    if state.step is Step.CLEANED and state.report_open:
        return state.at(Step.REPORTED, problem=None), None
    was_cleaned = state.step is Step.CLEANED
    state = state.at(Step.LOST, report=None, problem=outcome.lost(state))
    return (state, None) if was_cleaned else clean(state)
