"""Commits in lists, shared by several pages."""

from __future__ import annotations

from dataclasses import dataclass

from perago.console import links
from perago.console.links import Link, link
from perago.console.text import Shown, line
from perago.console.times import Moment, moment
from perago.ports import Commit

SHORT_ID = 12


@dataclass(frozen=True, slots=True)
class CommitRow:
    """One commit. `publisher` is the task that published it, where perago did."""

    commit: Link
    message: Shown
    committer: Shown
    time: Moment | None
    publisher: Shown


def commit_link(repository: str, commit_id: str) -> Link:
    """A commit by its short id."""
    return link(commit_id[:SHORT_ID], links.commit(repository, commit_id))


def commit_row(repository: str, commit: Commit) -> CommitRow:
    """The commit as one line: the first line of its message only."""
    return CommitRow(
        commit=commit_link(repository, commit.id),
        message=line(commit.message.partition("\n")[0]),
        committer=line(commit.committer),
        time=moment(commit.created * 1000),
        publisher=line(commit.metadata.get("perago.task_name", "")),
    )
