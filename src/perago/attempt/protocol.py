"""The state machine of one attempt, and the argument why it is safe.

    received ─► validated ─► recovered ─► fetched ─► pre-checked ─► ran ─► post-checked
                                                                                 │
       reported ◄─ cleaned ◄─ published ◄─ committed ◄─ staged ◄─ planned ◄──────┘
                      ▲
                      └─ failed, lost: reached from every step

Short cuts: a task without a workspace goes from validation to its function and from its result to `cleaned`; an attempt
that changed nothing goes from `post-checked` to `published` with its input ref as the published commit; one that adopts
goes from `recovered` to `committed`. One way back: from `committed` to `planned`, where the branch has become another
and the same changes can be published on it. docs/protocol.md has the whole diagram, drawn from the table below.

Why nothing is lost and nothing is published twice
1. Only the merge is visible to others. Whatever fails before it leaves a hidden branch and a private directory, which
   both can be thrown away. Whatever follows it only reads, cleans up and reports, and can be repeated.
2. The merge is sent only on the head that the publication was built on: the branch is read right before, and the
   publish fence of the server compares again inside the merge (`docs/servers/lakefs.md` 1.1). lakeFS reads the fence
   from the commit that is merged, so a publication to a branch without one brings it along and is guarded itself (7
   there). That the server obeys is tried (`TryPublishFence`). On an unmoved head lakeFS takes the staging tree as it
   is, so its lossy three-way merge (1.7) is never entered. Without an enforced fence a gap is left: 4 notices what
   falls into it.
3. Sending a merge again is harmless. It names its source by id, without squash, so lakeFS answers "no changes" for one
   that it has merged (1.3). Only a merge whose tree is the head's may be empty; its second copy is refused by the
   fence, for the head is not the expected one any more, and without a fence it is recognised as this attempt's own.
   After an answer that does not settle the matter the attempt goes back to reading the branch, finds its own commit by
   (task id, poll count, start time), or sends the merge again; at most MERGE_TRIES times.
4. What is merged differs from what it was built on in exactly the planned keys; this is compared on the server before
   (`VerifyStaging`, and `RevertStale` for what was undone). What was published is read back: first parent and tree must
   be those that were intended. From a merge without a clear answer until then, every failure and every loss says that a
   publication may exist (`State.open_merge`).
5. The delivery check stands before anything is staged, before every merge and before every report. An answer that took
   long does not count, nor does one after which reading the branch took long: a process can be stopped anywhere. A
   delivery that is no longer current sends nothing more. One that loses its currency while a merge is on the wire may
   still publish; 7 and 8 are for that.
6. A report is sent for a current delivery only, and an unclear one is followed by the delivery check again: Conductor
   ignores reports for a task that is over, so a second one cannot do harm (`docs/servers/conductor.md` 7.2). A task
   that is run again keeps its id, by which alone Conductor knows a report: one that overtakes that check's answer to
   arrive after such a rerun ends it, with the result of the run before. That gap is Conductor's.
7. A publication carries the identity of its delivery, its input and its result. On arrival, and whenever the head is
   not the expected one, all commits since the input ref are judged (`recovery`). It is adopted, and no function run, if
   it is the head, came on the head that it was built on (so by 4 it is the input and the changes of its attempt), is of
   this attempt's own chain and of the run that Conductor knows, and was made from the same input. It is undone if it is
   of this workflow and of a run that Conductor has forgotten or begun again; never by moving the branch back, but by a
   publication whose tree is the input with the new changes, so history is only added to. Anything else is refused.
   An attempt whose retry has taken its place, and which Conductor hands out again all the same when the workflow is
   rerun from a later step, does nothing: what the retry has published stands, and may have been built on. One that is
   begun again beside a sub-workflow has lost its mark and its end counts: it reports what its retry has reported.
8. An attempt that completes after a predecessor has put a commit of its own on the branch: its changes, or an empty
   fence commit. The head is then another than any earlier delivery expects, so the publish fence refuses the merges
   that are still on their way, and nothing appears after the step was completed. Conductor tells of a predecessor for
   retries and redeliveries; a staging branch that was there before tells for a rerun or restart, which look new.
9. So every merge has a staging branch, also that of a fence commit, and the branch outlives the merge. Its own attempt
   leaves it where a merge was not answered (`State.merge_unanswered`), unless it stages anew because the head has
   moved, which shuts the merge out as well; another one of the step removes it only once it has published, which by 8
   does so. It cannot be the branch of a later delivery: it was listed before the delivery check held. Where no attempt
   publishes, `perago gc` removes it, after longer than any proxy holds a request.

Each transition is one function below: it gets the state and the event, and returns the next state and one command.
`TRANSITIONS` lists all of them; an event that is not listed for a step is a defect of the driver.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from perago.attempt import commands as do
from perago.attempt import ending, outcome, publication, publishing
from perago.attempt import events as on
from perago.attempt.ending import Next, cleaned, fail
from perago.attempt.recovery import Adopt, Build, Judgement, Refuse, judge, lineage_ids
from perago.attempt.state import Plan, State
from perago.attempt.steps import Step
from perago.ports import Report, TaskStatus


def begin(plan: Plan) -> Next:
    """The start of an attempt: a delivery has been received."""
    return State(plan), do.ValidateInput()


def begin_report(plan: Plan, report: Report) -> Next:
    """The second half of an attempt whose first half ran in another process: from `cleaned` to `reported`."""
    return State(plan, Step.CLEANED, report=report), do.CheckDelivery()


def advance(state: State, event: on.Event) -> Next:
    """The next state, and the command to carry out there; None: the attempt is over.

    Raises:
        ValueError: the event cannot happen at this step.
    """
    if isinstance(event, on.CommandFailed):
        return ending.command_failed(state, event)
    if isinstance(event, on.DeliveryLost):
        return ending.delivery_lost(state, event)
    try:
        transition = TRANSITIONS[state.step, type(event)]
    except KeyError:
        raise ValueError(f"{type(event).__name__} cannot happen to an attempt that is {state.step}") from None
    return transition(state, event)


# ------------------------------------------------------------------------ before the function


def _input_accepted(state: State, event: on.InputAccepted) -> Next:
    if state.plan.delivery.retried:
        return _already_retried(state)
    state = state.at(Step.VALIDATED, workspace=event.workspace, params_sha256=event.params_sha256)
    if event.workspace is None:
        return state.at(Step.PRE_CHECKED), do.RunFunction()
    if state.plan.read_only:
        return _fetch(state)
    return state, do.ReadBranch(event.workspace)


def _already_retried(state: State) -> Next:
    """Do nothing. A failure is what Conductor shows of such an attempt otherwise; where it would count, the attempt
    ends as its retry did."""
    output = state.plan.delivery.retry_output
    if output is None:
        return fail(state, outcome.retried(state), terminal=True)
    return cleaned(state.evolve(report=Report(TaskStatus.COMPLETED, output)))


def _branch_read_on_arrival(state: State, event: on.BranchRead) -> Next:
    """Who was here before shows on the branch, or by a staging branch: a rerun and a restart look like a first delivery
    to Conductor's clients (`docs/servers/conductor.md` 9)."""
    state = state.evolve(read=event)
    prefix = publication.staging_prefix(publication.step_key(state.plan.delivery))
    return state, do.FindLeftovers(state.ref.repository, prefix)


def _leftovers_found(state: State, event: on.LeftoversFound) -> Next:
    if state.read is None:
        raise ValueError("no range is being judged")
    return _judge(state.evolve(leftovers=event.branches, leftovers_known=event.complete), state.read)


def _judge(state: State, event: on.BranchRead) -> Next:
    if task_ids := lineage_ids(state, event):
        return state, do.ReadLineage(task_ids)
    return _decide(state, judge(state, event, None))


def _lineage_read(state: State, event: on.LineageRead) -> Next:
    if state.read is None:
        raise ValueError("no range is being judged")
    return _decide(state, judge(state, state.read, event))


def _decide(state: State, judgement: Judgement) -> Next:
    match judgement:
        case Refuse(reason):
            return fail(state, reason, terminal=True)
        case Adopt(commit):
            return publishing.adopt(state.at(Step.RECOVERED), commit)
        case Build(base):
            # The publication's tree will be that of the input ref and the changes, also where it undoes others first.
            return state.evolve(base=base), do.CheckPublishFence(state.ref.repository, state.ref.ref)


def _fence_seen_on_arrival(state: State, event: on.PublishFenceSeen) -> Next:
    """A publication that could only be refused is refused before anything is downloaded."""
    return publishing.see_fence(state, event, state.ref.ref, _fetch)


def _fetch(state: State) -> Next:
    return state.at(Step.RECOVERED, has_directory=True), do.Fetch(state.ref)


def _fetched(state: State, _: on.Fetched) -> Next:
    return state.at(Step.FETCHED), do.CheckGuardrails("pre")


def _pre_checked(state: State, event: on.GuardrailsChecked) -> Next:
    if event.violations:
        return fail(state, outcome.violated(event.violations), terminal=True)
    return state.at(Step.PRE_CHECKED), do.RunFunction()


# ------------------------------------------------------------------------- after the function


def _returned(state: State, _: on.FunctionReturned) -> Next:
    return state.at(Step.RAN), do.ValidateResult()


def _result_accepted(state: State, event: on.ResultAccepted) -> Next:
    state = state.evolve(result=event.result)
    if state.workspace is None:
        return cleaned(state.evolve(report=outcome.completed(state)))
    return state, do.CheckGuardrails("post")


def _post_checked(state: State, event: on.GuardrailsChecked) -> Next:
    if event.violations:
        return fail(state, outcome.violated(event.violations), terminal=False)
    return state.at(Step.POST_CHECKED), do.DetectChanges()


TRANSITIONS: dict[tuple[Step, type[Any]], Callable[[State, Any], Next]] = {
    (Step.RECEIVED, on.InputAccepted): _input_accepted,
    (Step.VALIDATED, on.BranchRead): _branch_read_on_arrival,
    (Step.VALIDATED, on.LeftoversFound): _leftovers_found,
    (Step.VALIDATED, on.LineageRead): _lineage_read,
    (Step.VALIDATED, on.PublishFenceSeen): _fence_seen_on_arrival,
    (Step.RECOVERED, on.Fetched): _fetched,
    (Step.RECOVERED, on.ResultAccepted): publishing.recorded_result_accepted,
    (Step.RECOVERED, on.PublishFenceSeen): publishing.fence_of_adopted_seen,
    (Step.FETCHED, on.GuardrailsChecked): _pre_checked,
    (Step.PRE_CHECKED, on.FunctionReturned): _returned,
    (Step.RAN, on.ResultAccepted): _result_accepted,
    (Step.RAN, on.GuardrailsChecked): _post_checked,
    (Step.POST_CHECKED, on.ChangesDetected): publishing.changes_detected,
    (Step.PLANNED, on.DeliveryConfirmed): publishing.confirmed_before_staging,
    (Step.PLANNED, on.StagingBranchCreated): publishing.staging_branch_created,
    (Step.PLANNED, on.StagingBranchesRemoved): publishing.old_staging_branch_removed,
    (Step.PLANNED, on.Reverted): publishing.reverted,
    (Step.PLANNED, on.HeadRead): publishing.head_read,
    (Step.PLANNED, on.ChangesStaged): publishing.changes_staged,
    (Step.PLANNED, on.FenceStaged): publishing.fence_staged,
    (Step.STAGED, on.NothingStaged): publishing.nothing_staged,
    (Step.STAGED, on.HeadRead): publishing.head_read,
    (Step.STAGED, on.StagingCommitted): publishing.staging_committed,
    (Step.STAGED, on.StagingVerified): publishing.staging_verified,
    (Step.STAGED, on.PublishFenceSeen): publishing.publish_fence_seen,
    (Step.STAGED, on.PublishFenceTried): publishing.publish_fence_tried,
    (Step.COMMITTED, on.DeliveryConfirmed): publishing.confirmed_before_merge,
    (Step.COMMITTED, on.BranchRead): publishing.branch_read_before_merge,
    (Step.COMMITTED, on.LineageRead): publishing.lineage_read_before_merge,
    (Step.COMMITTED, on.ResultAccepted): publishing.recorded_result_accepted,
    (Step.COMMITTED, on.PublishFenceSeen): publishing.fence_of_adopted_seen,
    (Step.COMMITTED, on.Merged): publishing.merged,
    (Step.COMMITTED, on.MergeRefused): publishing.merge_refused,
    (Step.COMMITTED, on.MergeUnclear): publishing.merge_unclear,
    (Step.COMMITTED, on.PublicationRead): publishing.publication_read,
    (Step.PUBLISHED, on.StagingBranchesRemoved): ending.staging_branches_removed,
    (Step.PUBLISHED, on.DirectoryRemoved): ending.directory_removed,
    (Step.FAILED, on.StagingBranchesRemoved): ending.staging_branches_removed,
    (Step.FAILED, on.DirectoryRemoved): ending.directory_removed,
    (Step.LOST, on.StagingBranchesRemoved): ending.staging_branches_removed,
    (Step.LOST, on.DirectoryRemoved): ending.directory_removed,
    (Step.CLEANED, on.DeliveryConfirmed): ending.confirmed_before_report,
    (Step.CLEANED, on.ReportSent): ending.report_sent,
    (Step.CLEANED, on.ReportUnclear): ending.report_unclear,
}
