"""Find past attempts on Conductor and lakeFS, and read them with their input and their publication."""

from __future__ import annotations

import ast
import contextlib
import os
import re
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, islice
from pathlib import Path
from typing import Any, Protocol

from perago.adapters.conductor.session import NO_SUCH_URL
from perago.attempt import publication as notes
from perago.attempt.joins import PAGE, NotOneLine, newest_of
from perago.attempt.undoing import undone_at_head
from perago.conductor_json import rows_of
from perago.failure import Failure
from perago.ports import OPEN_STATUSES, Commit, NotFound, Refused, WorkspaceStore
from perago.taskdef.payload import HEAD_OF, commits_of
from perago.text import count, listing, one_line, quoted, size
from perago.trees.differences import (
    AttemptResult,
    Content,
    Differences,
    Digest,
    differences,
    digest_of,
    most_compared,
    with_untouched,
)
from perago.workspace.changes import Changes
from perago.workspace.keys import is_reserved
from perago.workspace.layout import check_room, create_directories, directories_to_create, plan_layout
from perago.workspace.scan import WorkspaceError

_FINAL = "FAILED_WITH_TERMINAL_ERROR"


class NotReplayable(Failure):
    """The attempt does not exist, or cannot be run again."""


class Records(Protocol):
    """The questions to Conductor. Each method can raise any `ServiceError`."""

    def task(self, task_id: str) -> Mapping[str, Any]:
        """Return one attempt as JSON."""
        ...

    def workflow(self, workflow_id: str) -> Mapping[str, Any]:
        """Return a workflow with its attempts as JSON."""
        ...

    def search_tasks(self, query: str, *, start: int, size: int) -> Sequence[Mapping[str, Any]]:
        """Return summaries of attempts, the latest first."""
        ...


@dataclass(frozen=True, slots=True)
class PastWorkspace:
    """The workspace of an input, and the commit that the attempt reported."""

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
    """The TaskDef at that time; None if Conductor had none."""
    is_workflow: bool = False
    """Whether it is a run of a workflow, whose id is `task_id`, and whose name is `task_name`."""
    signals: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    """The signals of a run, by the step that waited for them, in order; None for a step that ended without one."""

    @property
    def label(self) -> str:
        """The attempt in a sentence."""
        return f"{'workflow' if self.is_workflow else 'task'} {self.task_id}"

    @property
    def seconds(self) -> float | None:
        """The seconds from the first poll to the report."""
        return (self.ended - self.started) / 1000 if self.ended > self.started > 0 else None

    @property
    def ending(self) -> str:
        """Its ending in the words of `Example.expect`."""
        if self.status == "COMPLETED":
            return "completed"
        if self.is_workflow:
            return "failed"
        phase, other = ("pre", "terminal") if self.status == _FINAL else ("post", "failed")
        return phase if self.reason.startswith(f"{phase} guardrail") else other


@contextlib.contextmanager
def refusing_unknown(what: str, fix: str = "") -> Iterator[None]:
    """Raise `NotReplayable` if Conductor does not know `what`, such as `task 'x'`."""
    try:
        yield
    except NotFound as error:
        if NO_SUCH_URL in error.detail:
            raise
        raise NotReplayable(f"Conductor has no {what}: {error.detail}", fix) from error


def find_attempt(records: Records, task_id: str) -> PastAttempt:
    """Return the attempt with this task id.

    Raises:
        NotReplayable: it does not exist, has not ended, or has no input in Conductor.
        ServiceError: Conductor did not answer.
    """
    fix = "give the id of a task, not of a workflow; a removed or archived workflow takes its tasks with it"
    with refusing_unknown(f"task {quoted(task_id)}", fix):
        row = records.task(task_id)
    return attempt_from(row)


def find_step(records: Records, workflow_id: str, step: str) -> PastAttempt:
    """Return the last attempt of a step of a workflow.

    Raises:
        NotReplayable: it does not exist, has not ended, or has no input in Conductor.
        ServiceError: Conductor did not answer.
    """
    with refusing_unknown(f"workflow {quoted(workflow_id)}"):
        rows = rows_of(records.workflow(workflow_id))
    attempts = [row for row in rows if row.get("referenceTaskName") == step]
    if not attempts:
        names = list(dict.fromkeys(quoted(str(row.get("referenceTaskName"))) for row in rows))
        fix = f"it has {listing(names) or 'none yet'}; in a loop, each round has its own name, such as 'step__2'"
        raise NotReplayable(f"workflow {workflow_id} has no task with the reference name {quoted(step)}", fix)
    return attempt_from(attempts[-1])


def attempt_from(row: Mapping[str, Any]) -> PastAttempt:
    """Read an attempt from a task as Conductor shows it.

    Raises:
        NotReplayable: it has not ended, or is not an attempt of a perago task.
    """
    task_id, status = str(row.get("taskId")), str(row.get("status"))
    if status in OPEN_STATUSES:
        raise NotReplayable(f"task {task_id} has not ended yet: it is {status}", "wait until it has ended")
    if row.get("externalInputPayloadStoragePath"):
        problem = f"Conductor moved the input of task {task_id} to external storage, which perago does not read"
        raise NotReplayable(problem, "inputs beyond about 3 MB are moved; write such data to the workspace")
    payload = row.get("inputData") or {}
    params = payload.get("params")
    if not isinstance(params, Mapping):
        which = f"task {task_id} ({one_line(str(row.get('taskDefName')))})"
        raise NotReplayable(f"the input of {which} has no params, so it is not an attempt of a perago task")
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
        workspace=past_workspace(f"task {task_id}", payload.get("workspace"), output.get("workspace")),
        started=int(row.get("startTime") or 0),
        ended=int(row.get("endTime") or 0),
        definition=row.get("taskDefinition") or None,
    )


def past_workspace(label: str, block: Any, output: Any) -> PastWorkspace | None:
    """Read the workspace of an input, and the ref of an output. `label` names whose they are.

    Raises:
        NotReplayable: it is not a workspace.
    """
    if block is None:
        return None
    problems: list[str] = []
    refs: tuple[str, ...] = ()
    if not isinstance(block, Mapping) or not all(isinstance(block.get(key), str) for key in ("repository", "branch")):
        problems.append("/workspace: names no repository and branch")
    else:
        refs = commits_of(block.get("ref"), block["repository"], problems)
    if problems:
        raise NotReplayable(f"the input of {label} is not valid: {'; '.join(problems)}")
    ref = output.get("ref") if isinstance(output, Mapping) else None
    return PastWorkspace(block["repository"], block["branch"], refs, ref if isinstance(ref, str) else None)


PathFilter = Callable[[str], bool]
"""Whether a path, relative to the workspace, is wanted."""


def everything(_: str) -> bool:
    """Choose every path."""
    return True


def download_files(
    store: WorkspaceStore,
    repository: str,
    commit: str,
    prefix: str,
    directory: Path,
    *,
    chosen: PathFilter = everything,
    max_bytes: int | None = None,
    workspace_limit: int | None = None,
) -> dict[str, Path]:
    """Download the chosen files of a commit into an empty directory, and return them by path.

    Args:
        store: the lakeFS.
        repository: where the commit is.
        commit: its full id.
        prefix: the beginning of all keys of the workspace.
        directory: an existing directory for the files.
        chosen: which files.
        max_bytes: the limit of `--max-bytes` for all files together; None for no limit.
        workspace_limit: the limit of `PERAGO_MAX_WORKSPACE_BYTES`.

    Raises:
        NotReplayable: the files are too large, do not fit the disk, or have keys that cannot be files. Nothing was
            downloaded.
        ServiceError: lakeFS did not answer, or no longer has the commit or an object.
        OSError: the disk refused.
    """
    entries = store.list_objects(repository, commit, prefix)
    selected = [entry for entry in entries if chosen(entry.key[len(prefix) :])]
    total = sum(entry.size for entry in selected)
    if max_bytes is not None and total > max_bytes:
        problem = f"the files hold {size(total)} in {count(len(selected), 'object')}, more than {size(max_bytes)}"
        fix = "choose a part of them with --only GLOB, or allow more with --max-bytes"
        raise NotReplayable(f"{problem}; nothing was downloaded", fix)
    try:
        placements = plan_layout(selected, prefix, directory)
        check_room(placements, prefix, directory, max_bytes=workspace_limit)
    except WorkspaceError as error:
        raise NotReplayable(str(error)) from error
    create_directories(directory, directories_to_create(placements, prefix))
    store.download(repository, commit, directory, placements)
    return {item.entry.key[len(prefix) :]: item.path for item in placements if item.path is not None}


_MD5 = re.compile(r"[0-9a-f]{32}")
_MOST_ADOPTIONS = 20


@dataclass(frozen=True, slots=True)
class Published:
    """The publication of an attempt. Paths are relative to its workspace."""

    commit: str | None = None
    """The commit that has the files; None if nothing was published."""
    files: Mapping[str, Digest | None] = field(default_factory=dict)
    """The added and changed files, with None for an unknown MD5."""
    removed: frozenset[str] = frozenset()


@contextlib.contextmanager
def refusing_deleted(attempt: PastAttempt) -> Iterator[None]:
    """Refuse an attempt whose objects lakeFS no longer has.

    Raises:
        NotReplayable: instead of `NotFound` and `Refused`.
    """
    try:
        yield
    except (NotFound, Refused) as error:  # an object that was collected as garbage is refused: 410
        problem = f"lakeFS no longer has what {attempt.label} read or published: {error.operation}: {error.detail}"
        fix = "choose a later attempt; garbage collection, or deleting a branch, removes old commits and objects"
        raise NotReplayable(problem, fix) from error


def input_commit(store: WorkspaceStore, workspace: PastWorkspace) -> str:
    """Return the commit that the attempt read. Of several commits, it is the one that continues all others.

    Raises:
        NotReplayable: no commit continues all others.
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
        prefix: the beginning of all keys of the workspace.

    Raises:
        ServiceError: lakeFS did not answer, or no longer has the commits.
    """
    if workspace.output_ref is None or workspace.output_ref == input_ref:
        return Published()
    repository = workspace.repository
    commit = with_files(store, repository, store.get_commit(repository, workspace.output_ref))
    base = base_of(commit) or input_ref
    differing = store.diff(repository, base, commit.id)
    changed = {key for key in differing if key.startswith(prefix) and not is_reserved(key)}
    # What another branch of a fork had published already with the same bytes is in no diff, but is its own as well.
    shared = {key for key in notes.shared([commit]) or () if key.startswith(prefix)}
    return _published(store, repository, commit.id, prefix, changed | shared)


def base_of(commit: Commit) -> str | None:
    """Return the commit that a publication is compared with: the head that it was built on. If it has also undone a
    stale publication, the function did not see that head. None: the first commit of a repository."""
    read = commit.metadata.get(notes.INPUT_REF) if commit.metadata.get(notes.SUPERSEDES) else None
    return read or next(iter(commit.parents), None)


def published_since(
    store: WorkspaceStore, workspace: PastWorkspace, input_ref: str, attempts: Sequence[PastAttempt]
) -> Published:
    """Return what several attempts together have changed since a commit, from the root of the repository.

    Raises:
        NotReplayable: an attempt used another branch, or their commits are not in one history.
        ServiceError: lakeFS did not answer, or no longer has the commits.
    """
    own, commits, repository = set[str](), [input_ref], workspace.repository
    for attempt in attempts:
        place = attempt.workspace
        if place is None or place.output_ref is None:
            continue
        if (place.repository, place.branch) != (repository, workspace.branch):
            raise NotReplayable(f"step {quoted(attempt.reference_name)} published to another branch: {place.branch}")
        published = published_by(store, place, input_commit(store, place), "")
        own |= published.files.keys() | published.removed
        commits.append(place.output_ref)
    last = input_commit(store, replace(workspace, refs=tuple(commits)))
    changed = store.diff(repository, input_ref, last) if last != input_ref else {}
    return _published(store, repository, last, "", own & changed.keys()) if own else Published()


def _published(store: WorkspaceStore, repository: str, commit: str, prefix: str, keys: Collection[str]) -> Published:
    """Return these keys as files of a commit, or as removed."""
    listed = {entry.key: entry for entry in store.list_objects(repository, commit, prefix) if entry.key in keys}
    files = {
        key[len(prefix) :]: Digest(entry.size, entry.checksum) if _MD5.fullmatch(entry.checksum) else None
        for key, entry in listed.items()
        if not key.endswith("/")
    }
    return Published(commit, files, frozenset(key[len(prefix) :] for key in keys if key not in listed))


def with_files(store: WorkspaceStore, repository: str, commit: Commit) -> Commit:
    """Return the publication that an adoption names, because the adopting commit changes nothing."""
    for _ in range(_MOST_ADOPTIONS):
        adopted = notes.adopted(commit)
        if adopted is None:
            break
        commit = store.get_commit(repository, adopted)
    return commit


@dataclass(frozen=True, slots=True)
class Past:
    """The input and the publication of an attempt. `prefix` is the beginning of all keys of its workspace."""

    attempt: PastAttempt
    prefix: str
    input_ref: str | None = None
    published: Published = field(default_factory=Published)

    def fetch(
        self,
        store: WorkspaceStore | None,
        commit: str | None,
        directory: Path,
        chosen: PathFilter = everything,
        **limits: int | None,
    ) -> dict[str, Path]:
        """Download files of the input commit or of the publication, as `download_files` does; no commit has no files.

        Raises:
            NotReplayable: they are beyond a limit, do not fit the disk, or no longer exist.
            ServiceError: lakeFS did not answer.
            OSError: the disk refused.
        """
        workspace = self.attempt.workspace
        if store is None or workspace is None or commit is None:
            return {}
        with refusing_deleted(self.attempt):
            return download_files(store, workspace.repository, commit, self.prefix, directory, chosen=chosen, **limits)


def look_up(store: WorkspaceStore | None, attempt: PastAttempt, prefix: str) -> Past:
    """Read the input commit and the publication of an attempt.

    Args:
        store: the lakeFS; None for a task without a workspace.
        attempt: as Conductor has it.
        prefix: the beginning of all keys of the workspace.

    Raises:
        NotReplayable: lakeFS no longer has it.
        ServiceError: lakeFS did not answer.
    """
    if attempt.workspace is None or store is None:
        return Past(attempt, prefix)
    with refusing_deleted(attempt):
        ref = input_commit(store, attempt.workspace)
        return Past(attempt, prefix, ref, published_by(store, attempt.workspace, ref, prefix))


def differences_to(
    past: Past, now: AttemptResult, store: WorkspaceStore | None, tree: Mapping[str, Content]
) -> Differences:
    """Compare the outcome of an attempt today with that of the past one. Only files that differ are downloaded.

    Args:
        past: the attempt of the past.
        now: the outcome of today.
        store: the lakeFS of the past attempt.
        tree: the input of both, by path.

    Raises:
        NotReplayable: the published files no longer exist.
        ServiceError: lakeFS did not answer.
        OSError: the disk refused.
    """
    attempt, published = past.attempt, past.published
    with tempfile.TemporaryDirectory(prefix="perago-then-") as name:
        known = {path: digest for path, digest in published.files.items() if digest is not None}
        then = AttemptResult(attempt.ending, attempt.reason, attempt.result, known, published.removed)
        today = with_untouched(now, then, tree).files
        differing = {path for path, digest in published.files.items() if _needs_content(path, digest, today.get(path))}
        contents = past.fetch(store, published.commit, Path(name), differing.__contains__) if differing else {}
        return differences(replace(then, files={**known, **contents}), now, tree)


def result_of(
    store: WorkspaceStore, row: Mapping[str, Any], changes: Changes, prefix: str, directory: Path
) -> AttemptResult:
    """Return the outcome of an attempt on local services.

    Args:
        store: the local lakeFS.
        row: the attempt as Conductor shows it after its end.
        changes: the changes of the workspace by the function.
        prefix: the beginning of all keys of the workspace.
        directory: an existing, empty directory for the files.

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
        files |= download_files(store, workspace.repository, commit, prefix, directory, chosen=small.__contains__)
    removed = frozenset(file.path for file in changes.removed)
    return AttemptResult(attempt.ending, attempt.reason, attempt.result, files, removed)


def _needs_content(path: str, then: Digest | None, now: Content | Digest | None) -> bool:
    if now is None:
        return then is None
    return then is None or (then.size <= most_compared(path) and then != digest_of(now))


# ------------------------------------------------------------------------------- find attempts and modules

_SEARCHED = 100
_COMMITS = 100
_MOST_COMMITS = 100_000


@dataclass(frozen=True, slots=True)
class Choice:
    """A choice of completed attempts of a task, the latest first."""

    task_name: str
    last: int | None = None
    """The maximum number of attempts."""
    since: float | None = None
    """The earliest time, in seconds since the epoch."""
    workflow: str | None = None
    """The name of the workflow."""


def search_task_ids(records: Records, choice: Choice) -> list[str]:
    """Find task ids by Conductor's search.

    Raises:
        ServiceError: Conductor did not answer.
    """
    terms = [f"taskType='{choice.task_name}'", "status='COMPLETED'"]
    if choice.workflow is not None:
        terms.append(f"workflowType='{choice.workflow}'")
    if choice.since is not None:
        terms.append(f"updateTime>{int(choice.since * 1000)}")
    return list(islice(_found(records, " AND ".join(terms), choice.task_name), choice.last))


def _found(records: Records, query: str, task_name: str) -> Iterator[str]:
    """Yield each id once, because attempts that end in the meantime shift the pages. Leave out answers to launchers of
    schedules, for which no function ran."""
    known: set[str] = set()
    start = 0
    while True:
        page = records.search_tasks(query, start=start, size=_SEARCHED)
        for row in page:
            task_id, ran = str(row.get("taskId")), not str(row.get("input")).startswith(f"{{{HEAD_OF}=")
            if (
                row.get("taskDefName") == task_name
                and row.get("status") == "COMPLETED"
                and task_id not in known
                and ran
            ):
                known.add(task_id)
                yield task_id
        if len(page) < _SEARCHED:
            return
        start += len(page)


def published_on(store: WorkspaceStore, records: Records, repository: str, branch: str, choice: Choice) -> list[str]:
    """Find task ids by the publications of a branch. Attempts that changed nothing have no publication.

    Raises:
        NotReplayable: the branch does not exist.
        ServiceError: a server did not answer.
    """
    try:
        head = store.get_commit(repository, branch).id
    except NotFound as error:
        raise NotReplayable(f"lakeFS has no branch {branch} in {repository}: {error.detail}") from error
    ids = _publications(store, repository, head, choice)
    if choice.workflow is not None:
        ids = (task_id for task_id in ids if _is_of(choice.workflow, records, task_id))
    return list(islice(ids, choice.last))


def _publications(store: WorkspaceStore, repository: str, head: str, choice: Choice) -> Iterator[str]:
    known: set[str] = set()
    read: list[Commit] = []
    for page in _history_pages(store, repository, head):
        read += page
        undone = undone_at_head(read)  # decided by later commits alone, and all of these were read
        for commit in page:
            if choice.since is not None and commit.created < choice.since:
                return
            by = notes.origin(commit)
            phase, name = commit.metadata.get(notes.PHASE), commit.metadata.get(notes.TASK_NAME)
            is_meant = (phase, name) == ("merge", choice.task_name)
            if by is not None and is_meant and commit.id not in undone and by.task_id not in known:
                known.add(by.task_id)
                yield by.task_id


def first_parents(store: WorkspaceStore, repository: str, head: str) -> Iterator[Commit]:
    """Yield the first-parent history, newest first, read only as far as requested.

    Raises:
        ServiceError: lakeFS did not answer.
    """
    return chain.from_iterable(_history_pages(store, repository, head))


def _history_pages(store: WorkspaceStore, repository: str, head: str) -> Iterator[Sequence[Commit]]:
    read, following = 0, head
    while read < _MOST_COMMITS:
        page = store.ancestry(repository, following, limit=_COMMITS)
        yield page if read == 0 else page[1:]  # each page begins with the last commit of the one before
        if len(page) < _COMMITS:
            return
        read, following = read + len(page) - 1, page[-1].id


def _is_of(workflow: str, records: Records, task_id: str) -> bool:
    try:
        return records.task(task_id).get("workflowType") == workflow
    except NotFound:
        return False


_MOST_FILES = 20_000
_NO_SOURCES = frozenset({"__pycache__", "node_modules", "site-packages", "build", "dist"})


def module_of(task_name: str, directory: Path) -> str:
    """Return the import path of the module below a directory in which `@task(name=...)` has this name.

    Raises:
        Failure: no module declares the task, or several do.
    """
    modules = sorted(_declaring(task_name, directory))
    if len(modules) == 1:
        return modules[0]
    problem = (
        f"several modules declare it: {listing(modules)}" if modules else f"no module below {directory} declares it"
    )
    raise Failure(f"the attempt is one of {task_name}, and {problem}", "name the MODULE")


def _declaring(task_name: str, directory: Path) -> Iterator[str]:
    needle = task_name.encode()
    for number, file in enumerate(_sources(directory)):
        if number >= _MOST_FILES:
            return
        with contextlib.suppress(OSError, SyntaxError, ValueError, RecursionError):
            content = file.read_bytes()
            if needle in content and _declares(ast.parse(content), task_name):
                yield ".".join(file.relative_to(directory).with_suffix("").parts).removesuffix(".__init__")


def _sources(directory: Path) -> Iterator[Path]:
    for place, directories, names in os.walk(directory):
        directories[:] = sorted(name for name in directories if name.isidentifier() and name not in _NO_SOURCES)
        for name in sorted(names):
            file = Path(place, name)
            if file.suffix == ".py" and file.stem.isidentifier():
                yield file


def _declares(tree: ast.Module, task_name: str) -> bool:
    functions = (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))
    decorators = (decorator for function in functions for decorator in function.decorator_list)
    calls = (decorator for decorator in decorators if isinstance(decorator, ast.Call))
    named_task = (call for call in calls if ast.unparse(call.func).rpartition(".")[2] == "task")
    names = (keyword.value for call in named_task for keyword in call.keywords if keyword.arg == "name")
    return any(isinstance(name, ast.Constant) and name.value == task_name for name in names)
