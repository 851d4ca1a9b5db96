"""The modelled server's calls that read commits and compare: diffs of staged changes and of refs, logs, merge bases."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from perago.embedded.lakefs import tree as trees
from perago.embedded.lakefs.errors import ImpossibleName, LakeFSError, Missing
from perago.embedded.lakefs.graph import CommitGraph, CommitRecord
from perago.embedded.lakefs.names import SHOULD_BE_A_COMMIT, check_branch_name, check_ref
from perago.embedded.lakefs.repository import Repository
from perago.embedded.lakefs.state import ServerState
from perago.embedded.lakefs.values import Difference, DiffType, MergeBase, Page, fold, page_of, paths_from, same


@dataclass(frozen=True, slots=True)
class LogQuery:
    """Which commits of a history are wanted.

    From behind the ref `after` down to and including the ref `stop_at`, none created before `since` (seconds since
    the epoch). With `objects` or `prefixes` only commits with one parent that changed one of those paths.
    """

    first_parent: bool = False
    after: str = ""
    stop_at: str = ""
    since: float | None = None
    objects: Sequence[str] = ()
    prefixes: Sequence[str] = ()


class ComparingCalls(ServerState):
    """Diffs, logs and single commits."""

    def staged_changes(self, repository: str, branch: str) -> list[Difference]:
        """A branch's uncommitted changes, in order of path.

        Raises:
            Missing: unknown repository or branch.
        """
        with self._open(repository) as repo:
            check_branch_name(branch)
            found = repo.branch(branch)
            tree, changes = repo.head(found).tree, repo.changes(found)
        differences = []
        for path, entry in sorted(changes.items()):
            kind = DiffType.REMOVED if entry is None else DiffType.CHANGED if tree.get(path) else DiffType.ADDED
            differences.append(Difference(path, kind, 0 if entry is None else entry.blob.size, entry))
        return differences

    def diff_branch(
        self, repository: str, branch: str, *, prefix: str = "", after: str = "", delimiter: str = "", amount: int = -1
    ) -> Page[Difference]:
        """One page of a branch's uncommitted changes."""
        return _page(self.staged_changes(repository, branch), prefix, after, delimiter, amount)

    def diff_refs(
        self,
        repository: str,
        left: str,
        right: str,
        *,
        two_dot: bool = False,
        prefix: str = "",
        after: str = "",
        delimiter: str = "",
        amount: int = -1,
    ) -> Page[Difference]:
        """One page of the differences of two refs: what merging `right` into `left` would do, or, with `two_dot`, what
        turns `left` into `right`. Committed state, except for `branch$` on the right of a two-dot diff.

        Raises:
            Missing: no such repository or ref.
            Invalid: not a ref, or not a commit where one is needed.
        """
        with self._open(repository) as repo:
            check_ref(left, "left")
            check_ref(right, "right")
            if two_dot:
                found = trees.two_dot(repo.resolve_commit(left).tree, _committed_or_staged(repo, right))
            else:
                base, record = _merge_base(repo, right, left), repo.graph.record
                found = trees.three_dot(*(record(each).tree for each in (base.base, base.destination, base.source)))
        return _page(found, prefix, after, delimiter, amount)

    def find_merge_base(self, repository: str, source: str, destination: str) -> MergeBase:
        """What a merge of `source` into `destination` would compare; lakeFS answers with the two swapped.

        Raises:
            Missing: no such ref, or no common ancestor.
            Invalid: not a ref, or not a commit.
        """
        check_ref(destination, "destination")
        check_ref(source, "source")
        with self._open(repository) as repo:
            return _merge_base(repo, destination, source)

    def get_commit(self, repository: str, ref: str) -> CommitRecord:
        """The commit that a ref points at.

        Raises:
            Missing: unknown repository or ref.
            Invalid: not a commit.
            ImpossibleName: nothing can have the repository's name; with 500 here.
        """
        with self._lock:
            try:
                repo = self._repository(repository)
            except ImpossibleName as error:
                raise ImpossibleName(error.message, status=500) from None
            try:
                return repo.resolve_commit(ref, SHOULD_BE_A_COMMIT)
            except Missing:
                raise Missing("commit not found") from None

    def log(
        self,
        repository: str,
        ref: str,
        query: LogQuery | None = None,
        *,
        first_parent: bool = False,
        after: str = "",
        stop_at: str = "",
    ) -> Iterator[CommitRecord]:
        """The history of `ref`, newest first, as far as it is consumed; `query` says it all, else the single words do.

        Raises:
            Missing, Invalid: one of the refs is not a commit.
        """
        wanted = query or LogQuery(first_parent=first_parent, after=after, stop_at=stop_at)
        with self._open(repository) as repo:
            check_ref(ref)
            start = _commit_id(repo, ref, "ref")
            last = _commit_id(repo, wanted.stop_at, "stop_at") if wanted.stop_at else ""
            behind = _commit_id(repo, wanted.after, "from ref") if wanted.after else ""
            records = repo.graph.log(start, first_parent=wanted.first_parent, since=wanted.since)
            return _select(repo.graph, records, wanted, behind, last)

    def first_parents(self, repository: str, ref: str) -> Iterator[CommitRecord]:
        """The first-parent history, newest first, as far as it is consumed."""
        with self._open(repository) as repo:
            return repo.graph.first_parents(_commit_id(repo, ref, "ref"))


def _commit_id(repository: Repository, ref: str, name: str) -> str:
    """The id of the commit that `ref` points at; `name` says in a refusal which of the refs it was."""
    try:
        return repository.resolve_commit(ref, SHOULD_BE_A_COMMIT).commit.id
    except LakeFSError as error:
        raise error.within(name) from None


def _select(
    graph: CommitGraph, records: Iterator[CommitRecord], query: LogQuery, after: str, stop_at: str
) -> Iterator[CommitRecord]:
    if after:
        for record in records:
            if record.commit.id == after:
                break
    by_path = bool(query.objects or query.prefixes)
    for record in records:
        wanted = not by_path or _touches(graph, record, query)
        if wanted:
            yield record
        if record.commit.id == stop_at and wanted:
            return


def _touches(graph: CommitGraph, record: CommitRecord, query: LogQuery) -> bool:
    if len(record.commit.parents) != 1:
        return False
    before, now = graph.record(record.commit.parents[0]).tree, record.tree
    if any(not same(before.get(path), now.get(path)) for path in query.objects):
        return True
    return bool(query.prefixes) and any(path.startswith(tuple(query.prefixes)) for path in before.changes_to(now))


def _merge_base(repository: Repository, source: str, destination: str) -> MergeBase:
    ours = repository.commit_of(source, f"get commit by ref {source}").commit.id
    theirs = repository.commit_of(destination, f"get commit by branch {destination}").commit.id
    return MergeBase(repository.graph.merge_base(ours, theirs), ours, theirs)


def _committed_or_staged(repository: Repository, ref: str) -> trees.Tree:
    resolved = repository.resolve(ref)
    return repository.tree(resolved) if resolved.explicit_staging else repository.graph.record(resolved.commit_id).tree


def _page(differences: Sequence[Difference], prefix: str, after: str, delimiter: str, amount: int) -> Page[Difference]:
    """One page of a diff; with a delimiter, folded into prefixes that changed.

    With a delimiter lakeFS continues behind everything that begins with `after`: after `a` there is no `ab`.
    """
    by_path = {difference.path: difference for difference in differences}
    paths = paths_from(list(by_path), prefix, after)
    if delimiter and after and after >= prefix:
        paths = (path for path in paths if not path.startswith(after))
    folded = fold(paths, prefix, delimiter, after)
    items = (Difference(path, DiffType.PREFIX_CHANGED) if is_common else by_path[path] for path, is_common in folded)
    return page_of(items, lambda difference: difference.path, amount)
