"""The log of a ref: which commits, in which order, from where to where."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from perago.embedded.lakefs.errors import LakeFSError
from perago.embedded.lakefs.graph import CommitGraph, CommitRecord
from perago.embedded.lakefs.names import check_ref
from perago.embedded.lakefs.refs import SHOULD_BE_A_COMMIT
from perago.embedded.lakefs.repository import Repository
from perago.embedded.lakefs.values import same


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
