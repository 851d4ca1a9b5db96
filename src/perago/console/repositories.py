"""`/repositories` and one repository: branches, staging branches marked."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from starlette.requests import Request

from perago.console import links
from perago.console.commits import CommitRow, commit_row
from perago.console.links import Link, link
from perago.console.models import Models
from perago.console.paging import Paged, paged
from perago.console.text import Shown, line
from perago.console.times import Moment, moment
from perago.embedded.lakefs.errors import Missing
from perago.embedded.lakefs.values import BranchInfo, Page, RepositoryInfo, TagInfo

T = TypeVar("T")

_PAGE_SIZE = 50
_AT_ONCE = 1000


@dataclass(frozen=True, slots=True)
class RepositoryRow:
    """One repository and the newest commit of its default branch."""

    repository: Link
    branch: Link
    head: CommitRow | None
    """None: a bare repository, which has no branch yet."""
    created: Moment | None


@dataclass(frozen=True, slots=True)
class Repositories:
    """All repositories."""

    repositories: Paged[RepositoryRow]
    title: str = "Repositories"
    crumbs: tuple[Link, ...] = ()
    refresh_seconds: int = 3


@dataclass(frozen=True, slots=True)
class BranchRow:
    """One branch and its newest commit. `kind` says what is special about it."""

    branch: Link
    kind: str
    uncommitted: bool
    head: CommitRow


@dataclass(frozen=True, slots=True)
class TagRow:
    """One tag and its commit."""

    name: Shown
    target: CommitRow


@dataclass(frozen=True, slots=True)
class RepositoryPage:
    """One repository."""

    name: Shown
    namespace: Shown
    created: Moment | None
    branches: Paged[BranchRow]
    tags: Paged[TagRow]
    title: str
    crumbs: tuple[Link, ...]
    refresh_seconds: int = 3


def repository_rows(models: Models) -> tuple[RepositoryRow, ...]:
    """All repositories by name."""
    return tuple(_repository_row(models, info) for info in _all_repositories(models))


def repositories(models: Models, request: Request) -> Repositories:
    """The list."""
    return Repositories(paged(repository_rows(models), request, size=_PAGE_SIZE))


def repository(models: Models, request: Request) -> RepositoryPage:
    """One repository; the default branch stands first, staging branches last."""
    info = models.lakefs.get_repository(request.path_params["repository"])
    branches = paged(sorted(_all_branches(models, info.name), key=partial(_rank, info)), request, size=_PAGE_SIZE)
    tags = paged(list(_all_tags(models, info.name)), request, size=_PAGE_SIZE, parameter="tags")
    return RepositoryPage(
        name=line(info.name),
        namespace=line(info.storage_namespace),
        created=moment(info.created * 1000),
        branches=branches.showing([_branch_row(models, info, branch) for branch in branches.items]),
        tags=tags.showing([_tag_row(models, info, tag) for tag in tags.items]),
        title=f"Repository {info.name}",
        crumbs=(link("Repositories", links.REPOSITORIES),),
    )


def _all_repositories(models: Models) -> Iterator[RepositoryInfo]:
    return _all_of(lambda after: models.lakefs.list_repositories(after=after, amount=_AT_ONCE))


def _all_branches(models: Models, repository_name: str) -> Iterator[BranchInfo]:
    return _all_of(
        lambda after: models.lakefs.list_branches(repository_name, after=after, amount=_AT_ONCE, show_hidden=True)
    )


def _all_tags(models: Models, repository_name: str) -> Iterator[TagInfo]:
    return _all_of(lambda after: models.lakefs.list_tags(repository_name, after=after, amount=_AT_ONCE))


def _all_of(page_after: Callable[[str], Page[T]]) -> Iterator[T]:
    after, more = "", True
    while more:
        page = page_after(after)
        yield from page.results
        after, more = page.next_offset, page.has_more


def _rank(info: RepositoryInfo, branch: BranchInfo) -> tuple[bool, bool, str]:
    return (branch.name != info.default_branch, branch.hidden, branch.name)


def _repository_row(models: Models, info: RepositoryInfo) -> RepositoryRow:
    head = None
    with contextlib.suppress(Missing):
        head = commit_row(info.name, models.lakefs.get_commit(info.name, info.default_branch).commit)
    return RepositoryRow(
        repository=link(info.name, links.repository(info.name)),
        branch=link(info.default_branch, links.branch(info.name, info.default_branch) if head else None),
        head=head,
        created=moment(info.created * 1000),
    )


def _branch_row(models: Models, info: RepositoryInfo, branch: BranchInfo) -> BranchRow:
    return BranchRow(
        branch=link(branch.name, links.branch(info.name, branch.name)),
        kind="default" if branch.name == info.default_branch else "staging" if branch.hidden else "",
        uncommitted=bool(models.lakefs.diff_branch(info.name, branch.name, amount=1).results),
        head=commit_row(info.name, models.lakefs.get_commit(info.name, branch.commit_id).commit),
    )


def _tag_row(models: Models, info: RepositoryInfo, tag: TagInfo) -> TagRow:
    return TagRow(line(tag.name), commit_row(info.name, models.lakefs.get_commit(info.name, tag.commit_id).commit))
