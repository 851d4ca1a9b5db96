"""`/`: workflows, what can be started, queues and repositories."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from starlette.requests import Request

from perago.console import links
from perago.console.attempts import plain_reason
from perago.console.links import Link, Paged, link, paged
from perago.console.repositories import RepositoryRow, repository_row
from perago.console.source import STATUSES, Source, WorkflowSummary
from perago.console.task_types import TaskTypeRow, task_type_rows
from perago.console.text import Moment, Shown, StatusView, duration, line, moment, status_view

_PAGE_SIZE = 50
_LIST_SIZE = 20


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
    starters: tuple[Starter, ...] | None
    """None: nothing can be started here."""
    more_starters: int
    task_types: tuple[TaskTypeRow, ...]
    more_task_types: int
    repositories: tuple[RepositoryRow, ...]
    more_repositories: bool
    title: str = "Workflows"
    crumbs: tuple[Link, ...] = ()
    live: bool = True


def overview(source: Source, request: Request) -> Overview:
    """Newest workflows first; `?status=FAILED` filters, `?page=2` turns the page."""
    counts = source.conductor.workflow_counts()
    wanted = request.query_params.get("status") or None
    now = source.conductor.now()
    places = paged(range(sum(counts.values()) if wanted is None else counts.get(wanted, 0)), request, size=_PAGE_SIZE)
    summaries = source.conductor.workflows(wanted, places.first, len(places.items)) if places.items else ()
    starters = _starters(source)
    types = task_type_rows(source)
    repositories, more = source.lakefs.repositories("", _LIST_SIZE)
    return Overview(
        filters=_filters(counts, wanted),
        workflows=places.showing([_item(summary, now) for summary in summaries]),
        starters=None if starters is None else starters[:_LIST_SIZE],
        more_starters=max(0, len(starters or ()) - _LIST_SIZE),
        task_types=types[:_LIST_SIZE],
        more_task_types=max(0, len(types) - _LIST_SIZE),
        repositories=tuple(repository_row(source, each) for each in repositories),
        more_repositories=more is not None,
    )


def _starters(source: Source) -> tuple[Starter, ...] | None:
    if source.actions is None:
        return None
    return tuple(_starter(name, version) for name, version in source.actions.startable())


def _starter(name: str, version: int) -> Starter:
    return Starter(link(f"{name} v{version}", links.workflow_type(name, version)), links.start(name, version))


def _filters(counts: Mapping[str, int], wanted: str | None) -> tuple[Filter, ...]:
    found = [Filter("all", sum(counts.values()), links.OVERVIEW, wanted is None)]
    for status in STATUSES:
        if counts.get(status) or status == wanted:
            url = links.with_query(links.OVERVIEW, status=status)
            found.append(Filter(status_view(status).word, counts.get(status, 0), url, status == wanted))
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
