"""Repositories, their branches, and the trees of commits: directories, files as text, and as downloads."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import partial
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from perago.attempt.publication import is_staging_branch
from perago.console import text
from perago.console.commits import SHORT_ID, ChangeRow, CommitRow, change_row, commit_row
from perago.console.preview import Preview, image_of, preview_of
from perago.console.source import File, NoSuchPage, Ref, Repository, Source
from perago.console.text import Link, Listed, Moment, Shown, line, link, listed, moment
from perago.ports import Forbidden
from perago.text import count, size

_PAGE_SIZE = 50
_FILES = 200


@dataclass(frozen=True, slots=True)
class RepositoryRow:
    """One repository and the newest commit of its default branch; None: a bare one, or one that may not be
    read."""

    repository: Link
    branch: Link
    head: CommitRow | None
    created: Moment | None


@dataclass(frozen=True, slots=True)
class Repositories:
    """All repositories."""

    repositories: Listed[RepositoryRow]
    title: str = "Repositories"
    crumbs: tuple[Link, ...] = ()
    live: bool = True


@dataclass(frozen=True, slots=True)
class BranchRow:
    """One branch and its newest commit."""

    branch: Link
    is_default: bool
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
    default: Link
    branches: Listed[BranchRow]
    staging: Listed[BranchRow]
    """Branches that hold the changes of one delivery until they are published."""
    tags: Listed[TagRow]
    title: str
    crumbs: tuple[Link, ...]
    live: bool = True


@dataclass(frozen=True, slots=True)
class BranchPage:
    """One branch. `older` leads to the commits before these; None: these are the first."""

    name: Shown
    staging: bool
    files: str
    commits: tuple[CommitRow, ...]
    newest: str | None
    older: str | None
    uncommitted: tuple[ChangeRow, ...]
    more_uncommitted: bool
    title: str
    crumbs: tuple[Link, ...]
    live: bool = True


@dataclass(frozen=True, slots=True)
class FileRow:
    """A file, or a directory (then without size and time)."""

    name: Link
    size: str
    time: Moment | None


@dataclass(frozen=True, slots=True)
class Directory:
    """One directory of a commit's tree."""

    path: Shown
    rows: Listed[FileRow]
    title: str
    crumbs: tuple[Link, ...]
    live: bool = False


@dataclass(frozen=True, slots=True)
class FilePage:
    """One file. `size` is empty where `bytes` says it as well."""

    path: Shown
    size: str
    bytes: str
    checksum: Shown
    content_type: Shown
    time: Moment | None
    metadata: tuple[tuple[Shown, Shown], ...]
    preview: Preview
    download: str
    title: str
    crumbs: tuple[Link, ...]
    live: bool = False


# ------------------------------------------------------------------ repositories


def repositories(source: Source, request: Request) -> Repositories:
    """The list."""
    rows = listed(
        lambda after: source.lakefs.repositories(after, _PAGE_SIZE), partial(repository_row, source), request, "after"
    )
    return Repositories(rows)


def repository(source: Source, request: Request) -> RepositoryPage:
    """One repository; `?branches=`, `?staging=` and `?tags=` continue what is long."""
    found = source.lakefs.repository(request.path_params["repository"])

    def branches(parameter: str) -> Listed[BranchRow]:
        staging = parameter == "staging"
        return listed(
            lambda after: source.lakefs.branches(found.name, after, _PAGE_SIZE, staging=staging),
            partial(_branch_row, source, found),
            request,
            parameter,
        )

    return RepositoryPage(
        name=line(found.name),
        namespace=line(found.namespace),
        created=moment(found.created * 1000),
        default=link(found.default_branch, text.branch(found.name, found.default_branch)),
        branches=branches("branches"),
        staging=branches("staging"),
        tags=listed(
            lambda after: source.lakefs.tags(found.name, after, _PAGE_SIZE),
            lambda tag: TagRow(line(tag.name), _row_of(source, found.name, tag.commit_id)),
            request,
            "tags",
        ),
        title=f"Repository {found.name}",
        crumbs=(link("Repositories", text.REPOSITORIES),),
    )


def branch(source: Source, request: Request) -> BranchPage:
    """The branch, newest commit first; `?from=<commit id>` begins with an older one."""
    repository, name = request.path_params["repository"], request.path_params["branch"]
    found = source.lakefs.branch(repository, name)
    start = request.query_params.get("from")
    history = source.lakefs.first_parents(repository, start or found.commit_id)
    commits = list(itertools.islice(history, _PAGE_SIZE + 1))
    uncommitted, more = source.lakefs.uncommitted(repository, name, _FILES)
    address = text.branch(repository, name)
    older = commits[_PAGE_SIZE].id if len(commits) > _PAGE_SIZE else None
    return BranchPage(
        name=line(name),
        staging=is_staging_branch(name),
        files=text.files(repository, found.commit_id),
        commits=tuple(commit_row(source, repository, each) for each in commits[:_PAGE_SIZE]),
        newest=address if start else None,
        older=text.with_query(address, **{"from": older}) if older else None,
        uncommitted=tuple(change_row(repository, None, change) for change in uncommitted),
        more_uncommitted=more is not None,
        title=f"Branch {line(name).text}",
        crumbs=(link("Repositories", text.REPOSITORIES), link(repository, text.repository(repository))),
    )


def _row_of(source: Source, repository: str, ref: str) -> CommitRow:
    return commit_row(source, repository, source.lakefs.commit(repository, ref))


def repository_row(source: Source, found: Repository) -> RepositoryRow:
    """One repository with the newest commit of its default branch."""
    try:
        head = _row_of(source, found.name, found.default_branch)
    except (NoSuchPage, Forbidden):  # one of many that may not be read takes nothing from the others
        head = None
    return RepositoryRow(
        repository=link(found.name, text.repository(found.name)),
        branch=link(found.default_branch, text.branch(found.name, found.default_branch) if head else None),
        head=head,
        created=moment(found.created * 1000),
    )


def _branch_row(source: Source, found: Repository, branch: Ref) -> BranchRow:
    return BranchRow(
        branch=link(branch.name, text.branch(found.name, branch.name)),
        is_default=branch.name == found.default_branch,
        uncommitted=bool(source.lakefs.uncommitted(found.name, branch.name, 1)[0]),
        head=_row_of(source, found.name, branch.commit_id),
    )


# ------------------------------------------------------------------------- files


def directory(source: Source, request: Request) -> Directory:
    """The directory `?prefix=`; `?after=` continues a long one."""
    repository, commit_id = _commit(source, request)
    prefix = request.query_params.get("prefix", "")
    rows = listed(
        lambda after: source.lakefs.listing(repository, commit_id, prefix, after, _FILES),
        partial(_file_row, repository, commit_id, prefix),
        request,
        "after",
    )
    return Directory(
        path=line(prefix or "/"),
        rows=rows,
        title=f"Files {line(prefix).text}" if prefix else "Files",
        crumbs=_crumbs(repository, commit_id, prefix.removesuffix("/")),
    )


def file(source: Source, request: Request) -> FilePage:
    """The file `?path=`."""
    repository, commit_id = _commit(source, request)
    found = source.lakefs.file(repository, commit_id, request.query_params.get("path", ""))
    return FilePage(
        path=line(found.path),
        size=size(found.size) if found.size >= 1024 else "",
        bytes=count(found.size, "byte"),
        checksum=line(found.checksum),
        content_type=line(found.content_type),
        time=moment(found.mtime * 1000),
        metadata=tuple((line(key), line(value)) for key, value in sorted(found.metadata.items())),
        preview=preview_of(source, repository, commit_id, found),
        download=text.download(repository, commit_id, found.path),
        title=f"File {line(found.path).text}",
        crumbs=_crumbs(repository, commit_id, found.path, with_root=True),
    )


def download(source: Source, request: Request) -> Response:
    """The bytes of the file `?path=`. They are saved, never shown: no type of theirs is passed on."""
    repository, commit_id = _commit(source, request)
    found = source.lakefs.file(repository, commit_id, request.query_params.get("path", ""))
    name = quote(found.path.rstrip("/").rpartition("/")[2] or "file", safe="", errors="replace")
    headers = {"content-disposition": f"attachment; filename*=UTF-8''{name}", "content-length": str(found.size)}
    content = source.lakefs.read(repository, commit_id, found.path)
    return StreamingResponse(content, media_type="application/octet-stream", headers=headers)


IMAGE_HEADERS = {"content-security-policy": "default-src 'none'; sandbox"}
"""In place of those of the pages: whatever the bytes are taken for, nothing of them runs."""


def image(source: Source, request: Request) -> Response:
    """The bytes of the image `?path=`, with the type that they have by themselves.

    Raises:
        NoSuchPage: it is none that is shown.
    """
    repository, commit_id = _commit(source, request)
    found = source.lakefs.file(repository, commit_id, request.query_params.get("path", ""))
    data, media_type = image_of(source, repository, commit_id, found)
    return Response(data, media_type=media_type, headers=IMAGE_HEADERS)


def _commit(source: Source, request: Request) -> tuple[str, str]:
    repository = request.path_params["repository"]
    return repository, source.lakefs.commit(repository, request.path_params["commit"]).id


def _file_row(repository: str, commit_id: str, prefix: str, item: File | str) -> FileRow:
    if isinstance(item, str):
        return FileRow(link(item[len(prefix) :], text.files(repository, commit_id, item)), "", None)
    name = link(item.path[len(prefix) :] or item.path, text.file(repository, commit_id, item.path))
    return FileRow(name, size(item.size), moment(item.mtime * 1000))


def _crumbs(repository: str, commit_id: str, path: str, *, with_root: bool = False) -> tuple[Link, ...]:
    """Repository, commit, and the directories above `path`."""
    parts = path.split("/")[:-1]
    above = ["/".join(parts[: index + 1]) + "/" for index in range(len(parts))]
    root = [link("files", text.files(repository, commit_id))] if path or with_root else []
    return (
        link("Repositories", text.REPOSITORIES),
        link(repository, text.repository(repository)),
        link(commit_id[:SHORT_ID], text.commit(repository, commit_id)),
        *root,
        *(link(part, text.files(repository, commit_id, prefix)) for part, prefix in zip(parts, above, strict=True)),
    )
