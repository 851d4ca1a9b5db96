"""`/search`: find workflows, attempts, task types, workers, branches and commits by ids, names or times."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta
from functools import partial
from itertools import islice

from starlette.requests import Request

from perago.adapters.conductor.overview import WorkflowQuery, WorkflowSummary
from perago.console import links
from perago.console.repositories import optional
from perago.console.source import NoSuchPage, Source
from perago.console.text import Link, PageView, RowView, line, link
from perago.console.workflow import worker_link
from perago.ports import Forbidden, NotFound, Refused
from perago.text import short, view_zone

MAX_QUERY_LENGTH = 200
"""Maximum length of a search text."""
_REPOSITORIES = 20
"""Maximum number of repositories that are searched for a branch or a commit."""
_ROWS = 20
_ID = re.compile(r"[\w.-]{8,100}", re.ASCII)
_BRANCH = re.compile(r"(?:(?P<repository>[a-z0-9][a-z0-9-]{2,62})/)?(?P<name>\w[-\w]{0,255})", re.ASCII)
_COMMIT = re.compile(r"[0-9a-f]{6,64}")
_TIME = re.compile(r"(\d{4}-\d\d-\d\d)(?:[ T](\d\d)(?::(\d\d))?)?")

Found = Sequence[WorkflowSummary] | Sequence[Link]
Finder = Callable[[Source, str], Found]


def search(source: Source, request: Request) -> PageView:
    """Show everything that `?q=` can mean."""
    text = request.query_params.get("q", "").strip()[:MAX_QUERY_LENGTH]
    groups = [group for title, find in FINDERS if text and (group := _group(source, title, find, text)) is not None]
    return PageView("Search", query=text, groups=groups, now=source.conductor.now())


def _group(source: Source, title: str, find: Finder, text: str) -> RowView | None:
    try:
        matches = find(source, text)
    except (NoSuchPage, NotFound, Refused):
        return None
    workflows = [match for match in matches if isinstance(match, WorkflowSummary)]
    shown = [match for match in matches if isinstance(match, Link)]
    return RowView(title=title, workflows=workflows, links=shown, is_cut=len(matches) == _ROWS) if matches else None


def _workflows(source: Source, **terms: str | int) -> Sequence[WorkflowSummary]:
    return source.conductor.workflows(WorkflowQuery(**terms), 0, _ROWS)[1]  # type: ignore[arg-type]


def _by_task(source: Source, text: str) -> Found:
    if not _ID.fullmatch(text):
        return ()
    row = source.conductor.attempt(text)
    label = f"{row['referenceTaskName']} ({row['taskDefName']}), {row['status'].lower()}"
    return (link(label, links.workflow(row["workflowInstanceId"], text)),)


def _by_time(source: Source, text: str) -> Found:
    """Find workflows that started on a day, in an hour or in a minute, by the clock of the page."""
    match = _TIME.fullmatch(text)
    if match is None:
        return ()
    day, hour, minute = match.groups()
    period = timedelta(minutes=1) if minute else timedelta(hours=1) if hour else timedelta(days=1)
    try:
        begin = datetime.fromisoformat(f"{day} {hour or '00'}:{minute or '00'}").replace(tzinfo=view_zone())
        since, until = round(begin.timestamp() * 1000), round((begin + period).timestamp() * 1000)
    except (ValueError, OverflowError, OSError):  # a number that is in no calendar
        return ()
    return _workflows(source, since=since, until=until)


def _task_types(source: Source, text: str) -> Found:
    names = sorted(str(definition["name"]) for definition in source.conductor.task_definitions())
    return [link(name, links.task_type(name)) for name in names if text.lower() in name.lower()][:_ROWS]


def _workers(source: Source, text: str) -> Found:
    names = dict.fromkeys(poll.worker_id for poll in source.conductor.last_polls())
    return [worker_link(name) for name in names if text.lower() in name.lower()][:_ROWS]


def _names(source: Source) -> Iterator[str]:
    return (repository.id for repository in source.lakefs.repositories("", _REPOSITORIES)[0])


def _repositories(source: Source, text: str) -> Found:
    return [link(name, links.repository(name)) for name in _names(source) if text.lower() in name]


def _branches(source: Source, text: str) -> Found:
    match = _BRANCH.fullmatch(text)
    if match is None:
        return ()
    names = _names(source) if match["repository"] is None else iter([match["repository"]])
    branches = ((name, optional(partial(source.lakefs.branch, name, match["name"]), Forbidden)) for name in names)
    shown = (
        link(f"{name}/{branch.id}", links.branch(name, branch.id)) for name, branch in branches if branch is not None
    )
    return list(islice(shown, _ROWS))


def _commits(source: Source, text: str) -> Found:
    if not _COMMIT.fullmatch(text):
        return ()

    def matches() -> Iterator[Link]:
        for name in _names(source):
            if (commit := optional(partial(source.lakefs.commit, name, text), Forbidden)) is not None:
                label = f"{short(commit.id)} in {name}: {line(commit.message.partition(chr(10))[0], 100).text}"
                yield link(label, links.commit(name, commit.id))

    return list(islice(matches(), _ROWS))


FINDERS: tuple[tuple[str, Finder], ...] = (
    ("Workflow id", lambda source, text: _workflows(source, workflow_id=text) if _ID.fullmatch(text) else ()),
    ("Task id", _by_task),
    ("Correlation id", lambda source, text: _workflows(source, correlation_id=text)),
    ("Name of the workflow", lambda source, text: _workflows(source, name=f"*{text}*")),
    ("Started at this time", _by_time),
    ("Task type", _task_types),
    ("Worker", _workers),
    ("Repository", _repositories),
    ("Branch", _branches),
    ("Commit", _commits),
)
"""The kinds of matches, each with the function that finds them."""
