"""The line of commits: what the tasks of a workflow published, in the order of the branch's history."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

from perago.console import links
from perago.console.commits import ChangeRow, change_row, changed, commit_link
from perago.console.links import Link, link
from perago.console.source import Json, Source
from perago.console.text import Moment, Shown, line, moment
from perago.ports import Commit

_MOST_READ = 1000
"""Commits of a branch that are looked at, from its head."""
_MOST_SHOWN = 60
_FILES = 5
"""Changed files that are shown with a commit; its page shows all."""


@dataclass(frozen=True, slots=True)
class LineCommit:
    """One commit. Of another workflow's or a person's, `name` is who published it, and its files are not listed."""

    own: bool
    name: Link
    commit: Link
    words: Shown
    """The task type of an own publication, else the message."""
    time: Moment | None
    summary: str
    files: tuple[ChangeRow, ...]
    more: int


@dataclass(frozen=True, slots=True)
class CommitLine:
    """What happened on one branch from the first commit that a task read to the last one that a task published, oldest
    first. `earlier` are left out; `later` says that the branch has newer commits."""

    branch: Link
    start: Link | None
    """The commit below all; None where it was not found."""
    commits: tuple[LineCommit, ...]
    earlier: int
    later: bool


def lines_of(
    source: Source,
    workflow_id: str,
    tasks: Sequence[Json],
    places: Sequence[tuple[str, str, str]],
    url_of: Callable[[Json], str],
) -> tuple[tuple[CommitLine, ...], Mapping[str, tuple[Link, ...]]]:
    """The lines of a workflow, and the commits of each attempt, by its task id.

    Args:
        source: Where the commits are read.
        workflow_id: The workflow.
        tasks: All attempts of it.
        places: Repository, branch and input commit of those that have a workspace.
        url_of: Where an attempt is shown.
    """
    reader = _Reader(source, workflow_id, tasks, url_of)
    begun: dict[tuple[str, str], set[str]] = {}
    for repository, branch, ref in places:
        begun.setdefault((repository, branch), set()).add(ref)
    lines = [reader.line(repository, branch, refs) for (repository, branch), refs in begun.items()]
    return tuple(found for found in lines if found is not None), reader.published


class _Reader:
    def __init__(self, source: Source, workflow_id: str, tasks: Sequence[Json], url_of: Callable[[Json], str]) -> None:
        self._source = source
        self._workflow_id = workflow_id
        self._tasks = {task["taskId"]: task for task in tasks}
        self._steps = {task["subWorkflowId"]: task for task in tasks if task.get("subWorkflowId")}
        """What runs a sub-workflow, by the id of that."""
        self._url_of = url_of
        self.published: dict[str, tuple[Link, ...]] = {}

    def line(self, repository: str, branch: str, refs: set[str]) -> CommitLine | None:
        """The line of one branch; None if no task of the workflow published to it."""
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
            self._note(repository, each)
        return CommitLine(
            branch=link(f"{repository}/{branch}", links.branch(repository, branch)),
            start=start,
            commits=tuple(self._commit(repository, each) for each in reversed(shown)),
            earlier=len(between) - len(shown),
            later=own[0] > 0,
        )

    def _owner(self, found: Commit) -> Json | str | None:
        """The workflow's own id, its step that ran the publishing sub-workflow, or None for a commit of others."""
        publisher = found.metadata.get("perago.workflow_id", "")
        return publisher if publisher == self._workflow_id else self._steps.get(publisher)

    def _note(self, repository: str, found: Commit) -> None:
        owner = self._owner(found)
        task_id = owner["taskId"] if isinstance(owner, Mapping) else found.metadata.get("perago.task_id", "")
        if owner is not None:
            self.published[task_id] = (*self.published.get(task_id, ()), commit_link(repository, found.id))

    def _commit(self, repository: str, found: Commit) -> LineCommit:
        own = self._owner(found) is not None
        all_of_it = changed(self._source, repository, found, reserved=False)
        files = [change_row(repository, found, each) for each in all_of_it.changes[:_FILES]] if own else []
        return LineCommit(
            own=own,
            name=self._name(found),
            commit=commit_link(repository, found.id),
            words=line(found.metadata.get("perago.task_name", "") if own else found.message.partition("\n")[0]),
            time=moment(found.created * 1000),
            summary=all_of_it.summary,
            files=tuple(files),
            more=len(all_of_it.changes) - len(files) if own else 0,
        )

    def _name(self, found: Commit) -> Link:
        """The step that published the commit, or the committer of a commit of others."""
        owner, task_id = self._owner(found), found.metadata.get("perago.task_id", "")
        reference = found.metadata.get("perago.reference_name", "step")
        if owner is None:
            return link(found.committer or "unknown")
        if isinstance(owner, Mapping):
            return link(f"{owner['referenceTaskName']} / {reference}", self._url_of(owner))
        task = self._tasks.get(task_id)
        return link(reference, None if task is None else self._url_of(task))
