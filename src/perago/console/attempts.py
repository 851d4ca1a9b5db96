"""The attempts of a workflow, grouped by step."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from perago.console import links
from perago.console.happenings import HappeningRow, happening_rows
from perago.console.links import Link, link
from perago.console.models import Models
from perago.console.publications import publications, workspace_ref
from perago.console.statuses import StatusView, status_view
from perago.console.text import Shown, block, line, readable_json, tail
from perago.console.times import Moment, duration, moment
from perago.embedded.conductor.state import HistoryEntry

_LOG_ENTRIES = 50
_CAPITAL = re.compile(r"(?<=[a-z])[A-Z]")

Task = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class StepTime:
    """One step of a delivery; `share` is its part of the whole, in percent."""

    name: Shown
    elapsed: str
    share: int


@dataclass(frozen=True, slots=True)
class Steps:
    """The steps of one delivery, as its worker logged them."""

    delivery: int
    total: str
    times: tuple[StepTime, ...]


@dataclass(frozen=True, slots=True)
class LogEntry:
    """One entry of the task log."""

    time: Moment | None
    text: Shown


@dataclass(frozen=True, slots=True)
class AttemptView:
    """One attempt. `chain` are the earlier attempts of its own chain, newest first."""

    anchor: str
    task_id: Shown
    label: str
    status: StatusView
    reason: Shown
    worker: Shown
    deliveries: int
    scheduled: Moment | None
    started: Moment | None
    ended: Moment | None
    waited: str
    elapsed: str
    chain: tuple[Link, ...]
    branch: Link | None
    input_commit: Link | None
    published: tuple[Link, ...]
    sub_workflow: Link | None
    steps: tuple[Steps, ...]
    log: tuple[LogEntry, ...]
    more_log: int
    input: Shown
    output: Shown
    happenings: tuple[HappeningRow, ...]
    is_open: bool


@dataclass(frozen=True, slots=True)
class StepView:
    """One workflow step with all its attempts, oldest first. `status` is that of the last."""

    reference: Shown
    task_type: Link
    key: Shown
    status: StatusView
    attempts: tuple[AttemptView, ...]


def group_by_step(tasks: Sequence[Task]) -> list[list[Task]]:
    """Attempts of one step key together, steps in the order of their first attempt."""
    groups: dict[tuple[str, str], list[Task]] = {}
    for task in tasks:
        groups.setdefault((task["referenceTaskName"], task["taskDefName"]), []).append(task)
    return list(groups.values())


def step_views(
    models: Models, groups: Sequence[Sequence[Task]], history: Sequence[HistoryEntry], all_tasks: Sequence[Task]
) -> tuple[StepView, ...]:
    """The steps in `groups`; `all_tasks` of the workflow say who retried whom."""
    by_task: defaultdict[str, list[HistoryEntry]] = defaultdict(list)
    for entry in history:
        by_task[entry.task_id].append(entry)
    tasks = [task for group in groups for task in group]
    builder = _Builder(models, by_task, publications(models, tasks), {task["taskId"]: task for task in all_tasks})
    return tuple(builder.step(group) for group in groups)


class _Builder:
    def __init__(
        self,
        models: Models,
        history: Mapping[str, Sequence[HistoryEntry]],
        published: Mapping[str, tuple[Link, ...]],
        tasks: Mapping[str, Task],
    ) -> None:
        self._models = models
        self._history = history
        self._published = published
        self._tasks = tasks
        self._now = models.conductor.now()

    def step(self, group: Sequence[Task]) -> StepView:
        last = group[-1]
        name = last["taskDefName"]
        known = self._models.conductor.get_task_definition(name) is not None
        return StepView(
            reference=line(last["referenceTaskName"]),
            task_type=link(name, links.task_type(name) if known else None),
            key=line(f"{last['workflowInstanceId']}:{last['referenceTaskName']}:{name}"),
            status=status_view(last["status"]),
            attempts=tuple(self.attempt(task) for task in group),
        )

    def attempt(self, task: Task) -> AttemptView:
        task_id = task["taskId"]
        workspace = workspace_ref(task.get("inputData"), self._models)
        logs = self._models.conductor.task_logs(task_id)
        return AttemptView(
            anchor=links.attempt_anchor(task_id),
            task_id=line(task_id),
            label=_label(task),
            status=status_view(task["status"]),
            reason=block(task.get("reasonForIncompletion") or ""),
            worker=line(task.get("workerId") or ""),
            deliveries=task["pollCount"],
            scheduled=moment(task["scheduledTime"]),
            started=moment(task["startTime"]),
            ended=moment(task["endTime"]),
            waited=_span(task["scheduledTime"], task["startTime"]),
            elapsed=_span(task["startTime"], task["endTime"] or self._now),
            chain=self._chain(task),
            branch=workspace and workspace.branch_link(),
            input_commit=workspace and workspace.commit_link(),
            published=self._published.get(task_id, ()),
            sub_workflow=_sub_workflow(task),
            steps=self._steps(task_id),
            log=tuple(LogEntry(moment(entry["createdTime"]), tail(entry["log"])) for entry in logs[:_LOG_ENTRIES]),
            more_log=max(0, len(logs) - _LOG_ENTRIES),
            input=_payload(task, "input"),
            output=_payload(task, "output"),
            happenings=happening_rows(self._history.get(task_id, ())),
            is_open=task["endTime"] == 0,
        )

    def _chain(self, task: Task) -> tuple[Link, ...]:
        found: list[Link] = []
        above = task.get("retriedTaskId")
        while above and above in self._tasks and len(found) < len(self._tasks):
            found.append(link(_label(self._tasks[above]), f"#{links.attempt_anchor(above)}"))
            above = self._tasks[above].get("retriedTaskId")
        return tuple(found)

    def _steps(self, task_id: str) -> tuple[Steps, ...]:
        known = self._models.steps(task_id)
        return tuple(_steps(key[1], known[key]) for key in sorted(known, key=lambda key: (key[2], key[1])))


def _steps(delivery: int, times: Sequence[tuple[str, float]]) -> Steps:
    total = sum(seconds for _, seconds in times)
    return Steps(
        delivery=delivery,
        total=duration(total * 1000),
        times=tuple(
            StepTime(line(_words(name)), duration(seconds * 1000), round(100 * seconds / total) if total else 0)
            for name, seconds in times
        ),
    )


def _words(name: str) -> str:
    """`CheckGuardrails` reads `Check guardrails`."""
    return _CAPITAL.sub(lambda match: f" {match[0].lower()}", name)


def _payload(task: Task, which: str) -> Shown:
    stored = task.get(f"external{which.capitalize()}PayloadStoragePath")
    if stored:
        return line(f"Too large for Conductor's own store; moved to {stored}")
    return readable_json(task.get(f"{which}Data", {}))


def _label(task: Task) -> str:
    return f"Retry {task['retryCount']}" if task["retryCount"] else "First attempt"


def _span(start: int, end: int) -> str:
    return duration(end - start) if start and end else ""


def _sub_workflow(task: Task) -> Link | None:
    sub_id = task.get("subWorkflowId")
    return link(sub_id, links.workflow(sub_id)) if isinstance(sub_id, str) and sub_id else None
