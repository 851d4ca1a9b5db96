"""One commit: message, metadata, parents and changed files."""

from __future__ import annotations

from dataclasses import dataclass

from starlette.requests import Request

from perago.console import links
from perago.console.changes import Changes, changes_of
from perago.console.commits import SHORT_ID, commit_link
from perago.console.links import Link, link
from perago.console.models import Models
from perago.console.provenance import MetadataRow, metadata_rows, workflow_links
from perago.console.text import Shown, block, line
from perago.console.times import Moment, moment


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
    changes: Changes
    objects: int
    files: str
    title: str
    crumbs: tuple[Link, ...]
    refresh_seconds: int = 0


def commit(models: Models, request: Request) -> CommitPage:
    """The commit that the address names; a branch or a short id will do."""
    repository = request.path_params["repository"]
    record = models.lakefs.get_commit(repository, request.path_params["commit"])
    found = record.commit
    return CommitPage(
        commit_id=line(found.id),
        message=block(found.message),
        committer=line(found.committer),
        time=moment(found.created * 1000),
        parents=tuple(commit_link(repository, parent) for parent in found.parents),
        attempt=workflow_links(models).of(found),
        metadata=metadata_rows(models, repository, found),
        changes=changes_of(models, repository, record, request),
        objects=len(record.tree),
        files=links.files(repository, found.id),
        title=f"Commit {found.id[:SHORT_ID]}",
        crumbs=(link("Repositories", links.REPOSITORIES), link(repository, links.repository(repository))),
    )
