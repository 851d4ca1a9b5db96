"""`/workflows/{id}`: one workflow: its timeline, forks and commits, its steps with their attempts, and its history."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from starlette.requests import Request

from perago.console import links
from perago.console.attempts import (
    HistoryRow,
    StepView,
    group_by_step,
    history_rows,
    plain_reason,
    step_views,
    workspace_ref,
)
from perago.console.forks import Forks, forks_of
from perago.console.lines import CommitLine, lines_of
from perago.console.links import Link, Paged, link, paged
from perago.console.source import Json, Source
from perago.console.text import Moment, Shown, StatusView, block, duration, line, moment, readable_json, status_view
from perago.console.timeline import Timeline, timeline

_STEPS_PER_PAGE = 25
_HISTORY_PER_PAGE = 200
_RUNNING = ("RUNNING", "PAUSED")
_FAILED = ("FAILED", "FAILED_WITH_TERMINAL_ERROR", "TIMED_OUT")


@dataclass(frozen=True, slots=True)
class WorkflowPage:
    """The whole page. `failed` is the attempt that gave the reason."""

    workflow_id: Shown
    type: Link
    again: str | None
    """Where such a workflow is started; None: not here."""
    status: StatusView
    failed: Link | None
    reason: Shown
    started: Moment | None
    ended: Moment | None
    elapsed: str
    correlation: Shown
    parent: Link | None
    input: Shown
    output: Shown
    timeline: Timeline
    forks: Forks
    lines: tuple[CommitLine, ...]
    steps: Paged[StepView]
    attempts: int
    history: Paged[HistoryRow]
    title: str
    live: bool
    terminate: str | None
    """Where it is ended; None: it has ended, or cannot be ended here."""
    crumbs: tuple[Link, ...] = (Link(line("Workflows"), links.OVERVIEW),)


def workflow(source: Source, request: Request) -> WorkflowPage:
    """The workflow; `?steps=2` and `?history=2` turn the pages of what is long.

    Raises:
        NotFound: this Conductor has no such workflow.
    """
    found = source.conductor.workflow(request.path_params["workflow"])
    workflow_id, tasks = found["workflowId"], found["tasks"]
    events = source.conductor.history(workflow_id)
    every_group = group_by_step(tasks)
    groups = paged(every_group, request, size=_STEPS_PER_PAGE, parameter="steps")
    url_of = _places_on_page(every_group, groups.number)
    workspaces = [place for task in tasks if (place := workspace_ref(task.get("inputData"), source)) is not None]
    lines, published = lines_of(source, workflow_id, tasks, workspaces, url_of)
    end = found.get("endTime") or source.conductor.now()
    failed = _failed_attempt(found)
    is_open = found["status"] in _RUNNING
    type_, again = _type(source, found)
    return WorkflowPage(
        workflow_id=line(workflow_id),
        type=type_,
        again=again,
        status=status_view(found["status"]),
        failed=None if failed is None else link(failed["taskDefName"], links.workflow(workflow_id, failed["taskId"])),
        reason=block(plain_reason(found.get("reasonForIncompletion"))),
        started=moment(found["startTime"]),
        ended=moment(found.get("endTime") or 0),
        elapsed=duration(end - found["startTime"]),
        correlation=line(found.get("correlationId") or ""),
        parent=_parent(source, found),
        input=readable_json(found.get("input", {})),
        output=readable_json(found.get("output", {})),
        timeline=timeline(groups.items, found["startTime"], end),
        forks=forks_of(tasks, url_of, published),
        lines=lines,
        steps=groups.showing(step_views(source, groups.items, events, tasks)),
        attempts=len(tasks),
        history=paged(history_rows(events), request, size=_HISTORY_PER_PAGE, parameter="history"),
        title=f"Workflow {line(found['workflowName']).text}",
        live=is_open,
        terminate=links.terminate(workflow_id) if is_open and source.actions else None,
    )


def _places_on_page(groups: Sequence[Sequence[Json]], shown: int) -> Callable[[Json], str]:
    """Gives the address of an attempt, which may be on another page of the steps than the one that is shown."""
    pages = {task["taskId"]: 1 + number // _STEPS_PER_PAGE for number, group in enumerate(groups) for task in group}

    def url_of(task: Json) -> str:
        page, anchor = pages[task["taskId"]], links.attempt_anchor(task["taskId"])
        return f"#{anchor}" if page == shown else f"?steps={page}#{anchor}"

    return url_of


def _failed_attempt(found: Json) -> Json | None:
    """The attempt that Conductor names in the reason."""
    reason = found.get("reasonForIncompletion") or ""
    failed = [task for task in found["tasks"] if task["status"] in _FAILED and task["taskId"] in reason]
    return failed[-1] if failed else None


def _type(source: Source, found: Json) -> tuple[Link, str | None]:
    """The definition that it was started with may be gone, or never have been registered."""
    name, version = found["workflowName"], found["workflowVersion"]
    if version not in source.conductor.workflow_versions(name):
        return link(f"{name} v{version}"), None
    known = link(f"{name} v{version}", links.workflow_type(name, version))
    return known, links.start(name, version) if source.actions else None


def _parent(source: Source, found: Json) -> Link | None:
    parent = found.get("parentWorkflowId")
    if not isinstance(parent, str) or not parent:
        return None
    return link(parent, links.workflow(parent) if source.conductor.knows(parent) else None)
