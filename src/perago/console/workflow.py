"""`/workflows/{id}`: one workflow with its forks, commits, steps, attempts and history.

Everything is drawn in percent of the total time, so it fits every width. The same information is always shown as text,
too.
"""

from __future__ import annotations

import re
import shlex
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby, islice
from operator import itemgetter
from typing import TYPE_CHECKING, Any, NamedTuple

from starlette.requests import Request

from perago.attempt import publication
from perago.console import links
from perago.console.repositories import (
    change_row,
    changed,
    commit_link,
    continued,
    divergent_commits,
    exists,
    publications,
    summary_of,
)
from perago.console.source import Change, Json, Source
from perago.console.text import (
    Link,
    PageView,
    RowView,
    Shown,
    StatusView,
    block,
    duration,
    line,
    link,
    moment,
    paged,
    readable_json,
    status_view,
    tail,
)
from perago.ports import OPEN_WORKFLOWS, Commit
from perago.text import count, plain_reason
from perago.worker.log_reader import AttemptTrace, DeliveryTrace
from perago.workflows.waiting import waits_of

if TYPE_CHECKING:
    from perago.embedded.conductor.state import HistoryEntry


_MAX_FORKS = 20
_MAX_LANES = 100
_MAX_LANE_STEPS = 50
"""The largest number of steps in one lane."""
_MAX_COMMITS_READ = 1000
"""Commits of a branch that are read, from its head."""
_MAX_COMMITS_SHOWN = 60
_FILES = 5
"""Changed files that are shown with a commit; its page shows all."""
_STEPS_PER_PAGE = 25
_HISTORY_PER_PAGE = 200
_FAILED = ("FAILED", "FAILED_WITH_TERMINAL_ERROR", "TIMED_OUT")


@dataclass(slots=True)
class _Forks:
    """The forks of a workflow. Their branches are read from their own rows, as Conductor scheduled them."""

    attempts: Mapping[str, Sequence[Json]]
    """By reference name."""
    url_of: Callable[[Json], str]
    """Returns the address of an attempt."""
    published: Mapping[str, tuple[Link, ...]]
    """The commits of an attempt, by its task id."""
    inside: set[str] = field(default_factory=set)
    """References of forks that are part of a lane."""

    def view(self) -> RowView:
        """Return the newest forks, oldest first. A fork inside a branch is part of that branch."""
        forks = [rows[-1] for rows in self.attempts.values() if rows[-1]["taskType"] == "FORK"]
        views = [(row["referenceTaskName"], self._fork(row)) for row in forks]
        outermost = [view for reference, view in views if reference not in self.inside]
        return RowView(shown=outermost[-_MAX_FORKS:], earlier=max(0, len(outermost) - _MAX_FORKS))

    def _fork(self, row: Json) -> RowView:
        """Return a fork with the lanes of its branches."""
        branches = _branches(row)
        lanes = []
        for branch in branches[:_MAX_LANES]:
            parts = tuple(self._parts(branch, _suffix(row), only_scheduled=False))
            lanes.append(RowView(parts=parts[:_MAX_LANE_STEPS], more=max(0, len(parts) - _MAX_LANE_STEPS)))
        more = max(0, len(branches) - _MAX_LANES)
        return RowView(reference=line(row["referenceTaskName"]), lanes=tuple(lanes), more=more)

    def _parts(self, steps: Sequence[Mapping[str, Any]], suffix: str, *, only_scheduled: bool) -> Iterator[RowView]:
        """Joins are left out. Behind a switch come the steps of the case that it took, behind a loop its last round."""
        for step in steps:
            name = str(step["taskReferenceName"])
            reference = name + suffix if name + suffix in self.attempts else name
            rows = self.attempts.get(reference, [])
            if rows and rows[-1]["taskType"] == "FORK":
                self.inside.add(reference)
                yield self._fork(rows[-1])
            elif (rows or not only_scheduled) and step.get("type") != "JOIN":
                yield self._step(reference, str(step.get("name", "")), rows)
            for case in (*(step.get("decisionCases") or {}).values(), step.get("defaultCase") or ()):
                yield from self._parts(case, suffix, only_scheduled=True)
            if rows and step.get("loopOver"):
                yield from self._parts(step["loopOver"], f"__{rows[-1]['iteration']}", only_scheduled=True)

    def _step(self, reference: str, name: str, rows: Sequence[Json]) -> RowView:
        """Return a step of a lane with its newest attempt and publications. A step to come has no link."""
        task_type = line("" if name == reference else name)
        if not rows:
            to_come = StatusView("to come", "wait")
            return RowView(reference=link(reference), task_type=task_type, status=to_come, spent="", published=())
        last = rows[-1]
        spent = duration(last["endTime"] - last["startTime"]) if last["endTime"] and last["startTime"] else ""
        attempts = count(len(rows), "attempt") if len(rows) > 1 else ""
        return RowView(
            reference=link(reference, self.url_of(last)),
            task_type=task_type,
            status=status_view(last["status"]),
            spent=", ".join(part for part in (spent, attempts) if part),
            published=tuple(commit for row in rows for commit in self.published.get(row["taskId"], ())),
        )


def _branches(row: Json) -> Sequence[Sequence[Mapping[str, Any]]]:
    """Return the steps of each branch. Those of a dynamic fork are in its input: one step for each branch."""
    declared = row.get("workflowTask", {})
    if declared.get("type") == "FORK_JOIN_DYNAMIC":
        return [[step] for step in row.get("inputData", {}).get("forkedTaskDefs") or ()]
    branches: Sequence[Sequence[Mapping[str, Any]]] = declared.get("forkTasks") or ()
    return branches


def _suffix(row: Json) -> str:
    """Return the text that Conductor adds to the names of a fork and of its steps in one round of a loop."""
    reference, declared = row["referenceTaskName"], row.get("workflowTask", {}).get("taskReferenceName")
    return str(reference[len(declared) :]) if declared and reference.startswith(declared) else ""


def lines_of(
    source: Source,
    workflow_id: str,
    tasks: Sequence[Json],
    places: Iterable[WorkspaceRef],
    url_of: Callable[[Json], str],
) -> tuple[tuple[RowView, ...], Mapping[str, tuple[Link, ...]]]:
    """Return the lines of a workflow, and the commits of each attempt, by its task id.

    Args:
        source: Where the commits are read.
        workflow_id: The workflow.
        tasks: All attempts of it.
        places: Repository, branch and input commit of those that have a workspace.
        url_of: Where an attempt is shown.
    """
    steps = {task["subWorkflowId"]: task for task in tasks if task.get("subWorkflowId")}
    reader = _LineReader(source, workflow_id, {task["taskId"]: task for task in tasks}, steps, url_of)
    begun: dict[tuple[str, str], set[str]] = {}
    for repository, branch, ref in places:
        begun.setdefault((repository, branch), set()).add(ref)
    lines = [reader.line(repository, branch, refs) for (repository, branch), refs in begun.items()]
    return tuple(row for row in lines if row is not None), reader.published


@dataclass(slots=True)
class _LineReader:
    """Reads the line of commits of each branch, and collects the publications of each attempt."""

    source: Source
    workflow_id: str
    tasks: Mapping[str, Json]
    """By task id."""
    steps: Mapping[str, Json]
    """The step that runs a sub-workflow, by the id of the sub-workflow."""
    url_of: Callable[[Json], str]
    published: dict[str, tuple[Link, ...]] = field(default_factory=dict)

    def line(self, repository: str, branch: str, refs: set[str]) -> RowView | None:
        """Return the line of one branch; None if no task of the workflow published to it."""
        missing, read, start = set(refs), [], None
        for commit in islice(self.source.lakefs.first_parents(repository, branch), _MAX_COMMITS_READ):
            missing.discard(commit.id)
            if not missing:
                start = commit_link(repository, commit.id)
                break
            read.append(commit)
        own = [place for place, commit in enumerate(read) if self._owner(commit) is not None]
        if not own:
            return None
        between = read[own[0] : len(read) if start else own[-1] + 1]
        shown = between[:_MAX_COMMITS_SHOWN]
        for commit in reversed(between):
            owner = self._owner(commit)
            task_id = owner["taskId"] if isinstance(owner, Mapping) else commit.metadata.get(publication.TASK_ID, "")
            if owner is not None:
                self.published[task_id] = (*self.published.get(task_id, ()), commit_link(repository, commit.id))
        return RowView(
            branch=link(f"{repository}/{branch}", links.branch(repository, branch)),
            start=start,
            commits=tuple(self._commit(repository, commit) for commit in reversed(shown)),
            earlier=len(between) - len(shown),
            later=own[0] > 0,
        )

    def _owner(self, commit: Commit) -> Json | str | None:
        """Return the workflow's id, its step that ran the publishing sub-workflow, or None for any other commit."""
        publisher = commit.metadata.get(publication.WORKFLOW_ID, "")
        return publisher if publisher == self.workflow_id else self.steps.get(publisher)

    def _commit(self, repository: str, commit: Commit) -> RowView:
        """Return one commit of a line. Only commits of this workflow list their files."""
        own = self._owner(commit) is not None
        changes, summary = changed(self.source, repository, commit, reserved=False)
        files = [change_row(repository, commit, change) for change in changes[:_FILES]] if own else []
        return RowView(
            own=own,
            name=self._name(commit),
            commit=commit_link(repository, commit.id),
            subject=line(commit.metadata.get(publication.TASK_NAME, "") if own else commit.message.partition("\n")[0]),
            time=moment(commit.created * 1000),
            summary=summary,
            files=tuple(files),
            more=len(changes) - len(files) if own else 0,
        )

    def _name(self, commit: Commit) -> Link:
        """Return the step that published the commit, or the committer of another client's commit."""
        owner, task_id = self._owner(commit), commit.metadata.get(publication.TASK_ID, "")
        reference = commit.metadata.get(publication.REFERENCE_NAME, "step")
        if owner is None:
            return link(commit.committer or "unknown")
        if isinstance(owner, Mapping):
            return link(f"{owner['referenceTaskName']} / {reference}", self.url_of(owner))
        task = self.tasks.get(task_id)
        return link(reference, None if task is None else self.url_of(task))


def workflow(source: Source, request: Request) -> PageView:
    """Show the workflow. `?steps=2` and `?history=2` turn the pages of long lists.

    Raises:
        NotFound: this Conductor has no such workflow.
    """
    workflow = source.conductor.workflow(request.path_params["workflow"])
    workflow_id, tasks = workflow["workflowId"], workflow["tasks"]
    events = source.history(workflow_id)
    every_group = list(grouped(tasks, itemgetter("referenceTaskName", "taskDefName")).values())
    groups = paged(every_group, request, size=_STEPS_PER_PAGE, parameter="steps")
    url_of = _places_on_page(every_group, groups.number)
    places = {task["taskId"]: workspace_ref(task.get("inputData"), source) for task in tasks}
    lines, published = lines_of(source, workflow_id, tasks, filter(None, places.values()), url_of)
    forks = _Forks(grouped(tasks, itemgetter("referenceTaskName")), url_of, published)
    ending = {task["taskId"] for task in tasks if is_ending(task, source)}
    steps = _Steps(source, events, {task["taskId"]: task for task in tasks}, places, groups.items, ending)
    end = workflow.get("endTime") or source.conductor.now()
    reason = workflow.get("reasonForIncompletion") or ""
    failed = [task for task in tasks if task["status"] in _FAILED and task["taskId"] in reason]
    is_open = workflow["status"] in OPEN_WORKFLOWS
    type_, again = _type(source, workflow)
    return PageView(
        f"Workflow {line(workflow['workflowName']).text}",
        crumbs=(link("Workflows", links.OVERVIEW),),
        live=is_open or bool(ending),
        workflow=workflow,
        type=type_,
        again=again,  # where such a workflow is started; None: not here
        ending=len(ending),  # attempts whose functions still run although the workflow has ended
        failed=link(failed[-1]["taskDefName"], links.workflow(workflow_id, failed[-1]["taskId"])) if failed else None,
        reason=block(plain_reason(reason)),
        elapsed=duration(end - workflow["startTime"]),
        input=readable_json(workflow.get("input", {})),
        output=readable_json(workflow.get("output", {})),
        timeline=timeline(groups.items, workflow["startTime"], end),
        forks=forks.view(),
        lines=lines,
        steps=groups.showing(list(map(steps.step, groups.items))),
        attempts=len(tasks),
        history=paged(history_rows(events), request, size=_HISTORY_PER_PAGE, parameter="history"),
        waits=[link(wait.reference, links.signal(workflow_id, wait.reference)) for wait in waits_of(workflow)]
        if is_open and source.embedded
        else [],
        terminate=links.terminate(workflow_id) if is_open and source.embedded else None,  # where it is ended
    )


def _places_on_page(groups: Sequence[Sequence[Json]], shown: int) -> Callable[[Json], str]:
    """Return the address of an attempt, which may be on another page of the steps than the current one."""
    pages = {task["taskId"]: 1 + number // _STEPS_PER_PAGE for number, group in enumerate(groups) for task in group}

    def url_of(task: Json) -> str:
        page, anchor = pages[task["taskId"]], links.attempt_anchor(task["taskId"])
        return f"#{anchor}" if page == shown else f"?steps={page}#{anchor}"

    return url_of


def _type(source: Source, workflow: Json) -> tuple[Link, str | None]:
    """Return the type of a workflow, and the address that starts another one. Its definition may no longer exist."""
    name, version = workflow["workflowName"], workflow["workflowVersion"]
    if version not in source.conductor.workflow_versions(name):
        return link(f"{name} v{version}"), None
    known = link(f"{name} v{version}", links.workflow_type(name, version))
    return known, links.start(name, version) if source.embedded else None


# -------------------------------------------------------------------------------- attempts


_MIN_BAR_PERCENT = 0.5
"""The smallest length of a drawn bar, in percent."""
_CAPITAL = re.compile(r"(?<=[a-z])[A-Z]")
"""Splits the name of a step: `CheckGuardrails` becomes `Check guardrails`."""
_CANCELLATION_LIMIT = 120_000
"""Milliseconds after which a canceled attempt has ended: its worker noticed, asked its process to end, and killed it.
If the log does not say so, the worker was killed."""
_ENTRIES = 50
_FILES_OF_ATTEMPT = 40
"""Changed files that are shown with an attempt, as in `perago run`; its commit shows all."""


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
    if task["status"] != "CANCELED" or source.conductor.now() - task["endTime"] > _CANCELLATION_LIMIT:
        return False
    task_id = task["taskId"]
    trace = source.traces(task_id).get((task_id, task["pollCount"], task["startTime"]))
    return trace is not None and not trace.has_ended


def steps_of(task: Json, trace: AttemptTrace, now: int) -> tuple[RowView, ...]:
    """Return the steps of each delivery of an attempt, as its workers logged them.

    If the logs are not on this machine, return how long the attempt waited and how long a worker had it.
    """
    deliveries = sorted(trace, key=lambda key: (key[2], key[1]))
    waterfalls = [_waterfall(f"Steps of delivery {key[1]}", trace[key].steps) for key in deliveries if trace[key].steps]
    if waterfalls or trace:
        return tuple(waterfalls)
    started = task["startTime"] or task["endTime"] or now
    times = [("Waiting", (started - task["scheduledTime"]) / 1000)]
    if task["startTime"]:
        times.append(("With a worker", ((task["endTime"] or now) - started) / 1000))
    return (_waterfall("Times", times),)


def _waterfall(title: str, times: Sequence[tuple[str, float]]) -> RowView:
    """Draw steps one after the other, as a delivery does them."""
    total = sum(seconds for _, seconds in times)
    rows, before = [], 0.0
    for name, seconds in times:
        label = line(_CAPITAL.sub(lambda match: f" {match[0].lower()}", name))
        timing = f"after {duration(before * 1000)}, for {duration(seconds * 1000)}"
        span = _span(before, before + seconds, 0, total)
        rows.append(RowView(name=label, elapsed=duration(seconds * 1000), span=span, timing=timing))
        before += seconds
    return RowView(title=title, total=duration(total * 1000), times=tuple(rows))


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
        label=f"{label_of(task)}: {status.word}, {spent}",
    )


def _span(begun: float, ended: float, start: float, end: float) -> Span:
    def place(time: float) -> float:
        return min(max((time - start) / max(end - start, 0.001) * 100, 0.0), 100.0)

    at = min(place(begun), 100 - _MIN_BAR_PERCENT)
    return Span(round(at, 2), round(max(place(ended) - at, _MIN_BAR_PERCENT), 2))


class WorkspaceRef(NamedTuple):
    """The workspace in the input of an attempt."""

    repository: str
    branch: str
    ref: str


def worker_link(worker_id: str) -> Link:
    """Return a worker by its id."""
    return link(worker_id, links.worker(worker_id)) if worker_id else link("unnamed")


def grouped(tasks: Iterable[Json], key: Callable[[Json], Any]) -> dict[Any, list[Json]]:
    """Group attempts by a key, in the order of the first attempt of each group."""
    groups: dict[Any, list[Json]] = {}
    for task in tasks:
        groups.setdefault(key(task), []).append(task)
    return groups


def history_rows(events: Sequence[HistoryEntry]) -> tuple[tuple[HistoryEntry, int], ...]:
    """Return the events, oldest first, with their numbers. Consecutive lease extensions of a delivery count as one."""

    def delivery(place: tuple[int, HistoryEntry]) -> Any:
        number, event = place
        return (event.task_id, event.poll_count) if event.what == "lease extended" else number

    groups = ([event for _, event in group] for _, group in groupby(enumerate(events), delivery))
    return tuple((group[0], len(group)) for group in groups)


@dataclass
class _Steps:
    """The steps of a workflow with their attempts."""

    source: Source
    history: Sequence[HistoryEntry]
    tasks: Mapping[str, Json]
    """All attempts of the workflow, by task id; they say which retried which."""
    places: Mapping[str, WorkspaceRef | None]
    """The workspaces of their inputs, by task id."""
    groups: Sequence[Sequence[Json]]
    """The attempts of each step that is shown."""
    ending: Collection[str]
    """The ids of the canceled attempts whose functions still run."""

    def __post_init__(self) -> None:
        shown = [self.places[task["taskId"]] for group in self.groups for task in group]
        self.published = publications(self.source, [place for place in shown if place is not None])
        self.now = self.source.conductor.now()

    def step(self, group: Sequence[Json]) -> RowView:
        """Return a step with its attempts, oldest first. The status is that of the last attempt."""
        last = group[-1]
        name, reference = last["taskDefName"], last["referenceTaskName"]
        known = self.source.conductor.task_definition(name) is not None
        return RowView(
            task_type=link(name, links.task_type(name) if known else None),
            reference=line("" if reference == name else reference),
            key=line(f"{last['workflowInstanceId']}:{reference}:{name}"),
            status=status_view(last["status"]),
            attempts=tuple(self.attempt(task) for task in group),
        )

    def attempt(self, task: Json) -> RowView:
        """Return the values of the template of an attempt."""
        task_id, place = task["taskId"], self.places[task["taskId"]]
        published = self.published.get(task_id, [])
        trace = self.source.traces(task_id)
        deliveries = [trace[key] for key in sorted(trace, key=lambda key: (key[2], key[1]))]
        last = deliveries[-1] if deliveries else DeliveryTrace()
        entries = self.source.conductor.task_log(task)
        return RowView(
            anchor=links.attempt_anchor(task_id),
            task=task,
            command=f"perago show {shlex.quote(line(task_id).text)}",
            label=label_of(task),
            reason=block(task.get("reasonForIncompletion") or ""),
            progress=None if task["endTime"] else last.progress,  # how much is done, and of how much
            guardrails=[(satisfied, line(message, 1000)) for satisfied, message in last.guardrails],
            files=self._files(published, last),
            remarks=tuple(map(line, last.remarks)),
            lines=[
                RowView(
                    time=moment(entry.time),
                    source="" if entry.source == "output" else entry.source,
                    text=tail(entry.text),
                )
                for delivery in deliveries
                for entry in tuple(delivery.lines)
            ],
            left_out=sum(delivery.left_out for delivery in deliveries),
            task_log=tuple(
                RowView(time=moment(entry["createdTime"]), source="", text=tail(entry["log"]))
                for entry in entries[:_ENTRIES]
            ),
            more_log=max(0, len(entries) - _ENTRIES),
            now=self.now,
            chain=self._chain(task),  # the earlier attempts of its own chain, newest first
            branch=place and link(f"{place.repository}/{place.branch}", links.branch(place.repository, place.branch)),
            input_commit=place and commit_link(place.repository, place.ref),
            # shown instead if none of the input's commits continues all others
            divergent=None if place else divergent_commits(task.get("inputData"), self.source),
            published=tuple(commit_link(repository, commit.id) for repository, commit in published),
            steps=steps_of(task, trace, self.now),
            input=_payload(task, "input"),
            output=_payload(task, "output"),
            history=history_rows([event for event in self.history if event.task_id == task_id]),
            is_ending=task_id in self.ending,
        )

    def _files(self, published: Sequence[tuple[str, Commit]], trace: DeliveryTrace) -> RowView | None:
        """Return the changed files from the branch, or from the log of the worker."""
        if published:
            repository, commit = published[-1]
            committed, summary = changed(self.source, repository, commit, reserved=False)
            rows = tuple(change_row(repository, commit, change) for change in committed[:_FILES_OF_ATTEMPT])
            link_of_commit = commit_link(repository, commit.id)
            return RowView(summary=summary, rows=rows, more=len(committed) - len(rows), commit=link_of_commit)
        if not trace.files:
            return None
        changes = [Change(path, kind, None, None if kind == "removed" else count) for kind, path, count in trace.files]
        rows = tuple(change_row("", None, change) for change in changes[:_FILES_OF_ATTEMPT])
        counts = Counter(change.kind for change in changes)
        summary = summary_of(counts) if trace.changed == len(changes) else f"{trace.changed:,} files"
        return RowView(summary=summary, rows=rows, more=trace.changed - len(rows), commit=None)

    def _chain(self, task: Json) -> tuple[Link, ...]:
        chain: list[Link] = []
        above = task.get("retriedTaskId")
        while above and above in self.tasks and len(chain) < len(self.tasks):
            chain.append(link(label_of(self.tasks[above]), f"#{links.attempt_anchor(above)}"))
            above = self.tasks[above].get("retriedTaskId")
        return tuple(chain)


def workspace_ref(payload: Any, source: Source) -> WorkspaceRef | None:
    """Return the workspace that a task's input names; None if these services do not have it."""
    workspace = payload.get("workspace") if isinstance(payload, Mapping) else None
    if not isinstance(workspace, Mapping):
        return None
    repository = workspace.get("repository")
    fields = [repository, workspace.get("branch"), continued(workspace.get("ref"), repository, source)]
    if not all(isinstance(field, str) and field for field in fields):
        return None
    place = WorkspaceRef(*map(str, fields))
    has_branch = exists(lambda: source.lakefs.branch(place.repository, place.branch))
    return place if has_branch and exists(lambda: source.lakefs.commit(place.repository, place.ref)) else None


def _payload(task: Json, which: str) -> Shown:
    stored = task.get(f"external{which.capitalize()}PayloadStoragePath")
    if stored:
        return line(f"Too large for Conductor's own store; moved to {stored}")
    return readable_json(task.get(f"{which}Data", {}))
