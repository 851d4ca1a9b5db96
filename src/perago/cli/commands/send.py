"""`perago send`."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, TextIO

import typer

from perago.cli import messages
from perago.cli.errors import ExitCode
from perago.cli.loading import load_tasks
from perago.cli.parameters import IMPORT_LIMIT, Module, Timeout, checked_branch, read_object
from perago.cli.rendering import Renderer
from perago.dev import workflow_definition
from perago.failure import Failure
from perago.processes import end_if_told
from perago.text import json_text, one_line

if TYPE_CHECKING:
    from perago.adapters.conductor import ConductorWorkflows
    from perago.probe import TaskSummary


_LOOK = 0.5
"""Seconds between two looks at the workflow."""
_SILENCE = 120.0
"""Seconds that Conductor may be silent while it is followed."""
_LATE_LOG = 1.0
"""Seconds for the last lines of a log: Conductor may show them a moment after the end."""
_GOING_ON = ("RUNNING", "PAUSED")
_PATIENCE = 5.0
"""Seconds that an attempt may wait for a worker before that is mentioned."""

EXAMPLES = """\b
Examples:
  perago send my_tasks.features --workspace my-data/main --params '{"min_rows": 1}'
  perago send my_tasks.features --workspace my-data/main --params @params.json --follow
  perago send my_tasks.summary --params '{"day": "2026-01-31"}' --follow | jq .total

Prints the id of the workflow; with --follow the result.
Status 0 means that it was started, with --follow that it completed."""


def command(
    module: Module,
    params: Annotated[
        str, typer.Option("--params", "-p", metavar="JSON|@FILE|-", help="The task's parameters, a JSON object.")
    ] = "{}",
    workspace: Annotated[
        str | None,
        typer.Option(
            "--workspace", "-w", metavar="REPO/BRANCH", show_default=False, help="The branch that the task works on."
        ),
    ] = None,
    follow: Annotated[
        bool,
        typer.Option("--follow", "-f", help="Show what happens until it ends. Ctrl-C leaves it running."),
    ] = False,
    timeout: Timeout = IMPORT_LIMIT,
) -> None:
    """Start a workflow of this one task on the configured Conductor.

    The task gets the commit that the branch points at now. The TaskDef must be registered, and a worker must run:
    `perago start`, or `perago dev`, whose printed variables lead to its services.
    """
    given = read_object(params)
    (task,) = load_tasks([module], timeout)
    place = _place(task, workspace)
    from perago.cli.services import branch_head
    from perago.configuration import Servers
    from perago.settings import load_settings

    settings = load_settings()
    with Servers(settings) as servers:
        if servers.queue.get_task_definition(task.name) is None:
            message = f"{settings.require_conductor().shown} has no TaskDef {task.name}; nothing was started"
            raise Failure(message, f"create it with: perago register {module}")
        payload: dict[str, Any] = {"params": given}
        if place is not None:
            repository, branch = place
            ref = branch_head(repository, branch)
            payload["workspace"] = {"repository": repository, "branch": branch, "ref_type": "commit", "ref": ref}
        workflow_id = servers.workflows.start(workflow_definition(task, "send"), payload)
        if follow:
            raise typer.Exit(_follow(servers.workflows, workflow_id, FollowView(sys.stderr, module, task.name)))
    sys.stdout.write(f"{workflow_id}\n")


def _place(task: TaskSummary, workspace: str | None) -> tuple[str, str] | None:
    """Repository and branch."""
    if task.workspace is None:
        if workspace is not None:
            raise typer.BadParameter(f"task {task.name} has no workspace; leave --workspace out.")
        return None
    repository, slash, branch = (workspace or "").partition("/")
    if not (repository and slash):
        raise typer.BadParameter(f"task {task.name} works on a branch; name it as --workspace REPO/BRANCH.")
    return repository, checked_branch(branch)


def _follow(workflows: ConductorWorkflows, workflow_id: str, view: FollowView) -> int:
    """Show the workflow until it has ended; the result goes to standard output."""
    view.started(workflow_id)
    try:
        workflow = _to_the_end(workflows, workflow_id, view)
    except BaseException:
        messages.note(f"workflow {workflow_id} was started, and continues without being followed")
        raise
    view.ended(workflow)
    if workflow["status"] != "COMPLETED":
        return ExitCode.FAILURE
    sys.stdout.write(json_text(workflow.get("output", {}).get("result"), indent=2) + "\n")
    return ExitCode.OK


def _to_the_end(workflows: ConductorWorkflows, workflow_id: str, view: FollowView) -> Mapping[str, Any]:
    heard = time.monotonic()
    while True:
        end_if_told()
        workflow = _look(workflows, workflow_id, view, heard)
        if workflow is not None:
            heard = time.monotonic()
            if workflow["status"] not in _GOING_ON:
                time.sleep(_LATE_LOG)
                return _look(workflows, workflow_id, view, heard) or workflow
        time.sleep(_LOOK)


def _look(workflows: ConductorWorkflows, workflow_id: str, view: FollowView, heard: float) -> Mapping[str, Any] | None:
    """Return the workflow, and show what is new in it; None while Conductor is silent, which it can be for long
    enough to be restarted."""
    from perago.ports import Unavailable

    try:
        workflow = workflows.workflow(workflow_id)
        for row in workflow.get("tasks", ()):
            view.attempt(row, workflows.log(row["taskId"]))
    except Unavailable as error:
        if time.monotonic() - heard > _SILENCE:
            raise
        view.silent(messages.service_words(error))
        return None
    return workflow


class FollowView:
    """Prints a line for each change of an attempt, and each line of its log."""

    def __init__(self, stream: TextIO, module: str, task_name: str) -> None:
        self._out = Renderer(stream)
        self._module = module
        self._task_name = task_name
        self._statuses: dict[str, str] = {}
        self._entries: dict[str, int] = {}
        """The number of entries of each attempt's log that were shown."""
        self._waiting: dict[str, float] = {}
        """Since when each attempt waits for a worker; infinite once that was said."""
        self._silence = ""

    def started(self, workflow_id: str) -> None:
        """Show that the workflow exists."""
        self._write(f"started workflow {workflow_id}")

    def silent(self, words: str) -> None:
        """Show that Conductor did not answer, once for each reason."""
        if words != self._silence:
            self._write(f"{words}; trying again")
        self._silence = words

    def attempt(self, row: Mapping[str, Any], log: Sequence[str]) -> None:
        """Show one attempt as Conductor has it now."""
        self._silence = ""
        task_id, status = row["taskId"], row["status"]
        name = f"{self._task_name} attempt {int(row.get('retryCount') or 0) + 1}"
        if status == "SCHEDULED":
            self._wait(task_id, name, float(row.get("startDelayInSeconds") or 0))
            return
        if task_id not in self._statuses:
            self._write(f"{name} is with worker {row.get('workerId') or 'unknown'}")
            self._statuses[task_id] = "IN_PROGRESS"
        for entry in log[self._entries.get(task_id, 0) :]:
            for line in entry.splitlines():
                self._write(f"  | {line}")
        self._entries[task_id] = len(log)
        if status not in ("IN_PROGRESS", self._statuses[task_id]):
            self._statuses[task_id] = status
            self._write(f"{name}: ", status, row.get("reasonForIncompletion"))

    def ended(self, workflow: Mapping[str, Any]) -> None:
        """Show that the workflow has ended."""
        told = any(row.get("reasonForIncompletion") for row in workflow.get("tasks", ()))
        place = workflow.get("output", {}).get("workspace")
        commit = f"workspace at commit {place['ref'][:12]}" if isinstance(place, dict) and place.get("ref") else None
        self._write(
            "workflow ", workflow["status"], commit if told else workflow.get("reasonForIncompletion") or commit
        )

    def _wait(self, task_id: str, name: str, delay: float) -> None:
        since = self._waiting.get(task_id)
        if since is None:
            later = f" in {delay:g} s" if delay else ""
            self._write(f"{name} waits for a worker{later}")
            self._waiting[task_id] = time.monotonic() + delay
        elif time.monotonic() - since > _PATIENCE:
            self._write(f"no worker has taken it yet; is one running? perago start {self._module}")
            self._waiting[task_id] = float("inf")

    def _write(self, text: str, status: str = "", more: str | None = None) -> None:
        shown = self._out.status(status) if status else ""
        self._out.line(f"{one_line(text)}{shown}{': ' + one_line(more) if more else ''}")
