"""Requests about objects: their bytes, listings and descriptions, and uploads.

Bytes are taken in piece by piece, large ones straight to disk.
"""

from __future__ import annotations

import re
import sys
from email.utils import formatdate
from functools import partial

from python_multipart.exceptions import FormParserError
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from perago.embedded.http import JsonAnswer
from perago.embedded.http import lakefs_requests as api
from perago.embedded.http.lakefs_requests import Call, Json, Table, routes, run
from perago.embedded.lakefs import objects
from perago.embedded.lakefs.repository import LakeFSServer
from perago.embedded.lakefs.values import Blob, BlobSink, BlobStore, Entry, Invalid, LakeFSError, Page

NOT_IMPLEMENTED = "Not Implemented"
"""The words of the real server about calls that it does not do either."""

NO_PRESIGN = "local adapter presigned URL: operation not supported"

_RANGE = re.compile(r"bytes=((\d*-\d*,? ?)+)")
_SINGLE_RANGE = re.compile(r"bytes=(\d{0,19})-(\d{0,19})")
_INLINE = re.compile(
    r"application/(javascript|json|pdf|xml)|audio/(mpeg|wav|webm)|image/(gif|jpe?g|png|svg\+xml|webp)"
    r"|text/(css|html|javascript|markdown|plain|x-markdown|xml)|video/(mp4|webm)"
)
"""The content types that lakeFS lets a browser show; everything else is an attachment."""


# ------------------------------------------------------------------------------ requests


def object_routes(server: LakeFSServer, root: str) -> list[Route]:
    """Return the routes of objects; `root` is one repository's path. No address is signed, as on a local disk."""

    def entry_of(call: Call) -> Entry:
        range_header = call.headers.get("range")
        if range_header is not None and not _RANGE.fullmatch(range_header):
            raise Invalid(f"the Range header {range_header!r} names no bytes")
        return stat_of(call)

    def stat_of(call: Call) -> Entry:
        return objects.stat_object(call.repo, call.ref, call.query.required("path"))

    def get(call: Call) -> Response:
        """Return the bytes of an object, or of one range."""
        presign = call.query.presign
        entry = entry_of(call)
        headers = _headers(entry)
        if call.headers.get("if-none-match") == headers["etag"]:
            return Response(status_code=304)
        if presign:
            raise Invalid(NO_PRESIGN)
        if entry.blob.is_elsewhere:
            raise LakeFSError("No data", status=410)
        kind = api.content_type(entry)
        headers["content-disposition"] = "inline" if _INLINE.fullmatch(kind) else "attachment"
        size, range_header = entry.blob.size, call.headers.get("range")
        if range_header is None:
            return _bytes(entry, 0, size, 200, headers | {"content-type": kind})
        span = _span(range_header, size)
        if isinstance(span, dict):
            return JsonAnswer({"message": "Requested Range Not Satisfiable"}, 416, headers | span)
        if not size:
            return JsonAnswer({"message": "an empty object has no ranges"}, 500, headers)
        start, length = span
        headers |= {"content-type": kind, "content-range": f"bytes {start}-{start + length - 1}/{size}"}
        return _bytes(entry, start, length, 206, headers)

    def head(call: Call) -> Response:
        """Return the headers of the same GET, or nearly: lakeFS leaves one out and adds another."""
        entry = entry_of(call)
        headers = {**_headers(entry), "content-type": api.content_type(entry), "accept-ranges": "bytes"}
        size, range_header = entry.blob.size, call.headers.get("range")
        if range_header is None:
            return Response(headers={**headers, "content-length": str(size)})
        span = _span(range_header, size)
        if isinstance(span, dict):
            return Response(status_code=416, headers=headers)
        start, length = span
        headers |= {"content-range": f"bytes {start}-{start + length - 1}/{size}", "content-length": str(length)}
        return Response(status_code=206, headers=headers)

    def delete(call: Call) -> None:
        call.refuse("no_tombstone")
        objects.delete_object(call.repo, call.branch, call.query.required("path"), force=call.query.force)

    def delete_batch(call: Call) -> Json:
        call.refuse("no_tombstone")
        repo, paths = server.repositories.get(call.parts["repository"]), call.body(api.Paths).paths
        failed = objects.delete_objects(repo, call.branch, paths, force=call.query.force)
        errors = [{"message": error.message, "path": error.path, "status_code": error.status} for error in failed]
        return {"errors": errors}

    def copy(call: Call) -> Entry:
        path, fields = call.query.required("dest_path"), call.fields(api.Copy)
        if fields.pop("shallow"):
            raise LakeFSError(NOT_IMPLEMENTED, 501)
        return objects.copy_object(call.repo, call.branch, path, **fields)

    def may_upload(call: Call) -> None:
        """The only user may."""
        call.query.required("path")

    def set_user_metadata(call: Call) -> None:
        path, request = call.query.required("path"), call.body(api.UserMetadata)
        objects.set_user_metadata(call.repo, call.branch, path, request.set)

    def stat(call: Call) -> Json:
        with_metadata, presign = call.query.user_metadata, call.query.presign
        entry = stat_of(call)
        if presign:
            raise Invalid(NO_PRESIGN)
        return api.stats_json(entry, user_metadata=with_metadata)

    def listing(call: Call) -> Page[Json]:
        with_metadata, presign = call.query.user_metadata, call.query.presign
        shown = objects.list_objects(call.repo, call.ref, **call.query.page("delimiter"))
        if presign and any(isinstance(item, Entry) for item in shown.results):
            raise Invalid(NO_PRESIGN)
        return shown.each(partial(api.listed_json, user_metadata=with_metadata))

    def properties(call: Call) -> Json:
        """Return the storage class of an object, which a local block store does not have."""
        stat_of(call)
        return {"storage_class": None}

    async def upload(request: Request) -> Response:
        # The body is read to its end even if the upload is refused: a client that is still sending would see a broken
        # connection instead of the refusal.
        kind = request.headers.get("content-type") or objects.DEFAULT_CONTENT_TYPE
        blob, problem = Blob(0, ""), None
        if kind.partition(";")[0].strip().lower() == "multipart/form-data":
            try:
                blob, kind = await _form_content(request, server.blobs)
            except LakeFSError as error:
                problem = error
        else:
            blob = await _body(request, server.blobs)
        return await run(server, lambda: stage(Call(server, request), blob, kind, problem), quick=True)

    def stage(call: Call, blob: Blob, content_type: str, problem: LakeFSError | None) -> Response:
        path, if_none_match = call.query.required("path"), call.headers.get("if-none-match")
        absent = if_none_match == "*"
        if "if-match" in call.headers or if_none_match not in (None, "*"):
            problem = LakeFSError(NOT_IMPLEMENTED, 501)
        if problem is not None:
            objects.check_put(call.repo, call.branch, path, if_absent=absent)
            raise problem
        entry = objects.put_object(
            call.repo,
            call.branch,
            path,
            blob,
            content_type=content_type,
            metadata=_metadata(call),
            if_absent=absent,
            force=call.query.force,
        )
        return JsonAnswer({**api.stats_json(entry), "content_type": entry.content_type}, 201)

    def address(call: Call) -> Json:
        """Return an address of the block store to put bytes at, without a presigned link."""
        call.query.required("path")
        if call.query.presign:
            raise LakeFSError(NO_PRESIGN)
        return {"physical_address": objects.new_address(call.repo), "presigned_url": None}

    def link(call: Call) -> Entry:
        """Stage an object whose bytes are at an address, where they cannot be read."""
        request, path = call.body(api.Link), call.query.required("path")
        place, blob = request.staging.physical_address, Blob(request.size_bytes, request.checksum)
        return objects.link_object(
            call.repo,
            call.branch,
            path,
            place,
            blob,
            content_type=request.content_type,
            metadata=request.user_metadata,
            mtime=request.mtime,
            if_absent=call.headers.get("if-none-match") == "*",
            force=request.force,
        )

    branch, at_ref = f"{root}/branches/{{branch}}", f"{root}/refs/{{ref}}/objects"
    staged, backing = f"{branch}/objects", f"{branch}/staging/backing"
    quick: Table = [
        ("GET", backing, address),
        ("PUT", backing, link),
        ("HEAD", at_ref, head),
        ("GET", at_ref, get),
        ("DELETE", staged, delete),
        ("POST", f"{staged}/delete", delete_batch),
        ("POST", f"{staged}/copy", copy, 201),
        ("GET", f"{staged}/stage_allowed", may_upload),
        ("PUT", f"{staged}/stat/user_metadata", set_user_metadata),
        ("GET", f"{at_ref}/stat", stat),
        ("GET", f"{at_ref}/underlyingProperties", properties),
    ]
    slow = routes(server, [("GET", f"{at_ref}/ls", listing)])
    return [Route(staged, upload, methods=["POST"]), *routes(server, quick, quick=True), *slow]


async def _body(request: Request, blobs: BlobStore) -> Blob:
    """Return the bytes of a body."""
    with BlobSink(blobs) as sink:
        async for piece in request.stream():
            if sink.on_disk:
                await run_in_threadpool(sink.write, piece)
            else:
                sink.write(piece)
        return sink.finish()


async def _form_content(request: Request, blobs: BlobStore) -> tuple[Blob, str]:
    """Return the bytes and the type of the first field `content` of a form.

    Raises:
        LakeFSError: the form has no file, or the form cannot be read.
        Invalid: the form ends within the field.
    """
    kind, stream = request.headers["content-type"], request.stream()
    # Latin-1 gives each byte of a field without a file name one character.
    parser = MultiPartParser(Headers({"content-type": f"{kind}; charset=latin-1"}), stream, max_part_size=sys.maxsize)
    try:
        form = await parser.parse()
        content = next((value for name, value in form.multi_items() if name == "content"), None)
        if isinstance(content, UploadFile):
            return await run_in_threadpool(blobs.of_stream, content.file), content.content_type or ""
    except (MultiPartException, FormParserError) as error:
        async for _ in stream:
            pass
        if "boundary=" not in kind.lower():
            raise LakeFSError("the Content-Type of the form names no boundary") from None
        raise LakeFSError(f"the form cannot be read: {error}") from None
    finally:
        for file in parser._files_to_close_on_error:  # also of a field in which the form ends
            file.close()
    if content is not None:
        return blobs.of_bytes(content.encode("latin-1")), ""
    if parser._current_part.field_name == "content":
        raise Invalid("the form ends within the field 'content'")
    raise LakeFSError("the form has no field 'content'")


_META = "x-lakefs-meta-"
_INTERNAL = "x-lakefs-internal-"


def _metadata(call: Call) -> dict[str, str]:
    """User metadata and that of lakeFS's own clients, from headers, whose bytes the server reads as UTF-8."""
    metadata = {}
    for name, value in call.headers.items():
        text = value.encode("latin-1").decode("utf-8", "replace")
        if name.startswith(_META):
            metadata[name.removeprefix(_META)] = text
        elif name.startswith(_INTERNAL):
            metadata[f"::lakefs::{name.removeprefix(_INTERNAL)}"] = text
    return metadata


def _headers(entry: Entry) -> dict[str, str]:
    return {
        "etag": f'"{entry.blob.checksum}"',
        "last-modified": formatdate(entry.mtime, usegmt=True),
        "cache-control": "no-store, must-revalidate",
        "expires": "0",
    }


def _bytes(entry: Entry, start: int, length: int, status: int, headers: dict[str, str]) -> Response:
    headers = {**headers, "content-length": str(length)}
    if entry.blob.data is not None:
        return Response(entry.blob.data[start : start + length], status, headers)
    return StreamingResponse(entry.blob.chunks(start, length), status, headers)


def _span(header: str, size: int) -> tuple[int, int] | dict[str, str]:
    """Return start and length of the one range that a header asks for, else the headers of the refusal.

    lakeFS names the size only where the range is one, but beyond the object (`docs/dev/servers/lakefs.md`, "REST
    facts").
    """
    bounds = _SINGLE_RANGE.fullmatch(header.replace(" ", ""))
    first, last = bounds.groups() if bounds else ("", "")
    too_large = int(first or 0) >= 1 << 63 or int(last or 0) >= 1 << 63
    if too_large or not (first or last) or (first and last and int(first) > int(last)):
        return {}
    start = int(first) if first else max(0, size - int(last))
    end = min(int(last), size - 1) if first and last else size - 1
    if start >= size and (first or int(last) == 0):
        return {"content-range": f"bytes */{size}"}
    return start, end - start + 1
