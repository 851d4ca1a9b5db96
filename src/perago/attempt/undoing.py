"""Undo publications: which are undone at the head, how one is undone, and whether only its changes were reverted.

The driver reads commits and differences of trees, and reverts. Everything is decided here. lakeFS's revert is a merge
of three trees, which can lose files, so its outcome is verified.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence, Set

from perago.attempt import commands as do
from perago.attempt import events as on
from perago.attempt import publication
from perago.attempt.publication import FENCE_PATH
from perago.attempt.refusals import named
from perago.attempt.state import State
from perago.ports import Commit
from perago.text import short


class UndoneAtHead:
    """The publications whose changes are undone at the head, found by repeating what each commit has undone.

    Example: B undid A. C got A as its input ref, so C undid B in full, which restored A."""

    def __init__(self, since: Sequence[Commit], counted: Sequence[Commit] | None = None) -> None:
        """`since`: the commits of the range, newest first. `counted`: those that count; None: all."""
        self._undone = set[str]()
        self.steps: dict[str, tuple[set[str], set[str]]] = {}
        """The ids that each commit has added to `_undone`, and removed from it, oldest commit first."""
        places = {commit.id: place for place, commit in enumerate(since)}
        for commit in reversed(since if counted is None else counted):
            if not (superseded := publication.superseded(commit) & places.keys()):
                continue
            start = places.get(commit.metadata.get(publication.INPUT_REF, ""), len(since))
            above_input, before = {above.id for above in since[:start]}, set(self._undone)
            for place in sorted(places[commit_id] for commit_id in superseded):
                if since[place].id not in self._undone:
                    self.undo(since[place], above_input)
            self.steps[commit.id] = self._undone - before, before - self._undone

    @property
    def undone_by(self) -> dict[str, str]:
        """The publications that are undone, each with the commit that undid it."""
        undone = dict[str, str]()
        for commit_id, (added, removed) in self.steps.items():
            undone |= dict.fromkeys(added, commit_id)
            for restored in removed:
                del undone[restored]
        return undone

    def __contains__(self, commit_id: str) -> bool:
        return commit_id in self._undone

    def undo(self, commit: Commit, above_input: Set[str]) -> bool:
        """Undo one publication, as an attempt does whose range has the commits `above_input`. Return whether only the
        publication's own changes are undone, because it has undone others and these stay undone. An operation has no
        changes of its own, so undoing it restores the others."""
        superseded = publication.superseded(commit)
        is_partial = bool(superseded) and superseded <= above_input and not publication.is_operation(commit)
        if not is_partial:
            added, removed = self.steps.get(commit.id, (set(), set()))
            self._undone = self._undone - added | removed
        self._undone.add(commit.id)
        return is_partial


def undone_at_head(since: Sequence[Commit]) -> dict[str, str]:
    """Map each publication of a range (newest first) that is undone at the head to the commit that undid it."""
    return UndoneAtHead(since).undone_by


def reverted_by_hand(since: Sequence[Commit]) -> Iterator[tuple[Commit, Commit]]:
    """Yield each commit of a range (newest first) that a person reverted right after it, behind that revert."""
    for above, commit, below in zip(since, since[1:], since[2:], strict=False):
        if publication.WORKFLOW_ID not in above.metadata and above.meta_range_id == below.meta_range_id:
            yield above, commit


def undoing(since: Sequence[Commit], stale_ids: Collection[str]) -> tuple[list[do.StalePublication], list[Commit]]:
    """Return the publications whose changes must be undone, and the living commits of the range, whose changes must
    stay. The newest commits come first.

    An operation has no changes of its own, so it is neither. If a stale publication has undone others, these stay
    undone, with two exceptions. A publication that has undone a part of the input ref is undone in full. If a person
    reverted a publication right after it, neither of these two commits counts.
    """
    counted = _counted(since, stale_ids)
    ids, undone = {commit.id for commit in since}, UndoneAtHead(since, counted)
    stale, living = list[do.StalePublication](), list[Commit]()
    for commit in counted:
        if commit.id in undone:
            continue
        if commit.id in stale_ids:
            is_partial = undone.undo(commit, ids)
            stale.append(do.StalePublication(commit.id, commit.parents, is_partial, above=len(living)))
        elif not publication.is_operation(commit):
            living.append(commit)
    return stale, living


def _counted(since: Sequence[Commit], stale_ids: Collection[str]) -> list[Commit]:
    void = set[str]()
    for revert, commit in reverted_by_hand(since):
        if commit.id in stale_ids:
            void |= {revert.id, commit.id}
    return [commit for commit in since if commit.id not in void]


def own_changes(stale: do.StalePublication, read: on.StaleCommit) -> str | None:
    """Return the commit whose difference to its first parent is what a publication has changed itself. It is empty if
    the publication has changed nothing or has only undone others. It is None if a person has made the commit.

    Only a publication with the tree of its staging commit is reverted. If it was merged into another head than
    expected, it must have changed only its own files there. A publication that has undone others is a merge of both,
    so a revert of it would restore what it has undone. Its staging commit has only its own changes.
    """
    commit, source = read.commit, read.source
    is_as_staged = (
        read.changed is not None
        and read.staged is not None
        and read.changed <= read.staged
        and not read.changed & read.differing
    )
    if publication.is_built_from(commit, source) or is_as_staged:
        return source.id if stale.has_undone else commit.id
    has_none = stale.has_undone or len(set(stale.parents)) == 1
    return "" if has_none and source.meta_range_id == commit.meta_range_id else None


def odd_commit(read: on.StaleCommit) -> str:
    """Say why a commit with the metadata of a publication is not reverted."""
    source = f"its second parent {short(read.commit.parents[-1])} is not its staging commit, or has different files"
    return f"{short(read.commit.id)} is not as perago publishes, because {source}"


def verified(state: State, event: on.Reverted) -> frozenset[str] | str:
    """Return the reverted keys that living publications rely on, and that the publication must restore. If other keys
    than those of the stale publications were reverted, or if a living commit above one has changed a key of it, return
    what is wrong."""
    since = state.read.since if state.read else ()
    stale_ids = state.base.stale if state.base else ()
    stale_commits, living = undoing(since, stale_ids)
    own = set[str]().union(*(changes.touched for changes in event.changes))
    wrong = set[str]().union(*(changes.left for changes in event.changes)) | (event.changed - own)
    undone = event.changed & own
    theirs = [changed - {FENCE_PATH} for changed in event.others]
    is_by_hand = [publication.WORKFLOW_ID not in commit.metadata for commit in living]
    for stale, changes in zip(stale_commits, event.changes, strict=True):
        above = theirs[: stale.above]
        wrong |= undone & changes.touched & set[str]().union(*above)
        if stale.has_undone:
            # What people have restored by hand belongs to the earlier run, too.
            restored = changes.superseded - changes.touched - changes.still_different
            by_people = (keys for keys, by_hand in zip(above, is_by_hand, strict=False) if by_hand)
            wrong |= restored & set[str]().union(*by_people)
    if wrong:
        by_others = wrong & set[str]().union(*theirs)
        keys = named(sorted(by_others or wrong))
        return f"others have changed {keys} since" if by_others else f"reverting them did not restore {keys}"
    # What undoing an operation brings back relies on no file of the head.
    before = UndoneAtHead(since, _counted(since, stale_ids))
    shared = publication.shared(commit for commit in living if commit.id not in before)
    held = undone if shared is None else undone & shared
    return frozenset(held - {FENCE_PATH})
