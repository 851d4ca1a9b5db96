"""The state machine of one attempt, and the argument why it is safe.

    received ─► validated ─► recovered ─► listed ─► fetched ─► pre-checked ─► ran ─► post-checked
                                                                                           │
                 reported ◄─ cleaned ◄─ published ◄─ committed ◄─ staged ◄─ planned ◄──────┘
                                ▲
                                └─ failed, lost: reached from every step

Short cuts: a task without a workspace goes from validation to its function and from its result to `cleaned`; an attempt
that changed nothing goes from `post-checked` to `published` with its input ref as the published commit; one that adopts
goes from `recovered` to `committed`. One way back: from `committed` to `planned`, where the branch has become another
and the same changes can be published on it. docs/dev/protocol.md has the whole diagram, drawn from the table below.

docs/dev/protocol.md also argues, in nine invariants, why nothing is lost and nothing is published twice, and names the
function that enforces each and the test that breaks without it. In short: only the merge is visible to others (1), on
the head that was expected (2), repeatable (3), verified (4), by a current delivery (5, 6). What is on the branch is
judged first (7), late merges are shut out (8), and a staging branch outlives its merge (9).

Each transition is one function below: it gets the state and the event, and returns the next state and one command.
`TRANSITIONS` lists all of them; an event that is not listed for a step is a defect of the driver.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from perago.attempt import commands as do
from perago.attempt import events as on
from perago.attempt import outcome, publication, publishing, refusals
from perago.attempt.history import Adopt, Build, Judgement, Refuse, ask_first, judge, judged, with_lineage
from perago.attempt.outcome import Next, cleaned, fail, refuse, refuse_on
from perago.attempt.state import Base, Plan, State, Step
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
        return outcome.command_failed(state, event)
    if isinstance(event, on.DeliveryLost):
        return outcome.delivery_lost(state, event)
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
    if refused := refuse_on("input", state):
        return refused
    if event.joined:
        return state, do.ResolveJoin(event.workspace.repository, event.joined)
    return _input_located(state)


def _join_resolved(state: State, event: on.JoinResolved) -> Next:
    return _input_located(state.evolve(workspace=replace(state.ref, ref=event.ref)))


def _input_located(state: State) -> Next:
    """Look for earlier deliveries. They show on the branch, or by a staging branch: a rerun and a restart look like a
    first delivery to Conductor's clients (`docs/dev/servers/conductor.md` 9). A staging branch goes after its merge, so
    it is looked for first: what is not there any more has merged before the branch is read."""
    if state.plan.read_only:
        return _list(state)
    prefix = publication.staging_prefix(publication.step_key(state.plan.delivery))
    return state, do.FindLeftovers(state.ref.repository, prefix)


def _already_retried(state: State) -> Next:
    """Do nothing. A failure is what Conductor shows of such an attempt otherwise; where it would count, the attempt
    ends as its retry did."""
    output = state.plan.delivery.retry_output
    if output is None:
        return refuse(state, refusals.RETRIED)
    return cleaned(state.evolve(report=Report(TaskStatus.COMPLETED, output)))


def _leftovers_found(state: State, event: on.LeftoversFound) -> Next:
    state = state.evolve(leftovers=event.branches, leftovers_known=event.complete)
    return state, do.ReadBranch(state.ref, with_head=refusals.need_head())


def _branch_read_on_arrival(state: State, event: on.BranchRead) -> Next:
    return _judge(state.evolve(read=event))


def _judge(state: State) -> Next:
    return ask_first(state) or _begin_on(judged(state), judge(state))


def _lineage_read(state: State, event: on.LineageRead) -> Next:
    return _judge(with_lineage(state, event))


def _workflows_read(state: State, event: on.WorkflowsRead) -> Next:
    return _judge(state.evolve(workflows={**state.workflows, **event.rows}))


def _begin_on(state: State, judgement: Judgement) -> Next:
    match judgement:
        case Refuse(reason, terminal):
            return fail(state, reason, terminal=terminal)
        case Adopt(commit, head):
            return publishing.adopt(state.at(Step.RECOVERED), commit, head)
        case Build(base):
            check = do.CheckPublishFence(state.ref.repository, _likely_base(state, base))
            return refuse_on("branch", state) or (state.evolve(base=base), check)


def _likely_base(state: State, base: Base) -> str:
    """The commit whose tree the changes will be put on, as far as it is there yet. Where all that is on the branch is
    undone first, it is that of the input ref."""
    return state.ref.ref if base.stale or not state.plan.rebase else base.head


def _fence_seen_on_arrival(state: State, event: on.PublishFenceSeen) -> Next:
    """A publication that could only be refused is refused before anything is downloaded."""
    if state.base is None:
        raise ValueError("the branch has not been judged yet")
    return publishing.see_fence(state, event, _likely_base(state, state.base), _compare_reads)


def _compare_reads(state: State) -> Next:
    """Compare the files that the task reads: a change by others is a conflict, whatever the function does. Where a part
    of that is to be undone, the comparison is for later."""
    if state.plan.has_reads and state.is_moved and not (state.base and state.base.stale):
        return state, do.CompareWithOthers(state.ref.repository, state.ref.ref, state.expected_head)
    return _list(state)


def _reads_compared(state: State, event: on.OthersCompared) -> Next:
    return publishing.find_commits(state, event) if event.conflicts else _list(state)


def _list(state: State) -> Next:
    return state.at(Step.RECOVERED, has_directory=True), do.ListObjects(state.ref)


def _listed(state: State, _: on.ObjectsListed) -> Next:
    return state.at(Step.LISTED), do.CheckGuardrails("listing")


def _listing_checked(state: State, event: on.GuardrailsChecked) -> Next:
    """Most guardrails are about names and sizes, which the listing has: an input that breaks one is not downloaded."""
    if event.violations:
        return fail(state, outcome.violated(event.violations), terminal=True)
    return state, do.Fetch(state.ref)


def _fetched(state: State, _: on.Fetched) -> Next:
    state = state.at(Step.FETCHED)
    if state.plan.looks_into_input:
        return state, do.CheckGuardrails("pre")
    return _pre_checked(state, on.GuardrailsChecked(()))


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
    (Step.VALIDATED, on.JoinResolved): _join_resolved,
    (Step.VALIDATED, on.LeftoversFound): _leftovers_found,
    (Step.VALIDATED, on.BranchRead): _branch_read_on_arrival,
    (Step.VALIDATED, on.LineageRead): _lineage_read,
    (Step.VALIDATED, on.WorkflowsRead): _workflows_read,
    (Step.VALIDATED, on.PublishFenceSeen): _fence_seen_on_arrival,
    (Step.VALIDATED, on.OthersCompared): _reads_compared,
    (Step.VALIDATED, on.CommitsFound): publishing.conflict,
    (Step.RECOVERED, on.ObjectsListed): _listed,
    (Step.RECOVERED, on.AdoptedRead): publishing.adopted_read,
    (Step.RECOVERED, on.ResultAccepted): publishing.recorded_result_accepted,
    (Step.RECOVERED, on.PublishFenceSeen): publishing.fence_of_adopted_seen,
    (Step.LISTED, on.GuardrailsChecked): _listing_checked,
    (Step.LISTED, on.Fetched): _fetched,
    (Step.FETCHED, on.GuardrailsChecked): _pre_checked,
    (Step.PRE_CHECKED, on.FunctionReturned): _returned,
    (Step.RAN, on.ResultAccepted): _result_accepted,
    (Step.RAN, on.GuardrailsChecked): _post_checked,
    (Step.POST_CHECKED, on.ChangesDetected): publishing.changes_detected,
    (Step.PLANNED, on.DeliveryConfirmed): publishing.confirmed_before_staging,
    (Step.PLANNED, on.StagingBranchCreated): publishing.staging_branch_created,
    (Step.PLANNED, on.StagingBranchesRemoved): publishing.old_staging_branch_removed,
    (Step.PLANNED, on.Reverted): publishing.reverted,
    (Step.PLANNED, on.NothingStaged): publishing.staging_vanished,
    (Step.PLANNED, on.OthersCompared): publishing.others_compared,
    (Step.PLANNED, on.CommitsFound): publishing.conflict,
    (Step.PLANNED, on.PublishFenceSeen): publishing.fence_of_base_seen,
    (Step.PLANNED, on.StagingCommitted): publishing.carried,
    (Step.PLANNED, on.CarryRefused): publishing.carry_refused,
    (Step.PLANNED, on.ChangesStaged): publishing.changes_staged,
    (Step.PLANNED, on.FenceStaged): publishing.fence_staged,
    (Step.STAGED, on.StagingDiffers): publishing.staging_differs,
    (Step.STAGED, on.NothingStaged): publishing.nothing_staged,
    (Step.STAGED, on.StagingCommitted): publishing.staging_committed,
    (Step.STAGED, on.StagingVerified): publishing.staging_verified,
    (Step.STAGED, on.PublishFenceTried): publishing.publish_fence_tried,
    (Step.COMMITTED, on.DeliveryConfirmed): publishing.confirmed_before_merge,
    (Step.COMMITTED, on.BranchRead): publishing.branch_read_before_merge,
    (Step.COMMITTED, on.TurnCame): publishing.turn_came,
    (Step.COMMITTED, on.LineageRead): publishing.lineage_read_before_merge,
    (Step.COMMITTED, on.WorkflowsRead): publishing.workflows_read_before_merge,
    (Step.COMMITTED, on.AdoptedRead): publishing.adopted_read,
    (Step.COMMITTED, on.ResultAccepted): publishing.recorded_result_accepted,
    (Step.COMMITTED, on.PublishFenceSeen): publishing.fence_of_adopted_seen,
    (Step.COMMITTED, on.Merged): publishing.merged,
    (Step.COMMITTED, on.MergeRefused): publishing.merge_refused,
    (Step.COMMITTED, on.MergeUnclear): publishing.merge_unclear,
    (Step.COMMITTED, on.PublicationRead): publishing.publication_read,
    (Step.PUBLISHED, on.StagingBranchesRemoved): outcome.staging_branches_removed,
    (Step.PUBLISHED, on.DirectoryRemoved): outcome.directory_removed,
    (Step.FAILED, on.StagingBranchesRemoved): outcome.staging_branches_removed,
    (Step.FAILED, on.DirectoryRemoved): outcome.directory_removed,
    (Step.LOST, on.StagingBranchesRemoved): outcome.staging_branches_removed,
    (Step.LOST, on.DirectoryRemoved): outcome.directory_removed,
    (Step.CLEANED, on.DeliveryConfirmed): outcome.confirmed_before_report,
    (Step.CLEANED, on.ReportSent): outcome.report_sent,
    (Step.CLEANED, on.ReportUnclear): outcome.report_unclear,
}
