"""The publication: from a finished function, or a publication to adopt, to a verified merge.

Three kinds of commit are published, all in the same way: a staging commit with the changes, one that undoes stale
publications (and has the changes on top, if there are any), and for an adoption, or no changes after a predecessor, the
branch head itself: an empty fence commit, after which no stale delivery can merge any more. Each of them brings the
publish fence along where the branch has none, so that this very merge is guarded.
"""

from __future__ import annotations

from collections.abc import Callable

from perago.attempt import commands as do
from perago.attempt import events as on
from perago.attempt import outcome, publication
from perago.attempt.ending import Next, check_again, fail, published
from perago.attempt.fence import FENCE_PATH, IMPOSSIBLE_HEAD
from perago.attempt.recovery import Adopt, Judgement, Refuse, judge, lineage_ids, own_publications
from perago.attempt.state import Base, State
from perago.attempt.steps import Step
from perago.ports import Commit, MergeRefusal
from perago.settings.values import PublishFence

MERGE_TRIES = 3
REBUILD_TRIES = 3


# ------------------------------------------------------------------------------- what to publish


def changes_detected(state: State, event: on.ChangesDetected) -> Next:
    """Nothing to publish is a success at once, unless an earlier delivery may still merge: a fence commit stops it."""
    state = state.evolve(changes=event)
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
    """Take over `commit`, the branch head, if its result is valid today. What this attempt's own function changed, if
    it has run, is dropped."""
    base = Base(commit.id, tree=commit.meta_range_id)
    state = state.evolve(base=base, adopts=commit.id, changes=on.ChangesDetected())
    return state, do.ValidateRecordedResult(commit.metadata.get(publication.RESULT, ""))


def recorded_result_accepted(state: State, event: on.ResultAccepted) -> Next:
    """The adopted publication's result is this attempt's."""
    state = state.evolve(result=event.result)
    return state, do.CheckPublishFence(state.ref.repository, state.expected_head)


def fence_of_adopted_seen(state: State, event: on.PublishFenceSeen) -> Next:
    """Put a fence commit on what is adopted."""
    return see_fence(state, event, state.expected_head, _stage_anew)


def see_fence(state: State, event: on.PublishFenceSeen, commit_id: str, go_on: Callable[[State], Next]) -> Next:
    """The fence of commit `commit_id`, which the publication is built on, decides whether it brings one along. A file
    that only has the fence's name is not overwritten, and with it no merge would be guarded: refuse before any work is
    done."""
    insists = state.plan.publish_fence is not PublishFence.OFF
    if insists and event.state is on.FenceState.ALTERED:
        return fail(state, outcome.altered_fence(state, commit_id, FENCE_PATH), terminal=True)
    return go_on(state.evolve(fence=event.state, brings_fence=insists and event.state is on.FenceState.ABSENT))


def _needs_commit(state: State) -> bool:
    """Whether something may still be on its way to the branch, an earlier delivery's merge or one of this attempt's, or
    lies there already: then even no changes need a commit, to be what the branch holds at last."""
    return state.has_predecessor or state.merges_sent > 0 or (state.base is not None and bool(state.base.stale))


# ---------------------------------------------------------------------------------- staging


def confirmed_before_staging(state: State, event: on.DeliveryConfirmed) -> Next:
    """Begin with a staging branch on the base. A fence commit needs none to be merged, but the branch tells later
    deliveries that a merge may be on its way."""
    if (again := check_again(state, event)) is not None:
        return again
    state = state.evolve(late_answers=0)
    branch = publication.staging_branch(state.plan, state.rebuilt)
    return state.evolve(staging_branch=branch), do.CreateStagingBranch(
        state.ref.repository, branch, state.expected_head
    )


def head_read(state: State, event: on.HeadRead) -> Next:
    """The head is to be merged into its own branch."""
    return _source_ready(state.at(Step.STAGED), event.commit)


def staging_branch_created(state: State, _: on.StagingBranchCreated) -> Next:
    """Undo what is stale first. Without that and without changes the head itself is to be merged."""
    base = state.base
    if base is not None and base.stale:
        command = do.RevertStale(state.ref.repository, _staging(state), base.head, base.stale, state.ref.ref)
        return state, command
    return _stage(state) or (state, do.ReadHead(state.ref.repository, state.expected_head))


def reverted(state: State, event: on.Reverted) -> Next:
    """The tree is that of the input ref: apply the changes."""
    state = state.evolve(reverted=event.commit)
    return _stage(state) or _source_ready(state.at(Step.STAGED), event.commit)


def _stage(state: State) -> Next | None:
    """Put the changes and the fence on the staging branch; None: there is nothing to put there."""
    if state.changes.count:
        return state, do.StageChanges(state.ref.repository, _staging(state))
    return changes_staged(state, None) if state.brings_fence else None


def changes_staged(state: State, _: on.ChangesStaged | None) -> Next:
    """The fence comes along where the branch has none."""
    if state.brings_fence:
        return state, do.StageFence(state.ref.repository, _staging(state))
    return fence_staged(state, None)


def fence_staged(state: State, _: on.FenceStaged | None) -> Next:
    """Commit what is staged, with everything that makes the publication recognisable."""
    metadata, message = publication.metadata(state, phase="staging"), publication.message(state)
    command = do.CommitStaging(state.ref.repository, _staging(state), _staged_on(state), message, metadata)
    return state.at(Step.STAGED), command


def nothing_staged(state: State, _: on.NothingStaged) -> Next:
    """lakeFS sees no difference, so there is none."""
    state = state.evolve(changes=on.ChangesDetected())
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
    state = state.evolve(staging_commit=event.commit)
    built_on = state.adopts or state.ref.ref
    has_changes = state.changes.count > 0
    return state, do.VerifyStaging(
        state.ref.repository, built_on, event.commit.id, changes=has_changes, fence=state.brings_fence
    )


def staging_verified(state: State, _: on.StagingVerified) -> Next:
    """The tree is what it was built on, plus exactly what was planned."""
    if state.staging_commit is None:
        raise ValueError("there is no staging commit")
    return _source_ready(state, state.staging_commit)


def _source_ready(state: State, commit: Commit) -> Next:
    """A fence that was brought along is looked at. One that was there before is there still: what is to be merged
    differs from what was looked at in the planned keys only."""
    state = state.evolve(staging_commit=commit)
    if state.brings_fence:
        return state, do.CheckPublishFence(state.ref.repository, commit.id)
    return _try_fence(state, commit)


def publish_fence_seen(state: State, event: on.PublishFenceSeen) -> Next:
    """The fence that was brought along must be in the commit that is to be merged."""
    if event.state is not on.FenceState.INSTALLED or state.staging_commit is None:
        return fail(state, outcome.fence_went_missing(state, event.state), terminal=False)
    return _try_fence(state.evolve(fence=event.state), state.staging_commit)


def _try_fence(state: State, source: Commit) -> Next:
    """Make sure that the server obeys the fence of what is to be merged. Where the fence is switched off, the merge is
    watched, not guarded."""
    if state.plan.publish_fence is PublishFence.OFF:
        return state.at(Step.COMMITTED), do.CheckDelivery()
    metadata = publication.metadata(state, phase="challenge")
    metadata |= {publication.EXPECTED_HEAD: IMPOSSIBLE_HEAD, publication.RESULT: ""}
    return state, do.TryPublishFence(state.ref.repository, source.id, _staging(state), metadata)


def publish_fence_tried(state: State, event: on.PublishFenceTried) -> Next:
    """Where the server runs no hooks, or does not say, the merge is watched, not guarded; a deployment that requires
    the fence gets no merge."""
    if event.enforced is not None:
        state = state.evolve(fence=on.FenceState.ENFORCED if event.enforced else on.FenceState.NOT_ENFORCED)
    if state.plan.publish_fence is PublishFence.REQUIRED and not event.enforced:
        if event.enforced is None:
            return fail(state, outcome.not_tried(state), terminal=False)
        return fail(state, outcome.not_enforced(state), terminal=True)
    return state.at(Step.COMMITTED), do.CheckDelivery()


# ------------------------------------------------------------------------------------ merging


def confirmed_before_merge(state: State, event: on.DeliveryConfirmed) -> Next:
    """Look at the branch right before the merge."""
    return check_again(state, event) or (state, do.ReadBranch(state.ref))


def branch_read_before_merge(state: State, event: on.BranchRead) -> Next:
    """Merge only on the head that the publication was built on; whatever else is there is judged."""
    if own := own_publications(state, event):
        newest, *below = own
        is_built_as_planned = own[-1].parents[:1] == (state.expected_head,)
        doubles = tuple(commit.id for commit in below) if is_built_as_planned else ()
        return _read_back(state.evolve(doubles=doubles), newest.id)
    if event.head(state.ref.ref) == state.expected_head:
        return check_again(state, event) or _merge(state.evolve(late_answers=0))
    state = state.evolve(read=event, late_answers=0)
    if task_ids := lineage_ids(state, event):
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
    state = state.evolve(rebuilt=state.rebuilt + 1)
    return adopt(state, judgement.commit) if isinstance(judgement, Adopt) else _restage(state, judgement.base)


def _restage(state: State, base: Base) -> Next:
    """Stage the same changes on another base. What an adoption was to take over is gone, and so is the attempt's own
    result: a retry judges anew."""
    if state.adopts is not None:
        return fail(state, outcome.adopted_is_gone(state), terminal=False)
    return _stage_anew(state.evolve(base=base))


def _stage_anew(state: State) -> Next:
    """Begin with staging, on another branch than before."""
    old = state.staging_branch
    state = state.at(Step.PLANNED, reverted=None, staging_commit=None, staging_branch=None)
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
        allow_empty=_is_empty(state),
    )
    return state.evolve(merges_sent=state.merges_sent + 1), command


def _is_empty(state: State) -> bool:
    """Whether the tree is the head's: that of a fence commit, or one in which what is undone is done again, such as a
    removal. lakeFS refuses exactly these merges unless it is asked not to. The others are never sent with that: without
    a publish fence a late copy of the request would take place once more."""
    if state.staging_commit is None or state.base is None:
        return False
    return state.staging_commit.id == state.base.head or state.staging_commit.meta_range_id == state.base.tree


def _is_fence_commit(state: State) -> bool:
    return not state.changes.count and not (state.base and state.base.stale)


def merged(state: State, event: on.Merged) -> Next:
    """Read back what was published."""
    return _read_back(state, event.commit_id)


def _read_back(state: State, commit_id: str) -> Next:
    state = state.evolve(open_merge=outcome.unverified_merge(state, commit_id), merge_unanswered=False)
    return state, do.ReadPublication(state.ref.repository, commit_id)


def merge_refused(state: State, event: on.MergeRefused) -> Next:
    """A foreign hook and a dirty branch are the operators' to settle. The rest says that the head is not what it
    was, or that an earlier try came through: look."""
    match event.reason:
        case MergeRefusal.HOOK:
            return fail(state, outcome.hook_refused(state, event.detail), terminal=False)
        case MergeRefusal.DIRTY:
            return fail(state, outcome.dirty(state), terminal=False)
        case MergeRefusal.HEAD_MOVED | MergeRefusal.CONFLICT | MergeRefusal.NO_CHANGES:
            # An earlier copy of the request may have taken place, unseen: only that, or another commit, explains it.
            is_doubled = event.reason is MergeRefusal.NO_CHANGES or _is_empty(state)
            open_merge = outcome.unanswered_merge(state) if is_doubled else None
            return state.evolve(problem=event.detail, open_merge=state.open_merge or open_merge), do.CheckDelivery()


def merge_unclear(state: State, event: on.MergeUnclear) -> Next:
    """It may have taken place, or may yet: look."""
    state = state.evolve(problem=event.detail, open_merge=outcome.unanswered_merge(state), merge_unanswered=True)
    return state, do.CheckDelivery()


def publication_read(state: State, event: on.PublicationRead) -> Next:
    """First parent and tree must be those that were intended. What lies between may be this attempt's own: a merge
    that was sent twice and took place twice."""
    wrong = outcome.wrong_publication(state, event.commit)
    if wrong is not None and state.merges_sent > 1 and state.doubles is None:
        return state, do.CheckDelivery()
    state = state.evolve(open_merge=None)
    if wrong is not None:
        return fail(state, wrong, terminal=True)
    return published(state, event.commit.id)


def _staging(state: State) -> str:
    if state.staging_branch is None:
        raise ValueError("there is no staging branch")
    return state.staging_branch


def _staged_on(state: State) -> str:
    return state.reverted.id if state.reverted is not None else state.expected_head
