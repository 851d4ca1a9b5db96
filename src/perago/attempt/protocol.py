"""The state machine of one attempt, and the argument why it is safe.

    received ─► validated ─► recovered ─► listed ─► fetched ─► pre-checked ─► ran ─► post-checked
                                                                                           │
                             cleaned ◄─ published ◄─ committed ◄─ staged ◄─ planned ◄──────┘
                                ▲
                                └─ failed, lost: reached from every step

There are shortcuts. A task without a workspace goes from validation to its function, and from its result to `cleaned`.
An attempt without changes goes from `post-checked` to `published`, with its input ref as the published commit. An
adoption goes from `recovered` to `committed`. A delivery that only asks for the newest commit of a branch goes from
`validated` to `published`, without a function. There is one way back, from `committed` to `planned`: the branch has
moved, and the same changes can be published on the new head. docs/dev/protocol.md has the complete diagram, which is
drawn from the table below. The report of a cleaned attempt is a small state machine of its own
(`perago.attempt.outcome`).

Three kinds of staging commit are published, all in the same way: one with the changes, one on top of reverts that undo
stale publications, and an empty one for an adoption, or for no changes after a predecessor. The merge of an empty one
is a fence commit, after which no stale delivery can merge. Each of them installs the publish fence if the branch has
none, so that its own merge is guarded.

If others have advanced the branch and the task declares `on_moved_head="rebase"`, the changes are applied to the
current head. lakeFS's three-way merge can lose files (`docs/dev/servers/lakefs.md`, "lakeFS's three-way merge"), so it
is never trusted: the staging commit is compared with the head, and differs from it in exactly the planned keys.

The merge is the only step that others see. It is sent for the head that the publication was built on. If the branch has
moved since, the new commits are judged as on arrival.

docs/dev/protocol.md also explains in nine invariants why nothing is lost or published twice. It names the function that
enforces each invariant, and the test that fails without it. In short: only the merge is visible to others (1), on the
head that was expected (2), repeatable (3), verified (4), by a current delivery (5, 6). The commits on the branch are
judged first (7), late merges are shut out (8), and a staging branch outlives its merge (9).

Each transition is one entry of `TRANSITIONS`, at the end: it gets the state and the event, and returns the next state
and one command. An event that is not listed for a step is a defect of the driver.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import takewhile
from typing import Any

from perago.attempt import commands as do
from perago.attempt import events as on
from perago.attempt import history, outcome, publication, refusals
from perago.attempt.family import Family, Place
from perago.attempt.history import (
    Adopt,
    Build,
    Refuse,
    Wait,
    ask_first,
    judge,
    judged,
    misplaced,
    own_publications,
)
from perago.attempt.outcome import (
    ENDED,
    Next,
    check_again,
    clean_directory,
    cleaned,
    fail,
    published,
    refuse,
    refuse_on,
)
from perago.attempt.publication import FENCE_PATH, IMPOSSIBLE_HEAD
from perago.attempt.refusals import facts_of, named
from perago.attempt.state import Base, Plan, State, Step
from perago.attempt.undoing import odd_commit, own_changes, undoing, verified
from perago.ports import MergeRefusal, Report, TaskStatus
from perago.settings.sources import PublishFence
from perago.text import short

LONGEST_WAIT = 600.0
"""Seconds after the first delivery of an attempt for which it is handed back, while a commit of its family has no
evidence."""
MERGE_TRIES = 3
"""Maximum number of merges without a usable answer, in addition to one for each lost race."""
_CONFLICTS_TRACED = 3
"""Number of keys of a conflict whose last commit is looked up."""


def begin(plan: Plan) -> Next:
    """Return the start of an attempt: a delivery has been received."""
    return State(plan), do.ValidateInput()


def begin_operation(plan: Plan, workspace: on.WorkspaceRef) -> Next:
    """Return the start of an operation, which undoes publications and has no function. `workspace` names the branch and
    the commit below which nothing is undone."""
    return input_located(State(plan).at(Step.VALIDATED, workspace=workspace))


def advance(state: State, event: on.Event) -> Next:
    """Return the next state, and the command to carry out there; None: the attempt has ended.

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


# ------------------------------------------------------------------ before and after the function


def input_accepted(state: State, event: on.InputAccepted) -> Next:
    """Read the workspace, if there is one. An attempt that was retried does nothing. Conductor ignores its failure. If
    the failure would count, the attempt ends as its retry did."""
    delivery = state.plan.delivery
    if delivery.retried and delivery.retry_output is not None:
        return cleaned(state.evolve(report=Report(TaskStatus.COMPLETED, delivery.retry_output)))
    if delivery.retried:
        return refuse(state, refusals.RETRIED)
    state = state.at(Step.VALIDATED, workspace=event.workspace, params_sha256=event.params_sha256)
    if event.workspace is None:
        return state.at(Step.PRE_CHECKED), do.RunFunction()
    if not (event.workspace.ref or event.joined):
        return state, do.ReadBranch(event.workspace)
    if refused := refuse_on("input", state):
        return refused
    if event.joined:
        return state.evolve(joined_refs=event.joined), do.ResolveJoin(event.workspace.repository, event.joined)
    return input_located(state)


def join_resolved(state: State, event: on.JoinResolved) -> Next:
    """Continue the newest of the given commits."""
    line = publication.proven(event.line, event.sources)
    return input_located(state.evolve(workspace=replace(state.ref, ref=line[0].id), joined=line))


def input_located(state: State) -> Next:
    """Look for earlier deliveries. They are visible on the branch, or by a staging branch. To Conductor's clients a
    rerun and a restart look like a first delivery (`docs/dev/servers/conductor.md`, "Measured later"). A staging branch
    is deleted after its merge, so it is looked up first: if it no longer exists, its merge is on the workspace
    branch."""
    if state.plan.read_only:
        return _list(state)
    prefix = publication.staging_prefix(publication.step_key(state.plan.delivery))
    return state, do.FindLeftovers(state.ref.repository, prefix)


def leftovers_found(state: State, event: on.LeftoversFound) -> Next:
    """Read the workspace branch."""
    state = state.evolve(staging=replace(state.staging, leftovers=event.branches, leftovers_known=event.complete))
    return state, do.ReadBranch(state.ref, with_head=refusals.need_head())


def branch_read(state: State, event: on.BranchRead) -> Next:
    """Judge the branch. A delivery that only asks for its newest commit is done."""
    if state.ref.ref:
        return _judge(_with_range(state, event))
    (head,) = event.since
    return published(state.evolve(workspace=replace(state.ref, ref=head.id)), head.id)


def workflows_read(state: State, event: on.WorkflowsRead) -> Next:
    """Judge the branch with the rows of the workflows that published to it."""
    return _judge(state.evolve(workflows={**state.workflows, **event.rows}))


def _with_range(state: State, event: on.BranchRead) -> State:
    """Return the state with a range to judge. Rows that were read before it say nothing about its commits."""
    since = publication.proven(event.since, event.sources)
    inquiry = replace(state.inquiry, asked=(), rereads=0)
    return state.evolve(read=replace(event, since=since), workflows={}, inquiry=inquiry)


def _judge(state: State) -> Next:
    """Judge the commits that `state.read` has, once Conductor has answered all questions about them."""
    if (question := ask_first(state)) is not None:
        return question
    judgement, state = judge(state), judged(state)
    if isinstance(judgement, Refuse):
        return fail(state, judgement.reason, terminal=judgement.terminal)
    if isinstance(judgement, Wait):
        return _wait(state, judgement)
    if state.step is Step.COMMITTED:
        return _build_again(state, judgement)
    if isinstance(judgement, Adopt):
        return adopt(state.at(Step.RECOVERED), judgement)
    state = state.evolve(base=judgement.base)
    return refuse_on("branch", state) or (state, do.CheckPublishFence(state.ref.repository, _likely_base(state)))


def _wait(state: State, judgement: Wait) -> Next:
    """Wait for other attempts of the family: on arrival without a slot, and before the merge in short steps. After a
    bounded time, refuse. A retry may find them done."""
    if state.step is Step.COMMITTED and state.inquiry.waits < state.plan.most_waits:
        state = state.evolve(inquiry=replace(state.inquiry, waits=state.inquiry.waits + 1))
        return state, do.AwaitTurn(state.ref.repository, state.ref.branch, tries=state.inquiry.waits)
    is_early = state.step is Step.VALIDATED and state.plan.delivery.spent_seconds < LONGEST_WAIT
    return fail(state.evolve(hand_back=is_early), judgement.reason, terminal=False)


def _likely_base(state: State) -> str:
    """Return the commit whose tree the changes will be put on, as far as that is known on arrival. If all commits on
    the branch are undone first, it is the input ref."""
    is_undone = state.base is not None and bool(state.base.stale)
    return state.ref.ref if is_undone else state.expected_head


def fence_seen_on_arrival(state: State, event: on.PublishFenceSeen) -> Next:
    """Refuse a publication that would be refused in any case before anything is downloaded."""
    return see_fence(state, event, _likely_base(state), _compare_reads)


def _compare_reads(state: State) -> Next:
    """Compare the files that the task reads: a change by others is a conflict, whatever the function does. If a part of
    these changes must be undone, the comparison comes later."""
    if state.plan.has_reads and state.is_moved and not (state.base and state.base.stale):
        return state, do.CompareWithOthers(state.ref.repository, state.ref.ref, state.expected_head)
    return _list(state)


def reads_compared(state: State, event: on.OthersCompared) -> Next:
    """Go on if no file that the task reads was changed."""
    return _find_commits(state, event) if event.conflicts else _list(state)


def _list(state: State) -> Next:
    if state.plan.operation:
        return changes_detected(state, on.ChangesDetected())
    return state.at(Step.RECOVERED, has_directory=True), do.ListObjects(state.ref)


def fetched(state: State, _: on.Fetched) -> Next:
    """Check the `pre` guardrails about contents, if there are any."""
    state = state.at(Step.FETCHED)
    if state.plan.looks_into_input:
        return state, do.CheckGuardrails("pre")
    return guardrails_checked(state, on.GuardrailsChecked(()))


def guardrails_checked(state: State, event: on.GuardrailsChecked) -> Next:
    """Go on if no rule is violated. Most `pre` guardrails are about names and sizes, which the listing has: an input
    that breaks one is not downloaded, and the failure is final, because the input stays as it is."""
    if event.violations:
        return fail(state, outcome.violated(event.violations), terminal=state.step is not Step.RAN)
    if state.step is Step.LISTED:
        return state, do.Fetch(state.ref)
    if state.step is Step.FETCHED:
        return state.at(Step.PRE_CHECKED), do.RunFunction()
    return state.at(Step.POST_CHECKED), do.DetectChanges()


def result_accepted(state: State, event: on.ResultAccepted) -> Next:
    """Check the workspace after the function, if its task has one."""
    state = state.evolve(result=event.result)
    if state.workspace is None:
        return cleaned(state.evolve(report=outcome.completed(state)))
    return state, do.CheckGuardrails("post")


# ------------------------------------------------------------------------------- what to publish


def changes_detected(state: State, event: on.ChangesDetected) -> Next:
    """Complete if there is nothing to publish, unless an earlier delivery may still merge: a fence commit stops it."""
    state = state.evolve(changes=event)
    if refused := refuse_on("changes", state):
        return refused
    if state.plan.read_only or not (event.count or needs_commit(state)):
        return published(state, state.ref.ref)
    return _begin_staging(state)


def adopt(state: State, found: Adopt) -> Next:
    """Adopt a publication if its result is valid today. Changes of this attempt's own function, if it has run, are
    dropped."""
    base = Base(found.head.id, tree=found.head.meta_range_id)
    staging = replace(state.staging, carried=None)
    state = state.evolve(base=base, adopts=None, changes=on.ChangesDetected(), shared=frozenset(), staging=staging)
    since = takewhile(lambda each: each.id != found.commit.id, state.read.since if state.read else ())
    above = tuple((each.id, each.parents[0]) for each in since)
    return state, do.ReadAdopted(state.ref.repository, found.commit, found.head.id, above)


def adopted_read(state: State, event: on.AdoptedRead) -> Next:
    """Refuse a copy of a publication. Later changes of others to the adopted files stay, and get a remark, because the
    step is done."""
    if not publication.is_built_from(event.commit, event.source):
        why = f"its second parent {short(event.source.id)} is not the staging commit of that publication"
        older = "An earlier version of perago may have published it, without changes. "
        return refuse(state, refusals.COPIED, **facts_of(event.commit), why=why, older=older)
    state = state.evolve(adopts=event.commit.id, changed_since=event.changed_since)
    return state, do.ValidateRecordedResult(event.source.metadata.get(publication.RESULT, ""))


def recorded_result_accepted(state: State, event: on.ResultAccepted) -> Next:
    """Use the result of the adopted publication as this attempt's result."""
    state = state.evolve(result=event.result)
    return state, do.CheckPublishFence(state.ref.repository, state.expected_head)


def fence_of_adopted_seen(state: State, event: on.PublishFenceSeen) -> Next:
    """Put a fence commit on the adopted publication."""
    return see_fence(state, event, state.expected_head, _stage_again)


def see_fence(state: State, event: on.PublishFenceSeen, commit_id: str, go_on: Callable[[State], Next]) -> Next:
    """Decide from the fence of the base `commit_id` whether the publication installs one. A file that only has the name
    of the fence is not overwritten. It would leave the merge unguarded, so refuse before any work is done."""
    if commit_id == state.ref.ref:
        state = state.evolve(fence=replace(state.fence, of_ref=event))
    insists = state.plan.publish_fence is not PublishFence.OFF
    if insists and event.state is on.FenceState.ALTERED:
        published_text = "Nothing was published." if state.adopts is None else "That commit has this step's result."
        return refuse(state, refusals.ALTERED_FENCE, path=FENCE_PATH, commit=short(commit_id), published=published_text)
    brings_fence = insists and event.state is on.FenceState.ABSENT
    return go_on(state.evolve(fence=replace(state.fence, state=event.state, object=event.fence, is_new=brings_fence)))


def needs_commit(state: State) -> bool:
    """Whether an attempt without changes needs a commit, so that the branch holds its result in the end: a merge of an
    earlier delivery or of this attempt may still arrive, or stale commits are on the branch already."""
    return state.has_predecessor or state.merge.sent > 0 or (state.base is not None and bool(state.base.stale))


# ---------------------------------------------------------------------------------- staging


def first_staging_branch(state: State) -> do.CreateStagingBranch | None:
    """Return the command with which the attempt will begin to stage if it publishes. None: the base is not known."""
    if state.base is None or state.plan.read_only:
        return None
    return do.CreateStagingBranch(
        state.ref.repository, publication.staging_branch(state.plan, rebuilt=0), state.expected_head
    )


def _begin_staging(state: State) -> Next:
    """Begin with a staging branch on the base. It also tells later deliveries that a merge may still arrive."""
    branch = publication.staging_branch(state.plan, state.rebuilt)
    state = state.at(Step.PLANNED, staging=replace(state.staging, branch=branch))
    return state, do.CreateStagingBranch(state.ref.repository, branch, state.expected_head)


def confirmed_before_staging(state: State, event: on.DeliveryConfirmed) -> Next:
    """Undo the stale publications first. Without a rebase, the tree must then be that of the input ref."""
    if (again := check_again(state, event)) is not None:
        return again
    if event.line and (refusal := misplaced(state, family := Family(event.line))) is not None:
        is_starting = family.place(state.plan.delivery.workflow_id) is Place.STARTING
        if not is_starting or state.inquiry.rereads >= history.STARTING_REREADS:
            return fail(state, refusal.reason, terminal=refusal.terminal)
        state = state.evolve(inquiry=replace(state.inquiry, rereads=state.inquiry.rereads + 1))
        return state, do.CheckDelivery(with_line=True, repetition=state.inquiry.rereads)
    inquiry, merge = replace(state.inquiry, rereads=0), replace(state.merge, late_answers=0)
    state, base = state.evolve(inquiry=inquiry, merge=merge), state.base
    if base is None or not (base.stale or (state.is_moved and not state.rebases and state.adopts is None)):
        return _base_ready(state)
    if to_undo := undoing(state.read.since if state.read else (), base.stale)[0]:
        return state, do.ReadStale(state.ref.repository, tuple(to_undo))
    return stale_read(state, on.StaleRead(()))


def stale_read(state: State, event: on.StaleRead) -> Next:
    """Revert the own changes of each stale publication, unless a person has made one."""
    base, since = state.base or Base(state.expected_head), state.read.since if state.read else ()
    stale, living = undoing(since, base.stale)
    reverts = [own_changes(*pair) for pair in zip(stale, event.commits, strict=True)]
    if None in reverts:
        return _cannot_undo(state, odd_commit(event.commits[reverts.index(None)]))
    others = living[: stale[-1].above] if state.rebases and stale else []
    return state, do.RevertStale(
        state.ref.repository,
        _staging(state),
        base.head,
        tuple(stale),
        tuple(commit_id for commit_id in reverts if commit_id is not None),
        state.ref.ref,
        among_others=state.rebases,
        others=tuple((commit.id, commit.parents[0]) for commit in others),
    )


def reverted(state: State, event: on.Reverted) -> Next:
    """Go on if only the changes of the stale publications are reverted. Without others, the tree is that of the input
    ref then."""
    if state.rebases:
        held = verified(state, event)
        if isinstance(held, str):
            # Once more if a revert left no trace. If it leaves none again, lakeFS merges these files in another way.
            is_lost = not event.is_whole and not state.staging.is_repeated
            return staging_vanished(state, on.NothingStaged()) if is_lost else _cannot_undo(state, held)
        return _base_ready(state.evolve(staging=replace(state.staging, reverted=event.commit, held=held)))
    if wrong := event.beyond_input - {FENCE_PATH}:
        if not event.is_whole:
            return staging_vanished(state, on.NothingStaged())
        return refuse(state, refusals.TREE_NOT_RESTORED, keys=named(sorted(wrong)))
    return _base_ready(state.evolve(staging=replace(state.staging, reverted=event.commit)))


def _cannot_undo(state: State, why: str) -> Next:
    stale = state.base.stale if state.base else ()
    reason = outcome.cannot_undo(state.ref, stale, why, merge_open=state.merge.open is not None)
    return fail(state, reason, terminal=refusals.CANNOT_UNDO.terminal)


def _base_ready(state: State) -> Next:
    """Compare the changes with those of others if others have moved the head, and check for the fence again."""
    if not state.is_moved or state.adopts is not None:
        return _stage(state)
    if state.rebases and (state.changes.count or state.plan.has_reads):
        return state, do.CompareWithOthers(state.ref.repository, state.ref.ref, _staged_on(state))
    return state, do.CheckPublishFence(state.ref.repository, _staged_on(state))


def others_compared(state: State, event: on.OthersCompared) -> Next:
    """Fail for good on a conflict. If only both changes together violate a rule, the failure is retryable, because
    others may change the branch."""
    if event.conflicts:
        return _find_commits(state, event)
    if event.violations:
        reason = outcome.violated_together(state, event.violations)
        return fail(state, reason, terminal=refusals.VIOLATED_TOGETHER.terminal)
    state = state.evolve(shared=event.shared)
    if state.fence.of_ref is not None and not event.fence_changed:
        return fence_of_base_seen(state, state.fence.of_ref)
    return state, do.CheckPublishFence(state.ref.repository, _staged_on(state))


def _find_commits(state: State, event: on.OthersCompared) -> Next:
    """Find the commits of others that conflict with this attempt, for the message."""
    since = tuple((commit.id, commit.parents[0]) for commit in state.read.since) if state.read else ()
    keys = tuple(event.conflicts)[:_CONFLICTS_TRACED]
    return state.evolve(conflicts=event.conflicts), do.FindCommits(state.ref.repository, since, keys)


def conflict(state: State, event: on.CommitsFound) -> Next:
    """Fail for good: a retry would get the same ref and meet the same conflict."""
    return fail(state, outcome.conflict(state, event.by_key), terminal=refusals.CONFLICT.terminal)


def fence_of_base_seen(state: State, event: on.PublishFenceSeen) -> Next:
    """Never merge staged changes onto a head that has lost the fence in the meantime, because they rely on it."""
    if event.state is on.FenceState.ABSENT and not state.fence.is_new:
        state = state.evolve(staging=replace(state.staging, carried=None))
    return see_fence(state, event, _staged_on(state), _stage)


def _stage(state: State) -> Next:
    """Put the changes and the fence on the staging branch."""
    if not state.has_changes:
        return _stage_fence(state)
    where, branch, onto = state.ref.repository, _staging(state), _staged_on(state)
    if state.staging.carried is None:
        return state, do.StageChanges(where, branch, state.shared)
    metadata = publication.metadata(state, phase="staging") | {publication.EXPECTED_HEAD: onto}
    return state, do.CarryChanges(where, state.staging.carried, branch, onto, publication.message(state), metadata)


def _stage_fence(state: State) -> Next:
    """Add the fence if the branch has none."""
    if state.fence.is_new:
        return state, do.StageFence(state.ref.repository, _staging(state))
    return _commit(state)


def _commit(state: State) -> Next:
    """Commit the staged changes, with the metadata that identify the publication. Without changes the commit is empty.
    Every publication has a staging commit, so that a later attempt can distinguish it from a copy."""
    return state.at(Step.STAGED), do.CommitStaging(
        state.ref.repository,
        _staging(state),
        _staged_on(state),
        publication.message(state),
        publication.metadata(state, phase="staging"),
        allow_empty=not (state.has_changes or state.fence.is_new),
    )


def staging_vanished(state: State, _: on.NothingStaged) -> Next:
    """Stage the changes once more, on another branch: the first one was reset, or lakeFS has lost them."""
    if state.staging.is_repeated:
        return refuse(state, refusals.STAGING_VANISHED)
    return _stage_again(state.evolve(staging=replace(state.staging, is_repeated=True), rebuilt=state.rebuilt + 1))


def nothing_staged(state: State, event: on.NothingStaged) -> Next:
    """Trust lakeFS's answer only if the MD5 of the former bytes is unknown."""
    if state.must_differ or not state.has_changes:
        return staging_vanished(state, event)
    if not (needs_commit(state) or state.is_moved):
        return published(state, state.ref.ref)
    return _commit(state.evolve(changes=on.ChangesDetected()))


def staging_committed(state: State, event: on.StagingCommitted) -> Next:
    """Refuse a commit that is not this attempt's, or is on another base. Then compare the commit with the plan."""
    is_mine = publication.is_mine(event.commit, state.plan.delivery)
    built_on = _staged_on(state)
    carried = (state.staging.carried,) if state.staging.carried and state.has_changes else ()
    if event.commit.parents != (built_on, *carried) or not is_mine:
        return refuse(state, refusals.FOREIGN_STAGING, found=short(event.commit.id))
    return state.evolve(staging=replace(state.staging, commit=event.commit)), do.VerifyStaging(
        state.ref.repository,
        built_on,
        event.commit.id,
        changes=state.has_changes,
        fence=state.fence.is_new,
        shared=state.shared,
        head=state.expected_head if state.staging.held else "",
        held=state.staging.held,
    )


def staging_differs(state: State, event: on.StagingDiffers) -> Next:
    """Upload the changes if they were moved by a merge, because lakeFS's merge has lost some of them. Otherwise refuse,
    because another client used the branch."""
    if event.held:
        why = f"others have published the same bytes at {named(event.keys)}, and this attempt would change it"
        return _cannot_undo(state, why)
    if state.staging.carried is not None:
        staging = replace(state.staging, carried=None)
        return _stage_again(state.evolve(rebuilt=state.rebuilt + 1, staging=staging))
    return refuse(state, refusals.STAGING_DIFFERS, keys=named(event.keys))


def staging_verified(state: State, event: on.StagingVerified) -> Next:
    """Make sure that the server obeys the fence of the staging commit, which has exactly the planned changes. If the
    fence is switched off, the merge is only verified afterwards."""
    if state.fence.is_new:
        state = state.evolve(fence=replace(state.fence, state=on.FenceState.INSTALLED, object=event.fence))
    if state.plan.publish_fence is PublishFence.OFF:
        return _committed(state)
    metadata = publication.metadata(state, phase="challenge")
    metadata |= {publication.EXPECTED_HEAD: IMPOSSIBLE_HEAD, publication.RESULT: ""}
    source = state.staged.id
    return state, do.TryPublishFence(state.ref.repository, source, _staging(state), metadata, state.fence.object)


def publish_fence_tried(state: State, event: on.PublishFenceTried) -> Next:
    """Continue without a guard if the server runs no hooks or gives no answer: the merge is only verified afterwards.
    In a deployment that requires the fence, refuse."""
    if event.enforced is not None:
        verdict = on.FenceState.ENFORCED if event.enforced else on.FenceState.NOT_ENFORCED
        state = state.evolve(fence=replace(state.fence, state=verdict))
    if state.plan.publish_fence is PublishFence.REQUIRED and not event.enforced:
        return refuse(state, refusals.NOT_TRIED if event.enforced is None else refusals.NOT_ENFORCED)
    return _committed(state)


def _committed(state: State) -> Next:
    """Go on to the merge. Attempts of this host that publish to the branch continue one at a time."""
    state = state.at(Step.COMMITTED)
    if state.rebases and not state.rebuilt:
        return state, do.AwaitTurn(state.ref.repository, state.ref.branch, tries=0)
    return state, do.CheckDelivery()


def _stage_again(state: State) -> Next:
    """Begin again with staging, on another branch than before."""
    old = state.staging.branch
    staging = replace(state.staging, reverted=None, held=frozenset(), commit=None, branch=None)
    state = state.at(Step.PLANNED, staging=staging)
    if old:
        return state, do.RemoveStagingBranches(state.ref.repository, (old,))
    return _begin_staging(state)


def _staging(state: State) -> str:
    if state.staging.branch is None:
        raise ValueError("there is no staging branch")
    return state.staging.branch


def _staged_on(state: State) -> str:
    return state.staging.reverted.id if state.staging.reverted is not None else state.expected_head


# ------------------------------------------------------------------------------------ the merge


def confirmed_before_merge(state: State, event: on.DeliveryConfirmed) -> Next:
    """Read the branch right before the merge."""
    return check_again(state, event) or (state, do.ReadBranch(state.ref, with_head=refusals.need_head()))


def branch_read_before_merge(state: State, event: on.BranchRead) -> Next:
    """Merge only on the head that the publication was built on. If there is another head, judge the branch."""
    if own := own_publications(state, event):
        newest, *below = own
        is_built_as_planned = own[-1].parents[:1] == (state.expected_head,)
        doubles = tuple(commit.id for commit in below) if is_built_as_planned else ()
        return _read_back(state.evolve(merge=replace(state.merge, doubles=doubles)), newest.id)
    if event.head(state.ref.ref) == state.expected_head:
        refused = None if state.adopts else refuse_on("branch", _with_range(state, event))
        return refused or check_again(state, event) or _merge(state.evolve(merge=replace(state.merge, late_answers=0)))
    if state.rebases and state.rebuilt and not state.has_turn:
        return state, do.AwaitTurn(state.ref.repository, state.ref.branch, state.rebuilt)
    return _judge(_with_range(state.evolve(merge=replace(state.merge, late_answers=0)), event))


def turn_came(state: State, event: on.TurnCame) -> Next:
    """Read the branch again, because others have had time to finish."""
    if not event.in_time:
        state = state.evolve(lost_races=state.lost_races + 1)
        return refuse(state, refusals.RESTLESS)
    return state.evolve(has_turn=True), do.CheckDelivery()


def _build_again(state: State, judgement: Adopt | Build) -> Next:
    """Build the publication on the current head of the branch."""
    state = state.evolve(lost_races=state.lost_races + 1)
    if state.lost_races > state.plan.rebuild_tries:
        return refuse(state, refusals.RESTLESS)
    merge = replace(state.merge, tries=max(0, state.merge.tries - 1))  # the next one may be sent once more
    state = state.evolve(rebuilt=state.rebuilt + 1, has_turn=False, merge=merge)
    if isinstance(judgement, Adopt):
        return adopt(state, judgement)
    if state.adopts is not None:  # and the attempt has no result of its own: a retry judges again
        return refuse(state, refusals.ADOPTED_IS_GONE)
    if state.rebases and state.has_changes and state.staging.commit is not None:
        state = state.evolve(staging=replace(state.staging, carried=state.staging.commit.id))
    return _stage_again(state.evolve(base=judgement.base, shared=frozenset()))


def _merge(state: State) -> Next:
    if state.merge.tries >= MERGE_TRIES:
        return refuse(state, refusals.UNCONFIRMED, tries=str(MERGE_TRIES))
    command = do.Merge(
        state.ref.repository,
        state.staged.id,
        state.ref.branch,
        publication.message(state),
        publication.metadata(state, phase="fence" if _is_fence_commit(state) else "merge"),
        allow_empty=_is_empty(state),
    )
    merge = replace(state.merge, sent=state.merge.sent + 1, tries=state.merge.tries + 1)
    return state.evolve(merge=merge), command


def _is_empty(state: State) -> bool:
    """Whether the tree equals that of the head, for example in a fence commit, or if undone changes are made again.
    lakeFS refuses exactly these merges unless they allow an empty result. Other merges never allow it, because without
    a publish fence a late copy of the request would be merged once more."""
    if state.staging.commit is None or state.base is None:
        return False
    is_unchanged = _is_fence_commit(state) and not state.fence.is_new
    return is_unchanged or state.staging.commit.meta_range_id == state.base.tree


def _is_fence_commit(state: State) -> bool:
    return not state.has_changes and not (state.base and state.base.stale)


def _read_back(state: State, commit_id: str) -> Next:
    open_merge = refusals.UNVERIFIED_MERGE.text(state, commit=short(commit_id))
    state = state.evolve(merge=replace(state.merge, open=open_merge, unanswered=False))
    return state, do.ReadPublication(state.ref.repository, commit_id)


def merge_refused(state: State, event: on.MergeRefused) -> Next:
    """Fail if operators must act, because of another team's hook or a dirty branch. The other refusals mean that the
    head has moved, or that an earlier merge took place, so read the branch."""
    match event.reason:
        case MergeRefusal.HOOK:
            return refuse(state, refusals.HOOK_REFUSED, detail=event.detail)
        case MergeRefusal.DIRTY:
            return refuse(state, refusals.DIRTY)
        case MergeRefusal.HEAD_MOVED | MergeRefusal.CONFLICT | MergeRefusal.NO_CHANGES:
            # An earlier copy of the request may have taken place, unseen: only that, or another commit, explains it.
            is_doubled = event.reason is MergeRefusal.NO_CHANGES or _is_empty(state)
            open_merge = outcome.unanswered_merge(state) if is_doubled else None
            merge = replace(state.merge, open=state.merge.open or open_merge)
            return state.evolve(problem=event.detail, merge=merge), do.CheckDelivery()


def merge_unclear(state: State, event: on.MergeUnclear) -> Next:
    """Read the branch, because the merge may have taken place, or can still arrive."""
    merge = replace(state.merge, open=outcome.unanswered_merge(state), unanswered=True)
    state = state.evolve(problem=event.detail, merge=merge)
    return state, do.CheckDelivery()


def publication_read(state: State, event: on.PublicationRead) -> Next:
    """Compare first parent and tree with the intended ones. The commits between them can belong to this attempt,
    because a merge that was sent twice can take place twice."""
    wrong = outcome.wrong_publication(state, event.commit)
    if wrong is not None and state.merge.sent > 1 and state.merge.doubles is None:
        return state, do.CheckDelivery()
    state = state.evolve(merge=replace(state.merge, open=None))
    if wrong is not None:
        return fail(state, wrong, terminal=refusals.WRONG_PUBLICATION.terminal)
    return published(state, event.commit.id)


# ------------------------------------------------------------------------------------ the table

TRANSITIONS: dict[tuple[Step, type[Any]], Callable[[State, Any], Next]] = {
    (Step.RECEIVED, on.InputAccepted): input_accepted,
    (Step.VALIDATED, on.JoinResolved): join_resolved,
    (Step.VALIDATED, on.LeftoversFound): leftovers_found,
    (Step.VALIDATED, on.BranchRead): branch_read,
    (Step.VALIDATED, on.WorkflowsRead): workflows_read,
    (Step.VALIDATED, on.PublishFenceSeen): fence_seen_on_arrival,
    (Step.VALIDATED, on.OthersCompared): reads_compared,
    (Step.VALIDATED, on.CommitsFound): conflict,
    (Step.RECOVERED, on.ObjectsListed): lambda state, _: (state.at(Step.LISTED), do.CheckGuardrails("listing")),
    (Step.RECOVERED, on.AdoptedRead): adopted_read,
    (Step.RECOVERED, on.ResultAccepted): recorded_result_accepted,
    (Step.RECOVERED, on.PublishFenceSeen): fence_of_adopted_seen,
    (Step.LISTED, on.GuardrailsChecked): guardrails_checked,
    (Step.LISTED, on.Fetched): fetched,
    (Step.FETCHED, on.GuardrailsChecked): guardrails_checked,
    (Step.PRE_CHECKED, on.FunctionReturned): lambda state, _: (state.at(Step.RAN), do.ValidateResult()),
    (Step.RAN, on.ResultAccepted): result_accepted,
    (Step.RAN, on.GuardrailsChecked): guardrails_checked,
    (Step.POST_CHECKED, on.ChangesDetected): changes_detected,
    (Step.PLANNED, on.DeliveryConfirmed): confirmed_before_staging,
    (Step.PLANNED, on.StagingBranchCreated): lambda state, _: (state, do.CheckDelivery(with_line=True)),
    (Step.PLANNED, on.StagingBranchesRemoved): lambda state, _: _begin_staging(state),
    (Step.PLANNED, on.StaleRead): stale_read,
    (Step.PLANNED, on.Reverted): reverted,
    (Step.PLANNED, on.NothingStaged): staging_vanished,
    (Step.PLANNED, on.OthersCompared): others_compared,
    (Step.PLANNED, on.CommitsFound): conflict,
    (Step.PLANNED, on.PublishFenceSeen): fence_of_base_seen,
    (Step.PLANNED, on.StagingCommitted): lambda state, event: staging_committed(state.at(Step.STAGED), event),
    (Step.PLANNED, on.CarryRefused): lambda state, _: _stage(
        state.evolve(staging=replace(state.staging, carried=None))
    ),
    (Step.PLANNED, on.ChangesStaged): lambda state, _: _stage_fence(state),
    (Step.PLANNED, on.FenceStaged): lambda state, _: _commit(state),
    (Step.STAGED, on.StagingDiffers): staging_differs,
    (Step.STAGED, on.NothingStaged): nothing_staged,
    (Step.STAGED, on.StagingCommitted): staging_committed,
    (Step.STAGED, on.StagingVerified): staging_verified,
    (Step.STAGED, on.PublishFenceTried): publish_fence_tried,
    (Step.COMMITTED, on.DeliveryConfirmed): confirmed_before_merge,
    (Step.COMMITTED, on.BranchRead): branch_read_before_merge,
    (Step.COMMITTED, on.TurnCame): turn_came,
    (Step.COMMITTED, on.WorkflowsRead): workflows_read,
    (Step.COMMITTED, on.AdoptedRead): adopted_read,
    (Step.COMMITTED, on.ResultAccepted): recorded_result_accepted,
    (Step.COMMITTED, on.PublishFenceSeen): fence_of_adopted_seen,
    (Step.COMMITTED, on.Merged): lambda state, event: _read_back(state, event.commit_id),
    (Step.COMMITTED, on.MergeRefused): merge_refused,
    (Step.COMMITTED, on.MergeUnclear): merge_unclear,
    (Step.COMMITTED, on.PublicationRead): publication_read,
    **{(step, on.StagingBranchesRemoved): lambda state, _: clean_directory(state) for step in ENDED},
    **{(step, on.DirectoryRemoved): lambda state, _: cleaned(state) for step in ENDED},
}
