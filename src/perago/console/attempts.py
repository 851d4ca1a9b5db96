"""The attempts of a workflow: grouped by step, with all known facts, and drawn on one timeline.

Everything is drawn in percent of the total time, so it fits every width. The same information is always shown as text,
too.
"""

from __future__ import annotations

import re
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any, NamedTuple

from perago.console import links
from perago.console.repositories import (
    change_row,
    changed,
    commit_link,
    continued,
    exists,
    parted,
    publications,
    summary_of,
)
from perago.console.source import Change, Json, Source
from perago.console.text import (
    Link,
    RowView,
    Shown,
    block,
    duration,
    line,
    link,
    moment,
    readable_json,
    status_view,
    tail,
)
from perago.ports import Commit
from perago.worker.log_reader import AttemptTrace, DeliveryTrace

if TYPE_CHECKING:
    from perago.embedded.conductor.state import HistoryEntry

_THINNEST = 0.5
"""The smallest length of a drawn bar, in percent."""
_CAPITAL = re.compile(r"(?<=[a-z])[A-Z]")
"""Splits the name of a step: `CheckGuardrails` becomes `Check guardrails`."""
_LONGEST_END = 120_000
"""Milliseconds after which a canceled attempt has ended: its worker noticed, asked its process to end, and killed it.
If the log does not say so, the worker was killed."""
_ENTRIES = 50
_FILES = 40
"""Changed files that are shown with an attempt, as in `perago run`; its commit shows all."""
_FAILED = re.compile(r"Task \S+ failed with status: \w+ and reason: '(?P<reason>.*?)'?\Z", re.DOTALL)
_WORDS = {"polled": "handed out"}


@dataclass(frozen=True, slots=True)
class Span:
    """A position and a length, in percent of the total."""

    at: float
    length: float


def timeline(groups: Sequence[Sequence[Json]], start: int, end: int) -> RowView:
    """Draw the attempts of each step between two times in milliseconds.

    A row has the task type of its step as its name, or the reference name if several steps have that type.
    """
    types = Counter(group[0]["taskDefName"] for group in groups)
    rows = []
    for group in groups:
        first, last = group[0], group[-1]
        called = first["taskDefName"] if types[first["taskDefName"]] == 1 else first["referenceTaskName"]
        name = link(called, f"#{links.attempt_anchor(first['taskId'])}")
        spent = (last["endTime"] or end) - (first["startTime"] or first["scheduledTime"])
        rows.append(RowView(name=name, bars=tuple(_bar(task, start, end) for task in group), elapsed=duration(spent)))
    return RowView(rows=tuple(rows), half=duration((end - start) / 2), whole=duration(end - start))


def label_of(task: Json) -> str:
    """Return the name of an attempt among those of its step."""
    return f"Retry {task['retryCount']}" if task["retryCount"] else "First attempt"


def is_ending(task: Json, source: Source) -> bool:
    """Whether a function still runs although its attempt was canceled, as the log of its worker shows."""
    if task["status"] != "CANCELED" or source.conductor.now() - task["endTime"] > _LONGEST_END:
        return False
    task_id = task["taskId"]
    trace = source.traces(task_id).get((task_id, task["pollCount"], task["startTime"]))
    return trace is not None and not trace.has_ended


def steps_of(task: Json, trace: AttemptTrace, now: int) -> tuple[RowView, ...]:
    """Return the steps of each delivery of an attempt, as its workers logged them.

    If the logs are not on this machine, return how long the attempt waited and how long a worker had it.
    """
    deliveries = sorted(trace, key=lambda key: (key[2], key[1]))
    told = [_waterfall(f"Steps of delivery {key[1]}", trace[key].steps) for key in deliveries if trace[key].steps]
    if told or trace:
        return tuple(told)
    started = task["startTime"] or task["endTime"] or now
    times = [("Waiting", (started - task["scheduledTime"]) / 1000)]
    if task["startTime"]:
        times.append(("With a worker", ((task["endTime"] or now) - started) / 1000))
    return (_waterfall("Times", times),)


def _waterfall(title: str, times: Sequence[tuple[str, float]]) -> RowView:
    """Draw steps one after the other, as a delivery does them."""
    total = sum(seconds for _, seconds in times)
    found, before = [], 0.0
    for name, seconds in times:
        label = line(_CAPITAL.sub(lambda match: f" {match[0].lower()}", name))
        words = f"after {duration(before * 1000)}, for {duration(seconds * 1000)}"
        span = _span(before, before + seconds, 0, total)
        found.append(RowView(name=label, elapsed=duration(seconds * 1000), span=span, words=words))
        before += seconds
    return RowView(title=title, total=duration(total * 1000), times=tuple(found))


def _bar(task: Json, start: int, end: int) -> RowView:
    """Draw how long an attempt waited, and how long it ran."""
    scheduled, ended = task["scheduledTime"], task["endTime"] or end
    started = task["startTime"] or ended
    ran = _span(started, ended, start, end)
    status = status_view(task["status"])
    spent = duration(ended - started) if task["startTime"] else f"waiting for {duration(ended - scheduled)}"
    waited = _span(scheduled, started, start, end)
    return RowView(
        waited=Span(min(waited.at, ran.at), round(max(ran.at - waited.at, 0), 2)),
        ran=ran,
        tone=status.tone,
        url=f"#{links.attempt_anchor(task['taskId'])}",
        words=f"{label_of(task)}: {status.word}, {spent}",
    )


def _span(begun: float, ended: float, start: float, end: float) -> Span:
    def place(time: float) -> float:
        return min(max((time - start) / max(end - start, 0.001) * 100, 0.0), 100.0)

    at = min(place(begun), 100 - _THINNEST)
    return Span(round(at, 2), round(max(place(ended) - at, _THINNEST), 2))


class WorkspaceRef(NamedTuple):
    """The workspace that an attempt was given."""

    repository: str
    branch: str
    ref: str


def worker_link(worker_id: str) -> Link:
    """Return a worker by its id."""
    return link(worker_id, links.worker(worker_id)) if worker_id else link("unnamed")


def plain_reason(text: str | None) -> str:
    """Return the reason of a workflow as its task gave it, without the id and status that Conductor adds."""
    match = _FAILED.match(text or "")
    return (match["reason"] if match else text) or ""


def group_by_step(tasks: Sequence[Json]) -> list[list[Json]]:
    """Group attempts by step, in the order of the first attempt of each step."""
    groups: dict[tuple[str, str], list[Json]] = {}
    for task in tasks:
        groups.setdefault((task["referenceTaskName"], task["taskDefName"]), []).append(task)
    return list(groups.values())


def step_views(
    source: Source, groups: Sequence[Sequence[Json]], history: Sequence[HistoryEntry], tasks: Sequence[Json]
) -> tuple[RowView, ...]:
    """Return the steps of a workflow with their attempts, oldest first. The status is that of the last attempt.

    Args:
        source: Where workspaces, logs and commits are read.
        groups: The attempts of each step.
        history: The events of the workflow.
        tasks: All attempts of the workflow; they say which retried which.
    """
    builder = _Builder(source, groups, history, {task["taskId"]: task for task in tasks})
    return tuple(builder.step(group) for group in groups)


def history_rows(events: Sequence[HistoryEntry]) -> tuple[RowView, ...]:
    """Return one row for each event, oldest first. Consecutive lease extensions of a delivery become one row."""

    def delivery(place: tuple[int, HistoryEntry]) -> Any:
        number, event = place
        return (event.task_id, event.poll_count) if event.what == "lease extended" else number

    groups = ([event for _, event in group] for _, group in groupby(enumerate(events), delivery))
    return tuple(_history_row(group[0], len(group)) for group in groups)


class _Builder:
    def __init__(
        self,
        source: Source,
        groups: Sequence[Sequence[Json]],
        history: Sequence[HistoryEntry],
        tasks: Mapping[str, Json],
    ) -> None:
        shown = [task for group in groups for task in group]
        self._source = source
        self._history = history
        self._tasks = tasks
        self._places = {task["taskId"]: workspace_ref(task.get("inputData"), source) for task in shown}
        places = [place for place in self._places.values() if place is not None]
        self._published = publications(source, places)
        self._now = source.conductor.now()

    def step(self, group: Sequence[Json]) -> RowView:
        last = group[-1]
        name, reference = last["taskDefName"], last["referenceTaskName"]
        known = self._source.conductor.task_definition(name) is not None
        return RowView(
            task_type=link(name, links.task_type(name) if known else None),
            reference=line("" if reference == name else reference),
            key=line(f"{last['workflowInstanceId']}:{reference}:{name}"),
            status=status_view(last["status"]),
            attempts=tuple(self.attempt(task) for task in group),
        )

    def attempt(self, task: Json) -> RowView:
        """Return the values of the template of an attempt."""
        task_id, place = task["taskId"], self._places[task["taskId"]]
        published = self._published.get(task_id, [])
        trace = self._source.traces(task_id)
        deliveries = [trace[key] for key in sorted(trace, key=lambda key: (key[2], key[1]))]
        last = deliveries[-1] if deliveries else DeliveryTrace()
        entries = self._source.conductor.task_log(task)
        is_open = task["endTime"] == 0
        sub_id = task.get("subWorkflowId")
        return RowView(
            anchor=links.attempt_anchor(task_id),
            task_id=link(task_id, f"#{links.attempt_anchor(task_id)}"),
            command=f"perago show {shlex.quote(line(task_id).text)}",
            is_completed=task["status"] == "COMPLETED",
            label=label_of(task),
            status=status_view(task["status"]),
            reason=block(task.get("reasonForIncompletion") or ""),
            progress=last.progress if is_open else None,  # how much is done, and of how much
            guardrails=[(satisfied, line(words, 1000)) for satisfied, words in last.guardrails],
            files=self._files(published, last),
            remarks=tuple(map(line, last.remarks)),
            lines=[
                RowView(
                    time=moment(each.time), source="" if each.source == "output" else each.source, text=tail(each.text)
                )
                for delivery in deliveries
                for each in tuple(delivery.lines)
            ],
            left_out=sum(delivery.left_out for delivery in deliveries),
            task_log=tuple(
                RowView(time=moment(each["createdTime"]), source="", text=tail(each["log"]))
                for each in entries[:_ENTRIES]
            ),
            more_log=max(0, len(entries) - _ENTRIES),
            worker=worker_link(task["workerId"]) if task.get("workerId") else None,
            deliveries=task["pollCount"],
            scheduled=moment(task["scheduledTime"]),
            started=moment(task["startTime"]),
            ended=moment(task["endTime"]),
            waited=_elapsed(task["scheduledTime"], task["startTime"]),
            elapsed=_elapsed(task["startTime"], task["endTime"] or self._now),
            chain=self._chain(task),  # the earlier attempts of its own chain, newest first
            branch=place and link(f"{place.repository}/{place.branch}", links.branch(place.repository, place.branch)),
            input_commit=place and commit_link(place.repository, place.ref),
            # shown instead if none of the given commits continues the others.
            parted=None if place else parted(task.get("inputData"), self._source),
            published=tuple(commit_link(repository, each.id) for repository, each in published),
            sub_workflow=link(sub_id, links.workflow(sub_id)) if sub_id else None,
            steps=steps_of(task, trace, self._now),
            input=_payload(task, "input"),
            output=_payload(task, "output"),
            history=history_rows([event for event in self._history if event.task_id == task_id]),
            is_open=is_open,
            is_ending=is_ending(task, self._source),
        )

    def _files(self, published: Sequence[tuple[str, Commit]], trace: DeliveryTrace) -> RowView | None:
        """Return the changed files from the branch, or from the log of the worker."""
        if published:
            repository, found = published[-1]
            changes, summary = changed(self._source, repository, found, reserved=False)
            rows = tuple(change_row(repository, found, each) for each in changes[:_FILES])
            return RowView(
                summary=summary, rows=rows, more=len(changes) - len(rows), commit=commit_link(repository, found.id)
            )
        if not trace.files:
            return None
        told = [Change(path, kind, None, None if kind == "removed" else count) for kind, path, count in trace.files]
        rows = tuple(change_row("", None, each) for each in told[:_FILES])
        counts = Counter(each.kind for each in told)
        summary = summary_of(counts) if trace.changed == len(told) else f"{trace.changed:,} files"
        return RowView(summary=summary, rows=rows, more=trace.changed - len(rows), commit=None)

    def _chain(self, task: Json) -> tuple[Link, ...]:
        found: list[Link] = []
        above = task.get("retriedTaskId")
        while above and above in self._tasks and len(found) < len(self._tasks):
            found.append(link(label_of(self._tasks[above]), f"#{links.attempt_anchor(above)}"))
            above = self._tasks[above].get("retriedTaskId")
        return tuple(found)


def workspace_ref(payload: Any, source: Source) -> WorkspaceRef | None:
    """Return the workspace that a task's input names; None if these services do not have it."""
    workspace = payload.get("workspace") if isinstance(payload, Mapping) else None
    if not isinstance(workspace, Mapping):
        return None
    repository = workspace.get("repository")
    fields = [repository, workspace.get("branch"), continued(workspace.get("ref"), repository, source)]
    if not all(isinstance(field, str) and field for field in fields):
        return None
    found = WorkspaceRef(*map(str, fields))
    branch = exists(lambda: source.lakefs.branch(found.repository, found.branch))
    return found if branch and exists(lambda: source.lakefs.commit(found.repository, found.ref)) else None


def _payload(task: Json, which: str) -> Shown:
    stored = task.get(f"external{which.capitalize()}PayloadStoragePath")
    if stored:
        return line(f"Too large for Conductor's own store; moved to {stored}")
    return readable_json(task.get(f"{which}Data", {}))


def _elapsed(start: int, end: int) -> str:
    return duration(end - start) if start and end else ""


def _history_row(event: HistoryEntry, times: int) -> RowView:
    return RowView(
        time=moment(event.time),
        what=_WORDS.get(event.what, event.what),
        times=times,  # equal events in a row
        surprising=event.what == "update ignored",  # an update without effect
        attempt=link(event.reference_name, f"#{links.attempt_anchor(event.task_id)}"),
        status=status_view(event.status),
        delivery=event.poll_count,
        worker=worker_link(event.worker_id) if event.worker_id else None,
    )
