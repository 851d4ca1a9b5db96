"""The publication: from a finished function, or a publication to adopt, over a staging commit to a verified merge.

Three kinds of staging commit are published, all in the same way: one with the changes, one on top of reverts that undo
stale publications, and an empty one for an adoption, or for no changes after a predecessor. The merge of an empty one
is a fence commit, after which no stale delivery can merge any more. Each of them brings the publish fence along where
the branch has none, so that this very merge is guarded.

Where others have advanced the branch and the task says `on_moved_head="rebase"`, the changes go on the present head.
lakeFS's three-way merge can lose files (`docs/dev/servers/lakefs.md` 1.7), so it is never trusted: what is to be merged
is compared with the head, and differs from it in exactly the planned keys.

The merge is the one step that others see. It is sent on the head that the publication was built on, and where the
branch has become another meanwhile, that is judged as on arrival.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import takewhile

from perago.attempt import commands as do
from perago.attempt import events as on
from perago.attempt import outcome, publication, refusals
from perago.attempt.history import (
    Adopt,
    Judgement,
    Refuse,
    ask_first,
    judge,
    judged,
    own_publications,
    undoing,
    with_lineage,
)
from perago.attempt.outcome import Next, check_again, fail, published, refuse, refuse_on
from perago.attempt.publication import FENCE_PATH, IMPOSSIBLE_HEAD
from perago.attempt.refusals import facts_of, named, short
from perago.attempt.state import Base, State, Step
from perago.ports import Commit, MergeRefusal
from perago.settings.sources import PublishFence

_CONFLICTS_TRACED = 3
"""Keys of a conflict whose last commit is looked for."""


# ------------------------------------------------------------------------------- what to publish


def changes_detected(state: State, event: on.ChangesDetected) -> Next:
    """Nothing to publish is a success at once, unless an earlier delivery may still merge: a fence commit stops it."""
    state = state.evolve(changes=event)
    if refused := refuse_on("changes", state):
        return refused
    if state.plan.read_only or not (event.count or needs_commit(state)):
        return published(state, state.ref.ref)
    return state.at(Step.PLANNED), do.CheckDelivery()


def adopt(state: State, commit: Commit, head: Commit) -> Next:
    """Take over `commit`, which is the branch's `head` or lies below it, if its result is valid today. What this
    attempt's own function changed, if it has run, is dropped."""
    base = Base(head.id, tree=head.meta_range_id)
    state = state.evolve(base=base, adopts=None, changes=on.ChangesDetected(), shared=frozenset(), carried=None)
    since = takewhile(lambda each: each.id != commit.id, state.read.since if state.read else ())
    above = tuple((each.id, each.parents[0]) for each in since)
    return state, do.ReadAdopted(state.ref.repository, commit, head.id, above)


def adopted_read(state: State, event: on.AdoptedRead) -> Next:
    """Refuse a copy of a publication. What others have made of the adopted files since stays, and is worth a remark:
    the step has been done."""
    if not publication.is_built_from(event.commit, event.source):
        why = f"its second parent {short(event.source.id)} is not the staging commit of that publication"
        older = "An earlier version of perago may have published it, without changes. "
        return refuse(state, refusals.COPIED, **facts_of(event.commit), why=why, older=older)
    state = state.evolve(adopts=event.commit.id, changed_since=event.changed_since)
    return state, do.ValidateRecordedResult(event.source.metadata.get(publication.RESULT, ""))


def recorded_result_accepted(state: State, event: on.ResultAccepted) -> Next:
    """The adopted publication's result is this attempt's."""
    state = state.evolve(result=event.result)
    return state, do.CheckPublishFence(state.ref.repository, state.expected_head)


def fence_of_adopted_seen(state: State, event: on.PublishFenceSeen) -> Next:
    """Put a fence commit on what is adopted."""
    return see_fence(state, event, state.expected_head, stage_anew)


def see_fence(state: State, event: on.PublishFenceSeen, commit_id: str, go_on: Callable[[State], Next]) -> Next:
    """The fence of commit `commit_id`, which the publication is built on, decides whether it brings one along. A file
    that only has the fence's name is not overwritten, and with it no merge would be guarded: refuse before any work is
    done."""
    if commit_id == state.ref.ref:
        state = state.evolve(fence_of_ref=event)
    insists = state.plan.publish_fence is not PublishFence.OFF
    if insists and event.state is on.FenceState.ALTERED:
        published_text = "Nothing was published." if state.adopts is None else "That commit has this step's result."
        return refuse(state, refusals.ALTERED_FENCE, path=FENCE_PATH, commit=short(commit_id), published=published_text)
    brings_fence = insists and event.state is on.FenceState.ABSENT
    return go_on(state.evolve(fence=event.state, fence_object=event.fence, brings_fence=brings_fence))


def needs_commit(state: State) -> bool:
    """Whether something may still be on its way to the branch, an earlier delivery's merge or one of this attempt's, or
    lies there already: then even no changes need a commit, to be what the branch holds at last."""
    return state.has_predecessor or state.merges_sent > 0 or (state.base is not None and bool(state.base.stale))


# ---------------------------------------------------------------------------------- staging


def confirmed_before_staging(state: State, event: on.DeliveryConfirmed) -> Next:
    """Begin with a staging branch on the base. It also tells later deliveries that a merge may be on its way."""
    if (again := check_again(state, event)) is not None:
        return again
    state = state.evolve(late_answers=0)
    branch = publication.staging_branch(state.plan, state.rebuilt)
    return state.evolve(staging_branch=branch), do.CreateStagingBranch(
        state.ref.repository, branch, state.expected_head
    )


def staging_branch_created(state: State, _: on.StagingBranchCreated) -> Next:
    """Undo what is stale first."""
    base = state.base
    if base is not None and base.stale:
        stale, living = undoing(state, base)
        others = living if state.plan.rebase else []
        command = do.RevertStale(
            state.ref.repository,
            _staging(state),
            base.head,
            tuple(stale),
            state.ref.ref,
            among_others=state.plan.rebase,
            others=tuple((commit.id, commit.parents[0]) for commit in others),
            shared=publication.shared(others),
            merge_open=state.open_merge is not None,
        )
        return state, command
    return _base_ready(state)


def reverted(state: State, event: on.Reverted) -> Next:
    """Apply the changes, now that what is stale is undone."""
    return _base_ready(state.evolve(reverted=event.commit, held=event.held))


def _base_ready(state: State) -> Next:
    """On a head that others have made, the changes must not meet theirs, and the fence is looked for again."""
    if not state.plan.rebase or not state.is_moved or state.adopts is not None:
        return _stage(state)
    if state.changes.count or state.plan.has_reads:
        return state, do.CompareWithOthers(state.ref.repository, state.ref.ref, _staged_on(state))
    return state, do.CheckPublishFence(state.ref.repository, _staged_on(state))


def others_compared(state: State, event: on.OthersCompared) -> Next:
    """Conflicts are final. What only both changes together violate may be mended by others, so a retry may succeed."""
    if event.conflicts:
        return find_commits(state, event)
    if event.violations:
        reason = outcome.violated_together(state, event.violations)
        return fail(state, reason, terminal=refusals.VIOLATED_TOGETHER.terminal)
    state = state.evolve(shared=event.shared)
    if state.fence_of_ref is not None and not event.fence_changed:
        return fence_of_base_seen(state, state.fence_of_ref)
    return state, do.CheckPublishFence(state.ref.repository, _staged_on(state))


def find_commits(state: State, event: on.OthersCompared) -> Next:
    """Name the commits that are in the way."""
    since = tuple((commit.id, commit.parents[0]) for commit in state.read.since) if state.read else ()
    keys = tuple(event.conflicts)[:_CONFLICTS_TRACED]
    return state.evolve(conflicts=event.conflicts), do.FindCommits(state.ref.repository, since, keys)


def conflict(state: State, event: on.CommitsFound) -> Next:
    """A retry would get the same ref and meet the same conflict."""
    return fail(state, outcome.conflict(state, event.by_key), terminal=refusals.CONFLICT.terminal)


def fence_of_base_seen(state: State, event: on.PublishFenceSeen) -> Next:
    """Carry no staged changes to a head that has lost the fence since: they lean on it."""
    if event.state is on.FenceState.ABSENT and not state.brings_fence:
        state = state.evolve(carried=None)
    return see_fence(state, event, _staged_on(state), _stage)


def _stage(state: State) -> Next:
    """Put the changes and the fence on the staging branch."""
    if state.has_changes and state.carried is not None:
        metadata = publication.metadata(state, phase="staging") | {publication.EXPECTED_HEAD: _staged_on(state)}
        return state, do.CarryChanges(
            state.ref.repository,
            state.carried,
            _staging(state),
            _staged_on(state),
            publication.message(state),
            metadata,
        )
    if state.has_changes:
        return state, do.StageChanges(state.ref.repository, _staging(state), state.shared)
    return changes_staged(state, None)


def carried(state: State, event: on.StagingCommitted) -> Next:
    """The changes are on this staging branch, too."""
    return staging_committed(state.at(Step.STAGED), event)


def carry_refused(state: State, _: on.CarryRefused) -> Next:
    """Upload them again."""
    return _stage(state.evolve(carried=None))


def changes_staged(state: State, _: on.ChangesStaged | None) -> Next:
    """The fence comes along where the branch has none."""
    if state.brings_fence:
        return state, do.StageFence(state.ref.repository, _staging(state))
    return fence_staged(state, None)


def fence_staged(state: State, _: on.FenceStaged | None) -> Next:
    """Commit what is staged, with everything that makes the publication recognizable. Without changes the commit is
    empty: every publication has a staging commit, by which a later attempt knows it from a copy."""
    command = do.CommitStaging(
        state.ref.repository,
        _staging(state),
        _staged_on(state),
        publication.message(state),
        publication.metadata(state, phase="staging"),
        allow_empty=not (state.has_changes or state.brings_fence),
    )
    return state.at(Step.STAGED), command


def staging_vanished(state: State, _: on.NothingStaged) -> Next:
    """Stage the changes once more, on another branch: the first one was reset, or lakeFS has lost them."""
    if state.staged_again:
        return refuse(state, refusals.STAGING_VANISHED)
    return stage_anew(state.evolve(staged_again=True, rebuilt=state.rebuilt + 1))


def nothing_staged(state: State, event: on.NothingStaged) -> Next:
    """Believe lakeFS only where the MD5 of the former bytes is unknown."""
    if state.must_differ or not state.has_changes:
        return staging_vanished(state, event)
    if not (needs_commit(state) or state.is_moved):
        return published(state, state.ref.ref)
    return fence_staged(state.evolve(changes=on.ChangesDetected()), None)


def staging_committed(state: State, event: on.StagingCommitted) -> Next:
    """It must be ours, on what we began with; then it is compared with the plan."""
    is_mine = publication.is_mine(event.commit, state.plan.delivery)
    built_on = _staged_on(state)
    carried = (state.carried,) if state.carried and state.has_changes else ()
    if event.commit.parents != (built_on, *carried) or not is_mine:
        return refuse(state, refusals.FOREIGN_STAGING, found=short(event.commit.id))
    return state.evolve(staging_commit=event.commit), do.VerifyStaging(
        state.ref.repository,
        built_on,
        event.commit.id,
        changes=state.has_changes,
        fence=state.brings_fence,
        shared=state.shared,
        head=state.expected_head if state.held else "",
        held=state.held,
    )


def staging_differs(state: State, event: on.StagingDiffers) -> Next:
    """lakeFS's merge has lost something where the changes were carried: upload them. Else another client has been at
    work."""
    if event.held:
        why = f"others have published the same at {named(event.keys)}, and this attempt would change it"
        stale = state.base.stale if state.base else ()
        reason = outcome.cannot_undo(state.ref.repository, stale, why, merge_open=state.open_merge is not None)
        return fail(state, reason, terminal=refusals.CANNOT_UNDO.terminal)
    if state.carried is not None:
        return stage_anew(state.evolve(rebuilt=state.rebuilt + 1, carried=None))
    return refuse(state, refusals.STAGING_DIFFERS, keys=named(event.keys))


def staging_verified(state: State, event: on.StagingVerified) -> Next:
    """The tree is what it was built on, plus exactly what was planned. A fence that was brought along belongs to that;
    one that was there before is there still."""
    source = state.staging_commit
    if source is None:
        raise ValueError("there is no staging commit")
    if state.brings_fence:
        state = state.evolve(fence=on.FenceState.INSTALLED, fence_object=event.fence)
    return _try_fence(state, source)


def _try_fence(state: State, source: Commit) -> Next:
    """Make sure that the server obeys the fence of what is to be merged. Where the fence is switched off, the merge is
    watched, not guarded."""
    if state.plan.publish_fence is PublishFence.OFF:
        return _committed(state)
    metadata = publication.metadata(state, phase="challenge")
    metadata |= {publication.EXPECTED_HEAD: IMPOSSIBLE_HEAD, publication.RESULT: ""}
    return state, do.TryPublishFence(state.ref.repository, source.id, _staging(state), metadata, state.fence_object)


def publish_fence_tried(state: State, event: on.PublishFenceTried) -> Next:
    """Go on without a guard where the server runs no hooks, or does not say: the merge is watched, not guarded; a
    deployment that requires the fence gets no merge."""
    if event.enforced is not None:
        state = state.evolve(fence=on.FenceState.ENFORCED if event.enforced else on.FenceState.NOT_ENFORCED)
    if state.plan.publish_fence is PublishFence.REQUIRED and not event.enforced:
        if event.enforced is None:
            return refuse(state, refusals.NOT_TRIED)
        return refuse(state, refusals.NOT_ENFORCED)
    return _committed(state)


def _committed(state: State) -> Next:
    """Go on to the merge. Attempts of this host that publish to the branch continue one at a time."""
    state = state.at(Step.COMMITTED)
    if state.plan.rebase and not state.rebuilt:
        return state, do.AwaitTurn(state.ref.repository, state.ref.branch, tries=0)
    return state, do.CheckDelivery()


def stage_anew(state: State) -> Next:
    """Begin with staging, on another branch than before."""
    old = state.staging_branch
    state = state.at(Step.PLANNED, reverted=None, held=frozenset(), staging_commit=None, staging_branch=None)
    return (
        (state, do.CheckDelivery()) if old is None else (state, do.RemoveStagingBranches(state.ref.repository, (old,)))
    )


def old_staging_branch_removed(state: State, _: on.StagingBranchesRemoved) -> Next:
    """Go on with a new one."""
    return state, do.CheckDelivery()


def _staging(state: State) -> str:
    if state.staging_branch is None:
        raise ValueError("there is no staging branch")
    return state.staging_branch


def _staged_on(state: State) -> str:
    return state.reverted.id if state.reverted is not None else state.expected_head


MERGE_TRIES = 3
"""Merges without a use. One is forgiven for each race that was lost."""


def confirmed_before_merge(state: State, event: on.DeliveryConfirmed) -> Next:
    """Look at the branch right before the merge."""
    return check_again(state, event) or (state, do.ReadBranch(state.ref, with_head=refusals.need_head()))


def branch_read_before_merge(state: State, event: on.BranchRead) -> Next:
    """Merge only on the head that the publication was built on; whatever else is there is judged."""
    if own := own_publications(state, event):
        newest, *below = own
        is_built_as_planned = own[-1].parents[:1] == (state.expected_head,)
        doubles = tuple(commit.id for commit in below) if is_built_as_planned else ()
        return _read_back(state.evolve(doubles=doubles), newest.id)
    if event.head(state.ref.ref) == state.expected_head:
        refused = None if state.adopts else refuse_on("branch", state.evolve(read=event))
        return refused or check_again(state, event) or _merge(state.evolve(late_answers=0))
    if state.plan.rebase and state.rebuilt and not state.has_turn:
        return state, do.AwaitTurn(state.ref.repository, state.ref.branch, state.rebuilt)
    return _judge(state.evolve(read=event, late_answers=0))


def _judge(state: State) -> Next:
    return ask_first(state) or _build_anew(judged(state), judge(state))


def turn_came(state: State, event: on.TurnCame) -> Next:
    """Look again, for others have had time to finish."""
    if not event.in_time:
        state = state.evolve(lost_races=state.lost_races + 1)
        return refuse(state, refusals.RESTLESS)
    return state.evolve(has_turn=True), do.CheckDelivery()


def lineage_read_before_merge(state: State, event: on.LineageRead) -> Next:
    """The branch has become another while the attempt was at work."""
    return _judge(with_lineage(state, event))


def workflows_read_before_merge(state: State, event: on.WorkflowsRead) -> Next:
    """The same, where other workflows have published."""
    return _judge(state.evolve(workflows={**state.workflows, **event.rows}))


def _build_anew(state: State, judgement: Judgement) -> Next:
    if isinstance(judgement, Refuse):
        return fail(state, judgement.reason, terminal=judgement.terminal)
    state = state.evolve(lost_races=state.lost_races + 1)
    if state.lost_races > state.plan.rebuild_tries:
        return refuse(state, refusals.RESTLESS)
    merge_tries = max(0, state.merge_tries - 1)  # the next one may be sent once more
    state = state.evolve(rebuilt=state.rebuilt + 1, has_turn=False, merge_tries=merge_tries)
    if isinstance(judgement, Adopt):
        return adopt(state, judgement.commit, judgement.head)
    return _restage(state, judgement.base)


def _restage(state: State, base: Base) -> Next:
    """Stage the same changes on another base. What an adoption was to take over is gone, and so is the attempt's own
    result: a retry judges again."""
    if state.adopts is not None:
        return refuse(state, refusals.ADOPTED_IS_GONE)
    if state.plan.rebase and state.has_changes and state.staging_commit is not None:
        state = state.evolve(carried=state.staging_commit.id)
    return stage_anew(state.evolve(base=base, shared=frozenset()))


def _merge(state: State) -> Next:
    if state.staging_commit is None:
        raise ValueError("there is no staging commit")
    if state.merge_tries >= MERGE_TRIES:
        return refuse(state, refusals.UNCONFIRMED, tries=str(MERGE_TRIES))
    command = do.Merge(
        state.ref.repository,
        state.staging_commit.id,
        state.ref.branch,
        publication.message(state),
        publication.metadata(state, phase="fence" if _is_fence_commit(state) else "merge"),
        allow_empty=_is_empty(state),
    )
    return state.evolve(merges_sent=state.merges_sent + 1, merge_tries=state.merge_tries + 1), command


def _is_empty(state: State) -> bool:
    """Whether the tree is the head's: that of a fence commit, or one in which what is undone is done again, such as a
    removal. lakeFS refuses exactly these merges unless it is asked not to. The others are never sent with that: without
    a publish fence a late copy of the request would take place once more."""
    if state.staging_commit is None or state.base is None:
        return False
    is_unchanged = _is_fence_commit(state) and not state.brings_fence
    return is_unchanged or state.staging_commit.meta_range_id == state.base.tree


def _is_fence_commit(state: State) -> bool:
    return not state.has_changes and not (state.base and state.base.stale)


def merged(state: State, event: on.Merged) -> Next:
    """Read back what was published."""
    return _read_back(state, event.commit_id)


def _read_back(state: State, commit_id: str) -> Next:
    open_merge = refusals.UNVERIFIED_MERGE.text(state, commit=short(commit_id))
    state = state.evolve(open_merge=open_merge, merge_unanswered=False)
    return state, do.ReadPublication(state.ref.repository, commit_id)


def merge_refused(state: State, event: on.MergeRefused) -> Next:
    """A foreign hook and a dirty branch are the operators' to settle. The rest says that the head is not what it
    was, or that an earlier try came through: look."""
    match event.reason:
        case MergeRefusal.HOOK:
            return refuse(state, refusals.HOOK_REFUSED, detail=event.detail)
        case MergeRefusal.DIRTY:
            return refuse(state, refusals.DIRTY)
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
        return fail(state, wrong, terminal=refusals.WRONG_PUBLICATION.terminal)
    return published(state, event.commit.id)
