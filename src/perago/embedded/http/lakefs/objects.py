"""Requests about objects: their bytes, listings, descriptions, copies, deletions."""

from __future__ import annotations

import re
from email.utils import formatdate

from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from perago.embedded.http.lakefs import answers, bodies
from perago.embedded.http.lakefs.calls import NO_CONTENT, Call, JsonAnswer, route
from perago.embedded.lakefs.errors import Invalid, LakeFSError
from perago.embedded.lakefs.server import LakeFSServer
from perago.embedded.lakefs.values import Entry

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


class ObjectRequests:
    """Everything below `.../objects` but uploads."""

    def __init__(self, server: LakeFSServer) -> None:
        self._server = server

    def routes(self, root: str) -> list[Route]:
        """The routes; `root` is one repository's path."""
        staged, found = f"{root}/branches/{{branch}}/objects", f"{root}/refs/{{ref}}/objects"
        return [
            route("HEAD", found, self.head, quick=self._server),
            route("GET", found, self.get, quick=self._server),
            route("DELETE", staged, self.delete, quick=self._server),
            route("POST", f"{staged}/delete", self.delete_batch, quick=self._server),
            route("POST", f"{staged}/copy", self.copy, quick=self._server),
            route("GET", f"{staged}/stage_allowed", self.allow, quick=self._server),
            route("PUT", f"{staged}/stat/user_metadata", self.set_user_metadata, quick=self._server),
            route("GET", f"{found}/stat", self.stat, quick=self._server),
            route("GET", f"{found}/ls", self.list),
            route("GET", f"{found}/underlyingProperties", self.properties, quick=self._server),
        ]

    def get(self, call: Call) -> Response:
        """The bytes of an object, or of one range."""
        presign = call.query.flag("presign")
        entry = self._entry(call)
        headers = _headers(entry)
        if call.headers.get("if-none-match") == headers["etag"]:
            return Response(status_code=304)
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

    def head(self, call: Call) -> Response:
        """The headers of the same GET, or nearly: lakeFS leaves one out and adds another."""
        entry = self._entry(call)
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

    def _entry(self, call: Call) -> Entry:
        wanted = call.headers.get("range")
        if wanted is not None and not _RANGE.fullmatch(wanted):
            raise Invalid(f"the Range header {wanted!r} names no bytes")
        return self._server.stat_object(call.repository, call.names["ref"], call.query.required("path"))

    def delete(self, call: Call) -> Response:
        """Stage one deletion."""
        call.refuse("no_tombstone")
        path, force = call.query.required("path"), call.query.flag("force")
        self._server.delete_object(call.repository, call.branch, path, force=force)
        return Response(status_code=NO_CONTENT)

    def delete_batch(self, call: Call) -> Response:
        """Stage up to 1,000 deletions."""
        call.refuse("no_tombstone")
        paths, force = call.body(bodies.Paths).paths, call.query.flag("force")
        failed = self._server.delete_objects(call.repository, call.branch, paths, force=force)
        errors = [{"message": each.message, "path": each.path, "status_code": each.status} for each in failed]
        return JsonAnswer({"errors": errors})

    def copy(self, call: Call) -> Response:
        """Stage a copy."""
        path, wanted = call.query.required("dest_path"), call.body(bodies.Copy)
        if wanted.shallow:
            raise LakeFSError(NOT_IMPLEMENTED, 501)
        entry = self._server.copy_object(
            call.repository,
            call.branch,
            path,
            source=wanted.src_path,
            source_ref=wanted.src_ref,
            force=wanted.force,
        )
        return JsonAnswer(answers.stats(entry), 201)

    def allow(self, call: Call) -> Response:
        """Whether one may upload: the only user may."""
        call.query.required("path")
        return Response(status_code=NO_CONTENT)

    def set_user_metadata(self, call: Call) -> Response:
        """Stage other user metadata for an object."""
        path, wanted = call.query.required("path"), call.body(bodies.UserMetadata)
        self._server.set_user_metadata(call.repository, call.branch, path, wanted.set)
        return Response(status_code=NO_CONTENT)

    def stat(self, call: Call) -> Response:
        """Describe one object."""
        with_metadata, presign = call.query.flag("user_metadata", default=True), call.query.flag("presign")
        entry = self._server.stat_object(call.repository, call.names["ref"], call.query.required("path"))
        if presign:
            raise Invalid(NO_PRESIGN)
        return JsonAnswer(answers.stats(entry, user_metadata=with_metadata))

    def list(self, call: Call) -> Response:
        """One page of a listing."""
        with_metadata, presign = call.query.flag("user_metadata", default=True), call.query.flag("presign")
        found = self._server.list_objects(
            call.repository, call.names["ref"], delimiter=call.query.text("delimiter"), **call.paging()
        )
        if presign and any(isinstance(item, Entry) for item in found.results):
            raise Invalid(NO_PRESIGN)
        return JsonAnswer(answers.page(found, lambda item: answers.listed(item, user_metadata=with_metadata)))

    def properties(self, call: Call) -> Response:
        """How the block store keeps an object: a local one has no classes."""
        self._server.stat_object(call.repository, call.names["ref"], call.query.required("path"))
        return JsonAnswer({"storage_class": None})


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
