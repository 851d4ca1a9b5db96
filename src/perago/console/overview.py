"""`/`, `/running`, `/workers` and the pages of definitions: everything that Conductor has, in lists."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from operator import itemgetter
from typing import Any

from starlette.requests import Request

from perago.adapters.conductor.overview import STATUSES, LastPoll, WorkflowQuery
from perago.console import links
from perago.console.repositories import repository_row
from perago.console.source import MAX_QUEUED, Json, NoSuchPage, Source
from perago.console.text import PageView, RowView, duration, line, link, moment, paged, readable_json
from perago.console.workflow import worker_link
from perago.workflows.picture import Node, nodes_of

_PAGE_SIZE = 50
_LIST_SIZE = 20
_TYPES_PER_PAGE = 100
_PENDING_SIZE = 50
_POLLS_SHOWN = 20


def overview(source: Source, request: Request) -> PageView:
    """Newest workflows first; `?status=FAILED` filters, `?page=2` turns the page."""
    counts = source.conductor.workflow_counts()
    selected = request.query_params.get("status") or None
    total = sum(counts.values())
    places = paged(range(total if selected is None else counts.get(selected, 0)), request, size=_PAGE_SIZE)
    query = WorkflowQuery(selected)
    summaries = source.conductor.workflows(query, places.first, len(places.items))[1] if places.items else ()
    startable = source.conductor.newest_definitions() if source.embedded else ()
    types = task_type_rows(source)
    repositories, more = source.lakefs.repositories("", _LIST_SIZE)
    return PageView(
        "Workflows",
        live=True,
        filters=[(status, counts.get(status, 0)) for status in STATUSES if counts.get(status) or status == selected],
        selected=selected,
        total=total,
        workflows=places.showing(summaries),
        now=source.conductor.now(),
        can_start=source.embedded is not None,
        starters=[
            (link(f"{name} v{version}", links.workflow_type(name, version)), links.start(name, version))
            for name, version in ((definition["name"], definition["version"]) for definition in startable[:_LIST_SIZE])
        ],
        more_starters=max(0, len(startable) - _LIST_SIZE),
        task_types=types[:_LIST_SIZE],
        more_task_types=max(0, len(types) - _LIST_SIZE),
        repositories=tuple(repository_row(source, repository) for repository in repositories),
        more_repositories=more is not None,
    )


def task_type_rows(source: Source) -> list[tuple[Json, int]]:
    """Return all task definitions by name, each with the number of its waiting attempts."""
    waiting = source.conductor.queue_sizes()
    definitions = sorted(source.conductor.task_definitions(), key=itemgetter("name"))
    return [(definition, waiting.get(definition["name"], 0)) for definition in definitions]


def task_types(source: Source, request: Request) -> PageView:
    """Show the list."""
    return PageView("Task types", live=True, types=paged(task_type_rows(source), request, size=_TYPES_PER_PAGE))


def task_type(source: Source, request: Request) -> PageView:
    """Show the definition that `?name=` asks for.

    Raises:
        NoSuchPage: no definition has that name.
    """
    name = request.query_params.get("name", "")
    definition = source.conductor.task_definition(name)
    if definition is None:
        raise NoSuchPage(f"There is no task definition {name!r}.")
    waiting = source.conductor.queue_sizes().get(name, 0)
    places = paged(range(min(waiting, MAX_QUEUED)), request, size=_PENDING_SIZE, parameter="queue")
    return PageView(
        f"Task type {line(name).text}",
        crumbs=(link("Task types", links.TASK_TYPES),),
        live=True,
        name=line(name),
        definition=readable_json(definition),
        pending=places.showing(source.conductor.queued(name, places.first, len(places.items))),
        now=source.conductor.now(),
        more=max(0, waiting - MAX_QUEUED),  # attempts that wait and are not listed
        polls=[poll for poll in source.conductor.last_polls() if poll.task_name == name][:_POLLS_SHOWN],
    )


def workflow_type(source: Source, request: Request) -> PageView:
    """Show the definition that `?name=` and `?version=` ask for, by default the newest version.

    Raises:
        NoSuchPage: no definition has that name and version.
    """
    definition, versions = requested_definition(source, request)
    name = definition["name"]
    return PageView(
        f"Workflow type {line(name).text}",
        name=line(f"{name} v{definition['version']}"),
        start=links.start(name, definition["version"]) if source.embedded else None,
        versions=[link(f"v{version}", links.workflow_type(name, version)) for version in versions],
        graph=graph_of(source, definition),
        definition=readable_json(definition),
    )


def requested_definition(source: Source, request: Request) -> tuple[Mapping[str, Any], Sequence[int]]:
    """Return the workflow definition of `?name=` and `?version=` (by default the newest), and all its versions.

    Raises:
        NoSuchPage: no definition has that name and version.
    """
    name, requested = request.query_params.get("name", ""), request.query_params.get("version")
    versions = source.conductor.workflow_versions(name)
    matching = [version for version in versions if requested in (None, str(version))]
    if not matching:
        raise NoSuchPage(f"There is no workflow definition {name!r} of version {requested or 'any'}.")
    return source.conductor.workflow_definition(name, matching[-1]), versions


_MAX_GRAPH_PARTS = 400


def graph_of(source: Source, definition: Json) -> RowView:
    """Return the steps of a definition with their inner parts: up to `_MAX_GRAPH_PARTS` of both together."""
    versions_of = cache(source.conductor.workflow_versions)
    known = {str(task["name"]) for task in source.conductor.task_definitions()}
    left = iter(range(_MAX_GRAPH_PARTS))

    def address(node: Node) -> str | None:
        if node.task_type in known:
            return links.task_type(node.task_type)
        name, version = node.workflow
        versions = versions_of(name) if name else ()
        shown_version = versions[-1] if versions and version is None else version
        return links.workflow_type(name, shown_version) if shown_version in versions else None

    steps = tuple(_steps(nodes_of(definition.get("tasks")), address, left))
    return RowView(steps=steps, is_cut=next(left, None) is None)


def _steps(nodes: Sequence[Node], address: Callable[[Node], str | None], left: Iterator[int]) -> Iterator[RowView]:
    for node, _ in zip(nodes, left, strict=False):
        parts = tuple(
            RowView(label=line(label), steps=tuple(_steps(part, address, left)))
            for (label, part), _ in zip(node.parts, left, strict=False)
        )
        yield RowView(reference=line(node.reference), text=link(node.text, address(node)), parts=parts)


_ROWS = 100
"""Attempts, or workers, on a page."""
_TYPES_SHOWN = 20


def running(source: Source, request: Request) -> PageView:
    """Show the attempts that are with a worker, the oldest first."""
    attempts, is_all = source.conductor.running()
    page = paged(attempts, request, size=_ROWS)
    return PageView("Running", live=True, attempts=page, is_all=is_all, now=source.conductor.now())


def workers(source: Source, request: Request) -> PageView:
    """Show the workers of the last polls and of the running attempts, the one that was last heard of first, or the one
    of `?worker=`."""
    attempts, is_all = source.conductor.running()
    busy = Counter(attempt.worker_id for attempt in attempts)
    polls: dict[str, list[LastPoll]] = {}
    for poll in source.conductor.last_polls():
        polls.setdefault(poll.worker_id, []).append(poll)
    heard = {name: max(poll.time for poll in own_polls) for name, own_polls in polls.items()}
    for attempt in attempts:
        heard[attempt.worker_id] = max(heard.get(attempt.worker_id, 0), attempt.updated)
    worker_id = request.query_params.get("worker")
    names = [name for name in heard if worker_id in (None, name)]
    page = paged(sorted(names, key=lambda name: (-heard[name], name)), request, size=_ROWS)
    now = source.conductor.now()

    def row(name: str) -> RowView:
        own_polls = polls.get(name, [])
        types = dict.fromkeys(poll.task_name for poll in own_polls)
        return RowView(
            worker=worker_link(name),
            heard=moment(heard[name]),
            silence=duration(now - heard[name]),
            running=busy[name],
            types=[link(type_, links.task_type(type_)) for type_ in list(types)[:_TYPES_SHOWN]],
            more=max(0, len(types) - _TYPES_SHOWN),
        )

    rows = page.showing([row(name) for name in page.items])
    return PageView(
        "Workers", live=True, workers=rows, is_all=is_all, chosen=None if worker_id is None else line(worker_id)
    )
