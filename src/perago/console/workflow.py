"""`/workflows/{id}`: one workflow with its forks, commits, steps, attempts and history."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

from starlette.requests import Request

from perago.console import links
from perago.console.attempts import (
    group_by_step,
    history_rows,
    is_ending,
    plain_reason,
    step_views,
    timeline,
    workspace_ref,
)
from perago.console.repositories import change_row, changed, commit_link
from perago.console.source import Json, Source
from perago.console.text import (
    Link,
    PageView,
    RowView,
    StatusView,
    block,
    commands_for,
    duration,
    line,
    link,
    moment,
    paged,
    readable_json,
    status_view,
)
from perago.ports import Commit
from perago.text import count

_MOST_FORKS = 20
_MOST_LANES = 100
_MOST_STEPS = 50
"""The largest number of steps in one lane."""
_MOST_READ = 1000
"""Commits of a branch that are read, from its head."""
_MOST_SHOWN = 60
_FILES = 5
"""Changed files that are shown with a commit; its page shows all."""
_STEPS_PER_PAGE = 25
_HISTORY_PER_PAGE = 200
_RUNNING = ("RUNNING", "PAUSED")
_FAILED = ("FAILED", "FAILED_WITH_TERMINAL_ERROR", "TIMED_OUT")


def forks_of(
    tasks: Sequence[Json], url_of: Callable[[Json], str], published: Mapping[str, tuple[Link, ...]]
) -> RowView:
    """Return the newest forks of a workflow, oldest first. A fork inside a branch is part of that branch.

    What the branches are is read from the rows of the forks themselves, as Conductor scheduled them.

    Args:
        tasks: All attempts of the workflow.
        url_of: Where an attempt is shown.
        published: The commits of an attempt, by its task id.
    """
    found = _Reader(tasks, url_of, published).run()
    return RowView(shown=found[-_MOST_FORKS:], earlier=max(0, len(found) - _MOST_FORKS))


class _Reader:
    def __init__(
        self, tasks: Sequence[Json], url_of: Callable[[Json], str], published: Mapping[str, tuple[Link, ...]]
    ) -> None:
        self._attempts: dict[str, list[Json]] = {}
        for task in tasks:
            self._attempts.setdefault(task["referenceTaskName"], []).append(task)
        self._url_of = url_of
        self._published = published
        self._inside: set[str] = set()
        """References of forks that are part of a lane."""

    def run(self) -> tuple[RowView, ...]:
        forks = [rows[-1] for rows in self._attempts.values() if rows[-1]["taskType"] == "FORK"]
        views = [(row["referenceTaskName"], self._fork(row)) for row in forks]
        return tuple(view for reference, view in views if reference not in self._inside)

    def _fork(self, row: Json) -> RowView:
        """Return a fork with the lanes of its branches."""
        branches = _branches(row)
        lanes = []
        for branch in branches[:_MOST_LANES]:
            parts = tuple(self._parts(branch, _suffix(row), only_scheduled=False))
            lanes.append(RowView(parts=parts[:_MOST_STEPS], more=max(0, len(parts) - _MOST_STEPS)))
        return RowView(
            reference=line(row["referenceTaskName"]), lanes=tuple(lanes), more=max(0, len(branches) - _MOST_LANES)
        )

    def _parts(self, steps: Sequence[Mapping[str, Any]], suffix: str, *, only_scheduled: bool) -> Iterator[RowView]:
        """Joins are left out. Behind a switch come the steps of the case that it took, behind a loop its last round."""
        for step in steps:
            name = str(step["taskReferenceName"])
            reference = name + suffix if name + suffix in self._attempts else name
            rows = self._attempts.get(reference, [])
            if rows and rows[-1]["taskType"] == "FORK":
                self._inside.add(reference)
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
            return RowView(
                reference=link(reference),
                task_type=task_type,
                status=StatusView("to come", "wait"),
                words="",
                published=(),
            )
        last = rows[-1]
        spent = duration(last["endTime"] - last["startTime"]) if last["endTime"] and last["startTime"] else ""
        tries = count(len(rows), "attempt") if len(rows) > 1 else ""
        return RowView(
            reference=link(reference, self._url_of(last)),
            task_type=task_type,
            status=status_view(last["status"]),
            words=", ".join(part for part in (spent, tries) if part),
            published=tuple(commit for row in rows for commit in self._published.get(row["taskId"], ())),
        )


def _branches(row: Json) -> Sequence[Sequence[Mapping[str, Any]]]:
    """Return the steps of each branch. Those of a dynamic fork are in its input: one step for each branch."""
    declared = row.get("workflowTask", {})
    if declared.get("type") == "FORK_JOIN_DYNAMIC":
        return [[step] for step in row.get("inputData", {}).get("forkedTaskDefs") or ()]
    found: Sequence[Sequence[Mapping[str, Any]]] = declared.get("forkTasks") or ()
    return found


def _suffix(row: Json) -> str:
    """Return the text that Conductor adds to the names of a fork and of its steps in one round of a loop."""
    reference, declared = row["referenceTaskName"], row.get("workflowTask", {}).get("taskReferenceName")
    return str(reference[len(declared) :]) if declared and reference.startswith(declared) else ""


def lines_of(
    source: Source,
    workflow_id: str,
    tasks: Sequence[Json],
    places: Sequence[tuple[str, str, str]],
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
    reader = _LineReader(source, workflow_id, tasks, url_of)
    begun: dict[tuple[str, str], set[str]] = {}
    for repository, branch, ref in places:
        begun.setdefault((repository, branch), set()).add(ref)
    lines = [reader.line(repository, branch, refs) for (repository, branch), refs in begun.items()]
    return tuple(found for found in lines if found is not None), reader.published


class _LineReader:
    def __init__(self, source: Source, workflow_id: str, tasks: Sequence[Json], url_of: Callable[[Json], str]) -> None:
        self._source = source
        self._workflow_id = workflow_id
        self._tasks = {task["taskId"]: task for task in tasks}
        self._steps = {task["subWorkflowId"]: task for task in tasks if task.get("subWorkflowId")}
        """The step that runs a sub-workflow, by the id of the sub-workflow."""
        self._url_of = url_of
        self.published: dict[str, tuple[Link, ...]] = {}

    def line(self, repository: str, branch: str, refs: set[str]) -> RowView | None:
        """Return the line of one branch; None if no task of the workflow published to it."""
        missing, read, start = set(refs), [], None
        for each in islice(self._source.lakefs.first_parents(repository, branch), _MOST_READ):
            missing.discard(each.id)
            if not missing:
                start = commit_link(repository, each.id)
                break
            read.append(each)
        own = [place for place, each in enumerate(read) if self._owner(each) is not None]
        if not own:
            return None
        between = read[own[0] : len(read) if start else own[-1] + 1]
        shown = between[:_MOST_SHOWN]
        for each in reversed(between):
            owner = self._owner(each)
            task_id = owner["taskId"] if isinstance(owner, Mapping) else each.metadata.get("perago.task_id", "")
            if owner is not None:
                self.published[task_id] = (*self.published.get(task_id, ()), commit_link(repository, each.id))
        return RowView(
            branch=link(f"{repository}/{branch}", links.branch(repository, branch)),
            start=start,
            commits=tuple(self._commit(repository, each) for each in reversed(shown)),
            earlier=len(between) - len(shown),
            later=own[0] > 0,
        )

    def _owner(self, found: Commit) -> Json | str | None:
        """Return the workflow's id, its step that ran the publishing sub-workflow, or None for any other commit."""
        publisher = found.metadata.get("perago.workflow_id", "")
        return publisher if publisher == self._workflow_id else self._steps.get(publisher)

    def _commit(self, repository: str, found: Commit) -> RowView:
        """Return one commit of a line. Only commits of this workflow list their files."""
        own = self._owner(found) is not None
        changes, summary = changed(self._source, repository, found, reserved=False)
        files = [change_row(repository, found, each) for each in changes[:_FILES]] if own else []
        return RowView(
            own=own,
            name=self._name(found),
            commit=commit_link(repository, found.id),
            words=line(found.metadata.get("perago.task_name", "") if own else found.message.partition("\n")[0]),
            time=moment(found.created * 1000),
            summary=summary,
            files=tuple(files),
            more=len(changes) - len(files) if own else 0,
        )

    def _name(self, found: Commit) -> Link:
        """Return the step that published the commit, or the committer of another client's commit."""
        owner, task_id = self._owner(found), found.metadata.get("perago.task_id", "")
        reference = found.metadata.get("perago.reference_name", "step")
        if owner is None:
            return link(found.committer or "unknown")
        if isinstance(owner, Mapping):
            return link(f"{owner['referenceTaskName']} / {reference}", self._url_of(owner))
        task = self._tasks.get(task_id)
        return link(reference, None if task is None else self._url_of(task))


def workflow(source: Source, request: Request) -> PageView:
    """Show the workflow. `?steps=2` and `?history=2` turn the pages of long lists.

    Raises:
        NotFound: this Conductor has no such workflow.
    """
    found = source.conductor.workflow(request.path_params["workflow"])
    workflow_id, tasks = found["workflowId"], found["tasks"]
    events = source.history(workflow_id)
    every_group = group_by_step(tasks)
    groups = paged(every_group, request, size=_STEPS_PER_PAGE, parameter="steps")
    url_of = _places_on_page(every_group, groups.number)
    workspaces = [place for task in tasks if (place := workspace_ref(task.get("inputData"), source)) is not None]
    lines, published = lines_of(source, workflow_id, tasks, workspaces, url_of)
    end = found.get("endTime") or source.conductor.now()
    reason = found.get("reasonForIncompletion") or ""
    failed = [task for task in tasks if task["status"] in _FAILED and task["taskId"] in reason]
    parent, correlation = found.get("parentWorkflowId"), found.get("correlationId")
    is_open = found["status"] in _RUNNING
    ending = sum(is_ending(task, source) for task in tasks)
    type_, again = _type(source, found)
    return PageView(
        f"Workflow {line(found['workflowName']).text}",
        crumbs=(link("Workflows", links.OVERVIEW),),
        live=is_open or ending > 0,
        workflow_id=line(workflow_id),
        type=type_,
        again=again,  # where such a workflow is started; None: not here
        status=status_view(found["status"]),
        ending=ending,  # attempts whose functions still run although the workflow has ended
        failed=link(failed[-1]["taskDefName"], links.workflow(workflow_id, failed[-1]["taskId"])) if failed else None,
        reason=block(plain_reason(reason)),
        started=moment(found["startTime"]),
        ended=moment(found.get("endTime") or 0),
        elapsed=duration(end - found["startTime"]),
        correlation=link(correlation, links.search(correlation)) if correlation else None,
        commands=commands_for(workflow_id, found["status"]),
        parent=link(parent, links.workflow(parent)) if parent else None,
        input=readable_json(found.get("input", {})),
        output=readable_json(found.get("output", {})),
        timeline=timeline(groups.items, found["startTime"], end),
        forks=forks_of(tasks, url_of, published),
        lines=lines,
        steps=groups.showing(step_views(source, groups.items, events, tasks)),
        attempts=len(tasks),
        history=paged(history_rows(events), request, size=_HISTORY_PER_PAGE, parameter="history"),
        terminate=links.terminate(workflow_id) if is_open and source.embedded else None,  # where it is ended
    )


def _places_on_page(groups: Sequence[Sequence[Json]], shown: int) -> Callable[[Json], str]:
    """Return the address of an attempt, which may be on another page of the steps than the current one."""
    pages = {task["taskId"]: 1 + number // _STEPS_PER_PAGE for number, group in enumerate(groups) for task in group}

    def url_of(task: Json) -> str:
        page, anchor = pages[task["taskId"]], links.attempt_anchor(task["taskId"])
        return f"#{anchor}" if page == shown else f"?steps={page}#{anchor}"

    return url_of


def _type(source: Source, found: Json) -> tuple[Link, str | None]:
    """The definition that it was started with may be gone, or never have been registered."""
    name, version = found["workflowName"], found["workflowVersion"]
    if version not in source.conductor.workflow_versions(name):
        return link(f"{name} v{version}"), None
    known = link(f"{name} v{version}", links.workflow_type(name, version))
    return known, links.start(name, version) if source.embedded else None
