"""Requests for the bytes of an object, whole or in part, and for the headers alone."""

from __future__ import annotations

import re
from dataclasses import dataclass
from email.utils import formatdate

from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from perago.embedded.http.lakefs import answers
from perago.embedded.http.lakefs.calls import Call, route
from perago.embedded.http.lakefs.objects import PresignError
from perago.embedded.http.lakefs.wire import JsonAnswer, MalformedRequestError
from perago.embedded.lakefs.server import LakeFSServer
from perago.embedded.lakefs.values import Entry

_MAX_INTEGER = (1 << 63) - 1
_RANGES = r"^bytes=((\d*-\d*,? ?)+)$"
_INLINE = frozenset(
    (
        *(f"application/{kind}" for kind in ("javascript", "json", "pdf", "xml")),
        *(f"audio/{kind}" for kind in ("mpeg", "wav", "webm")),
        *(f"image/{kind}" for kind in ("gif", "jpeg", "jpg", "png", "svg+xml", "webp")),
        *(f"text/{kind}" for kind in ("css", "html", "javascript", "markdown", "plain", "x-markdown", "xml")),
        *(f"video/{kind}" for kind in ("mp4", "webm")),
    )
)
"""What lakeFS lets a browser show; everything else is an attachment."""


@dataclass(frozen=True, slots=True)
class _Span:
    """The bytes of an object that an answer carries."""

    start: int
    length: int

    def header(self, size: int) -> str:
        return f"bytes {self.start}-{self.start + self.length - 1}/{size}"


class _UnsatisfiableError(Exception):
    """A range that gives no bytes. `outside`: it is a range, but beyond the object."""

    def __init__(self, *, outside: bool) -> None:
        super().__init__()
        self.outside = outside


class ReadingRequests:
    """GET and HEAD of objects."""

    def __init__(self, server: LakeFSServer) -> None:
        self._server = server

    def routes(self, root: str) -> list[Route]:
        """The routes; `root` is one repository's path."""
        path = f"{root}/refs/{{ref}}/objects"
        return [route("HEAD", path, self.head, quick=self._server), route("GET", path, self.get, quick=self._server)]

    def get(self, call: Call) -> Response:
        """The bytes of an object, or of one range."""
        presign = call.query.flag("presign")
        entry = self._entry(call)
        headers = _headers(entry)
        if call.headers.get("if-none-match") == headers["etag"]:
            return Response(status_code=304)
        if presign:
            raise PresignError
        kind = answers.content_type(entry)
        headers["content-disposition"] = "inline" if kind in _INLINE else "attachment"
        size, wanted = entry.blob.size, call.headers.get("range")
        if wanted is None:
            return _bytes(entry, _Span(0, size), 200, headers)
        try:
            span = _span(wanted, size)
        except _UnsatisfiableError as error:
            headers = _without_type(headers)
            if error.outside:
                headers["content-range"] = f"bytes */{size}"
            return JsonAnswer({"message": "Requested Range Not Satisfiable"}, 416, headers)
        if not size:
            return JsonAnswer({"message": "bad index"}, 500, _without_type(headers))
        return _bytes(entry, span, 206, {**headers, "content-range": span.header(size)})

    def head(self, call: Call) -> Response:
        """The headers of the same GET, or nearly: lakeFS leaves one out and adds another."""
        entry = self._entry(call)
        headers = {**_headers(entry), "accept-ranges": "bytes"}
        size, wanted = entry.blob.size, call.headers.get("range")
        if wanted is None:
            return Response(headers={**headers, "content-length": str(size)})
        try:
            span = _span(wanted, size)
        except _UnsatisfiableError:
            return Response(status_code=416, headers=headers)
        headers |= {"content-range": span.header(size), "content-length": str(span.length)}
        return Response(status_code=206, headers=headers)

    def _entry(self, call: Call) -> Entry:
        wanted = call.headers.get("range")
        if wanted is not None and not re.search(_RANGES, wanted):
            raise MalformedRequestError(
                f'parameter "Range" in header has an error: string doesn\'t match the regular expression "{_RANGES}"'
            )
        return self._server.stat_object(call.repository, call.names["ref"], call.query.required("path"))


def _headers(entry: Entry) -> dict[str, str]:
    return {
        "content-type": answers.content_type(entry),
        "etag": f'"{entry.blob.checksum}"',
        "last-modified": formatdate(entry.mtime, usegmt=True),
        "cache-control": "no-store, must-revalidate",
        "expires": "0",
    }


def _without_type(headers: dict[str, str]) -> dict[str, str]:
    """The headers of an object on an answer that says why there are no bytes of it."""
    return {name: value for name, value in headers.items() if name != "content-type"}


def _bytes(entry: Entry, span: _Span, status: int, headers: dict[str, str]) -> Response:
    headers = {**headers, "content-length": str(span.length)}
    if entry.blob.data is not None:
        return Response(entry.blob.data[span.start : span.start + span.length], status, headers)
    return StreamingResponse(entry.blob.chunks(span.start, span.length), status, headers)


def _span(header: str, size: int) -> _Span:
    """The one range that a header asks for (`reference/lakefs.md` 2, Stat, get, head)."""
    first, _, last = (part.strip() for part in header.removeprefix("bytes=").partition("-"))
    numbers = all(part == "" or (part.isdecimal() and int(part) <= _MAX_INTEGER) for part in (first, last))
    if "," in header or not numbers or not (first or last) or (first and last and int(first) > int(last)):
        raise _UnsatisfiableError(outside=False)
    start = int(first) if first else max(0, size - int(last))
    end = min(int(last), size - 1) if first and last else size - 1
    if start >= size and (first or int(last) == 0):
        raise _UnsatisfiableError(outside=True)
    return _Span(start, end - start + 1)
