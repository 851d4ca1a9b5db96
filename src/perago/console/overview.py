"""`/`: workflows, what can be started, queues and repositories."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from starlette.requests import Request

from perago.console import links
from perago.console.attempts import plain_reason
from perago.console.links import Link, Paged, link, paged
from perago.console.repositories import RepositoryRow, repository_rows
from perago.console.source import Source, WorkflowSummary
from perago.console.task_types import TaskTypeRow, task_type_rows
from perago.console.text import Moment, Shown, StatusView, duration, line, moment, status_view

_PAGE_SIZE = 50
_LIST_SIZE = 20
_STATUSES = ("RUNNING", "PAUSED", "COMPLETED", "FAILED", "TIMED_OUT", "TERMINATED")


@dataclass(frozen=True, slots=True)
class WorkflowItem:
    """One line of the list. `failed` names the steps that failed, `recovered` says that the workflow got over it."""

    url: str
    name: Shown
    workflow_id: Shown
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
class Starter:
    """A workflow type, and where the form is that starts it."""

    type: Link
    url: str


@dataclass(frozen=True, slots=True)
class Overview:
    """The whole page."""

    filters: tuple[Filter, ...]
    workflows: Paged[WorkflowItem]
    starters: tuple[Starter, ...]
    more_starters: int
    task_types: tuple[TaskTypeRow, ...]
    more_task_types: int
    repositories: tuple[RepositoryRow, ...]
    more_repositories: int
    title: str = "Workflows"
    crumbs: tuple[Link, ...] = ()
    live: bool = True


def overview(source: Source, request: Request) -> Overview:
    """Newest workflows first; `?status=FAILED` filters, `?page=2` turns the page."""
    summaries = source.conductor.workflows()
    wanted = request.query_params.get("status")
    chosen = [summary for summary in summaries if wanted in (None, "", summary.status)]
    now = source.conductor.now()
    page = paged(chosen, request, size=_PAGE_SIZE)
    newest = {each["name"]: each["version"] for each in source.conductor.workflow_definitions()}
    types = task_type_rows(source)
    repositories = repository_rows(source)
    return Overview(
        filters=_filters(summaries, wanted or None),
        workflows=page.showing([_item(summary, now) for summary in page.items]),
        starters=tuple(_starter(name, newest[name]) for name in list(newest)[:_LIST_SIZE]),
        more_starters=max(0, len(newest) - _LIST_SIZE),
        task_types=types[:_LIST_SIZE],
        more_task_types=max(0, len(types) - _LIST_SIZE),
        repositories=repositories[:_LIST_SIZE],
        more_repositories=max(0, len(repositories) - _LIST_SIZE),
    )


def _starter(name: str, version: int) -> Starter:
    return Starter(link(f"{name} v{version}", links.workflow_type(name, version)), links.start(name, version))


def _filters(summaries: Sequence[WorkflowSummary], wanted: str | None) -> tuple[Filter, ...]:
    counts = Counter(summary.status for summary in summaries)
    found = [Filter("all", len(summaries), links.OVERVIEW, wanted is None)]
    for status in _STATUSES:
        if counts[status] or status == wanted:
            url = links.with_query(links.OVERVIEW, status=status)
            found.append(Filter(status_view(status).word, counts[status], url, status == wanted))
    return tuple(found)


def _item(summary: WorkflowSummary, now: int) -> WorkflowItem:
    return WorkflowItem(
        url=links.workflow(summary.workflow_id),
        name=line(f"{summary.name} v{summary.version}"),
        workflow_id=line(summary.workflow_id),
        status=status_view(summary.status),
        started=moment(summary.start_time),
        elapsed=duration((summary.end_time or now) - summary.start_time),
        failed=line(", ".join(summary.failed_references)),
        recovered=summary.status == "COMPLETED",
        reason=line(plain_reason(summary.reason), 500),
    )
