"""What `perago send` does: start a workflow of one task, and follow it to its end."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import typer

from perago.cli.boundary import CommandError
from perago.cli.branches import branch_head, checked_branch
from perago.cli.dev.workflows import workflow_definition
from perago.cli.exit_codes import ExitCode
from perago.cli.json_input import read_object
from perago.cli.loading import load_tasks
from perago.cli.render import messages
from perago.cli.render.following import FollowView
from perago.cli.signals import end_if_told
from perago.workspace.text import json_text

if TYPE_CHECKING:
    from perago.adapters.conductor import ConductorWorkflows
    from perago.cli.probe import TaskSummary

_LOOK = 0.5
"""Seconds between two looks at the workflow."""
_SILENCE = 120.0
"""Seconds that Conductor may be silent while it is followed."""
_LATE_LOG = 1.0
"""Seconds for the last lines of a log: Conductor may show them a moment after the end."""
_GOING_ON = ("RUNNING", "PAUSED")


def send(module: str, params: str, workspace: str | None, *, follow: bool, import_limit: float) -> int:
    """Start the workflow; returns the exit code.

    Raises:
        CommandError: the module is not valid, or the server does not know its task; nothing was started.
        ServiceError: a service did not do what was asked.
    """
    given = read_object(params)
    (task,) = load_tasks([module], import_limit)
    place = _place(task, workspace)
    from perago.settings import load_settings

    settings = load_settings()
    conductor = settings.require_conductor()
    from perago.adapters.conductor import ConductorQueue, ConductorWorkflows

    queue, workflows = ConductorQueue(conductor), ConductorWorkflows(conductor)
    try:
        if queue.get_task_definition(task.name) is None:
            message = f"{conductor.server_url} has no TaskDef {task.name}; nothing was started"
            raise CommandError(ExitCode.FAILURE, message, f"create it with: perago register {module}")
        payload: dict[str, Any] = {"params": given}
        if place is not None:
            repository, branch = place
            ref = branch_head(repository, branch)
            payload["workspace"] = {"repository": repository, "branch": branch, "ref_type": "commit", "ref": ref}
        workflow_id = workflows.start(workflow_definition(task, "send"), payload)
        if not follow:
            sys.stdout.write(f"{workflow_id}\n")
            return ExitCode.OK
        return _follow(workflows, workflow_id, FollowView(sys.stderr, module, task.name))
    finally:
        queue.close()
        workflows.close()


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
    """The workflow as it is, with what is new in it shown; None while Conductor is silent, which it may be for long
    enough to be started anew."""
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
