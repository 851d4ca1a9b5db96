"""The publication: from a finished function, or a publication to adopt, to a verified merge.

Three kinds of commit are published, all in the same way: a staging commit with the changes, one that undoes stale
publications (and has the changes on top, if there are any), and for an adoption, or no changes after a predecessor, the
branch head itself: an empty fence commit, after which no stale delivery can merge any more.
"""

from __future__ import annotations

from perago.attempt import commands as do
from perago.attempt import events as on
from perago.attempt import outcome, publication
from perago.attempt.ending import Next, fail, published
from perago.attempt.recovery import Adopt, Judgement, Refuse, asked, judge, own_publication
from perago.attempt.state import Base, State
from perago.attempt.steps import Step
from perago.ports import Commit, MergeRefusal

MERGE_TRIES = 3
REBUILD_TRIES = 3


# ------------------------------------------------------------------------------- what to publish


def changes_detected(state: State, event: on.ChangesDetected) -> Next:
    """Nothing to publish is a success at once, unless an earlier delivery may still merge: a fence commit stops it."""
    state = state.known(changes=event)
    if state.plan.read_only:
        if event.count:
            return fail(state, outcome.changed_read_only(event), terminal=False)
        return published(state, state.ref.ref)
    if not event.count and not _needs_commit(state):
        return published(state, state.ref.ref)
    if (excess := outcome.over_budget(state)) is not None:
        return fail(state, excess, terminal=False)
    return state.at(Step.PLANNED), do.CheckDelivery()


def adopt(state: State, commit: Commit) -> Next:
    """Take over `commit`, the branch head, if its result is valid today."""
    state = state.known(base=Base(commit.id), adopts=commit.id, staging_commit=commit)
    return state, do.ValidateRecordedResult(commit.metadata.get(publication.RESULT, ""))


def recorded_result_accepted(state: State, event: on.ResultAccepted) -> Next:
    """The adopted publication's result is this attempt's."""
    state = state.known(result=event.result)
    if state.staging_commit is None:
        raise ValueError("there is nothing to adopt")
    return _source_ready(state, state.staging_commit)


def _needs_commit(state: State) -> bool:
    """Whether something may still be on its way to the branch, an earlier delivery's merge or one of this attempt's, or
    lies there already: then even no changes need a commit, to be what the branch holds at last."""
    return state.has_predecessor or state.merges_sent > 0 or (state.base is not None and bool(state.base.stale))


# ---------------------------------------------------------------------------------- staging


def confirmed_before_staging(state: State, _: on.DeliveryConfirmed) -> Next:
    """Begin with a staging branch on the base. A fence commit needs none to be merged, but it tells whoever comes next
    that a merge may be on its way."""
    branch = publication.staging_branch(state.plan, state.rebuilt)
    return state.known(staging_branch=branch), do.CreateStagingBranch(state.ref.repository, branch, state.expected_head)


def head_read(state: State, event: on.HeadRead) -> Next:
    """The head is to be merged into its own branch."""
    return _source_ready(state.at(Step.STAGED), event.commit)


def staging_branch_created(state: State, _: on.StagingBranchCreated) -> Next:
    """Undo what is stale first. Without that and without changes the head itself is to be merged."""
    base = state.base
    if base is not None and base.stale:
        command = do.RevertStale(state.ref.repository, _staging(state), base.head, base.stale, state.ref.ref)
        return state, command
    if state.changes.count:
        return state, do.StageChanges(state.ref.repository, _staging(state))
    return state, do.ReadHead(state.ref.repository, state.expected_head)


def reverted(state: State, event: on.Reverted) -> Next:
    """The tree is that of the input ref: apply the changes."""
    state = state.known(reverted=event.commit)
    if state.changes.count:
        return state, do.StageChanges(state.ref.repository, _staging(state))
    return _source_ready(state.at(Step.STAGED), event.commit)


def changes_staged(state: State, _: on.ChangesStaged) -> Next:
    """Commit them, with everything that makes the publication recognisable."""
    metadata, message = publication.metadata(state, phase="staging"), publication.message(state)
    command = do.CommitStaging(state.ref.repository, _staging(state), _staged_on(state), message, metadata)
    return state.at(Step.STAGED), command


def nothing_staged(state: State, _: on.NothingStaged) -> Next:
    """lakeFS sees no difference, so there is none."""
    state = state.known(changes=on.ChangesDetected())
    if state.reverted is not None:
        return _source_ready(state, state.reverted)
    if _needs_commit(state):
        return state, do.ReadHead(state.ref.repository, state.expected_head)
    return published(state, state.ref.ref)


def staging_committed(state: State, event: on.StagingCommitted) -> Next:
    """It must be ours, on what we began with; then it is compared with the plan."""
    is_mine = publication.is_mine(event.commit, state.plan.delivery)
    if event.commit.parents != (_staged_on(state),) or not is_mine:
        return fail(state, outcome.foreign_staging(state, event.commit), terminal=False)
    state = state.known(staging_commit=event.commit)
    return state, do.VerifyStaging(state.ref.repository, state.ref.ref, event.commit.id)


def staging_verified(state: State, _: on.StagingVerified) -> Next:
    """The tree is the input plus exactly the changes."""
    if state.staging_commit is None:
        raise ValueError("there is no staging commit")
    return _source_ready(state, state.staging_commit)


def _source_ready(state: State, commit: Commit) -> Next:
    return state.known(staging_commit=commit), do.CheckPublishFence(state.ref.repository, commit.id)


def publish_fence_seen(state: State, event: on.PublishFenceSeen) -> Next:
    """Without the fence the merge is watched, not guarded; who requires it gets no merge."""
    state = state.known(fence=event.state)
    if state.plan.fence_required and event.state is not on.FenceState.INSTALLED:
        return fail(state, outcome.unfenced(state, event.state), terminal=True)
    return state.at(Step.COMMITTED), do.CheckDelivery()


# ------------------------------------------------------------------------------------ merging


def confirmed_before_merge(state: State, _: on.DeliveryConfirmed) -> Next:
    """Look at the branch right before the merge."""
    return state, do.ReadBranch(state.ref)


def branch_read_before_merge(state: State, event: on.BranchRead) -> Next:
    """Merge only on the head that the publication was built on; whatever else is there is judged."""
    own = own_publication(state, event)
    if own is not None:
        return _read_back(state, own.id)
    if event.head(state.ref.ref) == state.expected_head:
        if event.late and not state.asked_again:
            return state.known(asked_again=True), do.CheckDelivery()
        return _merge(state.known(asked_again=False))
    state = state.known(read=event, asked_again=False)
    if task_ids := asked(state, event):
        return state, do.ReadLineage(task_ids)
    return _decide(state, judge(state, event, None))


def lineage_read_before_merge(state: State, event: on.LineageRead) -> Next:
    """The branch has become another while the attempt was at work."""
    if state.read is None:
        raise ValueError("no range is being judged")
    return _decide(state, judge(state, state.read, event))


def _decide(state: State, judgement: Judgement) -> Next:
    if isinstance(judgement, Refuse):
        return fail(state, judgement.reason, terminal=True)
    if state.rebuilt >= REBUILD_TRIES:
        return fail(state, outcome.restless(state), terminal=False)
    state = state.known(rebuilt=state.rebuilt + 1)
    return adopt(state, judgement.commit) if isinstance(judgement, Adopt) else _restage(state, judgement.base)


def _restage(state: State, base: Base) -> Next:
    """Stage the same changes on another base. What an adoption was to take over is gone, and so is the attempt's own
    result: a retry judges anew."""
    if state.adopts is not None:
        return fail(state, outcome.adopted_is_gone(state), terminal=False)
    old = state.staging_branch
    state = state.at(
        Step.PLANNED,
        base=base,
        reverted=None,
        staging_commit=None,
        staging_branch=None,
    )
    return (
        (state, do.CheckDelivery()) if old is None else (state, do.RemoveStagingBranches(state.ref.repository, (old,)))
    )


def old_staging_branch_removed(state: State, _: on.StagingBranchesRemoved) -> Next:
    """Go on with a new one."""
    return state, do.CheckDelivery()


def _merge(state: State) -> Next:
    if state.staging_commit is None:
        raise ValueError("there is no staging commit")
    if state.merges_sent >= MERGE_TRIES:
        return fail(state, outcome.unconfirmed(state, MERGE_TRIES), terminal=False)
    command = do.Merge(
        state.ref.repository,
        state.staging_commit.id,
        state.ref.branch,
        publication.message(state),
        publication.metadata(state, phase="fence" if _is_fence_commit(state) else "merge"),
        allow_empty=_may_be_empty(state),
    )
    return state.known(merges_sent=state.merges_sent + 1), command


def _may_be_empty(state: State) -> bool:
    """Whether the tree may be the head's: that of a fence commit, or one in which what is undone is done again, such
    as a removal. lakeFS refuses that unless it is asked not to; the publish fence stands all the same."""
    return _is_fence_commit(state) or (state.base is not None and bool(state.base.stale))


def _is_fence_commit(state: State) -> bool:
    return state.staging_commit is not None and state.staging_commit.id == state.expected_head


def merged(state: State, event: on.Merged) -> Next:
    """Read back what was published."""
    return _read_back(state, event.commit_id)


def _read_back(state: State, commit_id: str) -> Next:
    state = state.known(open_merge=outcome.unverified_merge(state, commit_id), merge_unanswered=False)
    return state, do.ReadPublication(state.ref.repository, commit_id)


def merge_denied(state: State, event: on.MergeDenied) -> Next:
    """A foreign hook and a dirty branch are the operators' to settle. The rest says that the head is not what it
    was, or that an earlier try came through: look."""
    match event.reason:
        case MergeRefusal.HOOK:
            return fail(state, outcome.hook_refused(state, event.detail), terminal=False)
        case MergeRefusal.DIRTY:
            return fail(state, outcome.dirty(state), terminal=False)
        case MergeRefusal.HEAD_MOVED | MergeRefusal.CONFLICT | MergeRefusal.NO_CHANGES:
            return state.known(problem=event.detail), do.CheckDelivery()


def merge_unclear(state: State, event: on.MergeUnclear) -> Next:
    """It may have taken place, or may yet: look."""
    state = state.known(problem=event.detail, open_merge=outcome.unanswered_merge(state), merge_unanswered=True)
    return state, do.CheckDelivery()


def publication_read(state: State, event: on.PublicationRead) -> Next:
    """First parent and tree must be those that were intended."""
    state = state.known(open_merge=None)
    wrong = outcome.wrong_publication(state, event.commit)
    if wrong is not None:
        return fail(state, wrong, terminal=True)
    return published(state, event.commit.id)


def _staging(state: State) -> str:
    if state.staging_branch is None:
        raise ValueError("there is no staging branch")
    return state.staging_branch


def _staged_on(state: State) -> str:
    return state.reverted.id if state.reverted is not None else state.expected_head
