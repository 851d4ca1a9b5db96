"""A past attempt as Conductor and lakeFS have it: its input, how it ended, and what it published."""

from __future__ import annotations

import contextlib
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from perago.adapters.conductor.session import NO_SUCH_URL
from perago.attempt import publication as notes
from perago.attempt.history import PAGE, NotOneLine, newest_of
from perago.failure import Failure
from perago.ports import Commit, NotFound, ObjectEntry, Refused, WorkspaceStore
from perago.taskdef.payload import commits_of
from perago.testing.differences import (
    AttemptResult,
    Content,
    Differences,
    Digest,
    differences,
    digest_of,
    most_compared,
    with_untouched,
)
from perago.text import count, listing, one_line, quoted, size
from perago.workspace.changes import Changes
from perago.workspace.keys import is_reserved
from perago.workspace.layout import check_room, create_directories, directories_to_create, plan_layout
from perago.workspace.scan import WorkspaceError

_WAITING = ("SCHEDULED", "IN_PROGRESS")
_FINAL = "FAILED_WITH_TERMINAL_ERROR"


class NotReplayable(Failure):
    """There is no such attempt, or it cannot be run again."""


class Records(Protocol):
    """The questions to Conductor. Every method may raise any `ServiceError`."""

    def task(self, task_id: str) -> Mapping[str, Any]:
        """One attempt as JSON."""
        ...

    def workflow(self, workflow_id: str) -> Mapping[str, Any]:
        """A workflow with its attempts as JSON."""
        ...

    def search_tasks(self, query: str, *, start: int, size: int) -> Sequence[Mapping[str, Any]]:
        """Summaries of attempts, the latest first."""
        ...


@dataclass(frozen=True, slots=True)
class PastWorkspace:
    """The workspace of the input, and the commit that the attempt reported."""

    repository: str
    branch: str
    refs: tuple[str, ...]
    """The commits of the input: one, or those of a JOIN."""
    output_ref: str | None


@dataclass(frozen=True, slots=True)
class PastAttempt:
    """An attempt that has ended. Times are milliseconds since the epoch."""

    task_id: str
    task_name: str
    workflow_id: str
    workflow_name: str
    reference_name: str
    status: str
    reason: str
    params: Mapping[str, Any]
    result: Any
    workspace: PastWorkspace | None
    started: int
    ended: int
    definition: Mapping[str, Any] | None
    """The TaskDef of the time; None where Conductor had none."""

    @property
    def seconds(self) -> float | None:
        """The seconds from its first poll to its report."""
        return (self.ended - self.started) / 1000 if self.ended > self.started > 0 else None

    @property
    def ending(self) -> str:
        """Its end in the words of `Example.expect`."""
        if self.status == "COMPLETED":
            return "completed"
        phase, other = ("pre", "terminal") if self.status == _FINAL else ("post", "failed")
        return phase if self.reason.startswith(f"{phase} guardrail") else other


def find_attempt(records: Records, task_id: str) -> PastAttempt:
    """The attempt with this task id.

    Raises:
        NotReplayable: there is no such attempt, it has not ended, or its input is not in Conductor.
        ServiceError: Conductor did not answer.
    """
    try:
        row = records.task(task_id)
    except NotFound as error:
        if NO_SUCH_URL in error.detail:
            raise
        raise NotReplayable(
            f"Conductor has no task {quoted(task_id)}: {error.detail}",
            "give the id of a task, not of a workflow; a workflow that was removed or archived takes its tasks along",
        ) from error
    return attempt_from(row)


def find_step(records: Records, workflow_id: str, step: str) -> PastAttempt:
    """The last attempt of a step of a workflow.

    Raises:
        NotReplayable: there is no such attempt, it has not ended, or its input is not in Conductor.
        ServiceError: Conductor did not answer.
    """
    try:
        rows = records.workflow(workflow_id).get("tasks") or ()
    except NotFound as error:
        if NO_SUCH_URL in error.detail:
            raise
        raise NotReplayable(f"Conductor has no workflow {quoted(workflow_id)}: {error.detail}") from error
    found = [row for row in rows if row.get("referenceTaskName") == step]
    if not found:
        names = list(dict.fromkeys(quoted(str(row.get("referenceTaskName"))) for row in rows))
        raise NotReplayable(
            f"workflow {workflow_id} has no task with the reference name {quoted(step)}",
            f"it has: {listing(names) or 'none yet'}; in a loop each round has its own, such as 'step__2'",
        )
    return attempt_from(found[-1])


def attempt_from(row: Mapping[str, Any]) -> PastAttempt:
    """The attempt in a task as Conductor shows it.

    Raises:
        NotReplayable: it has not ended, or was no attempt of a perago task.
    """
    task_id, status = str(row.get("taskId")), str(row.get("status"))
    if status in _WAITING:
        raise NotReplayable(f"task {task_id} has not ended yet: it is {status}", "wait for its end")
    if row.get("externalInputPayloadStoragePath"):
        raise NotReplayable(
            f"Conductor moved the input of task {task_id} to external storage, which perago does not read",
            "inputs beyond about 3 MB are moved; write such data to the workspace",
        )
    payload = row.get("inputData") or {}
    params = payload.get("params")
    if not isinstance(params, Mapping):
        raise NotReplayable(
            f"the input of task {task_id} ({one_line(str(row.get('taskDefName')))}) has no params, so it is not an "
            "attempt of a perago task"
        )
    output = row.get("outputData") or {}
    return PastAttempt(
        task_id=task_id,
        task_name=str(row.get("taskDefName")),
        workflow_id=str(row.get("workflowInstanceId")),
        workflow_name=str(row.get("workflowType") or ""),
        reference_name=str(row.get("referenceTaskName")),
        status=status,
        reason=str(row.get("reasonForIncompletion") or ""),
        params=params,
        result=output.get("result"),
        workspace=_workspace(task_id, payload.get("workspace"), output.get("workspace")),
        started=int(row.get("startTime") or 0),
        ended=int(row.get("endTime") or 0),
        definition=row.get("taskDefinition") or None,
    )


def _workspace(task_id: str, block: Any, output: Any) -> PastWorkspace | None:
    if block is None:
        return None
    problems: list[str] = []
    refs: tuple[str, ...] = ()
    if not isinstance(block, Mapping) or not all(isinstance(block.get(key), str) for key in ("repository", "branch")):
        problems.append("/workspace: names no repository and branch")
    else:
        refs = commits_of(block.get("ref"), block["repository"], problems)
    if problems:
        raise NotReplayable(f"the input of task {task_id} is not valid: {'; '.join(problems)}")
    ref = output.get("ref") if isinstance(output, Mapping) else None
    return PastWorkspace(block["repository"], block["branch"], refs, ref if isinstance(ref, str) else None)


Chosen = Callable[[str], bool]
"""Whether a path, relative to the workspace, is wanted."""


def everything(_: str) -> bool:
    """A `Chosen` that leaves nothing out."""
    return True


def bring(
    store: WorkspaceStore,
    repository: str,
    commit: str,
    prefix: str,
    directory: Path,
    *,
    chosen: Chosen = everything,
    max_bytes: int | None = None,
    workspace_limit: int | None = None,
) -> dict[str, Path]:
    """Download the chosen files of a commit into an empty directory; returns them by their paths.

    Args:
        store: the lakeFS.
        repository: where the commit is.
        commit: its full id.
        prefix: what the keys of the workspace begin with.
        directory: where the files go; it exists.
        chosen: which of them.
        max_bytes: what all of them together may hold; None for no limit.
        workspace_limit: the same, as `PERAGO_MAX_WORKSPACE_BYTES` says it of any attempt.

    Raises:
        NotReplayable: they are too large together, do not fit the disk, or have keys that cannot be files. Nothing was
            downloaded.
        ServiceError: lakeFS did not answer, or no longer has the commit or an object.
        OSError: the disk refused.
    """

    entries = store.list_objects(repository, commit, prefix)
    wanted = [entry for entry in entries if chosen(entry.key[len(prefix) :])]
    _check_size(wanted, max_bytes)
    try:
        placements = plan_layout(wanted, prefix, directory)
        check_room(placements, prefix, directory, max_bytes=workspace_limit)
    except WorkspaceError as error:
        raise NotReplayable(str(error)) from error
    create_directories(directory, directories_to_create(placements, prefix))
    store.download(repository, commit, directory, placements)
    return {item.entry.key[len(prefix) :]: item.path for item in placements if item.path is not None}


def _check_size(entries: Sequence[ObjectEntry], max_bytes: int | None) -> None:
    total = sum(entry.size for entry in entries)
    if max_bytes is not None and total > max_bytes:
        raise NotReplayable(
            f"the files hold {size(total)} in {count(len(entries), 'object')}, more than {size(max_bytes)}; nothing "
            "was downloaded",
            "choose a part of them with --only GLOB, or allow more with --max-bytes",
        )


_MD5 = re.compile(r"[0-9a-f]{32}")
_MOST_ADOPTIONS = 20


@dataclass(frozen=True, slots=True)
class Published:
    """The publication of the attempt. Paths are relative to its workspace."""

    commit: str | None = None
    """The commit that has the files; None if nothing was published."""
    files: Mapping[str, Digest | None] = field(default_factory=dict)
    """The added and changed files; None where lakeFS knows no MD5."""
    removed: frozenset[str] = frozenset()


@contextlib.contextmanager
def gone_is_told(attempt: PastAttempt) -> Iterator[None]:
    """Refuse an attempt if lakeFS no longer has its objects.

    Raises:
        NotReplayable: instead of `NotFound` and `Refused`.
    """
    try:
        yield
    except (NotFound, Refused) as error:  # an object that was collected as garbage is refused: 410
        raise NotReplayable(
            f"what task {attempt.task_id} read or published is gone from lakeFS: {error.operation}: {error.detail}",
            "garbage collection, or the removal of a branch or a repository, takes old commits and objects away; "
            "choose a later attempt",
        ) from error


def input_commit(store: WorkspaceStore, workspace: PastWorkspace) -> str:
    """The commit that the attempt read: the one of its input, or of several the one that continues all others.

    Raises:
        NotReplayable: none of them does.
        ServiceError: lakeFS did not answer.
    """
    try:
        return newest_of(workspace.refs, lambda ref: store.ancestry(workspace.repository, ref, limit=PAGE))
    except NotOneLine as error:
        raise NotReplayable(str(error)) from error


def published_by(store: WorkspaceStore, workspace: PastWorkspace, input_ref: str, prefix: str) -> Published:
    """Return what the attempt added, changed and removed, without concurrent publications.

    Args:
        store: the lakeFS.
        workspace: where it read and published.
        input_ref: the commit that it read.
        prefix: what the keys of the task's workspace begin with.

    Raises:
        ServiceError: lakeFS did not answer, or no longer has the commits.
    """
    if workspace.output_ref is None or workspace.output_ref == input_ref:
        return Published()
    repository = workspace.repository
    commit = with_files(store, repository, store.get_commit(repository, workspace.output_ref))
    # The head that the publication was built on. If it has also undone a stale publication, the function did not see
    # that head.
    base = input_ref if commit.metadata.get(notes.SUPERSEDES) or not commit.parents else commit.parents[0]
    changed = {
        key: size
        for key, size in store.diff(repository, base, commit.id).items()
        if key.startswith(prefix) and not is_reserved(key)
    }
    # What another branch of a fork had published already with the same bytes is in no diff, but is its own as well.
    shared = {key for key in notes.shared([commit]) or () if key.startswith(prefix)}
    there = {key for key, size in changed.items() if size is not None} | shared
    listed = {entry.key: entry for entry in store.list_objects(repository, commit.id, prefix) if entry.key in there}
    files = {
        key[len(prefix) :]: Digest(entry.size, entry.checksum) if _MD5.fullmatch(entry.checksum) else None
        for key, entry in listed.items()
        if not key.endswith("/")
    }
    gone = {key for key, size in changed.items() if size is None} | (shared - listed.keys())
    removed = frozenset(key[len(prefix) :] for key in gone)
    return Published(commit.id, files, removed)


def with_files(store: WorkspaceStore, repository: str, commit: Commit) -> Commit:
    """Return the publication itself: an adoption has a commit of its own, which changes nothing."""
    for _ in range(_MOST_ADOPTIONS):
        adopted = notes.adopted(commit)
        if adopted is None:
            break
        commit = store.get_commit(repository, adopted)
    return commit


@dataclass(frozen=True, slots=True)
class Past:
    """The input and the publication of an attempt. `prefix` is what the keys of its workspace begin with."""

    attempt: PastAttempt
    prefix: str
    input_ref: str | None = None
    published: Published = field(default_factory=Published)


def look_up(store: WorkspaceStore | None, attempt: PastAttempt, prefix: str) -> Past:
    """Return what lakeFS has of an attempt.

    Args:
        store: the lakeFS; not needed for a task without a workspace.
        attempt: as Conductor has it.
        prefix: what the keys of the task's workspace begin with.

    Raises:
        NotReplayable: lakeFS no longer has it.
        ServiceError: lakeFS did not answer.
    """
    if attempt.workspace is None or store is None:
        return Past(attempt, prefix)
    with gone_is_told(attempt):
        ref = input_commit(store, attempt.workspace)
        return Past(attempt, prefix, ref, published_by(store, attempt.workspace, ref, prefix))


def fetch_input(
    store: WorkspaceStore | None,
    past: Past,
    directory: Path,
    chosen: Chosen = everything,
    workspace_limit: int | None = None,
) -> dict[str, Path]:
    """Download the input tree into an empty directory.

    Args:
        store: the lakeFS.
        past: the attempt.
        directory: where the files go.
        chosen: which of them; all that the task sees.
        workspace_limit: `PERAGO_MAX_WORKSPACE_BYTES`.

    Raises:
        NotReplayable: it does not fit the disk, or is gone.
        ServiceError: lakeFS did not answer.
        OSError: the disk refused.
    """
    workspace = past.attempt.workspace
    if store is None or workspace is None or past.input_ref is None:
        return {}
    with gone_is_told(past.attempt):
        return bring(
            store,
            workspace.repository,
            past.input_ref,
            past.prefix,
            directory,
            chosen=chosen,
            workspace_limit=workspace_limit,
        )


def differences_to(
    past: Past, now: AttemptResult, store: WorkspaceStore | None, tree: Mapping[str, Content]
) -> Differences:
    """Compare what an attempt leaves today with what the past one left. Only files that differ are downloaded.

    Args:
        past: the attempt of the past.
        now: what that of today left.
        store: the lakeFS of the past one.
        tree: what both began with, by path.

    Raises:
        NotReplayable: what was published is gone.
        ServiceError: lakeFS did not answer.
        OSError: the disk refused.
    """
    attempt, published = past.attempt, past.published
    with tempfile.TemporaryDirectory(prefix="perago-then-") as name:
        known = {path: digest for path, digest in published.files.items() if digest is not None}
        then = AttemptResult(attempt.ending, attempt.reason, attempt.result, known, published.removed)
        files = _then(past, with_untouched(now, then, tree), store, Path(name))
        return differences(replace(then, files=files), now, tree)


def result_of(
    store: WorkspaceStore, row: Mapping[str, Any], changes: Changes, prefix: str, directory: Path
) -> AttemptResult:
    """Return what an attempt on local services left.

    Args:
        store: the local lakeFS.
        row: the attempt as Conductor shows it after its end.
        changes: what the function did to its workspace.
        prefix: what the keys of the workspace begin with.
        directory: where the files go; it exists, and is empty.

    Raises:
        OSError: the disk refused.
    """
    attempt = attempt_from(row)
    workspace = attempt.workspace
    if attempt.ending != "completed" or workspace is None or workspace.output_ref is None:
        return AttemptResult(attempt.ending, attempt.reason, attempt.result)
    listed = {file.path: Digest(file.size, file.checksum) for file in (*changes.added, *changes.changed)}
    small = {path for path, digest in listed.items() if digest.size <= most_compared(path)}
    commit = workspace.output_ref
    files: dict[str, Content | Digest] = dict(listed)
    if small:
        files |= bring(store, workspace.repository, commit, prefix, directory, chosen=small.__contains__)
    removed = frozenset(file.path for file in changes.removed)
    return AttemptResult(attempt.ending, attempt.reason, attempt.result, files, removed)


def _then(past: Past, now: AttemptResult, store: WorkspaceStore | None, directory: Path) -> dict[str, Content | Digest]:
    """The published files; those that differ today and are not too large with their contents."""
    published, workspace = past.published, past.attempt.workspace
    if store is None or workspace is None or published.commit is None:
        return {}
    differing = {path for path, digest in published.files.items() if _differs(path, digest, now.files.get(path))}
    brought: dict[str, Path] = {}
    if differing:
        with gone_is_told(past.attempt):
            brought = bring(
                store, workspace.repository, published.commit, past.prefix, directory, chosen=differing.__contains__
            )
    digests = {path: digest for path, digest in published.files.items() if digest is not None}
    return {**digests, **brought}


def _differs(path: str, then: Digest | None, now: Content | Digest | None) -> bool:
    if now is None:
        return then is None
    return then is None or (then.size <= most_compared(path) and then != digest_of(now))
