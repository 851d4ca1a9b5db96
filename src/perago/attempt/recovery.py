"""What has happened on the branch since the input ref, and what follows from it (docs/design/contract.md 8).

An earlier attempt may have published and died before it could report; a rerun or restart may have made publications
stale; others may have committed. The range, the first-parent commits after the input ref, is judged on arrival, and
again whenever the head turns out to be another than the one that a publication was built on.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from itertools import dropwhile, takewhile

from perago.attempt import outcome, publication
from perago.attempt.events import BranchRead, LineageRead
from perago.attempt.state import Base, State
from perago.ports import Commit


@dataclass(frozen=True, slots=True)
class Build:
    """Publish on this base: the unmoved head, stale publications that are undone, or what others have made of it."""

    base: Base


@dataclass(frozen=True, slots=True)
class Adopt:
    """An earlier attempt of the own chain has published `commit`: take it over. It is the branch's `head`, or others
    have committed on it since and the task bears that."""

    commit: Commit
    head: Commit


@dataclass(frozen=True, slots=True)
class Refuse:
    """A publication could only go wrong. Final: a retry would get the same ref."""

    reason: str


Judgement = Build | Adopt | Refuse


class _Kind(Enum):
    OWN = auto()
    """Of the own chain, for the same input: it can be adopted."""
    STALE = auto()
    """Of an attempt that Conductor has run anew, or forgotten."""
    FOREIGN = auto()
    """Other people's, among them living attempts of other steps."""


def lineage_ids(state: State, read: BranchRead) -> tuple[str, ...]:
    """The attempts whose rows must be known before the range can be judged: those of this workflow, in order."""
    if not read.reaches_ref:
        return ()
    mine = (commit for commit in read.since if publication.is_of_my_workflow(commit, state.plan.delivery))
    return tuple(dict.fromkeys(commit.metadata.get(publication.TASK_ID, "") for commit in mine))


def own_publications(state: State, read: BranchRead) -> tuple[Commit, ...]:
    """What this very delivery has merged, newest first: the merge took place although its answer did not arrive.

    There can be more than one commit where the publish fence is not enforced: a merge that may be empty takes place
    each time that it arrives. Only those count that lie directly on one another.
    """
    if not state.merges_sent:
        return ()
    since = dropwhile(lambda commit: not publication.is_mine(commit, state.plan.delivery), read.since)
    return tuple(takewhile(lambda commit: publication.is_mine(commit, state.plan.delivery), since))


def judge(state: State, read: BranchRead, lineage: LineageRead | None) -> Judgement:
    """Judge the range; `lineage` answers for the attempts that `lineage_ids` names, None if it names none."""
    if not read.since:
        return Build(Base(state.ref.ref))
    if not read.reaches_ref:
        return Refuse(outcome.not_on_branch(state, read))
    rebase = state.plan.rebase
    if lineage is None:
        return _build(state, read, []) if rebase else Refuse(outcome.moved_head(state, read))
    kinds = [_kind(state, commit, lineage) for commit in read.since]
    if rebase:
        return _judge_among_others(state, read, kinds)
    newest = read.since[0]
    if kinds[0] is _Kind.OWN and _is_whole(newest):
        return Adopt(newest, newest)
    if _Kind.FOREIGN in kinds:
        return Refuse(_foreign(state, read, kinds))
    return _build(state, read, list(read.since))


def _judge_among_others(state: State, read: BranchRead, kinds: list[_Kind]) -> Judgement:
    """Own publications count wherever they lie, and only what is stale is undone: what others do is accepted, and is
    compared with the attempt's own changes once these are known."""
    judged = list(zip(read.since, kinds, strict=True))
    own = next(iter(_in_effect(judged, _Kind.OWN)), None)
    if own is not None and not _is_whole(own):
        return Refuse(outcome.buried(state, own, read.since[0]))
    stale = _in_effect(judged, _Kind.STALE)
    if own is not None and not stale:
        return Adopt(own, read.since[0])
    return _build(state, read, _in_effect(judged, _Kind.STALE, _Kind.OWN))


def _in_effect(judged: list[tuple[Commit, _Kind]], *kinds: _Kind) -> list[Commit]:
    """The commits of these kinds, newest first, that no later commit of another kind has undone. A restarted fork is
    why: each of its branches would undo the run before, which is undone once; doing it again would undo what the other
    branch has published since."""
    found, undone = [], set[str]()
    for commit, kind in judged:
        if kind not in kinds:
            undone |= publication.superseded(commit)
        elif commit.id not in undone:
            found.append(commit)
    return found


def _build(state: State, read: BranchRead, stale: list[Commit]) -> Judgement:
    """On the head, with what is stale undone. In a loop it cannot be told whether what Conductor has forgotten is."""
    of_other_steps = [commit for commit in stale if not publication.is_of_my_step(commit, state.plan.delivery)]
    in_a_loop = state.plan.delivery.iteration > 0 or any(map(publication.is_in_a_loop, of_other_steps))
    if of_other_steps and in_a_loop:
        return Refuse(outcome.stale_in_a_loop(state, of_other_steps[0]))
    newest = read.since[0]
    return Build(Base(newest.id, tuple(commit.id for commit in stale), newest.meta_range_id))


def _kind(state: State, commit: Commit, lineage: LineageRead) -> _Kind:
    delivery, found = state.plan.delivery, commit.metadata
    if not publication.is_of_my_workflow(commit, delivery):
        return _Kind.FOREIGN
    task_id, started = found.get(publication.TASK_ID, ""), found.get(publication.START_TIME)
    if task_id == delivery.task_id:
        is_living = started == str(delivery.start_time)
    else:
        row = lineage.rows.get(task_id)
        is_living = row is not None and started == str(row.start_time)
    if publication.is_of_my_step(commit, delivery):
        own = is_living and task_id in lineage.chain and publication.is_for_my_input(commit, state)
        return _Kind.OWN if own else _Kind.STALE
    return _Kind.FOREIGN if is_living else _Kind.STALE


def _is_whole(commit: Commit) -> bool:
    """Whether it came on the head that its attempt was built on. Without the publish fence another commit may have
    come between, and then its tree is not what the attempt made."""
    return commit.parents[:1] == (commit.metadata.get(publication.EXPECTED_HEAD),)


def _foreign(state: State, read: BranchRead, kinds: list[_Kind]) -> str:
    own = next((commit for commit, kind in zip(read.since, kinds, strict=True) if kind is _Kind.OWN), None)
    return outcome.moved_head(state, read) if own is None else outcome.buried(state, own, read.since[0])
