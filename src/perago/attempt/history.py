"""Judge the commits after the input ref: which are this attempt's to adopt or to replace, and which count.

An earlier attempt may have published and died before it could report; a rerun or restart may have made publications
stale; others may have committed. The range consists of the first-parent commits after the input ref. It is judged on
arrival, and again whenever the head is not the one that the publication was built on. docs/dev/protocol.md has the
rules on one page, "How existing commits are judged".
"""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import dataclass, replace
from enum import Enum, auto
from itertools import dropwhile, takewhile

from perago.attempt import commands as do
from perago.attempt import publication, refusals
from perago.attempt.events import BranchRead
from perago.attempt.family import Evidence, Family, Place
from perago.attempt.publication import Origin
from perago.attempt.refusals import Refusal, facts_of
from perago.attempt.state import Base, State
from perago.attempt.undoing import UndoneAtHead, reverted_by_hand, undone_at_head
from perago.ports import Commit
from perago.text import short

WORKFLOWS_READ = 1000
"""The number of workflows that are read, parents included. If that is too few to judge a range, the attempt is
refused."""
STARTING_REREADS = 8
"""The number of times that the parents of this attempt's workflow are read again while they name no sub-workflow: for
at most 30 s with the driver's delays."""


@dataclass(frozen=True, slots=True)
class Build:
    """Publish on this base: the unmoved head, publications to undo, or a head that others have advanced."""

    base: Base


@dataclass(frozen=True, slots=True)
class Adopt:
    """Adopt `commit`, which an earlier attempt of this chain has published. It is the head of the branch, or others
    have committed on it since then and the task tolerates that."""

    commit: Commit
    head: Commit


@dataclass(frozen=True, slots=True)
class Refuse:
    """Refuse, because no correct publication is possible. Final unless a retry may learn more, because it would get the
    same ref."""

    reason: str
    terminal: bool = True


@dataclass(frozen=True, slots=True)
class Wait:
    """Wait for other attempts of the family, which may replace a commit without evidence. `reason` is that of the
    refusal after a bounded time, which can be retried."""

    reason: str


Judgement = Build | Adopt | Refuse | Wait


def _refuse(state: State, refusal: Refusal, **facts: str) -> Refuse:
    return Refuse(refusal.text(state, **facts), refusal.terminal)


class Standing(Enum):
    """The meaning of a commit of the range for this attempt."""

    UNDONE = auto()
    """A publication that another one has undone. It no longer matters who published either."""
    OPERATION = auto()
    """A commit of `perago undo`."""
    OWN = auto()
    """A publication of this chain with the same input, which can be adopted."""
    STALE = auto()
    """A publication that never counts again: another one of this step, or one whose attempt Conductor has removed."""
    COUNTS = auto()
    """A publication of another step of the family, with evidence."""
    UNPROVEN = auto()
    """A publication of another step of the family, without evidence: its step runs again, or is about to."""
    FORGOTTEN = auto()
    """A publication whose row may be missing because a loop keeps its last rounds only."""
    UNREAD = auto()
    """A publication of a workflow that was not read up to its root."""
    FOREIGN = auto()
    """A commit by a person, or by another family."""


_TO_UNDO = (Standing.STALE, Standing.UNPROVEN)
_STANDINGS = {
    Evidence.COUNTS: Standing.COUNTS,
    Evidence.GONE: Standing.STALE,
    Evidence.OPEN: Standing.UNPROVEN,
    Evidence.FORGOTTEN: Standing.FORGOTTEN,
    Evidence.UNREAD: Standing.UNREAD,
}


def ask_first(state: State) -> tuple[State, do.Command] | None:
    """Return the next question to Conductor that must be answered before the range in `state.read` can be judged, or
    None. A question whose answer changed nothing is not repeated."""
    if state.read is None:
        raise ValueError("no range is being judged")
    if ids := workflow_ids(state, state.read):
        if ids == state.inquiry.asked:
            return None
        return state.evolve(inquiry=replace(state.inquiry, asked=ids)), do.ReadWorkflows(ids)
    family, mine = Family(state.workflows), state.plan.delivery.workflow_id
    if mine in state.workflows and family.place(mine) is Place.STARTING and state.inquiry.rereads < STARTING_REREADS:
        state = state.evolve(inquiry=replace(state.inquiry, rereads=state.inquiry.rereads + 1))
        return state, do.ReadWorkflows(tuple(family.line(mine)[1:]), state.inquiry.rereads)
    return None


def workflow_ids(state: State, read: BranchRead) -> tuple[str, ...]:
    """Return the workflows that must be read before the range can be judged: those of publications that have no
    evidence yet, and this attempt's own. If the task does not rebase, a commit by a person decides alone."""
    if not read.reaches_ref:
        return ()
    reverted = {commit.id for pair in reverted_by_hand(read.since) for commit in pair}
    undone, mine = _undone_without(state, reverted), state.plan.delivery.workflow_id
    by_operations = _undone_by_operations(read)
    undecided = [
        commit
        for commit in read.since
        if commit.id not in state.inquiry.counted and (commit.id not in undone or commit.id in by_operations)
    ]
    origins = [publication.origin(commit) for commit in undecided if not publication.is_operation(commit)]
    names = dict.fromkeys(by.workflow_id for by in origins if by is not None)
    if None in origins and not state.plan.rebase:
        names = {name: None for name in names if name == mine}
    if names or any(ref in undone for ref in state.given_refs):
        names = {mine: None, **names}
    unread = dict.fromkeys(filter(None, map(Family(state.workflows).unread, names)))
    return tuple(unread)[: max(0, WORKFLOWS_READ - len(state.workflows))]


def judged(state: State) -> State:
    """Return the state once its range is judged. Evidence for a commit is kept: later rows can only withdraw it, and
    nothing that had evidence is undone."""
    ranged = standings(state)
    counting = {commit.id for commit, standing in ranged if standing is Standing.COUNTS}
    optional = {commit.id for commit, standing in ranged if _is_of_an_ended_option(state, commit, standing)}
    return state.evolve(
        workflows={},
        inquiry=replace(
            state.inquiry,
            asked=(),
            rereads=0,
            counted=state.inquiry.counted | counting,
            optional=state.inquiry.optional | optional,
        ),
    )


def own_publications(state: State, read: BranchRead) -> tuple[Commit, ...]:
    """Return the commits that this delivery has merged without getting the answer, newest first.

    There can be more than one commit where the publish fence is not enforced: a merge that can be empty takes place
    each time that it arrives. Only directly consecutive commits count.
    """
    if not state.merge.sent:
        return ()

    def is_mine(commit: Commit) -> bool:
        return publication.is_merge(commit) and publication.is_mine(commit, state.plan.delivery)

    return tuple(takewhile(is_mine, dropwhile(lambda commit: not is_mine(commit), read.since)))


def judge(state: State) -> Judgement:
    """Judge the range in `state.read`, once `ask_first` has nothing more to ask."""
    read = state.read
    if read is None:
        raise ValueError("no range is being judged")
    if not read.reaches_ref:
        head = short(read.since[0].id)
        return _refuse(state, refusals.NOT_ON_BRANCH, count=str(len(read.since)), newest=head)
    ranged = standings(state)
    if (refusal := _unreadable(state, ranged) or _misplaced(state) or _interrupted(state)) is not None:
        return refusal
    judgement = _judge_among_others(state, ranged) if state.plan.rebase else _judge_alone(state, ranged)
    if isinstance(judgement, Refuse | Wait) or state.plan.operation:
        return judgement
    stale = judgement.base.stale if isinstance(judgement, Build) else ()
    return _undone_input(state, stale) or judgement


Ranged = list[tuple[Commit, Standing]]
"""The commits of a range with their standing, newest first."""


def _unreadable(state: State, ranged: Ranged) -> Refuse | None:
    """Refuse a commit that this attempt must interpret and cannot."""
    delivery = state.plan.delivery
    for commit, standing in ranged:
        is_mine = publication.is_of_my_workflow(commit, delivery)
        # Commits of other families do not stop it.
        if (is_mine or standing is not Standing.FOREIGN) and publication.has_newer_format(commit):
            facts = {"format": short(commit.metadata[publication.FORMAT_KEY]), "known": str(publication.NEWEST_FORMAT)}
            return _refuse(state, refusals.NEWER_FORMAT, **facts_of(commit), **facts)
    for commit, _ in ranged:
        if publication.is_of_my_step(commit, delivery) and not publication.is_merge(commit):
            why = f"it is not a merge, and its parent is {short(commit.parents[0]) if commit.parents else 'missing'}"
            return _refuse(state, refusals.COPIED, **facts_of(commit), why=why, older="")
    return None


def _interrupted(state: State) -> Refuse | None:
    """Refuse if an operation has undone a commit that Conductor counts: it ended before it asked Conductor to run the
    step again."""
    commit, operation = next(iter(interrupted(state)), (None, ""))
    if commit is None or state.plan.operation:
        return None
    return _interruption(state, commit, operation)


def _interruption(state: State, commit: Commit, operation: str, **publisher: str) -> Refuse:
    facts = facts_of(commit) | publisher
    return _refuse(state, refusals.INTERRUPTED, **facts, by=short(operation), root=_root(state))


def _root(state: State) -> str:
    """Return the workflow that was started, which operations are about."""
    return Family(state.workflows).line(state.plan.delivery.workflow_id)[-1]


def interrupted(state: State) -> list[tuple[Commit, str]]:
    """Return each commit that an operation has undone and that Conductor counts, with the id of that operation."""
    if state.read is None:
        return []
    undone_by, adopted, counting = _undone_by_operations(state.read), set[str](), list[tuple[Commit, str]]()
    family = Family(state.workflows)
    for commit in state.read.since:
        is_of_others = commit.id not in adopted and not publication.is_of_my_step(commit, state.plan.delivery)
        adopted.add(publication.adopted(commit) or "")
        if commit.id in undone_by and is_of_others and _evidence(state, family, commit) is Evidence.COUNTS:
            counting.append((commit, undone_by[commit.id]))
    return counting


def _undone_without(state: State, void: Set[str]) -> UndoneAtHead:
    """Return what is undone at the head if the commits `void` do not count."""
    return UndoneAtHead(state.line, [commit for commit in state.line if commit.id not in void])


def _undone_by_operations(read: BranchRead) -> dict[str, str]:
    """Map each commit that is undone at the head to the operation that undid it, if it was one."""
    operations = {commit.id for commit in read.since if publication.is_operation(commit)}
    if not operations:
        return {}
    return {undone: by for undone, by in undone_at_head(read.since).items() if by in operations}


def _evidence(state: State, family: Family, commit: Commit) -> Evidence | None:
    """Return the evidence about a commit of this family; None: it is by a person or of another family."""
    by = publication.origin(commit)
    mine = state.plan.delivery.workflow_id
    if by is None or not publication.is_merge(commit) or family.has_ended_line(by.workflow_id):
        return None
    if not (family.is_known(by.workflow_id) and family.is_known(mine)):
        return Evidence.UNREAD
    if not family.is_same(by.workflow_id, mine):
        return None
    return family.evidence(commit, by, in_a_loop=publication.is_in_a_loop(commit))


def _misplaced(state: State) -> Refuse | None:
    """Refuse if the parents of this attempt's workflow, as far as they were read, do not name it."""
    mine = state.plan.delivery.workflow_id
    return misplaced(state, Family(state.workflows)) if mine in state.workflows else None


def misplaced(state: State, family: Family) -> Refuse | None:
    """Return why an attempt of this workflow does not count, or None."""
    match family.place(mine := state.plan.delivery.workflow_id):
        case Place.NAMED:
            return None
        case Place.STARTING:
            return _refuse(state, refusals.STILL_STARTING, workflow=mine)
        case Place.REPLACED:
            return _refuse(state, refusals.REPLACED, workflow=mine)
        case Place.UNREAD:
            return _refuse(state, refusals.UNREAD_WORKFLOW, workflow=mine, limit=str(WORKFLOWS_READ))


def _judge_among_others(state: State, ranged: Ranged) -> Judgement:
    """Judge the range for a rebase. Own publications count anywhere in it. Changes of others are accepted, and are
    compared with the attempt's own changes once these are known."""
    own = next((commit for commit, standing in ranged if standing is Standing.OWN), None)
    if own is not None and not _is_whole(own):
        return _buried(state, own, ranged[0][0])
    if (doubt := _doubtful(state, ranged)) is not None:
        return doubt
    is_stale = any(standing in _TO_UNDO for _, standing in ranged)
    if own is not None and not is_stale:
        return Adopt(own, ranged[0][0])
    return _build(state, ranged, among_others=True)


def _judge_alone(state: State, ranged: Ranged) -> Judgement:
    """Judge the range for a task that does not rebase: commits by others are refused, and the publication is built on
    the tree of the input ref. One exception: the files of an optional step that has ended count, although Conductor
    ignores its failure."""
    own = next((commit for commit, standing in ranged if standing is Standing.OWN), None)
    above = list(takewhile(lambda pair: pair[0] is not own, ranged))
    is_at_head = all(standing in (Standing.UNDONE, Standing.OPERATION) for _, standing in above)
    if own is not None and is_at_head and _is_whole(own):
        return Adopt(own, ranged[0][0])
    optional = [commit for commit, standing in ranged if _is_of_an_ended_option(state, commit, standing)]
    others = [
        commit
        for commit, standing in ranged
        if standing in (Standing.FOREIGN, Standing.COUNTS) and commit not in optional
    ]
    if others:
        if own is not None:
            return _buried(state, own, ranged[0][0])
        more = f" and {len(ranged) - 1} more" if len(ranged) > 1 else ""
        return _refuse(state, refusals.MOVED_HEAD, **facts_of(others[0]), more=more)
    return _doubtful(state, ranged) or _build(state, ranged, among_others=bool(optional))


def _is_of_an_ended_option(state: State, commit: Commit, standing: Standing) -> bool:
    by = publication.origin(commit)
    if standing is not Standing.COUNTS or by is None:
        return False
    return commit.id in state.inquiry.optional or Family(state.workflows).has_ended_optionally(by)


def _doubtful(state: State, ranged: Ranged) -> Refuse | Wait | None:
    """Refuse commits of the family that cannot be judged. Wait if a commit without evidence may be replaced by an
    attempt that is open. Only an attempt that is alone in its family undoes a commit that may count again."""
    oldest_first = list(reversed(ranged))
    for doubt, refusal in ((Standing.UNREAD, refusals.UNREAD_WORKFLOW), (Standing.FORGOTTEN, refusals.FORGOTTEN)):
        commit = next((commit for commit, standing in oldest_first if standing is doubt), None)
        if commit is not None and not (state.plan.operation and doubt is Standing.FORGOTTEN):
            return _refuse(state, refusal, **facts_of(commit), limit=str(WORKFLOWS_READ))
    unproven = next((commit for commit, standing in oldest_first if standing is Standing.UNPROVEN), None)
    if unproven is None or state.plan.operation:  # an operation is sent while the family is at rest
        return None
    delivery = state.plan.delivery
    open_row = next(Family(state.workflows).open_rows(delivery.workflow_id, delivery.task_id), None)
    if open_row is None:
        return None
    facts = {"other": open_row.reference_name, "root": _root(state)}
    return Wait(refusals.UNPROVEN.text(state, **facts_of(unproven), **facts))


def _build(state: State, ranged: Ranged, *, among_others: bool) -> Build:
    """Build on the head, with the publications undone that this attempt replaces."""
    if not ranged:
        return Build(Base(state.ref.ref))
    newest = ranged[0][0]
    stale = tuple(commit.id for commit, standing in ranged if standing in (*_TO_UNDO, Standing.OWN))
    return Build(Base(newest.id, stale, newest.meta_range_id, among_others))


def _buried(state: State, own: Commit, newest: Commit) -> Refuse:
    """Refuse because an earlier attempt has published `own`, and another client has committed there as well."""
    of_own = facts_of(own)
    facts = facts_of(newest) | {"own": of_own["commit"], "publisher": of_own["publisher"]}
    return _refuse(state, refusals.BURIED, **facts)


def _undone_input(state: State, stale: Sequence[str]) -> Refuse | None:
    """Refuse if a given ref is undone at the head once this attempt has undone `stale`. A ref of which Conductor has
    forgotten the row is ignored if another given ref is in effect."""
    undone = _undone_without(state, set())
    if not any(ref in undone for ref in state.given_refs):
        return None
    range_ids = {commit.id for commit in state.read.since} if state.read else set()
    undone_by = dict(undone.undone_by)
    for commit in state.line:
        if commit.id in stale and commit.id not in undone:
            undone.undo(commit, range_ids)
    lost = [ref for ref in state.given_refs if ref in undone]
    family = Family(state.workflows)
    line = family.line(state.plan.delivery.workflow_id)
    named = {row.published_commit for workflow in filter(None, map(family.workflow, line)) for row in workflow.rows}
    operations = {commit.id for commit in state.line if publication.is_operation(commit)}
    publishers = {
        row.published_commit: row.reference_name
        for workflow in filter(None, state.workflows.values())
        for row in workflow.rows
        if row.status == "COMPLETED" and row.published_commit not in row.input_commits
    }
    for ref in lost:
        if ref not in named and len(lost) < len(state.given_refs):
            continue
        if undone_by.get(ref) in operations and ref in publishers:
            commit = next(commit for commit in state.line if commit.id == ref)
            return _interruption(state, commit, undone_by[ref], step=publishers[ref])
        facts = {"input": short(ref), "commit": short(undone_by.get(ref, "unknown"))}
        return _refuse(state, refusals.INPUT_UNDONE, **facts, root=_root(state))
    return None


# ------------------------------------------------------------------------------ each commit


def standings(state: State) -> Ranged:
    """Return the commits of the range with their standing. Of a commit and the commits that adopt it, the newest
    adoption decides alone: Conductor starts failed attempts again, long after their retry."""
    read = state.read
    if read is None or not read.reaches_ref:
        return []
    family, inputs, undone = Family(state.workflows), _counting_inputs(state), _undone_without(state, set())
    decided_by, ranged, void = dict[tuple[str, str | None], Standing](), Ranged(), set[str]()
    for revert, commit in reverted_by_hand(read.since):
        if commit.id not in undone and _standing(state, family, commit) in _TO_UNDO:
            void |= {revert.id, commit.id}
    undone = _undone_without(state, void)
    for operation in (commit for commit in read.since if commit.id in state.plan.revoked):
        undone.undo(operation, set())
    for place, commit in enumerate(read.since):
        step = commit.metadata.get(publication.STEP_KEY)
        is_undone = commit.id in undone and commit.id not in state.plan.revoked
        standing = Standing.UNDONE if is_undone else decided_by.get((commit.id, step))
        if standing is None:
            standing = _standing(state, family, commit)
            if standing is Standing.FORGOTTEN and any(above.id in inputs for above in read.since[: place + 1]):
                standing = Standing.COUNTS
        adopted = publication.adopted(commit) if publication.is_merge(commit) else None
        if adopted is not None and standing is not Standing.UNDONE:
            decided_by[adopted, step] = standing
        ranged.append((commit, standing))
    return ranged


def _standing(state: State, family: Family, commit: Commit) -> Standing:
    delivery, by = state.plan.delivery, publication.origin(commit)
    if publication.is_operation(commit):
        return Standing.STALE if commit.id in state.plan.revoked else Standing.OPERATION
    if by is None or not publication.is_merge(commit):
        return Standing.FOREIGN
    if publication.is_of_my_step(commit, delivery):
        return Standing.OWN if _can_adopt(state, commit, by) else Standing.STALE
    if commit.id in state.inquiry.counted:
        return Standing.COUNTS
    evidence = _evidence(state, family, commit)
    return Standing.FOREIGN if evidence is None else _STANDINGS[evidence]


def _can_adopt(state: State, commit: Commit, by: Origin) -> bool:
    """Whether the publication of this step is from this attempt's chain of retries, from the run that Conductor knows,
    and made from the same input."""
    delivery, own = state.plan.delivery, Family(state.workflows).workflow(state.plan.delivery.workflow_id)
    if not publication.is_for_my_input(commit, state):
        return False
    if by.task_id == delivery.task_id:
        return by.start_time == delivery.start_time
    mine, row = (own.row(delivery.task_id), own.row(by.task_id)) if own is not None else (None, None)
    if own is None or mine is None or row is None:
        return False
    return row.start_time == by.start_time and by.task_id in own.retries_of(mine)


def _counting_inputs(state: State) -> set[str]:
    """Return the commits that were the input of something that counts: of rows in workflows that their parents name,
    and of publications with evidence."""
    family, delivery = Family(state.workflows), state.plan.delivery
    mine = [
        name
        for name in state.workflows
        if family.is_same(name, delivery.workflow_id) and family.place(name) is not Place.REPLACED
    ]
    counting = (commit for commit in state.read.since if commit.id in state.inquiry.counted) if state.read else ()
    return family.inputs(mine) | {commit.metadata.get(publication.INPUT_REF, "") for commit in counting}


def _is_whole(commit: Commit) -> bool:
    """Whether it was merged into the head that its attempt was built on. Without the publish fence, another commit can
    come between. Then the tree of the merge differs from that of the attempt."""
    return commit.parents[:1] == (commit.metadata.get(publication.EXPECTED_HEAD),)
