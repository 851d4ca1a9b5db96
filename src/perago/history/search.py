"""Find completed attempts of a task, and the module that declares the task."""

from __future__ import annotations

import ast
import contextlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path

from perago.attempt import publication as notes
from perago.attempt.history import undone_at_head
from perago.history.attempts import NotReplayable, Records
from perago.ports import Commit, NotFound, WorkspaceStore

_PAGE = 100
_COMMITS = 100
_MOST_COMMITS = 100_000
_TASK_NAME = "perago.task_name"


@dataclass(frozen=True, slots=True)
class Choice:
    """A choice among the completed attempts of a task, the latest first."""

    task_name: str
    last: int | None = None
    """The maximum number of attempts."""
    since: float | None = None
    """Not before: seconds since the epoch."""
    workflow: str | None = None
    """Of workflows with this name only."""


def searched(records: Records, choice: Choice) -> list[str]:
    """Task ids by Conductor's search.

    Raises:
        ServiceError: Conductor did not answer.
    """
    terms = [f"taskType='{choice.task_name}'", "status='COMPLETED'"]
    if choice.workflow is not None:
        terms.append(f"workflowType='{choice.workflow}'")
    if choice.since is not None:
        terms.append(f"updateTime>{int(choice.since * 1000)}")
    return list(islice(_found(records, " AND ".join(terms), choice.task_name), choice.last))


def _found(records: Records, query: str, task_name: str) -> Iterator[str]:
    """Each id once: attempts that end meanwhile move the pages."""
    seen: set[str] = set()
    start = 0
    while True:
        page = records.search_tasks(query, start=start, size=_PAGE)
        for row in page:
            task_id = str(row.get("taskId"))
            if row.get("taskDefName") == task_name and row.get("status") == "COMPLETED" and task_id not in seen:
                seen.add(task_id)
                yield task_id
        if len(page) < _PAGE:
            return
        start += len(page)


def published_on(store: WorkspaceStore, records: Records, repository: str, branch: str, choice: Choice) -> list[str]:
    """Task ids by the publications of a branch. Attempts that changed nothing have none.

    Raises:
        NotReplayable: there is no such branch.
        ServiceError: a server did not answer.
    """
    try:
        head = store.get_commit(repository, branch).id
    except NotFound as error:
        raise NotReplayable(f"lakeFS has no branch {branch} in a repository {repository}: {error.detail}") from error
    ids = _publications(store, repository, head, choice)
    if choice.workflow is not None:
        ids = (task_id for task_id in ids if _is_of(choice.workflow, records, task_id))
    return list(islice(ids, choice.last))


def _publications(store: WorkspaceStore, repository: str, head: str, choice: Choice) -> Iterator[str]:
    known: set[str] = set()
    read: list[Commit] = []
    for page in _pages(store, repository, head):
        read += page
        undone = undone_at_head(read)  # decided by later commits alone, and all of these were read
        for commit in page:
            if choice.since is not None and commit.created < choice.since:
                return
            by = notes.origin(commit)
            phase, name = commit.metadata.get(notes.PHASE), commit.metadata.get(_TASK_NAME)
            is_meant = (phase, name) == ("merge", choice.task_name)
            if by is not None and is_meant and commit.id not in undone and by.task_id not in known:
                known.add(by.task_id)
                yield by.task_id


def commits_of(store: WorkspaceStore, repository: str, head: str) -> Iterator[Commit]:
    """Yield the first-parent history, newest first, read as far as it is asked for.

    Raises:
        ServiceError: lakeFS did not answer.
    """
    return chain.from_iterable(_pages(store, repository, head))


def _pages(store: WorkspaceStore, repository: str, head: str) -> Iterator[Sequence[Commit]]:
    read, following = 0, head
    while read < _MOST_COMMITS:
        page = store.ancestry(repository, following, limit=_COMMITS)
        yield page if read == 0 else page[1:]  # each page begins with the last commit of the one before
        if len(page) < _COMMITS:
            return
        read, following = read + len(page) - 1, page[-1].id


def _is_of(workflow: str, records: Records, task_id: str) -> bool:
    try:
        return records.task(task_id).get("workflowType") == workflow
    except NotFound:
        return False


_MOST_FILES = 20_000
_NO_SOURCES = frozenset({"__pycache__", "node_modules", "site-packages", "build", "dist"})


def modules_that_declare(task_name: str, directory: Path) -> tuple[str, ...]:
    """The import paths of the modules below a directory in which `@task(name=...)` has this name, sorted."""
    return tuple(sorted(_declaring(task_name, directory)))


def _declaring(task_name: str, directory: Path) -> Iterator[str]:
    needle = task_name.encode()
    for number, file in enumerate(_sources(directory)):
        if number >= _MOST_FILES:
            return
        with contextlib.suppress(OSError, SyntaxError, ValueError, RecursionError):
            content = file.read_bytes()
            if needle in content and _declares(ast.parse(content), task_name):
                yield ".".join(file.relative_to(directory).with_suffix("").parts).removesuffix(".__init__")


def _sources(directory: Path) -> Iterator[Path]:
    for place, directories, names in os.walk(directory):
        directories[:] = sorted(name for name in directories if name.isidentifier() and name not in _NO_SOURCES)
        for name in sorted(names):
            file = Path(place, name)
            if file.suffix == ".py" and file.stem.isidentifier():
                yield file


def _declares(tree: ast.Module, task_name: str) -> bool:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            for decorator in node.decorator_list:
                if isinstance(decorator, ast.Call) and _name(decorator) == task_name:
                    return True
    return False


def _name(call: ast.Call) -> str | None:
    last = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    values = [keyword.value for keyword in call.keywords if keyword.arg == "name"]
    if last != "task" or not values or not isinstance(values[0], ast.Constant):
        return None
    return str(values[0].value)
