"""The end of every attempt: the reasons of refusals and failures, the clean-up, and the report.

Reasons are cut at 500 characters by the server without a sign, so the most useful part comes first
(docs/design/contract.md 4).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from perago.attempt import commands as do
from perago.attempt import events as on
from perago.attempt.events import BranchRead, ChangesDetected
from perago.attempt.state import State, Step
from perago.ports import Commit, Report, TaskStatus

REASON_LIMIT = 500
_NAMED = 10
_NOTHING = "Nothing of this attempt was published. "
_CONFLICTS_NAMED = 3
_STALE_NAMED = 3
_PATH_LENGTH = 60
"""Characters of a path in a list of conflicts."""


def completed(state: State) -> Report:
    """Success, with the output of docs/design/contract.md 4."""
    output: dict[str, Any] = {"result": state.result}
    if state.workspace is not None:
        workspace = state.workspace
        block = {"repository": workspace.repository, "branch": workspace.branch, workspace.ref_key: "commit"}
        output = {"workspace": {**block, "ref": state.publication}, **output}
    return Report(TaskStatus.COMPLETED, output)


def failed(state: State, reason: str, *, terminal: bool) -> Report:
    """A failure. `terminal`: a retry could not succeed, so Conductor must not try.

    A merge that may have taken place is mentioned, however long the reason is.
    """
    status = TaskStatus.FAILED_WITH_TERMINAL_ERROR if terminal else TaskStatus.FAILED
    return Report(status, reason=fitted(reason, f" {state.open_merge}" if state.open_merge else ""))


def fitted(reason: str, ending: str = "", limit: int = REASON_LIMIT) -> str:
    """`reason` and `ending` as text that every server can store, within the limit; a sign shows where it was cut.

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


def short(commit_id: str) -> str:
    """A commit id as people read it."""
    return commit_id[:12]


def strange_id(what: str, text: str) -> str:
    """A later attempt would not recognize what an attempt with this id has published."""
    return (
        f"The {what} id {_shortened(text)} cannot be recorded in a commit: perago takes 1 to 255 letters (A-Z, a-z), "
        "digits and . _ : ~ + = @ -, but not . or .. alone. Nothing was done. Let the server make such ids, and start "
        "the workflow again."
    )


def violated(violations: Sequence[str]) -> str:
    """Guardrail violations as one reason."""
    return "; ".join(violations)


def moved_head(state: State, read: BranchRead) -> str:
    """Others have advanced the branch since the input ref (docs/design/contract.md 2, `on_moved_head`)."""
    ref, others = state.ref, read.since
    newest = others[0]
    more = f" and {len(others) - 1} more" if len(others) > 1 else ""
    return (
        f"Branch {ref.branch} of {ref.repository} has moved since the input ref {short(ref.ref)}: its head is "
        f"{short(newest.id)}, committed by {newest.committer or 'unknown'}: {_quoted(newest.message)}{more}. "
        f"{_nothing(state)}A retry would get the same ref; start the workflow from the new head. Tasks that publish "
        'side by side declare on_moved_head="rebase".'
    )


def conflict(state: State, commits: Mapping[str, str]) -> str:
    """Others have changed what this attempt has changed, too, or reads. `commits` has the last commit at each key, as
    far as it is known. It names as many paths as leave room for what follows them."""
    texts = (_conflict(state, commits, shown) for shown in range(_CONFLICTS_NAMED, 0, -1))
    return next((text for text in texts if _length(_storable(text)) <= _room(state)), _conflict(state, {}, 1))


def _conflict(state: State, commits: Mapping[str, str], shown: int) -> str:
    ref, found = state.ref, {commit.id: commit for commit in (state.read.since if state.read else ())}
    named = list(state.conflicts.items())[:shown]
    listed = "; ".join(f"{_shortened(key)} {problem}{_by(found.get(commits.get(key, '')))}" for key, problem in named)
    more = f" and {len(state.conflicts) - len(named)} more" if len(state.conflicts) > len(named) else ""
    return (
        f"Conflict with others on branch {ref.branch} of {ref.repository}: {listed}{more}. The input ref is "
        f"{short(ref.ref)}, the head {short(state.expected_head)}. Nothing was published, and a retry would meet the "
        "same; start the workflow from the new head."
    )


def _room(state: State) -> int:
    return REASON_LIMIT - (_length(state.open_merge) + 1 if state.open_merge else 0)


def _shortened(path: str) -> str:
    """A path of which the end tells most."""
    return repr(path) if len(path) <= _PATH_LENGTH else f"'…{repr(path[1 - _PATH_LENGTH :])[1:]}"


def _by(commit: Commit | None) -> str:
    if commit is None:
        return ""
    return f" (commit {short(commit.id)} by {commit.committer or 'unknown'}: {_quoted(commit.message)})"


def violated_together(state: State, violations: Sequence[str]) -> str:
    """Neither change alone violates the post guardrails, both together do."""
    ending = (
        f". This is the combination with what others have published to branch {state.ref.branch} since the input ref "
        f"{short(state.ref.ref)} (head {short(state.expected_head)}); what the function left satisfies the rules. "
        "Nothing was published."
    )
    return fitted(violated(violations), ending, _room(state))


def staging_differs(state: State, keys: Sequence[str]) -> str:
    """The staging commit was compared with the plan."""
    return (
        f"The staging commit {_staged(state)} of {state.ref.repository} does not hold exactly the changes of this "
        f"attempt: {named(keys)} differ from what it staged. {_nothing(state)}A retry stages the changes again."
    )


def staging_vanished(state: State) -> str:
    """Twice, lakeFS no longer had what this attempt put on a staging branch."""
    return (
        f"The changes of this attempt have vanished twice from staging branch {state.staging_branch} of "
        f"{state.ref.repository} before their commit. {_nothing(state)}Another client resets branches that begin "
        "with perago-, or lakeFS has failed over to a replica that lags behind. A retry stages the changes again."
    )


def cannot_undo(repository: str, stale: Sequence[str], why: str, *, merge_open: bool = False) -> str:
    """Publications of an earlier run that must stay, because of what others have done since."""
    more = f" and {len(stale) - _STALE_NAMED} more" if len(stale) > _STALE_NAMED else ""
    return (
        f"Commits {', '.join(map(short, stale[:_STALE_NAMED]))}{more} in {repository} are of an earlier run of this "
        f"workflow and cannot be undone: {why}. {'' if merge_open else _NOTHING}Check these commits, and start the "
        "workflow from the new head."
    )


def held_by_others(state: State, keys: Sequence[str]) -> str:
    """Living publications have found there what they wanted, and would lose it."""
    why = f"others have published the same at {named(keys)}, and this attempt would change it"
    stale = state.base.stale if state.base else ()
    return cannot_undo(state.ref.repository, stale, why, merge_open=state.open_merge is not None)


def retried(state: State) -> str:
    """Conductor hands out an attempt whose retry has taken its place."""
    return (
        f"Attempt {state.plan.delivery.task_id} has been retried since, and only the retry counts. Conductor hands "
        "such attempts out again when a workflow is rerun from a later step, and ignores how they end. Nothing was "
        "done; the workflow continues."
    )


def lost(state: State) -> str:
    """Conductor no longer waits for this delivery."""
    return fitted("Conductor no longer waits for this delivery", f". {state.open_merge}" if state.open_merge else "")


def foreign_staging(state: State, commit: Commit) -> str:
    """The staging branch holds something else than what this attempt put there."""
    return (
        f"The head {short(commit.id)} of staging branch {state.staging_branch} of {state.ref.repository} is not the "
        "commit of this attempt on the input ref: another client used the branch. Nothing was published."
    )


def unconfirmed(state: State, tries: int) -> str:
    """The merge was sent as often as it may be, and nothing tells that it took place."""
    return (
        f"The merge into branch {state.ref.branch} of {state.ref.repository} could not be confirmed in {tries} tries: "
        f"{state.problem or 'no usable answer'}."
    )


def hook_refused(state: State, detail: str) -> str:
    """Another pre-merge hook said no; its own text comes last."""
    return f"A merge hook refused the publication to branch {state.ref.branch} of {state.ref.repository}: {detail}"


def dirty(state: State) -> str:
    """Objects are staged on the branch (`docs/servers/lakefs.md` 1.3)."""
    return (
        f"Branch {state.ref.branch} of {state.ref.repository} has uncommitted changes, so lakeFS refuses every merge "
        "into it. Commit or reset them; a retry then succeeds."
    )


def unanswered_merge(state: State) -> str:
    """The words for a merge whose answer did not arrive."""
    return (
        f"A merge of staging commit {_staged(state)} was sent without a clear answer, so it may still appear on branch "
        f"{state.ref.branch}; a retry will recognise it."
    )


def _staged(state: State) -> str:
    return short(state.staging_commit.id) if state.staging_commit else "unknown"


def unverified_merge(state: State, commit_id: str) -> str:
    """The words for a merge that took place and has not been read back."""
    return f"The merge took place as commit {short(commit_id)} on branch {state.ref.branch}, but was not verified."


def buried(state: State, own: Commit, newest: Commit) -> str:
    """An earlier attempt of this step has published, and another client's commit lies in or on what it made."""
    task_id = own.metadata.get("perago.task_id", "unknown")
    return (
        f"An earlier attempt of this step (task {task_id}) has published commit {short(own.id)} to branch "
        f"{state.ref.branch} of {state.ref.repository}, but others have committed there as well: the head is "
        f"{short(newest.id)}, by {newest.committer or 'unknown'}: {_quoted(newest.message)}. Nothing is lost and "
        "nothing is published twice: check that commit and continue from it, or start the workflow from the new head."
    )


def copied(state: State, copy: Commit, source: Commit | None = None) -> str:
    """A commit has the metadata of this step, and is not its publication. `source` is its second parent."""
    if source is not None:
        why = f"its second parent {short(source.id)} is not the staging commit of that publication"
        older = "An earlier version of perago may have published it, without changes. "
    else:
        why = f"it is not a merge, and its parent is {short(copy.parents[0]) if copy.parents else 'missing'}"
        older = ""
    return (
        f"Commit {short(copy.id)} on branch {state.ref.branch} of {state.ref.repository} carries the metadata of this "
        f"step, but perago did not publish it: {why}. {older}{_nothing(state)}A retry would find the same. Check both "
        "commits, and start the workflow from the new head."
    )


def stale_in_a_loop(state: State, stale: Commit) -> str:
    """Publications of steps or sub-workflows that Conductor has forgotten, in a loop, where it forgets some that are
    still good."""
    workflow = stale.metadata.get("perago.workflow_id", "unknown")
    is_mine = workflow == state.plan.delivery.workflow_id
    whose = "this workflow" if is_mine else f"sub-workflow {workflow}"
    return (
        f"Branch {state.ref.branch} of {state.ref.repository} holds commit {short(stale.id)} of step "
        f"{stale.metadata.get('perago.reference_name', 'unknown')} of {whose}, which Conductor no longer names. In a "
        "loop it is unknown whether that is stale, so it is not undone. Check it, and start the workflow from the "
        "new head."
    )


def unread_workflow(state: State, commit: Commit, limit: int) -> str:
    """The parents of the workflow that published a commit are unknown."""
    return (
        f"It is unknown whether commit {short(commit.id)} on branch {state.ref.branch} of {state.ref.repository} is of "
        f"an earlier run: workflow {commit.metadata.get('perago.workflow_id', 'unknown')} published it, and was not "
        f"read up to its root within {limit} workflows. {_nothing(state)}Start the workflow from the new head."
    )


def unknown_attempt(state: State, commit: Commit) -> str:
    """Conductor's answer lacks the attempt that published a commit."""
    return (
        f"Conductor did not say what became of task {commit.metadata.get('perago.task_id', 'unknown')}, which has "
        f"published commit {short(commit.id)} to branch {state.ref.branch} of {state.ref.repository}. So it is unknown "
        f"whether that commit is stale. {_nothing(state)}A retry asks again."
    )


def still_starting(state: State, commit: Commit) -> str:
    """A parent does not name the workflow that published a commit, and may be about to."""
    return (
        f"It is unknown whether commit {short(commit.id)} on branch {state.ref.branch} of {state.ref.repository} is of "
        f"an earlier run: the parent of workflow {commit.metadata.get('perago.workflow_id', 'unknown')} does not name "
        f"that workflow, and its sub-workflows have not all started yet. {_nothing(state)}A retry reads them again."
    )


def _nothing(state: State) -> str:
    return "" if state.open_merge else _NOTHING


def altered_fence(state: State, commit_id: str, path: str) -> str:
    """A file with the publish fence's name has another text, so it may be another team's."""
    published = "Nothing was published." if state.adopts is None else "That commit has this step's result."
    return (
        f"The file {path} in commit {short(commit_id)} of {state.ref.repository} has the name of perago's publish "
        f"fence and another text. {published} Move the file if it is yours, or replace it with "
        f"`perago fence install {state.ref.repository} {state.ref.branch}`; then start the workflow from the new head."
    )


def not_tried(state: State) -> str:
    """The publish fence is required, and the server did not answer the challenge in time."""
    return (
        f"PERAGO_PUBLISH_FENCE is `required`, but lakeFS did not say whether it runs the hooks of "
        f"{state.ref.repository}: a challenge merge got no answer in time. Nothing was published. See whether another "
        "hook is slow; a retry tries again."
    )


def not_enforced(state: State) -> str:
    """The publish fence is required, and the server does not run it."""
    return (
        f"PERAGO_PUBLISH_FENCE is `required`, but lakeFS does not run the hooks of {state.ref.repository}: it let a "
        "merge through that the publish fence must refuse. Nothing was published. Switch hooks on in the configuration "
        "of the server (`actions.enabled: true`) and start the workflow again."
    )


def adopted_is_gone(state: State) -> str:
    """What was to be adopted is not the head of the branch any more."""
    adopted = short(state.adopts) if state.adopts else "unknown"
    return (
        f"Commit {adopted} of an earlier attempt of this step was to be adopted, but branch {state.ref.branch} of "
        f"{state.ref.repository} changed in the meantime. A retry looks again."
    )


def restless(state: State) -> str:
    """Other deliveries of this workflow keep publishing to the branch."""
    return (
        f"Branch {state.ref.branch} of {state.ref.repository} changed {state.lost_races} times while this attempt "
        "tried to publish. A retry looks again."
    )


def not_on_branch(state: State, read: BranchRead) -> str:
    """The first-parent history of the branch was read and the input ref is not in it."""
    return (
        f"Commit {short(state.ref.ref)} is not in the first-parent history of branch {state.ref.branch} of "
        f"{state.ref.repository} (looked through {len(read.since)} commits from the head "
        f"{short(read.head(state.ref.ref))}). Give a commit of that branch as the ref, as `perago input` does."
    )


def changed_read_only(changes: ChangesDetected) -> str:
    """A read-only task changed its workspace."""
    parts = (("added", changes.added), ("changed", changes.changed), ("removed", changes.removed))
    listed = "; ".join(f"{what} {named(paths)}" for what, paths in parts if paths)
    return f"The workspace is read-only, but the function changed it: {listed}. Nothing was published."


def over_budget(state: State) -> str | None:
    """The publish budget that the changes exceed, in words; None if they do not."""
    plan, changes = state.plan, state.changes
    if plan.max_changed_objects is not None and changes.count > plan.max_changed_objects:
        return (
            f"{changes.count} changed objects exceed publish_budget.max_changed_objects "
            f"({plan.max_changed_objects}). Nothing was published."
        )
    if plan.max_changed_bytes is not None and changes.size > plan.max_changed_bytes:
        return (
            f"{changes.size:,} changed bytes exceed publish_budget.max_changed_bytes "
            f"({plan.max_changed_bytes:,}). Nothing was published."
        )
    return None


def wrong_publication(state: State, commit: Commit) -> str | None:
    """How the merge commit differs from what was to be published, in words; None if it does not."""
    staging, expected = state.staging_commit, state.expected_head
    if staging is None:
        raise ValueError("there is no staging commit")
    if commit.parents[:1] not in [(parent,) for parent in (expected, *(state.doubles or ()))]:
        found = short(commit.parents[0]) if commit.parents else "nothing"
        wrong = f"its first parent is {found}, not the expected head {short(expected)}: another commit came between"
    elif commit.meta_range_id != staging.meta_range_id:
        wrong = f"its tree differs from the staging commit {short(staging.id)}"
    else:
        return None
    return (
        f"Commit {short(commit.id)} on branch {state.ref.branch} of {state.ref.repository} is not what this attempt "
        f"built: {wrong}. Compare the branch with both parents before you continue from it."
    )


def named(paths: Sequence[str]) -> str:
    """Some of `paths`, and how many more there are."""
    shown = ", ".join(repr(path) for path in paths[:_NAMED])
    return f"{shown} and {len(paths) - _NAMED} more" if len(paths) > _NAMED else shown


def _quoted(text: str) -> str:
    line = " ".join(text.split())
    return f"'{line if len(line) <= 80 else line[:79] + '…'}'"


LATE_ANSWERS = 2
REPORT_TRIES = 150
"""More than an hour with the driver's pauses, and more than any response time-out (`perago.driver.delivery`)."""

Next = tuple[State, do.Command | None]


def published(state: State, commit_id: str) -> Next:
    """Success: `commit_id` now holds the workspace."""
    state = state.at(Step.PUBLISHED, publication=commit_id)
    return clean(state.evolve(report=completed(state)))


def fail(state: State, reason: str, *, terminal: bool) -> Next:
    """Failure, for the reason given."""
    return clean(state.at(Step.FAILED, report=failed(state, reason, terminal=terminal)))


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
        open_merge = state.open_merge or unanswered_merge(state)
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
    state = state.at(Step.LOST, report=None, problem=lost(state))
    return (state, None) if was_cleaned else clean(state)
