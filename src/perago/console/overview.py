"""`/`: workflows, queues, repositories, and how to start a workflow."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from starlette.requests import Request

from perago.console import links
from perago.console.links import Link, link
from perago.console.models import Models
from perago.console.paging import Paged, paged
from perago.console.repositories import RepositoryRow, repository_rows
from perago.console.starting import StartLine, start_lines
from perago.console.statuses import StatusView, status_view
from perago.console.task_types import TaskTypeRow, task_type_rows
from perago.console.text import Shown, line
from perago.console.times import Moment, duration, moment
from perago.embedded.conductor.rows import WorkflowStatus
from perago.embedded.conductor.views import WorkflowSummary

_PAGE_SIZE = 50
_LIST_SIZE = 20


@dataclass(frozen=True, slots=True)
class WorkflowItem:
    """One line of the list. `failed` names the steps that failed, `recovered` says that the workflow got over it."""

    url: str
    workflow_id: Shown
    type: Link
    status: StatusView
    started: Moment | None
    elapsed: str
    failed: Shown
    recovered: bool
    reason: Shown


@dataclass(frozen=True, slots=True)
class Filter:
    """One choice of the filter by status."""

    word: str
    count: int
    url: str
    chosen: bool


@dataclass(frozen=True, slots=True)
class Overview:
    """The whole page."""

    filters: tuple[Filter, ...]
    workflows: Paged[WorkflowItem]
    task_types: tuple[TaskTypeRow, ...]
    more_task_types: int
    repositories: tuple[RepositoryRow, ...]
    more_repositories: int
    start_lines: tuple[StartLine, ...]
    title: str = "Workflows"
    crumbs: tuple[Link, ...] = ()
    refresh_seconds: int = 3


def overview(models: Models, request: Request) -> Overview:
    """Newest workflows first; `?status=FAILED` filters, `?page=2` turns the page."""
    summaries = models.conductor.workflow_summaries()[::-1]
    wanted = request.query_params.get("status")
    chosen = [summary for summary in summaries if wanted in (None, "", summary.status.value)]
    now = models.conductor.now()
    page = paged(chosen, request, size=_PAGE_SIZE)
    types = task_type_rows(models)
    repositories = repository_rows(models)
    return Overview(
        filters=_filters(summaries, wanted or None),
        workflows=page.showing([_item(summary, now) for summary in page.items]),
        task_types=types[:_LIST_SIZE],
        more_task_types=max(0, len(types) - _LIST_SIZE),
        repositories=repositories[:_LIST_SIZE],
        more_repositories=max(0, len(repositories) - _LIST_SIZE),
        start_lines=start_lines(models, str(request.base_url).rstrip("/") + models.prefix),
    )


def _filters(summaries: Sequence[WorkflowSummary], wanted: str | None) -> tuple[Filter, ...]:
    counts = Counter(summary.status for summary in summaries)
    found = [Filter("all", len(summaries), links.OVERVIEW, wanted is None)]
    for status in WorkflowStatus:
        if counts[status] or status == wanted:
            url = links.with_query(links.OVERVIEW, status=status.value)
            found.append(Filter(status_view(status).word, counts[status], url, status == wanted))
    return tuple(found)


def _item(summary: WorkflowSummary, now: int) -> WorkflowItem:
    return WorkflowItem(
        url=links.workflow(summary.workflow_id),
        workflow_id=line(summary.workflow_id),
        type=link(f"{summary.name} v{summary.version}", links.workflow_type(summary.name, summary.version)),
        status=status_view(summary.status),
        started=moment(summary.start_time),
        elapsed=duration((summary.end_time or now) - summary.start_time),
        failed=line(", ".join(summary.failed_references)),
        recovered=summary.status is WorkflowStatus.COMPLETED,
        reason=line(summary.reason or ""),
    )
