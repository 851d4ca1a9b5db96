"""The embedded services as the console reads them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Any, TypeVar

from perago.console.source import (
    STAGING_PREFIX,
    Change,
    File,
    HistoryEvent,
    Json,
    News,
    NoSuchPage,
    Page,
    Poll,
    Ref,
    Repository,
    Source,
    Traces,
    WorkflowSummary,
)
from perago.console.worker_logs import no_traces
from perago.embedded.conductor.model import ConductorModel
from perago.embedded.lakefs.server import LakeFSServer
from perago.embedded.lakefs.trees import EMPTY_TREE, Tree, two_dot
from perago.embedded.lakefs.values import Difference, DiffType, Entry, LakeFSError, RepositoryInfo
from perago.embedded.lakefs.values import Page as Results
from perago.ports import Commit

T = TypeVar("T")
U = TypeVar("U")


class EmbeddedConductor:
    """A `Conductor` of the console."""

    def __init__(self, model: ConductorModel) -> None:
        self._model = model
        self.now = model.now
        self.workflow = model.workflow
        self.task_definition = model.get_task_definition
        self.task_definitions = model.task_definitions
        self.queue_sizes = model.queue_sizes
        self.workflow_definition = model.get_workflow_definition

    def workflow_counts(self) -> Mapping[str, int]:
        """How many there are of each status."""
        return Counter(each.status.value for each in self._model.workflow_summaries())

    def workflows(self, status: str | None, start: int, limit: int) -> Sequence[WorkflowSummary]:
        """Some workflows, newest first."""
        newest = reversed(self._model.workflow_summaries())
        wanted = (each for each in newest if status in (None, each.status.value))
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
            for each in islice(wanted, start, start + limit)
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

    def task_log(self, task: Json) -> Sequence[Json]:
        """The entries of an attempt's task log."""
        return self._model.task_logs(task["taskId"])

    def workflow_versions(self, name: str) -> Sequence[int]:
        """The versions of a definition."""
        return [each["version"] for each in self._model.workflow_definitions(name)]

    def queued(self, name: str, start: int, limit: int) -> Sequence[Json]:
        """Attempts that wait."""
        return self._model.pending(name, start=start, limit=limit)

    def last_polls(self, name: str) -> Sequence[Poll]:
        """Who polled."""
        return [Poll(each.time, each.worker_id or "", each.domain or "") for each in self._model.last_polls(name)]


class EmbeddedActions:
    """The `Actions` of the console."""

    def __init__(self, model: ConductorModel, samples: Mapping[str, Any]) -> None:
        self._model = model
        self.samples = samples

    def startable(self) -> Sequence[tuple[str, int]]:
        """The newest version of each definition."""
        return list({each["name"]: each["version"] for each in self._model.workflow_definitions()}.items())

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

    def repositories(self, after: str, limit: int) -> Page[Repository]:
        """Repositories."""
        return _page(self._server.list_repositories(after=after, amount=limit), _repository)

    def repository(self, name: str) -> Repository:
        """One repository."""
        with _found():
            return _repository(self._server.get_repository(name))

    def branches(self, repository: str, after: str, limit: int, *, staging: bool) -> Page[Ref]:
        """Staging branches, or those that are not hidden."""
        prefix = STAGING_PREFIX if staging else ""
        with _found():
            page = self._server.list_branches(repository, prefix=prefix, after=after, amount=limit, show_hidden=staging)
        return _page(page, lambda each: Ref(each.name, each.commit_id))

    def branch(self, repository: str, name: str) -> Ref:
        """One branch."""
        with _found():
            each = self._server.get_branch(repository, name)
        return Ref(each.name, each.commit_id)

    def tags(self, repository: str, after: str, limit: int) -> Page[Ref]:
        """Tags."""
        with _found():
            page = self._server.list_tags(repository, after=after, amount=limit)
        return _page(page, lambda each: Ref(each.name, each.commit_id))

    def commit(self, repository: str, ref: str) -> Commit:
        """A commit."""
        with _found():
            return self._server.get_commit(repository, ref).commit

    def first_parents(self, repository: str, ref: str) -> Iterator[Commit]:
        """A commit and those before it."""
        with _found():
            for record in self._server.first_parents(repository, ref):
                yield record.commit

    def changes(self, repository: str, commit: Commit, after: str, limit: int) -> Page[Change]:
        """What a commit changed."""
        with _found():
            new = self._server.get_commit(repository, commit.id).tree
            old = self._server.get_commit(repository, commit.parents[0]).tree if commit.parents else EMPTY_TREE
        later = (each for each in two_dot(old, new) if not after or each.path.encode() > after.encode())
        found = list(islice(later, limit + 1))
        return [_change(each, old) for each in found[:limit]], found[limit - 1].path if len(found) > limit else None

    def uncommitted(self, repository: str, branch: str, limit: int) -> Page[Change]:
        """What is staged on a branch."""
        with _found():
            page = self._server.diff_branch(repository, branch, amount=limit)
        return _page(page, lambda each: Change(each.path, each.type.value, None, each.size))

    def count(self, repository: str, commit_id: str, limit: int) -> int:
        """How many objects there are."""
        with _found():
            return min(limit, len(self._server.get_commit(repository, commit_id).tree))

    def listing(self, repository: str, commit_id: str, prefix: str, after: str, limit: int) -> Page[File | str]:
        """One directory; arguments as in `source.LakeFS`."""
        with _found():
            page = self._server.list_objects(
                repository, commit_id, prefix=prefix, after=after, delimiter="/", amount=limit
            )
        return _page(page, lambda item: _file(item) if isinstance(item, Entry) else item.path)

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


def _repository(found: RepositoryInfo) -> Repository:
    return Repository(found.name, found.storage_namespace, found.default_branch, found.created)


def _change(found: Difference, old: Tree) -> Change:
    before = old.get(found.path)
    after = None if found.type is DiffType.REMOVED else found.size
    return Change(found.path, found.type.value, None if before is None else before.blob.size, after)


def _page(found: Results[T], read: Callable[[T], U]) -> Page[U]:
    return [read(each) for each in found.results], found.next_offset if found.has_more else None


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
    actions = EmbeddedActions(conductor, {} if samples is None else samples)
    return Source(
        EmbeddedConductor(conductor), EmbeddedLakeFS(lakefs), traces, News(), "on this machine only", actions=actions
    )
