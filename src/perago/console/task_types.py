"""`/task-types` and definitions: what can be scheduled, what waits, and who asked last."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request

from perago.console import links
from perago.console.links import Link, link
from perago.console.models import Models, NoSuchPage
from perago.console.paging import Paged, paged
from perago.console.text import Shown, line, readable_json
from perago.console.times import Moment, duration, moment

_PAGE_SIZE = 100
_PENDING_SIZE = 50
_POLLS_SHOWN = 20


@dataclass(frozen=True, slots=True)
class TaskTypeRow:
    """One task type. `waiting` attempts are in its queue, delayed ones included."""

    type: Link
    description: Shown
    owner: Shown
    waiting: int


@dataclass(frozen=True, slots=True)
class TaskTypes:
    """All task types."""

    types: Paged[TaskTypeRow]
    title: str = "Task types"
    crumbs: tuple[Link, ...] = ()
    refresh_seconds: int = 3


@dataclass(frozen=True, slots=True)
class PendingRow:
    """An attempt that waits to be polled."""

    attempt: Link
    reference: Shown
    retry: int
    waiting: str


@dataclass(frozen=True, slots=True)
class PollRow:
    """The last poll of a domain (empty: of none)."""

    time: Moment | None
    worker: Shown
    domain: Shown


@dataclass(frozen=True, slots=True)
class TaskTypePage:
    """One task definition with its queue and its last polls."""

    name: Shown
    definition: Shown
    pending: Paged[PendingRow]
    polls: tuple[PollRow, ...]
    title: str
    crumbs: tuple[Link, ...]
    refresh_seconds: int = 3


@dataclass(frozen=True, slots=True)
class WorkflowTypePage:
    """One workflow definition."""

    name: Shown
    versions: tuple[Link, ...]
    tasks: tuple[Link, ...]
    definition: Shown
    title: str
    crumbs: tuple[Link, ...]
    refresh_seconds: int = 0


def task_type_rows(models: Models) -> tuple[TaskTypeRow, ...]:
    """All task types by name."""
    waiting = models.conductor.queue_sizes()
    definitions = sorted(models.conductor.task_definitions(), key=lambda definition: str(definition["name"]))
    return tuple(_row(definition, waiting.get(definition["name"], 0)) for definition in definitions)


def task_types(models: Models, request: Request) -> TaskTypes:
    """The list."""
    return TaskTypes(paged(task_type_rows(models), request, size=_PAGE_SIZE))


def task_type(models: Models, request: Request) -> TaskTypePage:
    """The definition that `?name=` asks for.

    Raises:
        NoSuchPage: there is none of that name.
    """
    name = request.query_params.get("name", "")
    definition = models.conductor.get_task_definition(name)
    if definition is None:
        raise NoSuchPage(f"There is no task definition {name!r}.")
    return TaskTypePage(
        name=line(name),
        definition=readable_json(definition),
        pending=_pending(models, name, request),
        polls=_polls(models, name),
        title=f"Task type {line(name).text}",
        crumbs=(link("Task types", links.TASK_TYPES),),
    )


def workflow_type(models: Models, request: Request) -> WorkflowTypePage:
    """The definition that `?name=` and `?version=` ask for, by default the newest version.

    Raises:
        NoSuchPage: there is none of that name and version.
    """
    name, wanted = request.query_params.get("name", ""), request.query_params.get("version")
    definitions = models.conductor.workflow_definitions(name)
    found = [definition for definition in definitions if wanted in (None, str(definition["version"]))]
    if not found:
        raise NoSuchPage(f"There is no workflow definition {name!r} of version {wanted or 'any'}.")
    definition = found[-1]
    versions = [each["version"] for each in definitions]
    tasks = [task for task in definition.get("tasks", []) if isinstance(task, dict)]
    return WorkflowTypePage(
        name=line(f"{name} v{definition['version']}"),
        versions=tuple(link(f"v{version}", links.workflow_type(name, version)) for version in versions),
        tasks=tuple(_task_link(models, str(task.get("name"))) for task in tasks),
        definition=readable_json(definition),
        title=f"Workflow type {line(name).text}",
        crumbs=(),
    )


def _task_link(models: Models, name: str) -> Link:
    known = models.conductor.get_task_definition(name) is not None
    return link(name, links.task_type(name) if known else None)


def _row(definition: Mapping[str, Any], waiting: int) -> TaskTypeRow:
    name = str(definition["name"])
    return TaskTypeRow(
        type=link(name, links.task_type(name)),
        description=line(str(definition.get("description") or "")),
        owner=line(str(definition.get("ownerEmail") or "")),
        waiting=waiting,
    )


def _pending(models: Models, name: str, request: Request) -> Paged[PendingRow]:
    now = models.conductor.now()
    places = paged(range(models.conductor.queue_size(name)), request, size=_PENDING_SIZE, parameter="queue")
    tasks = models.conductor.pending(name, start=places.first, limit=len(places.items))
    return places.showing([_pending_row(task, now) for task in tasks])


def _pending_row(task: Mapping[str, Any], now: int) -> PendingRow:
    return PendingRow(
        attempt=link(task["taskId"], links.workflow(task["workflowInstanceId"], task["taskId"])),
        reference=line(task["referenceTaskName"]),
        retry=task["retryCount"],
        waiting=duration(now - task["scheduledTime"]),
    )


def _polls(models: Models, name: str) -> tuple[PollRow, ...]:
    return tuple(
        PollRow(moment(poll.time), line(poll.worker_id or "unnamed"), line(poll.domain or ""))
        for poll in models.conductor.last_polls(name)[:_POLLS_SHOWN]
    )
