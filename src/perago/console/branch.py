"""One branch: its history along the first parents, and what is not committed yet."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

from starlette.requests import Request

from perago.console import links
from perago.console.changes import ChangeRow, uncommitted_rows
from perago.console.commits import CommitRow, commit_row
from perago.console.links import Link, link
from perago.console.models import Models
from perago.console.provenance import workflow_links
from perago.console.text import Shown, line

_PAGE_SIZE = 50


@dataclass(frozen=True, slots=True)
class HistoryRow:
    """One commit of the history and, where perago published it, the attempt that did."""

    commit: CommitRow
    attempt: Link | None


@dataclass(frozen=True, slots=True)
class BranchPage:
    """One branch. `older` leads to the commits before these; None: these are the first."""

    name: Shown
    staging: bool
    files: str
    head: CommitRow
    commits: tuple[HistoryRow, ...]
    newest: str | None
    older: str | None
    uncommitted: tuple[ChangeRow, ...]
    more_uncommitted: bool
    title: str
    crumbs: tuple[Link, ...]
    refresh_seconds: int = 3


def branch(models: Models, request: Request) -> BranchPage:
    """The branch, newest commit first; `?from=<commit id>` begins with an older one."""
    repository, name = request.path_params["repository"], request.path_params["branch"]
    info = models.lakefs.get_branch(repository, name)
    start = request.query_params.get("from")
    records = list(itertools.islice(models.lakefs.first_parents(repository, start or info.commit_id), _PAGE_SIZE + 1))
    attempts = workflow_links(models)
    uncommitted, more = uncommitted_rows(models, repository, name)
    address = links.branch(repository, name)
    older = records[_PAGE_SIZE].commit.id if len(records) > _PAGE_SIZE else None
    return BranchPage(
        name=line(name),
        staging=info.hidden,
        files=links.files(repository, info.commit_id),
        head=commit_row(repository, models.lakefs.get_commit(repository, info.commit_id).commit),
        commits=tuple(
            HistoryRow(commit_row(repository, record.commit), attempts.of(record.commit))
            for record in records[:_PAGE_SIZE]
        ),
        newest=address if start else None,
        older=links.with_query(address, **{"from": older}) if older else None,
        uncommitted=uncommitted,
        more_uncommitted=more,
        title=f"Branch {line(name).text}",
        crumbs=(link("Repositories", links.REPOSITORIES), link(repository, links.repository(repository))),
    )
