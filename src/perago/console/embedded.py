"""The embedded services as the console reads them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from perago.console.source import (
    Branch,
    Change,
    File,
    HistoryEvent,
    Json,
    News,
    NoSuchPage,
    Poll,
    Repository,
    Source,
    Traces,
    WorkflowSummary,
)
from perago.console.worker_logs import no_traces
from perago.embedded.conductor.model import ConductorModel
from perago.embedded.lakefs.errors import LakeFSError
from perago.embedded.lakefs.server import LakeFSServer
from perago.embedded.lakefs.tree import EMPTY_TREE, two_dot
from perago.embedded.lakefs.values import DiffType, Entry, Page
from perago.ports import Commit

T = TypeVar("T")
_AT_ONCE = 1000


class EmbeddedConductor:
    """A `Conductor` of the console."""

    def __init__(self, model: ConductorModel) -> None:
        self._model = model
        self.now = model.now
        self.workflow = model.workflow
        self.task_log = model.task_logs
        self.task_definition = model.get_task_definition
        self.task_definitions = model.task_definitions
        self.queue_sizes = model.queue_sizes

    def workflows(self) -> Sequence[WorkflowSummary]:
        """All workflows, newest first."""
        return [
            WorkflowSummary(
                workflow_id=each.workflow_id,
                name=each.name,
                version=each.version,
                status=each.status.value,
                start_time=each.start_time,
                end_time=each.end_time,
                reason=each.reason or "",
                failed_references=each.failed_references,
            )
            for each in reversed(self._model.workflow_summaries())
        ]

    def knows(self, workflow_id: str) -> bool:
        """Whether there is such a workflow."""
        return workflow_id in self._model.workflow_ids()

    def history(self, workflow_id: str) -> Sequence[HistoryEvent]:
        """The model's own list."""
        return [
            HistoryEvent(
                time=entry.time,
                what=entry.what.value,
                task_id=entry.task_id,
                reference_name=entry.reference_name,
                status=entry.status,
                poll_count=entry.poll_count,
                worker_id=entry.worker_id or "",
            )
            for entry in self._model.history(workflow_id)
        ]

    def workflow_definitions(self, name: str | None = None) -> Sequence[Json]:
        """All, or all versions of one."""
        return self._model.workflow_definitions() if name is None else self._model.workflow_definitions(name)

    def queued(self, name: str, start: int, limit: int) -> Sequence[Json]:
        """Attempts that wait."""
        return self._model.pending(name, start=start, limit=limit)

    def last_polls(self, name: str) -> Sequence[Poll]:
        """Who polled."""
        return [Poll(each.time, each.worker_id or "", each.domain or "") for each in self._model.last_polls(name)]

    def start(self, name: str, version: int, payload: Mapping[str, Any]) -> str:
        """Start a workflow."""
        return self._model.start_workflow(name, payload, version=version)

    def terminate(self, workflow_id: str, reason: str) -> None:
        """End a workflow."""
        self._model.terminate_workflow(workflow_id, reason)


class EmbeddedLakeFS:
    """A `LakeFS` of the console."""

    def __init__(self, server: LakeFSServer) -> None:
        self._server = server

    def repositories(self) -> Sequence[Repository]:
        """All repositories."""
        found = _all_of(lambda after: self._server.list_repositories(after=after, amount=_AT_ONCE))
        return [Repository(each.name, each.storage_namespace, each.default_branch, each.created) for each in found]

    def repository(self, name: str) -> Repository:
        """One repository."""
        with _found():
            each = self._server.get_repository(name)
        return Repository(each.name, each.storage_namespace, each.default_branch, each.created)

    def branches(self, repository: str) -> Sequence[Branch]:
        """All branches, hidden ones included."""
        list_branches = self._server.list_branches
        with _found():
            found = list(
                _all_of(lambda after: list_branches(repository, after=after, amount=_AT_ONCE, show_hidden=True))
            )
        return [Branch(each.name, each.commit_id, each.hidden) for each in found]

    def branch(self, repository: str, name: str) -> Branch:
        """One branch."""
        with _found():
            each = self._server.get_branch(repository, name)
        return Branch(each.name, each.commit_id, each.hidden)

    def tags(self, repository: str) -> Sequence[tuple[str, str]]:
        """All tags."""
        found = _all_of(lambda after: self._server.list_tags(repository, after=after, amount=_AT_ONCE))
        return [(each.name, each.commit_id) for each in found]

    def commit(self, repository: str, ref: str) -> Commit:
        """A commit."""
        with _found():
            return self._server.get_commit(repository, ref).commit

    def first_parents(self, repository: str, ref: str) -> Iterator[Commit]:
        """A commit and those before it."""
        with _found():
            for record in self._server.first_parents(repository, ref):
                yield record.commit

    def changes(self, repository: str, commit: Commit) -> Sequence[Change]:
        """What a commit changed."""
        with _found():
            after = self._server.get_commit(repository, commit.id).tree
            before = self._server.get_commit(repository, commit.parents[0]).tree if commit.parents else EMPTY_TREE
        found = []
        for difference in two_dot(before, after):
            old = before.get(difference.path)
            new = None if difference.type is DiffType.REMOVED else difference.size
            found.append(Change(difference.path, difference.type.value, None if old is None else old.blob.size, new))
        return found

    def uncommitted(self, repository: str, branch: str, limit: int) -> tuple[Sequence[Change], bool]:
        """What is staged on a branch."""
        with _found():
            page = self._server.diff_branch(repository, branch, amount=limit)
        return [Change(each.path, each.type.value, None, each.size) for each in page.results], page.has_more

    def count(self, repository: str, commit_id: str) -> int:
        """How many objects there are."""
        with _found():
            return len(self._server.get_commit(repository, commit_id).tree)

    def listing(
        self, repository: str, commit_id: str, prefix: str, after: str, limit: int
    ) -> tuple[Sequence[File | str], str | None]:
        """One directory; arguments and result as in `source.LakeFS`."""
        with _found():
            page = self._server.list_objects(
                repository, commit_id, prefix=prefix, after=after, delimiter="/", amount=limit
            )
        rows = [_file(item) if isinstance(item, Entry) else item.path for item in page.results]
        return rows, page.next_offset if page.has_more else None

    def file(self, repository: str, commit_id: str, path: str) -> File:
        """One object."""
        with _found():
            return _file(self._server.stat_object(repository, commit_id, path))

    def read(self, repository: str, commit_id: str, path: str, limit: int | None = None) -> Iterator[bytes]:
        """The bytes of a file; arguments as in `source.LakeFS`."""
        with _found():
            blob = self._server.stat_object(repository, commit_id, path).blob
        return blob.chunks() if limit is None else blob.chunks(0, min(blob.size, limit))


@contextmanager
def _found() -> Iterator[None]:
    try:
        yield
    except LakeFSError as error:
        raise NoSuchPage(str(error)) from error


def _file(entry: Entry) -> File:
    return File(entry.path, entry.blob.size, entry.mtime, entry.blob.checksum, entry.content_type, dict(entry.metadata))


def _all_of(page_after: Callable[[str], Page[T]]) -> Iterator[T]:
    after, more = "", True
    while more:
        page = page_after(after)
        yield from page.results
        after, more = page.next_offset, page.has_more


def source_of(
    conductor: ConductorModel,
    lakefs: LakeFSServer,
    traces: Traces = no_traces,
    samples: Mapping[str, Any] | None = None,
) -> Source:
    """Two models as what the pages are made of.

    Args:
        conductor: The Conductor.
        lakefs: The lakeFS.
        traces: What workers wrote about an attempt.
        samples: Parameters that forms begin with, by the name of the workflow; looked at whenever a form is made.
    """
    given = {} if samples is None else samples
    return Source(EmbeddedConductor(conductor), EmbeddedLakeFS(lakefs), traces, News(), given)
