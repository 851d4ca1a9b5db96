"""Repositories, their branches and commits, the trees of commits, and the changed lines of files."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from difflib import SequenceMatcher
from functools import partial
from itertools import islice
from typing import Any, TypeVar
from urllib.parse import quote, unquote

from starlette.requests import Request
from starlette.responses import Response

from perago.attempt import publication
from perago.attempt.joins import PAGE, NotOneLine, newest_of
from perago.attempt.publication import is_staging_branch
from perago.console import links
from perago.console.preview import TEXT_BYTES, image_of, preview_of, read_text
from perago.console.source import Change, File, NoSuchPage, Ref, Repository, Source
from perago.console.text import Link, Listed, PageView, RowView, block, line, link, listed, moment, readable_json
from perago.ports import Commit, Forbidden
from perago.taskdef.payload import commits_of
from perago.text import count, short, size
from perago.workspace.keys import is_reserved

T = TypeVar("T")

_CHANGES = 200
MAX_READ = 1000
"""Files of a commit, or commits of a branch, that are read for a page without paging."""
_MAX_DIVERGENT = 10
_KINDS = ("added", "changed", "removed")

_COMMITS = frozenset({publication.INPUT_REF, publication.EXPECTED_HEAD, publication.ADOPTS, publication.SUPERSEDES})
_BRANCHES = frozenset({publication.BRANCH, publication.STAGING_BRANCH})
_TASKS = frozenset({publication.TASK_ID, publication.RETRIED_TASK_ID})
_PAGE_SIZE = 50
_FILES = 200
IMAGE_HEADERS = {"content-security-policy": "default-src 'none'; sandbox"}
"""Replaces the headers of pages: nothing in these bytes can run, whatever the browser takes them for."""


def commit(source: Source, request: Request) -> PageView:
    """Show the commit that the address names by its id, the beginning of its id, or a branch."""
    repository = request.path_params["repository"]
    commit = source.lakefs.commit(repository, request.path_params["commit"])
    _, summary = changed(source, repository, commit)
    objects = source.lakefs.count(repository, commit.id, MAX_READ + 1)
    row = partial(change_row, repository, commit)
    page = listed(lambda after: source.lakefs.changes(repository, commit, after, _CHANGES), row, request)
    return PageView(
        f"Commit {short(commit.id)}",
        crumbs=(link("Repositories", links.REPOSITORIES), link(repository, links.repository(repository))),
        repository=repository,
        commit=commit,
        message=block(commit.message),
        attempt=_attempt(commit),  # what published it, where perago did
        metadata=tuple(_metadata_row(source, repository, commit.metadata, key) for key in sorted(commit.metadata)),
        summary=summary,
        changes=page,
        objects=f"more than {MAX_READ:,} files" if objects > MAX_READ else count(objects, "file"),
        files=links.files(repository, commit.id),
    )


def commit_link(repository: str, commit_id: str) -> Link:
    """Return a commit by its short id."""
    return link(short(commit_id), links.commit(repository, commit_id))


def change_row(repository: str, commit: Commit | None, change: Change) -> RowView:
    """Return one changed file. With a commit, it links to the file, or to the last content of a removed file."""
    url = None
    if commit is not None:
        url = links.file(repository, commit.parents[0] if change.after is None else commit.id, change.path)
    before, after = ("" if number is None else size(number) for number in (change.before, change.after))
    diff = links.diff(repository, commit.id, change.path) if commit is not None and change.kind == "changed" else None
    return RowView(file=link(change.path, url), kind=change.kind, before=before, after=after, diff=diff)


def changed(source: Source, repository: str, commit: Commit, *, reserved: bool = True) -> tuple[Sequence[Change], str]:
    """Return the first changes of a commit, at most `MAX_READ`, and the number of each kind.

    `reserved` includes the files of `_lakefs_actions/`."""
    first, following = source.lakefs.changes(repository, commit, "", MAX_READ)
    changes = tuple(change for change in first if reserved or not is_reserved(change.path))
    summary = summary_of(Counter(change.kind for change in changes))
    return changes, f"more than {summary} among the first" if following else summary


def summary_of(counts: Mapping[str, int]) -> str:
    """Count the changed files of each kind."""
    total = sum(counts.values())
    parts = [f"{counts[kind]:,} {kind}" for kind in _KINDS if counts.get(kind)]
    return f"{count(total, 'file')}: {', '.join(parts)}" if total else "no file changed"


def publications(source: Source, places: Sequence[tuple[str, str, str]]) -> Mapping[str, list[tuple[str, Commit]]]:
    """Return the commits that name an attempt, with their repositories, by task id, oldest first.

    They are read from the branches, so a publication is shown even if its report never reached Conductor. `places` has
    repository, branch, and the commit at which the search ends. At most `MAX_READ` commits of each branch are read.
    """
    commits: dict[str, list[tuple[str, Commit]]] = {}
    for repository, branch, ref in set(places):
        for number, commit in enumerate(source.lakefs.first_parents(repository, branch)):
            if commit.id == ref or number >= MAX_READ:
                break
            known = commits.setdefault(commit.metadata.get(publication.TASK_ID, ""), [])
            if (repository, commit) not in known:
                known.insert(0, (repository, commit))
    return commits


def _attempt(commit: Commit) -> Link | None:
    """Return the attempt that published a commit, or None for a commit that perago did not publish."""
    workflow_id, task_id = commit.metadata.get(publication.WORKFLOW_ID), commit.metadata.get(publication.TASK_ID)
    if workflow_id is None or task_id is None:
        return None
    return link(commit.metadata.get(publication.REFERENCE_NAME, "step"), links.workflow(workflow_id, task_id))


def _metadata_row(source: Source, repository: str, metadata: Mapping[str, str], key: str) -> RowView:
    value = metadata[key]
    if key == publication.RESULT:
        try:
            result = readable_json(json.loads(value))
        except (ValueError, RecursionError):
            result = block(value)
        return RowView(key=line(key), value=result, url=None, is_block=True)
    url = _address(source, repository, metadata, key) if value else None
    is_block = url is None and "\n" in value
    return RowView(key=line(key), value=block(value) if is_block else line(value), url=url, is_block=is_block)


def _address(source: Source, repository: str, metadata: Mapping[str, str], key: str) -> str | None:
    value = metadata[key]
    if key == publication.WORKFLOW_ID:
        return links.workflow(value)
    if key in _TASKS:
        workflow_id = metadata.get(publication.WORKFLOW_ID)
        return links.workflow(workflow_id, value) if workflow_id else None
    if key == publication.TASK_NAME:
        return links.task_type(value) if source.conductor.task_definition(value) else None
    if key in _COMMITS and exists(lambda: source.lakefs.commit(repository, value)):
        return links.commit(repository, value)
    if key in _BRANCHES and exists(lambda: source.lakefs.branch(repository, value)):
        return links.branch(repository, value)
    return None


def optional(read: Callable[[], T], also: type[Exception] = NoSuchPage) -> T | None:
    """Return the answer of `read`; None if it raises `NoSuchPage` or the error `also`."""
    try:
        return read()
    except (NoSuchPage, also):
        return None


def exists(read: Callable[[], object]) -> bool:
    """Whether `read` returns an object of lakeFS."""
    return optional(read) is not None


def continued(ref: Any, repository: Any, source: Source) -> Any:
    """Return the commit that a `workspace.ref` names: of several the one that continues the others, or None."""
    if isinstance(ref, str) or not isinstance(repository, str):
        return ref
    commits = commits_of(ref, repository, [])
    try:
        return commits and newest_of(
            commits, lambda commit: tuple(islice(source.lakefs.first_parents(repository, commit), PAGE))
        )
    except (NotOneLine, NoSuchPage):
        return None


def divergent_commits(payload: Any, source: Source) -> RowView | None:
    """Return the commits of an input if none of them continues the others, as far as this page knows."""
    workspace = payload.get("workspace") if isinstance(payload, Mapping) else None
    if not isinstance(workspace, Mapping) or isinstance(workspace.get("ref"), str):
        return None
    repository, branch = workspace.get("repository"), workspace.get("branch")
    if not isinstance(repository, str) or not isinstance(branch, str):
        return None
    commits = commits_of(workspace.get("ref"), repository, [])
    url = links.branch(repository, branch) if exists(lambda: source.lakefs.branch(repository, branch)) else None
    shown = tuple(
        commit_link(repository, commit_id)
        if exists(partial(source.lakefs.commit, repository, commit_id))
        else link(short(commit_id))
        for commit_id in commits[:_MAX_DIVERGENT]
    )
    if not shown:
        return None
    return RowView(branch=link(f"{repository}/{branch}", url), commits=shown, more=len(commits) - len(shown))


# ------------------------------------------------------------------ repositories


def repositories(source: Source, request: Request) -> PageView:
    """Show the list."""
    row = partial(repository_row, source)
    rows = listed(lambda after: source.lakefs.repositories(after, _PAGE_SIZE), row, request)
    return PageView("Repositories", live=True, repositories=rows)


def repository(source: Source, request: Request) -> PageView:
    """Show one repository. `?branches=`, `?staging=` and `?tags=` continue long lists."""
    repository = source.lakefs.repository(request.path_params["repository"])

    def branches(parameter: str, *, staging: bool) -> Listed[RowView]:
        read = partial(source.lakefs.branches, repository.id, limit=_PAGE_SIZE, staging=staging)
        return listed(read, partial(_branch_row, source, repository), request, parameter)

    return PageView(
        f"Repository {repository.id}",
        crumbs=(link("Repositories", links.REPOSITORIES),),
        live=True,
        repository=repository,
        branches=branches("branches", staging=False),
        staging=branches("staging", staging=True),  # they hold the changes of one delivery until they are published
        tags=listed(
            lambda after: source.lakefs.tags(repository.id, after, _PAGE_SIZE),
            lambda tag: (tag, source.lakefs.commit(repository.id, tag.commit_id)),
            request,
            "tags",
        ),
    )


def branch(source: Source, request: Request) -> PageView:
    """Show the branch, newest commit first; `?from=<commit id>` begins with an older one."""
    repository, name = request.path_params["repository"], request.path_params["branch"]
    branch = source.lakefs.branch(repository, name)
    start = request.query_params.get("from")
    history = source.lakefs.first_parents(repository, start or branch.commit_id)
    commits = list(islice(history, _PAGE_SIZE + 1))
    uncommitted, more = source.lakefs.uncommitted(repository, name, _FILES)
    address = links.branch(repository, name)
    older = commits[_PAGE_SIZE].id if len(commits) > _PAGE_SIZE else None
    return PageView(
        f"Branch {line(name).text}",
        crumbs=(link("Repositories", links.REPOSITORIES), link(repository, links.repository(repository))),
        live=True,
        name=line(name),
        staging=is_staging_branch(name),
        files=links.files(repository, branch.commit_id),
        repository=repository,
        commits=[
            (commit, _attempt(commit), commit.metadata.get(publication.TASK_NAME, ""))
            for commit in commits[:_PAGE_SIZE]
        ],
        newest=address if start else None,
        older=links.with_query(address, **{"from": older}) if older else None,  # None: these are the first
        uncommitted=tuple(change_row(repository, None, change) for change in uncommitted),
        more_uncommitted=more is not None,
    )


def repository_row(source: Source, repository: Repository) -> RowView:
    """Return one repository with the newest commit of its default branch."""
    read = partial(source.lakefs.commit, repository.id, repository.default_branch)
    # A repository that these credentials cannot read must not hide the other repositories.
    return RowView(repository=repository, head=optional(read, Forbidden))


def _branch_row(source: Source, repository: Repository, branch: Ref) -> RowView:
    uncommitted = bool(source.lakefs.uncommitted(repository.id, branch.id, 1)[0])
    return RowView(branch=branch, uncommitted=uncommitted, head=source.lakefs.commit(repository.id, branch.commit_id))


# ------------------------------------------------------------------------- files


def directory(source: Source, request: Request) -> PageView:
    """Show the directory `?prefix=`; `?after=` continues a long one."""
    repository, commit_id = _commit(source, request)
    prefix = request.query_params.get("prefix", "")
    row = partial(_file_row, repository, commit_id, prefix)
    rows = listed(lambda after: source.lakefs.listing(repository, commit_id, prefix, after, _FILES), row, request)
    return PageView(
        f"Files {line(prefix).text}" if prefix else "Files",
        crumbs=_crumbs(repository, commit_id, prefix.removesuffix("/")),
        path=line(prefix or "/"),
        rows=rows,
    )


def file(source: Source, request: Request) -> PageView:
    """Show the file `?path=`."""
    repository, commit_id, file = _file(source, request)
    return PageView(
        f"File {line(file.path).text}",
        crumbs=_crumbs(repository, commit_id, file.path, with_root=True),
        file=file,
        preview=preview_of(source, repository, commit_id, file),
        download=links.download(repository, commit_id, file.path),
        diff=links.diff(repository, commit_id, file.path),
    )


def download(source: Source, request: Request) -> tuple[Iterator[bytes], Mapping[str, str]]:
    """Return the bytes of the file `?path=`, and headers that make a browser save and never show them."""
    repository, commit_id, file = _file(source, request)
    name = quote(file.path.rstrip("/").rpartition("/")[2] or "file", safe="", errors="replace")
    headers = {
        "content-disposition": f"attachment; filename*=UTF-8''{name}",
        "content-length": str(file.size_bytes),
        "content-type": "application/octet-stream",
    }
    return source.lakefs.read(repository, commit_id, file.path), headers


def image(source: Source, request: Request) -> Response:
    """Return the bytes of the image `?path=`, with the type of its content.

    Raises:
        NoSuchPage: it is not an image that is shown.
    """
    data, media_type = image_of(source, *_file(source, request))
    return Response(data, media_type=media_type, headers=IMAGE_HEADERS)


def _commit(source: Source, request: Request) -> tuple[str, str]:
    repository = request.path_params["repository"]
    return repository, source.lakefs.commit(repository, request.path_params["commit"]).id


def _file(source: Source, request: Request) -> tuple[str, str, File]:
    repository, commit_id = _commit(source, request)
    return repository, commit_id, source.lakefs.file(repository, commit_id, request.query_params.get("path", ""))


def _file_row(repository: str, commit_id: str, prefix: str, item: File | str) -> RowView:
    if isinstance(item, str):
        return RowView(name=link(item[len(prefix) :], links.files(repository, commit_id, item)), size="", time=None)
    name = link(item.path[len(prefix) :] or item.path, links.file(repository, commit_id, item.path))
    return RowView(name=name, size=size(item.size_bytes), time=moment(item.mtime * 1000))


def _crumbs(repository: str, commit_id: str, path: str, *, with_root: bool = False) -> tuple[Link, ...]:
    """Repository, commit, and the directories above `path`."""
    parts = path.split("/")[:-1]
    above = ["/".join(parts[: index + 1]) + "/" for index in range(len(parts))]
    root = [link("files", links.files(repository, commit_id))] if path or with_root else []
    return (
        link("Repositories", links.REPOSITORIES),
        link(repository, links.repository(repository)),
        link(short(commit_id), links.commit(repository, commit_id)),
        *root,
        *(link(part, links.files(repository, commit_id, prefix)) for part, prefix in zip(parts, above, strict=True)),
    )


# --------------------------------------------------------------------------- changed lines


LINES = 2000
"""Lines of each side that are compared, after the lines that both sides begin with."""
CONTEXT = 3
_LINE = 500
_SIGNS = {"added": "+", "removed": "-", "": ""}


def diff(source: Source, request: Request) -> PageView:
    """Show the changes of the file `?path=` (percent-encoded: `?quoted=`) since `?base=`, or since the first parent.

    Raises:
        NoSuchPage: one of the commits does not exist, or neither of them has the file.
    """
    repository, query = request.path_params["repository"], request.query_params
    path = unquote(query["quoted"], errors="replace") if "quoted" in query else query.get("path", "")
    commit = source.lakefs.commit(repository, request.path_params["commit"])
    base = query.get("base") or (commit.parents[0] if commit.parents else commit.id)
    before, after = source.lakefs.commit(repository, base).id, commit.id
    sides = [optional(partial(source.lakefs.file, repository, commit_id, path)) for commit_id in (before, after)]
    if sides == [None, None]:
        raise NoSuchPage(f"Neither commit has a file {path!r}.")
    texts = [
        "" if side is None else read_text(source, repository, commit_id, side)
        for side, commit_id in zip(sides, (before, after), strict=True)
    ]
    rows: tuple[RowView, ...] = ()
    note = "Not text. Download both to compare them."
    if None not in texts:
        rows, note = compared(*(str(text) for text in texts))
        cut = any(side is not None and side.size_bytes > TEXT_BYTES for side in sides)
        note = "; ".join(filter(None, (note, f"only the first {size(TEXT_BYTES)} of each are compared" if cut else "")))
    return PageView(
        f"Changes of {line(path).text}",
        crumbs=_crumbs(repository, after, path, with_root=True),
        path=line(path),
        before=commit_link(repository, before),
        after=commit_link(repository, after),
        sizes=tuple("no file" if side is None else size(side.size_bytes) for side in sides),
        is_same=len({None if side is None else side.checksum for side in sides}) == 1,
        rows=rows,
        note=note,
        quoted=quote(path, safe="", errors="replace"),  # a field of a form can hold only printable text exactly
        action=f"{links.commit(repository, after)}/diff",
        base=line(base).text,
    )


def compared(before: str, after: str) -> tuple[tuple[RowView, ...], str]:
    """Return the changed lines of two texts with the lines around them, and a note about lines that were left out."""
    old, new = before.splitlines(), after.splitlines()
    same = next((at for at, (a, b) in enumerate(zip(old, new, strict=False)) if a != b), min(len(old), len(new)))
    begin = max(0, same - CONTEXT)
    is_cut = max(len(old), len(new)) - begin > LINES
    old, new = old[begin : begin + LINES], new[begin : begin + LINES]
    matcher = SequenceMatcher(None, old, new)
    rows: list[RowView] = []
    for group in matcher.get_grouped_opcodes(CONTEXT):
        if rows:
            rows.append(RowView(kind="gap", old="", new="", sign="", text=line("…")))
        for tag, a, a_end, b, b_end in group:
            if tag == "equal":
                rows += _rows("", old, begin, range(a, a_end), shift=b - a)
                continue
            rows += _rows("removed", old, begin, range(a, a_end))
            rows += _rows("added", new, begin, range(b, b_end))
    return tuple(rows), f"cut: {LINES:,} lines from line {begin + 1:,} on are compared" if is_cut else ""


def _rows(kind: str, lines: Sequence[str], begin: int, places: range, shift: int = 0) -> Iterator[RowView]:
    for at in places:
        number, other = begin + at + 1, begin + at + shift + 1
        yield RowView(
            kind=kind,
            old="" if kind == "added" else number,
            new="" if kind == "removed" else number if kind else other,
            sign=_SIGNS[kind],
            text=line(lines[at], _LINE),
        )
