"""The merge: from a staging commit to a verified publication, with a look at the branch right before and after.

The merge is the one step that others see. It is sent on the head that the publication was built on, and where the
branch has become another meanwhile, that is judged as on arrival.
"""

from __future__ import annotations

from perago.attempt import commands as do
from perago.attempt import events as on
from perago.attempt import outcome, publication
from perago.attempt.ending import Next, check_again, fail, published
from perago.attempt.publishing import adopt, stage_anew
from perago.attempt.recovery import (
    Adopt,
    Judgement,
    Refuse,
    ask_first,
    judge,
    judged,
    own_publications,
    with_lineage,
)
from perago.attempt.state import Base, State
from perago.ports import MergeRefusal

MERGE_TRIES = 3
"""Merges without a use. One is forgiven for each race that was lost."""


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
    if state.plan.rebase and state.rebuilt and not state.has_turn:
        return state, do.AwaitTurn(state.ref.repository, state.ref.branch, state.rebuilt)
    return _judge(state.evolve(read=event, late_answers=0))


def _judge(state: State) -> Next:
    return ask_first(state) or _build_anew(judged(state), judge(state))


def turn_came(state: State, event: on.TurnCame) -> Next:
    """Look again, for others have had time to finish."""
    if not event.in_time:
        state = state.evolve(lost_races=state.lost_races + 1)
        return fail(state, outcome.restless(state), terminal=False)
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
        return fail(state, outcome.restless(state), terminal=False)
    merge_tries = max(0, state.merge_tries - 1)  # the next one may be sent once more
    state = state.evolve(rebuilt=state.rebuilt + 1, has_turn=False, merge_tries=merge_tries)
    if isinstance(judgement, Adopt):
        return adopt(state, judgement.commit, judgement.head)
    return _restage(state, judgement.base)


def _restage(state: State, base: Base) -> Next:
    """Stage the same changes on another base. What an adoption was to take over is gone, and so is the attempt's own
    result: a retry judges anew."""
    if state.adopts is not None:
        return fail(state, outcome.adopted_is_gone(state), terminal=False)
    if state.plan.rebase and state.has_changes and state.staging_commit is not None:
        state = state.evolve(carried=state.staging_commit.id)
    return stage_anew(state.evolve(base=base, shared=frozenset()))


def _merge(state: State) -> Next:
    if state.staging_commit is None:
        raise ValueError("there is no staging commit")
    if state.merge_tries >= MERGE_TRIES:
        return fail(state, outcome.unconfirmed(state, MERGE_TRIES), terminal=False)
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
