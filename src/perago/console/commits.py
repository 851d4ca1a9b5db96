"""Commits: in lists, and one with its changed files and what perago wrote into it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any

from starlette.requests import Request

from perago.attempt.history import PAGE, NotOneLine, newest_of
from perago.console import text as links
from perago.console.source import Change, NoSuchPage, Source
from perago.console.text import (
    Link,
    Listed,
    Moment,
    Shown,
    block,
    line,
    link,
    listed,
    moment,
    readable_json,
)
from perago.ports import Commit
from perago.taskdef.payload import commits_of
from perago.text import count, size
from perago.workspace.keys import is_reserved

SHORT_ID = 12
_PAGE_SIZE = 200
MOST = 1000
"""Files of a commit that are looked at where its page turns no pages."""
_PARTED = 10
_KINDS = ("added", "changed", "removed")

_WORKFLOW = "perago.workflow_id"
_TASK = "perago.task_id"
_COMMITS = frozenset({"perago.input_ref", "perago.expected_head", "perago.adopts", "perago.supersedes"})
_BRANCHES = frozenset({"perago.branch", "perago.staging_branch"})
_TASKS = frozenset({_TASK, "perago.retried_task_id"})
_RESULT = "perago.result"


@dataclass(frozen=True, slots=True)
class CommitRow:
    """One commit in a list. `publisher` is the task that published it, where perago did, `attempt` its attempt."""

    commit: Link
    message: Shown
    committer: Shown
    time: Moment | None
    publisher: Shown
    attempt: Link | None


@dataclass(frozen=True, slots=True)
class ChangeRow:
    """One changed file: `kind` is added, changed or removed; the sizes are empty on the side that has no file."""

    file: Link
    kind: str
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class MetadataRow:
    """One entry of a commit's metadata. `url` is None where it names nothing that is here."""

    key: Shown
    value: Shown
    url: str | None
    is_block: bool


@dataclass(frozen=True, slots=True)
class CommitPage:
    """One commit. `attempt` is what published it, where perago did."""

    commit_id: Shown
    message: Shown
    committer: Shown
    time: Moment | None
    parents: tuple[Link, ...]
    attempt: Link | None
    metadata: tuple[MetadataRow, ...]
    summary: str
    changes: Listed[ChangeRow]
    objects: str
    files: str
    title: str
    crumbs: tuple[Link, ...]
    live: bool = False


def commit(source: Source, request: Request) -> CommitPage:
    """The commit that the address names; a branch or a short id will do."""
    repository = request.path_params["repository"]
    found = source.lakefs.commit(repository, request.path_params["commit"])
    changes = changed(source, repository, found)
    page = listed(
        lambda after: source.lakefs.changes(repository, found, after, _PAGE_SIZE),
        partial(change_row, repository, found),
        request,
        "after",
    )
    return CommitPage(
        commit_id=line(found.id),
        message=block(found.message),
        committer=line(found.committer),
        time=moment(found.created * 1000),
        parents=tuple(commit_link(repository, parent) for parent in found.parents),
        attempt=_attempt(source, found),
        metadata=tuple(_metadata_row(source, repository, found.metadata, key) for key in sorted(found.metadata)),
        summary=changes.summary,
        changes=page,
        objects=_count(source.lakefs.count(repository, found.id, MOST + 1)),
        files=links.files(repository, found.id),
        title=f"Commit {found.id[:SHORT_ID]}",
        crumbs=(link("Repositories", links.REPOSITORIES), link(repository, links.repository(repository))),
    )


def commit_link(repository: str, commit_id: str) -> Link:
    """A commit by its short id."""
    return link(commit_id[:SHORT_ID], links.commit(repository, commit_id))


def commit_row(source: Source, repository: str, found: Commit) -> CommitRow:
    """The commit as one line: the first line of its message only."""
    return CommitRow(
        commit=commit_link(repository, found.id),
        message=line(found.message.partition("\n")[0]),
        committer=line(found.committer),
        time=moment(found.created * 1000),
        publisher=line(found.metadata.get("perago.task_name", "")),
        attempt=_attempt(source, found),
    )


def change_row(repository: str, found: Commit | None, change: Change) -> ChangeRow:
    """One changed file of a commit (a removed one leads to its last content), or of none."""
    url = None
    if found is not None:
        url = links.file(repository, found.parents[0] if change.after is None else found.id, change.path)
    before, after = ("" if number is None else size(number) for number in (change.before, change.after))
    return ChangeRow(link(change.path, url), change.kind, before, after)


@dataclass(frozen=True, slots=True)
class Changed:
    """What a commit changed, as far as it is looked at, without what perago keeps there for itself."""

    changes: tuple[Change, ...]
    summary: str
    is_cut: bool


def changed(source: Source, repository: str, found: Commit, *, reserved: bool = True) -> Changed:
    """The first changes of a commit, at most `MOST`; with or without the files of `_lakefs_actions/`."""
    first, following = source.lakefs.changes(repository, found, "", MOST)
    changes = tuple(each for each in first if reserved or not is_reserved(each.path))
    summary = summary_of(Counter(each.kind for each in changes))
    return Changed(changes, f"more than {summary} among the first" if following else summary, following is not None)


def _count(objects: int) -> str:
    return f"more than {MOST:,} files" if objects > MOST else count(objects, "file")


def summary_of(counts: Mapping[str, int]) -> str:
    """How many files of each kind were changed."""
    total = sum(counts.values())
    parts = [f"{counts[kind]:,} {kind}" for kind in _KINDS if counts.get(kind)]
    return f"{count(total, 'file')}: {', '.join(parts)}" if total else "no file changed"


def publications(
    source: Source, places: Sequence[tuple[str, str, str]], limit: int = 1000
) -> Mapping[str, list[tuple[str, Commit]]]:
    """The commits that name an attempt, with their repositories, by task id, oldest first.

    They are found on the branches themselves, so that a publication shows even where the report about it never
    reached Conductor. `places` are repository, branch, and the commit before which nothing is looked for; of each
    branch at most `limit` commits are looked at.
    """
    found: dict[str, list[tuple[str, Commit]]] = {}
    for repository, branch, ref in set(places):
        for number, each in enumerate(source.lakefs.first_parents(repository, branch)):
            if each.id == ref or number >= limit:
                break
            known = found.setdefault(each.metadata.get(_TASK, ""), [])
            if (repository, each) not in known:
                known.insert(0, (repository, each))
    return found


def _attempt(source: Source, found: Commit) -> Link | None:
    """The attempt that published a commit, or None for a commit that perago did not publish."""
    workflow_id, task_id = found.metadata.get(_WORKFLOW), found.metadata.get(_TASK)
    if workflow_id is None or task_id is None:
        return None
    return link(found.metadata.get("perago.reference_name", "step"), _attempt_url(source, workflow_id, task_id))


def _attempt_url(source: Source, workflow_id: str, task_id: str | None = None) -> str | None:
    return links.workflow(workflow_id, task_id) if source.conductor.knows(workflow_id) else None


def _metadata_row(source: Source, repository: str, metadata: Mapping[str, str], key: str) -> MetadataRow:
    value = metadata[key]
    if key == _RESULT:
        return MetadataRow(line(key), _json(value), None, is_block=True)
    url = _address(source, repository, metadata, key) if value else None
    is_block = url is None and "\n" in value
    return MetadataRow(line(key), block(value) if is_block else line(value), url, is_block)


def _json(text: str) -> Shown:
    try:
        return readable_json(json.loads(text))
    except (ValueError, RecursionError):
        return block(text)


def _address(source: Source, repository: str, metadata: Mapping[str, str], key: str) -> str | None:
    value = metadata[key]
    if key == _WORKFLOW:
        return _attempt_url(source, value)
    if key in _TASKS:
        return _attempt_url(source, metadata.get(_WORKFLOW, ""), value)
    if key == "perago.task_name":
        return links.task_type(value) if source.conductor.task_definition(value) else None
    if key in _COMMITS and exists(lambda: source.lakefs.commit(repository, value)):
        return links.commit(repository, value)
    if key in _BRANCHES and exists(lambda: source.lakefs.branch(repository, value)):
        return links.branch(repository, value)
    return None


def exists(look: Callable[[], object]) -> bool:
    """Whether `look` finds something."""
    try:
        look()
    except NoSuchPage:
        return False
    return True


def continued(ref: Any, repository: Any, source: Source) -> Any:
    """The commit that a `workspace.ref` names: of several the one that continues the others. None: there is none."""
    if isinstance(ref, str) or not isinstance(repository, str):
        return ref
    commits = commits_of(ref, repository, [])
    try:
        return commits and newest_of(
            commits, lambda commit: tuple(islice(source.lakefs.first_parents(repository, commit), PAGE))
        )
    except (NotOneLine, NoSuchPage):
        return None


@dataclass(frozen=True, slots=True)
class Parted:
    """A workspace whose commits are not one line of history, so that no task can continue all of them."""

    branch: Link
    commits: tuple[Link, ...]
    more: int


def parted(payload: Any, source: Source) -> Parted | None:
    """The commits of an input that gives several, none of which continues the others, as far as it can be seen here."""
    workspace = payload.get("workspace") if isinstance(payload, Mapping) else None
    if not isinstance(workspace, Mapping) or isinstance(workspace.get("ref"), str):
        return None
    repository, branch = workspace.get("repository"), workspace.get("branch")
    if not isinstance(repository, str) or not isinstance(branch, str):
        return None
    commits = commits_of(workspace.get("ref"), repository, [])
    url = links.branch(repository, branch) if exists(lambda: source.lakefs.branch(repository, branch)) else None
    shown = tuple(_known_commit(source, repository, each) for each in commits[:_PARTED])
    return Parted(link(f"{repository}/{branch}", url), shown, len(commits) - len(shown)) if shown else None


def _known_commit(source: Source, repository: str, commit_id: str) -> Link:
    is_here = exists(lambda: source.lakefs.commit(repository, commit_id))
    return commit_link(repository, commit_id) if is_here else link(commit_id[:SHORT_ID])
