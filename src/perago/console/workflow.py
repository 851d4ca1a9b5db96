"""`/workflows/{id}`: one workflow with its steps, their attempts, and everything that happened to them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request

from perago.console import links
from perago.console.attempts import StepView, group_by_step, step_views
from perago.console.happenings import HappeningRow, happening_rows
from perago.console.links import Link, link
from perago.console.models import Models
from perago.console.paging import Paged, paged
from perago.console.statuses import StatusView, status_view
from perago.console.text import Shown, block, line, readable_json
from perago.console.times import Moment, duration, moment

_STEPS_PER_PAGE = 25
_HISTORY_PER_PAGE = 200
_RUNNING = ("RUNNING", "PAUSED")


@dataclass(frozen=True, slots=True)
class WorkflowPage:
    """The whole page. `refresh_seconds` is 0 once the workflow has ended."""

    workflow_id: Shown
    type: Link
    status: StatusView
    reason: Shown
    started: Moment | None
    ended: Moment | None
    elapsed: str
    correlation: Shown
    parent: Link | None
    input: Shown
    output: Shown
    steps: Paged[StepView]
    attempts: int
    history: Paged[HappeningRow]
    title: str
    refresh_seconds: int
    crumbs: tuple[Link, ...] = (Link(line("Workflows"), links.OVERVIEW),)


def workflow(models: Models, request: Request) -> WorkflowPage:
    """The workflow; `?steps=2` and `?history=2` turn the pages of what is long.

    Raises:
        NotFound: this Conductor has no such workflow.
    """
    found = models.conductor.workflow(request.path_params["workflow"])
    workflow_id, tasks = found["workflowId"], found["tasks"]
    entries = models.conductor.history(workflow_id)
    groups = paged(group_by_step(tasks), request, size=_STEPS_PER_PAGE, parameter="steps")
    views = step_views(models, groups.items, entries, tasks)
    end = found.get("endTime") or models.conductor.now()
    return WorkflowPage(
        workflow_id=line(workflow_id),
        type=_type(models, found),
        status=status_view(found["status"]),
        reason=block(found.get("reasonForIncompletion") or ""),
        started=moment(found["startTime"]),
        ended=moment(found.get("endTime") or 0),
        elapsed=duration(end - found["startTime"]),
        correlation=line(found.get("correlationId") or ""),
        parent=_parent(models, found),
        input=readable_json(found.get("input", {})),
        output=readable_json(found.get("output", {})),
        steps=groups.showing(views),
        attempts=len(tasks),
        history=paged(happening_rows(entries), request, size=_HISTORY_PER_PAGE, parameter="history"),
        title=f"Workflow {line(found['workflowName']).text}",
        refresh_seconds=2 if found["status"] in _RUNNING else 0,
    )


def _type(models: Models, found: Mapping[str, Any]) -> Link:
    """The definition that it was started with may be gone, or never have been registered."""
    name, version = found["workflowName"], found["workflowVersion"]
    versions = [definition["version"] for definition in models.conductor.workflow_definitions(name)]
    return link(f"{name} v{version}", links.workflow_type(name, version) if version in versions else None)


def _parent(models: Models, found: Mapping[str, Any]) -> Link | None:
    parent = found.get("parentWorkflowId")
    if not isinstance(parent, str) or not parent:
        return None
    return link(parent, links.workflow(parent) if parent in models.conductor.workflow_ids() else None)
