"""Collect everything about one attempt from both servers and the logs of this machine, as a JSON document.

A commit is shown as it describes itself. A person, an earlier perago or another program can have written its metadata,
so no value is trusted to be well formed. Params and results are omitted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from glob import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from perago.adapters.http import COMMAND_POLICY
from perago.attempt import publication as notes
from perago.attempt.publication import FENCE_PATH, fence_in
from perago.attempt.undoing import undone_at_head
from perago.conductor_json import mapping, published_commit, rows_of
from perago.configuration import Servers
from perago.failure import Failure
from perago.history.attempts import base_of, with_files
from perago.ports import Commit, NotFound, ServiceError
from perago.settings import ConfigurationError, load_settings
from perago.taskdef.payload import commits_of
from perago.text import at, listing, log_zone, one_line, quoted
from perago.worker.log_reader import AttemptTrace, WorkerLogs
from perago.worker.plan import is_worker_id, parted_id

if TYPE_CHECKING:
    from perago.adapters.conductor.overview import ConductorWorkflows
    from perago.adapters.lakefs import LakeFSBrowser, LakeFSStore
    from perago.settings import Settings


T = TypeVar("T")
Facts = dict[str, Any]

_LOG_LINES = 1000
"""The number of lines from the end of Conductor's log of an attempt."""
_TASKS_NAMED = 5
_LARGEST = 2**53
"""An upper bound of all times and counts."""


def attempt_facts(
    first: str,
    second: str | None,
    listed: int | None,
    describe: Callable[[ServiceError], str],
    progress: Callable[[str], None],
) -> Facts:
    """Return everything about an attempt as one document.

    Args:
        first: a task id; with `second`, a repository.
        second: a commit id, the beginning of one, a branch or a tag.
        listed: the number of changed files to list; None for all.
        describe: describes in one sentence what a server did not do.
        progress: called with the current step.

    Raises:
        ConfigurationError: the server of the attempt or commit is not configured.
        Failure: the attempt or commit does not exist.
        ServiceError: the server of the attempt or commit did not answer.
    """
    settings = load_settings()
    with Servers(settings, policy=COMMAND_POLICY) as servers:
        reader = _Reader(settings, servers, listed, describe, progress)
        if second is None:
            reader.start_from_task(first)
        else:
            reader.start_from_commit(first, second)
        reader.read_publication()
        reader.read_logs()
        return reader.facts


@dataclass
class _Reader:
    """Reads about one attempt. A server that does not answer becomes one of the `problems`, and the rest is read."""

    settings: Settings
    servers: Servers
    listed: int | None
    describe: Callable[[ServiceError], str]
    progress: Callable[[str], None]
    commit: Commit | None = None
    facts: Facts = field(
        default_factory=lambda: {
            "task": None,
            "workflow": None,
            "attempts": [],
            "commit": None,
            "files_from": None,
            "undone": None,
            "fence": None,
            "files": None,
            "conductor_log": None,
            "worker_log": [],
            "log_files": [],
            "problems": [],
        }
    )

    def start_from_task(self, task_id: str) -> None:
        """Read the attempt, and look for the commit that it published."""
        workflows = self.servers.workflows
        self.progress("reading the attempt")
        try:
            row = workflows.task(task_id)
        except NotFound as error:
            raise _no_task(workflows, task_id, error) from error
        task = self.facts["task"] = task_facts(row)
        self._read_workflow(task)
        block, output = task["input"], task["output_ref"]
        store = self._configured(lambda: self.servers.store) if block else None
        if store is None:
            return
        self.facts["problems"] += [one_line(f"the input's workspace: {text}") for text in block["problems"]]
        if output is not None and output not in block["refs"]:
            self.commit = self._ask(lambda: store.get_commit(block["repository"], output))
        elif block["refs"]:
            self.progress("looking for its publication")
            about = block["repository"], block["branch"], block["refs"][0], task["task_id"]
            self.commit = self._ask(lambda: find_publication(store, *about))
        if self.commit is not None:
            self.facts["commit"] = commit_facts(block["repository"], self.commit)

    def start_from_commit(self, repository: str, name: str) -> None:
        """Read the commit, and the attempt that it names, if it names one."""
        browser = self.servers.browser
        self.progress("reading the commit")
        try:
            self.commit = browser.commit(repository, name)  # of a branch, a tag, or the beginning of an id
        except NotFound as error:
            message = f"lakeFS has no commit or branch {quoted(name)} in a repository {repository}: {error.detail}"
            raise Failure(message, "check both names; list commits with: perago log REPO/BRANCH") from error
        commit = self.facts["commit"] = commit_facts(repository, self.commit)
        task_id: str | None = (commit["publication"] or {}).get("task_id")
        workflows = self._configured(lambda: self.servers.workflows)
        if workflows is not None and task_id is not None:
            row = self._ask(lambda: workflows.task(task_id))
            if row is not None:
                self.facts["task"] = task_facts(row)
                self._read_workflow(self.facts["task"])

    def read_publication(self) -> None:
        """Read the fate of the commit, and its changes."""
        commit, facts = self.commit, self.facts["commit"]
        if commit is None:
            return
        store, browser = self.servers.store, self.servers.browser
        repository, noted = facts["repository"], facts["publication"] or {}
        self.progress("comparing the commit with its parent")
        self.facts["fence"] = self._ask(lambda: fence_of(store, repository, commit))
        if branch := noted.get("branch"):
            self.facts["undone"] = self._ask(lambda: undone_by(store, repository, branch, commit))
        source = self._ask(lambda: with_files(store, repository, commit)) or commit
        self.facts["files_from"] = source.id
        self.facts["files"] = self._ask(lambda: file_facts(browser, repository, source, self.listed))

    def read_logs(self) -> None:
        """Read Conductor's log of the attempt, and that of the worker if it was one of this machine."""
        task = self.facts["task"]
        if task is None:
            return
        self.progress("reading the log")
        entries = self._ask(lambda: self.servers.workflows.log(task["task_id"]))
        if entries is not None:
            self.facts["conductor_log"] = [line for text in entries for line in text.splitlines()][-_LOG_LINES:]
        since = (task["started"] or task["scheduled"]) / 1000
        self.progress(f"reading the logs below {self.settings.log_root}")
        traces = WorkerLogs(self.settings.log_root, only=task["task_id"], since=since)(task["task_id"])
        self.facts["log_files"] = _log_files(self.settings.log_root, task, traces)
        self.facts["worker_log"] = [
            {
                "poll_count": poll_count,
                "started": started,
                "lines": [asdict(line) for line in trace.lines],
                "left_out": trace.left_out,
                "steps": dict(trace.steps),
                "guardrails": [{"satisfied": held, "message": text} for held, text in trace.guardrails],
                "remarks": list(trace.remarks),
            }
            for (_, poll_count, started), trace in sorted(traces.items())
        ]

    def _read_workflow(self, task: Facts) -> None:
        workflow = self._ask(lambda: self.servers.workflows.workflow(task["workflow_id"]))
        if workflow is not None:
            self.facts["workflow"], self.facts["attempts"] = workflow_facts(workflow, task)

    def _ask(self, question: Callable[[], T]) -> T | None:
        try:
            return question()
        except ServiceError as error:
            self.facts["problems"].append(one_line(self.describe(error)))
            return None

    def _configured(self, server: Callable[[], T]) -> T | None:
        try:
            return server()
        except ConfigurationError as error:
            self.facts["problems"] += [one_line(str(problem)) for problem in error.details]
            return None


def _log_files(root: Path, task: Facts, traces: AttemptTrace) -> list[str]:
    """Return the log files of the slots of an attempt and, if they are on another host, where they are.

    A slot that died may have no line about the attempt. Then the supervisor's log or Conductor names it.
    """
    worker, host = parted_id(task["worker_id"] or "")
    slots = {trace.slot for trace in traces.values()} | {worker if is_worker_id(task["worker_id"] or "") else ""}
    days = {at(milliseconds, log_zone()).date() for milliseconds in (task["started"], task["ended"] or task["updated"])}
    names = [f"worker_id={slot}/date={day}.jsonl" for slot in sorted(slots - {""}) for day in sorted(days)]
    paths = {path for trace in traces.values() for path in trace.paths}
    paths |= {path for name in names for path in root.glob(f"*/{escape(name)}")}
    if paths or not (host and task["started"]):
        return sorted(map(str, paths))
    return [f"on {host}, in a directory of its PERAGO_LOG_ROOT: {name}" for name in names]


def _no_task(workflows: ConductorWorkflows, task_id: str, error: NotFound) -> Failure:
    """Build the error for an unknown task id. It is often the id of a workflow."""
    try:
        workflow = workflows.workflow(task_id)
    except ServiceError:
        message = f"Conductor has no task {quoted(task_id)}: {error.detail}"
        fix = "check the id; a removed workflow takes its tasks with it. To show a commit: perago show REPO/COMMIT"
        return Failure(message, fix)
    rows = [
        one_line(f"{row.get('taskId')} ({row.get('referenceTaskName')}, {row.get('status')})")
        for row in rows_of(workflow)
    ]
    message = f"{task_id} is the id of a workflow, which is {one_line(str(workflow.get('status')))}"
    return Failure(message, f"name one of its tasks: {listing(rows[::-1], _TASKS_NAMED) or 'it has none yet'}")


def task_facts(row: Mapping[str, Any]) -> Facts:
    """Describe one attempt. Times are milliseconds since the epoch, 0 for not yet."""
    definition = mapping(row.get("taskDefinition"))
    return {
        "task_id": _text(row, "taskId"),
        "task_name": _text(row, "taskDefName"),
        "reference_name": _text(row, "referenceTaskName"),
        "status": _text(row, "status"),
        "reason": row.get("reasonForIncompletion") or None,
        "retry_count": _number(row, "retryCount"),
        "retries_allowed": _number(definition, "retryCount") if definition else None,
        "retried_task_id": row.get("retriedTaskId") or None,
        "poll_count": _number(row, "pollCount"),
        "iteration": _number(row, "iteration"),
        "worker_id": row.get("workerId") or None,
        "scheduled": _number(row, "scheduledTime"),
        "started": _number(row, "startTime"),
        "updated": _number(row, "updateTime"),
        "ended": _number(row, "endTime"),
        "response_timeout_seconds": _number(row, "responseTimeoutSeconds"),
        "domain": row.get("domain") or None,
        "workflow_id": _text(row, "workflowInstanceId"),
        "input": input_facts(row),
        "output_ref": published_commit(row),
    }


def input_facts(row: Mapping[str, Any]) -> Facts | None:
    """Return the workspace of the input with its commits; None for a task without a workspace."""
    block = mapping(row.get("inputData")).get("workspace")
    if block is None:
        return None
    block, problems = mapping(block), list[str]()
    repository, branch = block.get("repository"), block.get("branch")
    if not isinstance(repository, str) or not isinstance(branch, str):
        return {"repository": None, "branch": None, "refs": [], "problems": ["has no repository and branch"]}
    refs = commits_of(block.get("ref"), repository, problems, pointer="ref")
    return {"repository": repository, "branch": branch, "refs": list(refs), "problems": problems}


def workflow_facts(workflow: Mapping[str, Any], task: Facts) -> tuple[Facts, list[Facts]]:
    """Return the workflow of an attempt, and all attempts of its step, in order."""
    facts = {
        "workflow_id": _text(workflow, "workflowId"),
        "name": _text(workflow, "workflowName") or _text(mapping(workflow.get("workflowDefinition")), "name"),
        "status": _text(workflow, "status"),
        "reason": workflow.get("reasonForIncompletion") or None,
        "started": _number(workflow, "startTime") or _number(workflow, "createTime"),
        "ended": _number(workflow, "endTime"),
    }
    rows = [row for row in rows_of(workflow) if row.get("referenceTaskName") == task["reference_name"]]
    return facts, [
        {
            "task_id": _text(row, "taskId"),
            "status": _text(row, "status"),
            "retry_count": _number(row, "retryCount"),
            "started": _number(row, "startTime"),
            "ended": _number(row, "endTime"),
        }
        for row in rows
    ]


def _text(row: Mapping[str, Any], key: str) -> str:
    return str(row.get(key) or "")


def _number(row: Mapping[str, Any], key: str) -> int:
    """Return a time or a count; 0 for any other value."""
    value = row.get(key)
    return value if isinstance(value, int) and 0 <= value < _LARGEST else 0


MOST_COMMITS = 200
"""Number of newest commits of a branch that are searched for a publication and for the commit that undid it."""
MOST_FILES = 10_000
"""Maximum number of changed files that are counted."""
_PAGE = 1000
_KINDS = ("added", "changed", "removed")


def commit_facts(repository: str, commit: Commit) -> Facts:
    """Describe a commit by its own metadata; `publication` is null for one that perago did not make."""
    noted = {key.removeprefix("perago."): value for key, value in commit.metadata.items() if key.startswith("perago.")}
    noted.pop("result", None)
    return {
        "repository": repository,
        "commit": commit.id,
        "parents": list(commit.parents),
        "committer": commit.committer,
        "message": commit.message,
        "created": commit.created * 1000,
        "publication": {key: value or None for key, value in sorted(noted.items())} or None,
    }


def find_publication(store: LakeFSStore, repository: str, branch: str, input_ref: str, task_id: str) -> Commit | None:
    """Return the newest commit since `input_ref`, of the last `MOST_COMMITS`, that names this task, reported or not."""
    for commit in store.history(repository, branch, until=input_ref, limit=MOST_COMMITS):
        if commit.metadata.get(notes.TASK_ID) == task_id:
            return commit
    return None


def undone_by(store: LakeFSStore, repository: str, branch: str, commit: Commit) -> Facts:
    """Find the commit, among the last `MOST_COMMITS` of the branch, that undid a publication for good."""
    later = store.history(repository, branch, until=commit.id, limit=MOST_COMMITS)
    by = undone_at_head([*later, commit]).get(commit.id)
    return {"commit": by, "later_commits": len(later), "all_seen": len(later) < MOST_COMMITS}


def fence_of(store: LakeFSStore, repository: str, commit: Commit) -> str:
    """Return the state of the publish fence in the tree of a commit."""
    return fence_in(store.stat_objects(repository, commit.id, [FENCE_PATH])).value


def file_facts(browser: LakeFSBrowser, repository: str, commit: Commit, listed: int | None) -> Facts | None:
    """Count the files that a commit changed since its base, by kind, and list the first `listed` of them (None: all).

    As in commit messages, the publish fence does not count: `fence` has what this commit did to it, or null. The size
    of a removed file is its former size. The first commit of a repository has no changes.
    """
    base = base_of(commit)
    if base is None:
        return None
    counts: dict[str, int] = dict.fromkeys(_KINDS, 0)
    files: list[Facts] = []
    fence: str | None = None
    for row in _changes(browser, repository, base, commit.id):
        if listed is not None and sum(counts.values()) >= MOST_FILES:
            return {"counts": counts, "all_counted": False, "fence": fence, "files": files}
        kind = str(row.get("type"))
        if row.get("path") == FENCE_PATH:
            fence = kind if base == commit.parents[0] else None
            continue
        counts[kind] = counts.get(kind, 0) + 1
        if listed is None or len(files) < listed:
            files.append({"kind": kind, "path": str(row.get("path")), "size": row.get("size_bytes")})
    return {"counts": counts, "all_counted": True, "fence": fence, "files": files}


def _changes(browser: LakeFSBrowser, repository: str, base: str, commit: str) -> Iterator[Mapping[str, Any]]:
    following: str | None = ""
    while following is not None:
        page, following = browser.changes(repository, base, commit, following, _PAGE)
        yield from page
