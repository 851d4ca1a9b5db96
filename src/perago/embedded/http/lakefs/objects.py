"""Requests about objects: their bytes, listings, descriptions, copies, deletions."""

from __future__ import annotations

import re
from email.utils import formatdate

from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from perago.embedded.http.lakefs import answers, bodies
from perago.embedded.http.lakefs.calls import Call, JsonAnswer, routes
from perago.embedded.http.lakefs.signed import SignedStore
from perago.embedded.lakefs.server import LakeFSServer
from perago.embedded.lakefs.values import CommonPrefix, Entry, Invalid, LakeFSError

NOT_IMPLEMENTED = "Not Implemented"
"""What the real server does not do either."""

NO_PRESIGN = "local adapter presigned URL: operation not supported"

_RANGE = re.compile(r"bytes=((\d*-\d*,? ?)+)")
_SINGLE_RANGE = re.compile(r"bytes=(\d{0,19})-(\d{0,19})")
_INLINE = re.compile(
    r"application/(javascript|json|pdf|xml)|audio/(mpeg|wav|webm)|image/(gif|jpe?g|png|svg\+xml|webp)"
    r"|text/(css|html|javascript|markdown|plain|x-markdown|xml)|video/(mp4|webm)"
)
"""What lakeFS lets a browser show; everything else is an attachment."""


def object_routes(server: LakeFSServer, root: str, store: SignedStore | None = None) -> list[Route]:
    """Everything below `.../objects` but uploads; `root` is one repository's path. Without `store` no address is
    signed."""

    def found(call: Call) -> Entry:
        wanted = call.headers.get("range")
        if wanted is not None and not _RANGE.fullmatch(wanted):
            raise Invalid(f"the Range header {wanted!r} names no bytes")
        return server.stat_object(call.repository, call.names["ref"], call.query.required("path"))

    def get(call: Call) -> Response:
        """The bytes of an object, or of one range."""
        presign = call.query.presign
        entry = found(call)
        headers = _headers(entry)
        if call.headers.get("if-none-match") == headers["etag"]:
            return Response(status_code=304)
        if presign and store is not None:
            return Response(status_code=302, headers={"location": store.readable(call, entry, {})["physical_address"]})
        if presign:
            raise Invalid(NO_PRESIGN)
        if entry.blob.is_elsewhere:
            raise LakeFSError("No data", status=410)
        kind = answers.content_type(entry)
        headers["content-disposition"] = "inline" if _INLINE.fullmatch(kind) else "attachment"
        size, wanted = entry.blob.size, call.headers.get("range")
        if wanted is None:
            return _bytes(entry, 0, size, 200, headers | {"content-type": kind})
        span = _span(wanted, size)
        if isinstance(span, dict):
            return JsonAnswer({"message": "Requested Range Not Satisfiable"}, 416, headers | span)
        if not size:
            return JsonAnswer({"message": "an empty object has no ranges"}, 500, headers)
        start, length = span
        headers |= {"content-type": kind, "content-range": f"bytes {start}-{start + length - 1}/{size}"}
        return _bytes(entry, start, length, 206, headers)

    def head(call: Call) -> Response:
        """The headers of the same GET, or nearly: lakeFS leaves one out and adds another."""
        entry = found(call)
        headers = {**_headers(entry), "content-type": answers.content_type(entry), "accept-ranges": "bytes"}
        size, wanted = entry.blob.size, call.headers.get("range")
        if wanted is None:
            return Response(headers={**headers, "content-length": str(size)})
        span = _span(wanted, size)
        if isinstance(span, dict):
            return Response(status_code=416, headers=headers)
        start, length = span
        headers |= {"content-range": f"bytes {start}-{start + length - 1}/{size}", "content-length": str(length)}
        return Response(status_code=206, headers=headers)

    def delete(call: Call) -> None:
        call.refuse("no_tombstone")
        path, force = call.query.required("path"), call.query.force
        server.delete_object(call.repository, call.branch, path, force=force)

    def delete_batch(call: Call) -> Response:
        call.refuse("no_tombstone")
        paths, force = call.body(bodies.Paths).paths, call.query.force
        failed = server.delete_objects(call.repository, call.branch, paths, force=force)
        errors = [{"message": each.message, "path": each.path, "status_code": each.status} for each in failed]
        return JsonAnswer({"errors": errors})

    def copy(call: Call) -> Response:
        path, fields = call.query.required("dest_path"), call.fields(bodies.Copy)
        if fields.pop("shallow"):
            raise LakeFSError(NOT_IMPLEMENTED, 501)
        return JsonAnswer(answers.stats(server.copy_object(call.repository, call.branch, path, **fields)), 201)

    def may_upload(call: Call) -> None:
        """The only user may."""
        call.query.required("path")

    def set_user_metadata(call: Call) -> None:
        path, wanted = call.query.required("path"), call.body(bodies.UserMetadata)
        server.set_user_metadata(call.repository, call.branch, path, wanted.set)

    def stat(call: Call) -> Response:
        with_metadata, presign = call.query.user_metadata, call.query.presign
        entry = server.stat_object(call.repository, call.names["ref"], call.query.required("path"))
        if presign and store is None:
            raise Invalid(NO_PRESIGN)
        found = answers.stats(entry, user_metadata=with_metadata)
        return JsonAnswer(store.readable(call, entry, found) if presign and store is not None else found)

    def listing(call: Call) -> Response:
        with_metadata, presign = call.query.user_metadata, call.query.presign
        shown = server.list_objects(call.repository, call.names["ref"], **call.query.page("delimiter"))
        if presign and store is None and any(isinstance(item, Entry) for item in shown.results):
            raise Invalid(NO_PRESIGN)

        def described(item: Entry | CommonPrefix) -> answers.Json:
            found = answers.listed(item, user_metadata=with_metadata)
            signs = presign and store is not None and isinstance(item, Entry)
            return store.readable(call, item, found) if signs else found  # type: ignore[union-attr, arg-type]

        return JsonAnswer(answers.page(shown, described))

    def properties(call: Call) -> Response:
        """How the block store keeps an object: a local one has no classes."""
        server.stat_object(call.repository, call.names["ref"], call.query.required("path"))
        return JsonAnswer({"storage_class": None})

    staged, objects = f"{root}/branches/{{branch}}/objects", f"{root}/refs/{{ref}}/objects"
    quick = [
        ("HEAD", objects, head),
        ("GET", objects, get),
        ("DELETE", staged, delete),
        ("POST", f"{staged}/delete", delete_batch),
        ("POST", f"{staged}/copy", copy),
        ("GET", f"{staged}/stage_allowed", may_upload),
        ("PUT", f"{staged}/stat/user_metadata", set_user_metadata),
        ("GET", f"{objects}/stat", stat),
        ("GET", f"{objects}/underlyingProperties", properties),
    ]
    return [*routes(quick, server), *routes([("GET", f"{objects}/ls", listing)])]


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
    """Start and length of the one range that a header asks for, else the headers of the refusal.

    lakeFS names the size only where the range is one, but beyond the object (`docs/servers/lakefs.md` 2).
    """
    found = _SINGLE_RANGE.fullmatch(header.replace(" ", ""))
    first, last = found.groups() if found else ("", "")
    too_large = int(first or 0) >= 1 << 63 or int(last or 0) >= 1 << 63
    if too_large or not (first or last) or (first and last and int(first) > int(last)):
        return {}
    start = int(first) if first else max(0, size - int(last))
    end = min(int(last), size - 1) if first and last else size - 1
    if start >= size and (first or int(last) == 0):
        return {"content-range": f"bytes */{size}"}
    return start, end - start + 1
