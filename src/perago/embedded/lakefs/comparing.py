"""Comparing and listing what is in one repository: diffs of staged changes and of refs, and the log of a ref."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from perago.embedded.lakefs import tree as trees
from perago.embedded.lakefs.errors import LakeFSError
from perago.embedded.lakefs.graph import CommitGraph, CommitRecord
from perago.embedded.lakefs.names import SHOULD_BE_A_COMMIT, check_branch_name, check_ref
from perago.embedded.lakefs.repository import Repository
from perago.embedded.lakefs.tree import Tree
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


def log(repository: Repository, ref: str, query: LogQuery) -> Iterator[CommitRecord]:
    """The history of `ref`, newest first, as far as it is consumed.

    Raises:
        Missing, Invalid: one of the refs is not a commit.
    """
    check_ref(ref)
    start = resolve_for_log(repository, ref, "ref")
    stop_at = resolve_for_log(repository, query.stop_at, "stop_at") if query.stop_at else ""
    after = resolve_for_log(repository, query.after, "from ref") if query.after else ""
    records = repository.graph.log(start, first_parent=query.first_parent, since=query.since)
    return _select(repository.graph, records, query, after, stop_at)


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


def resolve_for_log(repository: Repository, ref: str, name: str) -> str:
    """The id of the commit that `ref` points at; `name` says in a refusal which of the refs it was."""
    try:
        return repository.resolve_commit(ref, SHOULD_BE_A_COMMIT).commit.id
    except LakeFSError as error:
        raise error.within(name) from None


def diff_staged(repository: Repository, branch_name: str) -> list[Difference]:
    """The uncommitted changes of a branch; removals have size 0."""
    check_branch_name(branch_name)
    branch = repository.branch(branch_name)
    tree = repository.head(branch).tree
    differences = []
    for path, entry in sorted(repository.changes(branch).items(), key=lambda item: item[0]):
        if entry is None:
            differences.append(Difference(path, DiffType.REMOVED))
        else:
            kind = DiffType.ADDED if tree.get(path) is None else DiffType.CHANGED
            differences.append(Difference(path, kind, entry.blob.size, entry))
    return differences


def diff_refs(repository: Repository, left: str, right: str, *, two_dot: bool) -> list[Difference]:
    """What differs between two refs: directly, or from their merge base (three-dot, with conflicts).

    Branches count with their committed state, except for `branch$` on the right of a two-dot diff.

    Raises:
        Missing: no such ref.
        Invalid: not a ref, or not a commit where one is needed.
    """
    check_ref(left, "left")
    check_ref(right, "right")
    if two_dot:
        return trees.two_dot(repository.resolve_commit(left).tree, _committed_or_staged(repository, right))
    found = merge_base(repository, right, left)
    record = repository.graph.record
    return trees.three_dot(record(found.base).tree, record(found.destination).tree, record(found.source).tree)


def merge_base(repository: Repository, source: str, destination: str) -> MergeBase:
    """The commits of two refs and their best common ancestor.

    Raises:
        Missing: no such ref, or no common ancestor.
        Invalid: not a ref, or not a commit.
    """
    ours = _commit(repository, source, "ref")
    theirs = _commit(repository, destination, "branch")
    return MergeBase(repository.graph.merge_base(ours, theirs), ours, theirs)


def _commit(repository: Repository, ref: str, words: str) -> str:
    try:
        return repository.resolve_commit(ref).commit.id
    except LakeFSError as error:
        raise error.within(f"get commit by {words} {ref}") from None


def _committed_or_staged(repository: Repository, ref: str) -> Tree:
    resolved = repository.resolve(ref)
    if resolved.explicit_staging:
        return repository.tree(resolved)
    return repository.graph.record(resolved.commit_id).tree


def page_of_differences(
    differences: Sequence[Difference], *, prefix: str, after: str, delimiter: str, amount: int
) -> Page[Difference]:
    """One page of a diff; with a delimiter, folded into prefixes that changed.

    With a delimiter lakeFS goes on behind everything that begins with `after`: after `a` there is no `ab`.
    """
    by_path = {difference.path: difference for difference in differences}
    paths = paths_from(list(by_path), prefix, after)
    if delimiter and after and after >= prefix:
        paths = (path for path in paths if not path.startswith(after))
    folded = fold(paths, prefix, delimiter, after)
    items = (Difference(path, DiffType.PREFIX_CHANGED) if is_common else by_path[path] for path, is_common in folded)
    name: Callable[[Difference], str] = lambda difference: difference.path  # noqa: E731
    return page_of(items, name, amount)
