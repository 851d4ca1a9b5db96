"""Judge the history of a branch for an attempt: joins of branches, and the commits after the input ref.

A task behind a fork gets the commit of each sibling. It continues from the commit whose first-parent history contains
all others. There is at most one, and their order does not matter, so a retry finds the same commit. A sibling that
changed nothing returns its input ref, which is in that history, too.

The history is read in short pages, and only the ends of pages are read twice. The given commits are read first, in the
order of their ids, which is a random order. The order in which they are given is often that of publication, so that
each page would bring only one of them. Then the shortest line is read further. Two lines that meet below both heads
have diverged, which ends the search.

An earlier attempt may have published and died before it could report; a rerun or restart may have made publications
stale; others may have committed. The range consists of the first-parent commits after the input ref. It is judged on
arrival, and again whenever the head is not the one that the publication was built on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence, Set
from dataclasses import dataclass
from enum import Enum, auto
from itertools import dropwhile, pairwise, takewhile

from perago.attempt import commands as do
from perago.attempt import publication, refusals
from perago.attempt.events import BranchRead, LineageRead
from perago.attempt.publication import Origin
from perago.attempt.refusals import Refusal, facts_of
from perago.attempt.state import Base, State
from perago.ports import ANY_WORKFLOW, Commit
from perago.text import listing, short

PAGE = 10
"""Number of commits that are read with one call, which is a page of lakeFS."""
MOST_PAGES = 100
"""Number of pages, in addition to one for each given commit, after which the search is given up."""
_NAMED = 6

ReadPage = Callable[[str], Sequence[Commit]]
"""A commit and its first-parent ancestors, newest first: at most `PAGE`; fewer only where the history begins."""


class NotOneLine(Exception):
    """No commit is known to continue all others. The text is the reason of the attempt, which is final."""


@dataclass(slots=True)
class _Line:
    """First-parent history that has been read, from a given commit down."""

    head: str
    following: str | None
    """The commit to read next; None at the beginning of the history."""
    last: str | None = None
    length: int = 0


def newest_of(commits: Iterable[str], read: ReadPage) -> str:
    """Return the commit of `commits`, at least one, whose first-parent history has all the others in it.

    `read` is called once for each given commit and `MOST_PAGES` times more, at most.

    Raises:
        NotOneLine: no commit continues the others.
    """
    return _Search(commits, read).run()


class _Search:
    def __init__(self, commits: Iterable[str], read: ReadPage) -> None:
        self._given = tuple(dict.fromkeys(commits))
        self._by_chance = sorted(self._given)
        self._read = read
        self._lines: dict[str, _Line] = {}
        self._above: dict[str, str | None] = {}
        """The commits that were read, each with the commit that continues it, or None for the head of a line."""
        self._words: dict[str, str] = {}

    def run(self) -> str:
        pages = 0
        while (line := self._next_line()) is not None:
            if line.following is None:
                raise self._refused(refusals.NOT_ONE_LINE, *self._lines)
            if pages == len(self._given) + MOST_PAGES:
                raise self._refused(refusals.TOO_FAR_APART, *self._lines)
            self._extend(line, self._read(line.following))
            pages += 1
        return next(iter(self._lines))

    def _next_line(self) -> _Line | None:
        """Return the line to read further, or None if a single line contains everything. Lines that have ended come
        last."""
        new = next((commit for commit in self._by_chance if commit not in self._above), None)
        if new is not None:
            return self._lines.setdefault(new, _Line(new, new))
        if len(self._lines) == 1:
            return None
        return min(self._lines.values(), key=lambda line: (line.following is None, line.length))

    def _extend(self, line: _Line, page: Sequence[Commit]) -> None:
        for commit in page:
            if commit.id in self._above:
                break
            self._above[commit.id] = line.last
            line.last, line.following = commit.id, next(iter(commit.parents), None)
            line.length += 1
            if commit.id in self._given:
                self._words[commit.id] = _words(commit)
        for each in tuple(self._lines.values()):
            while each.head in self._lines and each.following in self._above:
                self._meet(each, each.following)

    def _meet(self, line: _Line, commit: str) -> None:
        """Join `line` with the line of a commit that it has reached. If that commit is a head, `line` continues the
        complete other line."""
        other = self._lines.pop(commit, None)
        if other is None:
            while (above := self._above[commit]) is not None:
                commit = above
            raise self._refused(refusals.NOT_ONE_LINE, line.head, commit)
        self._above[commit] = line.last
        line.last, line.following, line.length = other.last, other.following, line.length + other.length

    def _refused(self, refusal: Refusal, one: str, other: str, *_: str) -> NotOneLine:
        words = {"first": self._words[one], "second": self._words[other], "limit": str(MOST_PAGES * PAGE)}
        return NotOneLine(refusal.text(None, **words, count=str(len(self._given)), given=given(self._given)))


def unknown(error: str, commits: Sequence[str]) -> str:
    """Return the reason for a given commit that does not exist."""
    return refusals.UNKNOWN_COMMIT.text(None, error=error, count=str(len(commits)), given=given(commits))


def given(commits: Sequence[str]) -> str:
    """Describe the commits, or some of them if there are many."""
    return listing(list(map(short, commits)), _NAMED)


def _words(commit: Commit) -> str:
    """Name a commit and, if its metadata say so, who published it to which branch."""
    found = [commit.metadata.get(key) for key in (publication.REFERENCE_NAME, publication.BRANCH)]
    told = " to ".join(name for name in found if name)
    return f"{short(commit.id)} (by {told})" if told else short(commit.id)


@dataclass(frozen=True, slots=True)
class Build:
    """Publish on this base: the unmoved head, stale publications to undo, or a head that others have advanced."""

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


WORKFLOWS_READ = 1000
"""The number of workflows that are read, parents included. If that is too few to judge a range, the attempt is
refused."""
STARTING_REREADS = 8
"""The number of times that a workflow is read again while one of its sub-workflows starts: for at most 30 s with the
driver's delays."""
_CLOCKS = 250
"""Milliseconds by which the clocks of Conductor's nodes can differ. A valid publication must not count as stale."""

Judgement = Build | Adopt | Refuse


def _refuse(state: State, refusal: Refusal, **given: str) -> Refuse:
    return Refuse(refusal.text(state, **given), refusal.terminal)


def _buried(state: State, own: Commit, newest: Commit) -> Refuse:
    """Refuse because an earlier attempt has published `own`, and another client has committed there as well."""
    of_own = facts_of(own)
    given = facts_of(newest) | {"own": of_own["commit"], "publisher": of_own["publisher"]}
    return _refuse(state, refusals.BURIED, **given)


class _Kind(Enum):
    OWN = auto()
    """A publication of this chain with the same input, which can be adopted."""
    STALE = auto()
    """A publication of an attempt that Conductor has run again, or forgotten."""
    LOOPED = auto()
    """A publication of an attempt, or of a sub-workflow, in a loop, which Conductor has forgotten. It also forgets
    valid rounds."""
    STARTING = auto()
    """A publication of a workflow that its parent does not name, while a sub-workflow of the parent starts."""
    UNREAD = auto()
    """A publication of a workflow that was not read up to its root."""
    UNKNOWN = auto()
    """Conductor's answer does not have the attempt."""
    FOREIGN = auto()
    """A commit by others, including living attempts of other steps."""


_DOUBTS = {
    _Kind.UNREAD: refusals.UNREAD_WORKFLOW,
    _Kind.STARTING: refusals.STILL_STARTING,
    _Kind.UNKNOWN: refusals.UNKNOWN_ATTEMPT,
    _Kind.LOOPED: refusals.STALE_IN_A_LOOP,
}
"""The refusals of commits that may be stale, but need not be."""


def lineage_ids(state: State, read: BranchRead) -> tuple[str, ...]:
    """Return the attempts whose rows are missing for a judgment of the range: those of this workflow, in order.

    A row never changes after it was read. Conductor restarts or forgets attempts only in a workflow that has ended,
    which also ends this delivery, and the delivery check precedes each read of the branch and each merge. (Loops that
    keep only their last rounds are the exception: Conductor forgets rounds that are still valid, and the earlier rows
    are right.)
    """
    if not read.reaches_ref:
        return ()
    known = {*state.lineage.chain[:1], *state.lineage.rows} if state.lineage else ()
    mine = [commit for commit in read.since if publication.is_of_my_workflow(commit, state.plan.delivery)]
    found = dict.fromkeys(by.task_id for by in map(publication.origin, mine) if by is not None)
    return tuple(task_id for task_id in found if task_id not in known)


def judged(state: State) -> State:
    """Return the state once its range is judged. The parents of this attempt's workflow, and workflows of which a
    sub-workflow was starting, are read again for the next range: they may name other sub-workflows then."""
    parents = _line(state, state.plan.delivery.workflow_id)[1:]
    again = {key for key, row in state.workflows.items() if key in parents or (row is not None and row.is_starting)}
    known = {key: row for key, row in state.workflows.items() if key not in again}
    return state.evolve(asked=(), rereads=0, workflows=known)


def with_lineage(state: State, read: LineageRead) -> State:
    """Return the state with more rows known."""
    before = state.lineage.rows if state.lineage else {}
    return state.evolve(lineage=LineageRead(read.chain, {**before, **read.rows}))


def ask_first(state: State) -> tuple[State, do.Command] | None:
    """Return the next question to Conductor that must be answered before the range in `state.read` can be judged, or
    None. A question whose answer changed nothing is not repeated."""
    if state.read is None:
        raise ValueError("no range is being judged")
    task_ids = lineage_ids(state, state.read)
    ids = task_ids or workflow_ids(state, state.read)
    if ids:
        chain = state.lineage.chain if state.lineage else ()
        question = do.ReadLineage(ids, chain) if task_ids else do.ReadWorkflows(ids)
        return (state.evolve(asked=ids), question) if ids != state.asked else None
    if state.rereads < STARTING_REREADS and (parent := _starting(state, state.read)):
        state = state.evolve(rereads=state.rereads + 1)
        return state, do.ReadWorkflows((parent,), state.rereads)
    return None


def _starting(state: State, read: BranchRead) -> str | None:
    """Return the workflow whose starting sub-workflow prevents a judgment. None if there is no such workflow, or if the
    range is refused in any case."""
    if not any(row is not None and row.is_starting for row in state.workflows.values()):
        return None
    kinds = _kinds(state, read)
    undone = _undone(state, read, kinds)
    judged = zip(read.since, kinds, strict=True)
    waiting = [commit for commit, kind in judged if kind is _Kind.STARTING and commit.id not in undone]
    by = publication.origin(waiting[0]) if waiting else None
    if by is None or (_Kind.FOREIGN in kinds and not state.plan.rebase):
        return None
    line = _line(state, by.workflow_id)
    told = ((above, _told(state, below, above)) for below, above in pairwise(line))
    return next(above for above, kind in told if kind is _Kind.STARTING)


def workflow_ids(state: State, read: BranchRead) -> tuple[str, ...]:
    """Return the workflows that must be known before the range can be judged, including this attempt's own: those of
    other workflows' publications, and of attempts in loops that Conductor has forgotten. If the task does not rebase, a
    commit by a person decides alone."""
    origins = [publication.origin(commit) for commit in read.since]
    if not read.reaches_ref or (None in origins and not state.plan.rebase):
        return ()
    mine, kinds = state.plan.delivery.workflow_id, _kinds(state, read)
    for also in ((_Kind.UNREAD,), ()):  # what these have undone need not be read, if they turn out to count
        undone = _undone(state, read, kinds, *also)
        counting = [
            by.workflow_id for commit, by in zip(read.since, origins, strict=True) if by and commit.id not in undone
        ]
        needed = [workflow for workflow in counting if workflow != mine]
        if not needed and _Kind.LOOPED in kinds:
            needed = [mine]
        tops = dict.fromkeys(_line(state, workflow)[-1] for workflow in (mine, *needed)) if needed else ()
        if unread := [workflow for workflow in tops if workflow not in state.workflows]:
            return tuple(unread[: max(0, WORKFLOWS_READ - len(state.workflows))])
    return ()


def own_publications(state: State, read: BranchRead) -> tuple[Commit, ...]:
    """Return the commits that this delivery has merged without getting the answer, newest first.

    There can be more than one commit where the publish fence is not enforced: a merge that can be empty takes place
    each time that it arrives. Only directly consecutive commits count.
    """
    if not state.merges_sent:
        return ()

    def is_mine(commit: Commit) -> bool:
        return publication.is_merge(commit) and publication.is_mine(commit, state.plan.delivery)

    return tuple(takewhile(is_mine, dropwhile(lambda commit: not is_mine(commit), read.since)))


def judge(state: State) -> Judgement:
    """Judge the range in `state.read`, once `ask_first` has nothing more to ask."""
    read = state.read
    if read is None:
        raise ValueError("no range is being judged")
    if not read.since:
        return Build(Base(state.ref.ref))
    if not read.reaches_ref:
        head = short(read.since[0].id)
        return _refuse(state, refusals.NOT_ON_BRANCH, count=str(len(read.since)), newest=head)
    kinds = _kinds(state, read)
    if newer := _newer_format(state, read, kinds):
        found = newer.metadata[publication.FORMAT_KEY]
        given = {"format": short(found), "known": str(publication.FORMAT)}
        return _refuse(state, refusals.NEWER_FORMAT, **facts_of(newer), **given)
    mine = (commit for commit in read.since if publication.is_of_my_step(commit, state.plan.delivery))
    if copy := next((commit for commit in mine if not publication.is_merge(commit)), None):
        why = f"it is not a merge, and its parent is {short(copy.parents[0]) if copy.parents else 'missing'}"
        return _refuse(state, refusals.COPIED, **facts_of(copy), why=why, older="")
    if state.plan.rebase:
        return _judge_among_others(state, read, kinds)
    newest = read.since[0]
    if kinds[0] is _Kind.OWN and _is_whole(newest):
        return Adopt(newest, newest)
    if _Kind.FOREIGN in kinds:
        own = next((commit for commit, kind in zip(read.since, kinds, strict=True) if kind is _Kind.OWN), None)
        if own is not None:
            return _buried(state, own, newest)
        more = f" and {len(read.since) - 1} more" if len(read.since) > 1 else ""
        return _refuse(state, refusals.MOVED_HEAD, **facts_of(newest), more=more)
    return _doubtful(state, read, kinds) or _build(read, list(read.since))


def _newer_format(state: State, read: BranchRead, kinds: list[_Kind]) -> Commit | None:
    """Return a commit that this attempt must interpret and cannot. Commits of other workflows do not stop it."""
    for commit, kind in zip(read.since, kinds, strict=True):
        is_mine = publication.is_of_my_workflow(commit, state.plan.delivery)
        if (is_mine or kind is not _Kind.FOREIGN) and publication.has_newer_format(commit):
            return commit
    return None


def _judge_among_others(state: State, read: BranchRead, kinds: list[_Kind]) -> Judgement:
    """Judge the range for a rebase. Own publications count anywhere in it, and only stale ones are undone. Changes of
    others are accepted, and are compared with the attempt's own changes once these are known."""
    judged = list(zip(read.since, kinds, strict=True))
    own = next(iter(_in_effect(judged, _Kind.OWN)), None)
    if own is not None and not _is_whole(own):
        return _buried(state, own, read.since[0])
    stale = _in_effect(judged, _Kind.STALE)
    if own is not None and not stale:
        return Adopt(own, read.since[0])
    return _doubtful(state, read, kinds) or _build(read, _in_effect(judged, _Kind.STALE, _Kind.OWN))


def _in_effect(judged: list[tuple[Commit, _Kind]], *kinds: _Kind) -> list[Commit]:
    """Return the commits of these kinds, newest first, that no later commit of another kind has undone. This matters
    for a restarted fork. One of its branches undoes the previous run. If another branch did it again, it would undo the
    new publications of the first."""
    found, undone = [], set[str]()
    for commit, kind in judged:
        if kind not in kinds:
            undone |= publication.superseded(commit)
        elif commit.id not in undone:
            found.append(commit)
    return found


def undoing(state: State, base: Base) -> tuple[list[do.StalePublication], list[Commit]]:
    """Return the stale publications of `base` whose changes must be undone, and the living commits above the oldest of
    them, whose changes must stay. The newest commits come first.

    If a stale publication has undone others, these stay undone, with two exceptions. A publication that has undone a
    part of the input ref is undone in full. If a person reverted a publication right after it, neither of these two
    commits counts.
    """
    since = state.read.since if state.read else ()
    void = set[str]()
    for above, commit, below in zip(since, since[1:], since[2:], strict=False):
        is_by_hand = publication.WORKFLOW_ID not in above.metadata
        if commit.id in base.stale and is_by_hand and above.meta_range_id == below.meta_range_id:
            void |= {above.id, commit.id}
    counted = [commit for commit in since if commit.id not in void]
    ids, undone = {commit.id for commit in since}, _UndoneAtHead(since, counted)
    stale, living = list[do.StalePublication](), list[Commit]()
    for commit in counted:
        if commit.id in undone:
            continue
        if commit.id in base.stale:
            is_partial = undone.undo(commit, ids)
            stale.append(do.StalePublication(commit.id, commit.parents, is_partial, above=len(living)))
        else:
            living.append(commit)
    return stale, living[: stale[-1].above] if stale else []


def undone_at_head(since: Sequence[Commit]) -> dict[str, str]:
    """Map each publication of a range (newest first) that is undone at the head to the commit that undid it."""
    undone = dict[str, str]()
    for commit_id, (added, removed) in _UndoneAtHead(since, since).steps.items():
        undone |= dict.fromkeys(added, commit_id)
        for brought_back in removed:
            del undone[brought_back]
    return undone


class _UndoneAtHead:
    """The publications whose changes are undone at the head, found by repeating what each commit has undone.

    Example: B undid A. C got A as its input ref, so C undid B in full, which restored A."""

    def __init__(self, since: Sequence[Commit], counted: Sequence[Commit]) -> None:
        """`since`: the commits of the range, newest first. `counted`: those that count."""
        self._undone = set[str]()
        self.steps = dict[str, tuple[set[str], set[str]]]()
        """The ids that each commit has added to `_undone`, and removed from it, oldest commit first."""
        places = {commit.id: place for place, commit in enumerate(since)}
        for commit in reversed(counted):
            if not (gone := publication.superseded(commit) & places.keys()):
                continue
            start = places.get(commit.metadata.get(publication.INPUT_REF, ""), len(since))
            above_input, before = {each.id for each in since[:start]}, set(self._undone)
            for place in sorted(places[each] for each in gone):
                if since[place].id not in self._undone:
                    self.undo(since[place], above_input)
            self.steps[commit.id] = self._undone - before, before - self._undone

    def __contains__(self, commit_id: str) -> bool:
        return commit_id in self._undone

    def undo(self, commit: Commit, above_input: Set[str]) -> bool:
        """Undo one publication, as an attempt does whose range has the commits `above_input`. Return whether only the
        publication's own changes are undone, because it has undone others and these stay undone."""
        found = publication.superseded(commit)
        if not found <= above_input:
            added, removed = self.steps.get(commit.id, (set(), set()))
            self._undone = self._undone - added | removed
        self._undone.add(commit.id)
        return bool(found) and found <= above_input


def _doubtful(state: State, read: BranchRead, kinds: list[_Kind]) -> Refuse | None:
    """Refuse commits that may be stale, but need not be."""
    undone = _undone(state, read, kinds)
    judged = zip(reversed(kinds), reversed(read.since), strict=True)
    found = {kind: commit for kind, commit in judged if commit.id not in undone}
    for kind, refusal in _DOUBTS.items():
        if kind in found:
            commit = found[kind]
            is_mine = publication.is_of_my_workflow(commit, state.plan.delivery)
            facts = facts_of(commit)
            whose = "this workflow" if is_mine else f"sub-workflow {facts['workflow']}"
            return _refuse(state, refusal, **facts, whose=whose, limit=str(WORKFLOWS_READ))
    return None


def _undone(state: State, read: BranchRead, kinds: list[_Kind], *also: _Kind) -> set[str]:
    """Return the publications that counted commits have undone, for a rebase. It no longer matters who published them.
    Commits of the kinds in `also` count, too."""
    judged = zip(read.since, kinds, strict=True)
    counting = [commit for commit, kind in judged if kind in (_Kind.OWN, _Kind.FOREIGN, *also)]
    return set[str]().union(*map(publication.superseded, counting)) if state.plan.rebase else set()


def _build(read: BranchRead, stale: list[Commit]) -> Build:
    """The head, with stale publications undone."""
    newest = read.since[0]
    return Build(Base(newest.id, tuple(commit.id for commit in stale), newest.meta_range_id))


def _kinds(state: State, read: BranchRead) -> list[_Kind]:
    """Classify each commit. A commit that a living attempt has adopted counts as that attempt's, whatever happened to
    the attempt that made it: Conductor starts failed attempts again, long after their retry, with another start
    time."""
    found, adopted = [], dict[str, _Kind]()
    for commit in read.since:
        kind = adopted.get(commit.id) or _kind(state, commit)
        if kind in (_Kind.OWN, _Kind.FOREIGN) and publication.is_merge(commit):
            adopted[publication.adopted(commit) or ""] = kind
        found.append(kind)
    return found


def _kind(state: State, commit: Commit) -> _Kind:
    delivery, by, lineage = state.plan.delivery, publication.origin(commit), state.lineage or LineageRead((), {})
    if by is None or not publication.is_merge(commit):
        return _Kind.FOREIGN
    began_before = _began_before(state, commit)
    if not publication.is_of_my_workflow(commit, delivery):
        return _Kind.STALE if began_before else _run_of(state, by)
    if by.task_id == delivery.task_id:
        is_living = by.start_time == delivery.start_time
    elif by.task_id in lineage.rows:
        row = lineage.rows[by.task_id]
        is_living = row is not None and by.start_time == row.start_time
    else:
        return _Kind.UNKNOWN
    if publication.is_of_my_step(commit, delivery):
        own = is_living and by.task_id in lineage.chain and publication.is_for_my_input(commit, state)
        return _Kind.OWN if own else _Kind.STALE
    if is_living:
        return _Kind.FOREIGN
    in_a_loop = delivery.iteration > 0 or publication.is_in_a_loop(commit)
    return _Kind.LOOPED if in_a_loop and not began_before else _Kind.STALE


def _began_before(state: State, commit: Commit) -> bool:
    """Whether the attempt behind `commit` belongs to an earlier run of this attempt's family of workflows. False if it
    is unknown."""
    by = publication.origin(commit)
    return by is not None and _run_of(state, by) is _Kind.STALE


def _run_of(state: State, by: Origin) -> _Kind:
    """Classify an attempt by its workflow and the parents of that workflow. The attempt is stale if one of them was
    restarted after the attempt began, or if a parent runs another workflow in its place."""
    line, mine = _line(state, by.workflow_id), _line(state, state.plan.delivery.workflow_id)
    roots = [state.workflows.get(line[-1]), state.workflows.get(mine[-1])]
    if not {line[-1], mine[-1]} <= state.workflows.keys() or any(row is not None and row.parent_id for row in roots):
        return _Kind.UNREAD
    if None in roots or line[-1] != mine[-1]:
        return _Kind.FOREIGN
    rows = filter(None, map(state.workflows.get, line))
    if any(by.start_time + _CLOCKS < row.start_time for row in rows):
        return _Kind.STALE
    told = {_told(state, below, above) for below, above in pairwise(line)}
    return next((kind for kind in (_Kind.STALE, _Kind.STARTING, _Kind.LOOPED) if kind in told), _Kind.FOREIGN)


def _line(state: State, workflow_id: str) -> list[str]:
    """Return a workflow and its parents up to the root, as far as they were read. A cycle ends where it closes. Each
    workflow is read, even if its parent names it, because only its start time shows that it alone was restarted."""
    line = [workflow_id]
    while (row := state.workflows.get(line[-1])) and row.parent_id and row.parent_id not in line:
        line.append(row.parent_id)
    return line


def _told(state: State, child: str, parent: str) -> _Kind:
    """Classify a workflow by what its parent says. It is stale if its attempt was retried. Otherwise a missing name
    proves nothing while a sub-workflow starts, because it may run before its parent names it. Nor does a missing name
    prove anything if a loop of the parent can run the workflow, because Conductor forgets rounds that are still
    good."""
    row, below = state.workflows.get(parent), state.workflows.get(child)
    if row is None or child in row.children:
        return _Kind.FOREIGN
    if child in row.replaced or below is None:
        return _Kind.STALE
    if row.is_starting:
        return _Kind.STARTING
    may_loop = {below.name, ANY_WORKFLOW} & row.looped or (row.looped and not below.name)
    return _Kind.LOOPED if may_loop else _Kind.STALE


def _is_whole(commit: Commit) -> bool:
    """Whether it was merged into the head that its attempt was built on. Without the publish fence, another commit can
    come between. Then the tree of the merge differs from that of the attempt."""
    return commit.parents[:1] == (commit.metadata.get(publication.EXPECTED_HEAD),)
