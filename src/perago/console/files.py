"""The tree of a commit: directories, one file as text, and its bytes as a download."""

from __future__ import annotations

import codecs
from dataclasses import dataclass
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from perago.console import links
from perago.console.commits import SHORT_ID
from perago.console.links import Link, link
from perago.console.models import Models
from perago.console.text import Shown, line, plural, size
from perago.console.times import Moment, moment
from perago.embedded.lakefs.blobs import Blob
from perago.embedded.lakefs.values import Entry

TEXT_BYTES = 64 * 1024
"""How much of a file is shown."""
_PAGE_SIZE = 200


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
    rows: tuple[FileRow, ...]
    first: str | None
    more: str | None
    title: str
    crumbs: tuple[Link, ...]
    refresh_seconds: int = 0


@dataclass(frozen=True, slots=True)
class FilePage:
    """One file. `text` is None where it is not UTF-8 text."""

    path: Shown
    size: str
    bytes: str
    is_large: bool
    """Whether `size` says it better than the number of bytes."""
    checksum: Shown
    content_type: Shown
    time: Moment | None
    metadata: tuple[tuple[Shown, Shown], ...]
    text: Shown | None
    download: str
    title: str
    crumbs: tuple[Link, ...]
    refresh_seconds: int = 0


def directory(models: Models, request: Request) -> Directory:
    """The directory `?prefix=`; `?after=` continues a long one."""
    repository, commit_id = _commit(models, request)
    prefix, after = request.query_params.get("prefix", ""), request.query_params.get("after", "")
    page = models.lakefs.list_objects(
        repository, commit_id, prefix=prefix, after=after, delimiter="/", amount=_PAGE_SIZE
    )
    return Directory(
        path=line(prefix or "/"),
        rows=tuple(_row(repository, commit_id, prefix, item) for item in page.results),
        first=links.files(repository, commit_id, prefix) if after else None,
        more=links.files(repository, commit_id, prefix, page.next_offset) if page.has_more else None,
        title=f"Files {line(prefix).text}" if prefix else "Files",
        crumbs=_crumbs(repository, commit_id, prefix.removesuffix("/")),
    )


def file(models: Models, request: Request) -> FilePage:
    """The file `?path=`."""
    repository, commit_id = _commit(models, request)
    entry = models.lakefs.stat_object(repository, commit_id, request.query_params.get("path", ""))
    return FilePage(
        path=line(entry.path),
        size=size(entry.blob.size),
        bytes=plural(entry.blob.size, "byte"),
        is_large=entry.blob.size >= 1024,
        checksum=line(entry.blob.checksum),
        content_type=line(entry.content_type),
        time=moment(entry.mtime * 1000),
        metadata=tuple((line(key), line(value)) for key, value in sorted(entry.metadata.items())),
        text=_text(entry.blob),
        download=links.download(repository, commit_id, entry.path),
        title=f"File {line(entry.path).text}",
        crumbs=_crumbs(repository, commit_id, entry.path, with_root=True),
    )


def download(models: Models, request: Request) -> Response:
    """The bytes of the file `?path=`. They are saved, never shown: no type of theirs is passed on."""
    repository, commit_id = _commit(models, request)
    entry = models.lakefs.stat_object(repository, commit_id, request.query_params.get("path", ""))
    name = quote(entry.path.rstrip("/").rpartition("/")[2] or "file", safe="", errors="replace")
    headers = {
        "content-disposition": f"attachment; filename*=UTF-8''{name}",
        "content-length": str(entry.blob.size),
    }
    return StreamingResponse(entry.blob.chunks(), media_type="application/octet-stream", headers=headers)


def _commit(models: Models, request: Request) -> tuple[str, str]:
    repository = request.path_params["repository"]
    return repository, models.lakefs.get_commit(repository, request.path_params["commit"]).commit.id


def _row(repository: str, commit_id: str, prefix: str, item: object) -> FileRow:
    if isinstance(item, Entry):
        name = link(item.path[len(prefix) :] or item.path, links.file(repository, commit_id, item.path))
        return FileRow(name, size(item.blob.size), moment(item.mtime * 1000))
    path = str(getattr(item, "path", ""))
    return FileRow(link(path[len(prefix) :], links.files(repository, commit_id, path)), "", None)


def _crumbs(repository: str, commit_id: str, path: str, *, with_root: bool = False) -> tuple[Link, ...]:
    """Repository, commit, and the directories above `path`."""
    parts = path.split("/")[:-1]
    above = ["/".join(parts[: index + 1]) + "/" for index in range(len(parts))]
    root = [link("files", links.files(repository, commit_id))] if path or with_root else []
    return (
        link("Repositories", links.REPOSITORIES),
        link(repository, links.repository(repository)),
        link(commit_id[:SHORT_ID], links.commit(repository, commit_id)),
        *root,
        *(link(part, links.files(repository, commit_id, prefix)) for part, prefix in zip(parts, above, strict=True)),
    )


def _text(blob: Blob) -> Shown | None:
    """The beginning as text; None if it is no UTF-8 or holds NULs, which no text does."""
    data = b"".join(blob.chunks(0, min(blob.size, TEXT_BYTES)))
    is_whole = len(data) == blob.size
    try:
        text = codecs.getincrementaldecoder("utf-8")().decode(data, final=is_whole)
    except UnicodeDecodeError:
        return None
    if "\0" in text:
        return None
    return Shown(text, "" if is_whole else f"cut: the first {size(len(data))} of {size(blob.size)} are shown")
