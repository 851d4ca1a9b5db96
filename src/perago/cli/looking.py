"""Everything that both servers and this machine's logs know of one attempt, as one document."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, TypeVar

from perago.adapters.http import CallPolicy
from perago.cli import messages
from perago.cli.errors import CommandError, ExitCode
from perago.console.worker_logs import WorkerLogs
from perago.diagnosis import attempts, publications
from perago.ports import Commit, NotFound, ServiceError
from perago.settings import ConfigurationError
from perago.workspace.text import listing, one_line, quoted

if TYPE_CHECKING:
    from perago.adapters.conductor import ConductorWorkflows
    from perago.adapters.lakefs import LakeFSBrowser, LakeFSStore
    from perago.settings import Settings

T = TypeVar("T")
Facts = dict[str, Any]

_POLICY = CallPolicy(connect=5.0, answer=20.0, tries=2, largest=64 * 1024 * 1024)
_LOG_LINES = 1000
"""Of Conductor's log of an attempt, the last ones."""
_TASKS_NAMED = 5


def look_up(first: str, second: str | None, listed: int | None, tell: Callable[[str], None]) -> Facts:
    """The document.

    Args:
        first: a task id; with `second`, a repository.
        second: what names a commit in it.
        listed: how many changed files are listed; None: all.
        tell: hears what is being done.

    Raises:
        ConfigurationError: the server that has it is not configured.
        CommandError: there is no such attempt or commit.
        ServiceError: the server that has it did not answer.
    """
    from perago.settings import load_settings

    settings = load_settings()
    with contextlib.ExitStack() as stack:
        looking = _Looking(settings, stack, listed, tell)
        if second is None:
            looking.start_from_task(first)
        else:
            looking.start_from_commit(first, second)
        looking.read_publication()
        looking.read_logs()
        return looking.found


class _Looking:
    """One look. What does not answer becomes one of the `problems`, and the rest is found all the same."""

    def __init__(
        self, settings: Settings, stack: contextlib.ExitStack, listed: int | None, tell: Callable[[str], None]
    ) -> None:
        self._settings = settings
        self._listed = listed
        self._tell = tell
        self._conductor = _or_problem(lambda: _conductor(settings, stack))
        self._store = _or_problem(lambda: _lakefs(settings, stack))
        self._browser = _or_problem(lambda: _browser(settings, stack))
        self._commit: Commit | None = None
        self.found: Facts = {
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
            "problems": [],
        }

    def start_from_task(self, task_id: str) -> None:
        """Read the attempt, and look for the commit that it published."""
        conductor = _required(self._conductor)
        self._tell("reading the attempt")
        try:
            row = conductor.task(task_id)
        except NotFound as error:
            raise _no_task(conductor, task_id, error) from error
        task = self.found["task"] = attempts.task_facts(row)
        self._read_workflow(conductor, task)
        store = self._known(self._store) if task["input"] else None
        if store is None:
            return
        block, output = task["input"], task["output_ref"]
        self.found["problems"] += [one_line(f"the input's workspace: {text}") for text in block["problems"]]
        if output is not None and output not in block["refs"]:
            self._commit = self._ask(lambda: store.get_commit(block["repository"], output))
        elif block["refs"]:
            self._tell("looking for what it published")
            about = block["repository"], block["branch"], block["refs"][0], task["task_id"]
            self._commit = self._ask(lambda: publications.find_publication(store, *about))
        if self._commit is not None:
            self.found["commit"] = publications.commit_facts(block["repository"], self._commit)

    def start_from_commit(self, repository: str, name: str) -> None:
        """Read the commit, and the attempt that it names, if it names one."""
        store, browser = _required(self._store), _required(self._browser)
        self._tell("reading the commit")
        try:
            commit_id = str(browser.commit(repository, name).get("id"))  # of a branch, a tag, or the beginning of an id
            self._commit = store.get_commit(repository, commit_id)
        except NotFound as error:
            message = f"lakeFS has no commit or branch {quoted(name)} in a repository {repository}: {error.detail}"
            raise CommandError(
                ExitCode.FAILURE, one_line(message), "check both names; perago log lists commits"
            ) from error
        commit = self.found["commit"] = publications.commit_facts(repository, self._commit)
        task_id: str | None = (commit["publication"] or {}).get("task_id")
        conductor = self._known(self._conductor)
        if conductor is not None and task_id is not None:
            row = self._ask(lambda: conductor.task(task_id))
            if row is not None:
                self.found["task"] = attempts.task_facts(row)
                self._read_workflow(conductor, self.found["task"])

    def read_publication(self) -> None:
        """What became of the commit, and what it changed."""
        commit, facts, store, browser = self._commit, self.found["commit"], self._store, self._browser
        if commit is None or isinstance(store, Exception) or isinstance(browser, Exception):
            return
        repository, noted = facts["repository"], facts["publication"] or {}
        self._tell("comparing the commit with the one before")
        self.found["fence"] = self._ask(lambda: publications.fence_of(store, repository, commit))
        if branch := noted.get("branch"):
            self.found["undone"] = self._ask(lambda: publications.undone_by(store, repository, branch, commit))
        source = self._ask(lambda: publications.with_files(store, repository, commit)) or commit
        self.found["files_from"] = source.id
        self.found["files"] = self._ask(lambda: publications.file_facts(browser, repository, source, self._listed))

    def read_logs(self) -> None:
        """Conductor's log of the attempt, and that of the worker if it was one of this machine."""
        task = self.found["task"]
        if task is None or isinstance(self._conductor, Exception):
            return
        conductor = self._conductor
        self._tell("reading the log")
        entries = self._ask(lambda: conductor.log(task["task_id"]))
        if entries is not None:
            self.found["conductor_log"] = [line for text in entries for line in text.splitlines()][-_LOG_LINES:]
        since = (task["started"] or task["scheduled"]) / 1000
        self._tell(f"looking through the logs below {self._settings.log_root}")
        traces = WorkerLogs(self._settings.log_root, only=task["task_id"], since=since)(task["task_id"])
        self.found["worker_log"] = [
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

    def _read_workflow(self, conductor: ConductorWorkflows, task: Facts) -> None:
        workflow = self._ask(lambda: conductor.workflow(task["workflow_id"]))
        if workflow is not None:
            self.found["workflow"], self.found["attempts"] = attempts.workflow_facts(workflow, task)

    def _ask(self, question: Callable[[], T]) -> T | None:
        try:
            return question()
        except ServiceError as error:
            self.found["problems"].append(one_line(messages.service_words(error)))
            return None

    def _known(self, server: T | ConfigurationError) -> T | None:
        if isinstance(server, ConfigurationError):
            self.found["problems"] += [one_line(str(problem)) for problem in server.details]
            return None
        return server


def _or_problem(make: Callable[[], T]) -> T | ConfigurationError:
    try:
        return make()
    except ConfigurationError as error:
        return error


def _required(server: T | ConfigurationError) -> T:
    if isinstance(server, ConfigurationError):
        raise server
    return server


def _conductor(settings: Settings, stack: contextlib.ExitStack) -> ConductorWorkflows:
    conductor = settings.require_conductor()
    from perago.adapters.conductor import ConductorWorkflows

    return stack.enter_context(contextlib.closing(ConductorWorkflows(conductor, policy=_POLICY)))


def _lakefs(settings: Settings, stack: contextlib.ExitStack) -> LakeFSStore:
    lakefs = settings.require_lakefs()
    from perago.adapters.lakefs import LakeFSStore

    return stack.enter_context(contextlib.closing(LakeFSStore(lakefs, policy=_POLICY)))


def _browser(settings: Settings, stack: contextlib.ExitStack) -> LakeFSBrowser:
    lakefs = settings.require_lakefs()
    from perago.adapters.lakefs import LakeFSBrowser

    return stack.enter_context(contextlib.closing(LakeFSBrowser(lakefs, policy=_POLICY)))


def _no_task(conductor: ConductorWorkflows, task_id: str, error: NotFound) -> CommandError:
    """What to say about an id that is no task's. People copy that of the workflow."""
    try:
        workflow = conductor.workflow(task_id)
    except ServiceError:
        message = f"Conductor has no task {quoted(task_id)}: {error.detail}"
        fix = (
            "a workflow that was removed takes its tasks along; a commit needs its repository: perago show REPO COMMIT"
        )
        return CommandError(ExitCode.FAILURE, one_line(message), fix)
    rows = [_named(row) for row in attempts.attempts_in(workflow)]
    message = f"{task_id} is the id of a workflow, which is {one_line(str(workflow.get('status')))}"
    return CommandError(
        ExitCode.FAILURE, message, f"name one of its tasks: {listing(rows[::-1], _TASKS_NAMED) or 'it has none yet'}"
    )


def _named(row: Mapping[str, Any]) -> str:
    return one_line(f"{row.get('taskId')} ({row.get('referenceTaskName')}, {row.get('status')})")
