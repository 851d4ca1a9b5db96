"""Uploads: a raw body or a form, taken in piece by piece, large ones straight to disk; and links to other bytes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from python_multipart.exceptions import MultipartParseError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from perago.embedded.http.lakefs import answers, bodies
from perago.embedded.http.lakefs.calls import Call, JsonAnswer, call_of, routes, run
from perago.embedded.http.lakefs.objects import NO_PRESIGN, NOT_IMPLEMENTED
from perago.embedded.http.lakefs.signed import SignedStore
from perago.embedded.lakefs.objects import DEFAULT_CONTENT_TYPE
from perago.embedded.lakefs.server import LakeFSServer
from perago.embedded.lakefs.values import Blob, Invalid, LakeFSError

_META = "x-lakefs-meta-"
_INTERNAL = "x-lakefs-internal-"


def upload_routes(server: LakeFSServer, root: str, store: SignedStore | None = None) -> list[Route]:
    """POST of an object, and linking one to bytes that were put at an address of the block store."""

    async def upload(request: Request) -> Response:
        # The body is read to its end even if the upload is refused: a client that is still sending would see a broken
        # connection instead of the refusal.
        content_type = request.headers.get("content-type") or DEFAULT_CONTENT_TYPE
        media_type, options = parse_options_header(content_type)
        with server.blobs.sink() as sink:
            form = None
            if media_type == b"multipart/form-data":
                form = _Form(options.get(b"boundary", b""), sink.write)
            take = sink.write if form is None else form.feed
            async for piece in request.stream():
                if sink.on_disk:
                    await run_in_threadpool(take, piece)
                else:
                    take(piece)
            blob = sink.finish()
        problem = None if form is None else form.problem
        kind = content_type if form is None else form.content_type
        return await run(server, lambda: stage(call_of(request), blob, kind, problem))

    def stage(call: Call, blob: Blob, content_type: str, problem: LakeFSError | None) -> Response:
        path, force = call.query.required("path"), call.query.force
        if_none_match = call.headers.get("if-none-match")
        absent = if_none_match == "*"
        server.check_upload(call.repository, call.branch, path, if_absent=absent)
        if "if-match" in call.headers or if_none_match not in (None, "*"):
            raise LakeFSError(NOT_IMPLEMENTED, 501)
        if problem is not None:
            raise problem
        given: dict[str, Any] = {
            "content_type": content_type,
            "metadata": _metadata(call),
            "if_absent": absent,
            "force": force,
        }
        entry = server.put_object(call.repository, call.branch, path, blob, **given)
        return JsonAnswer({**answers.stats(entry), "content_type": entry.content_type}, 201)

    def address(call: Call) -> Response:
        """An address of the block store to put bytes at. A local one has no presigned links."""
        call.query.required("path")
        if call.query.presign and store is not None:
            return JsonAnswer(store.writable(call, server.new_address(call.repository)))
        if call.query.presign:
            raise LakeFSError(NO_PRESIGN)
        return JsonAnswer({"physical_address": server.new_address(call.repository), "presigned_url": None})

    def link(call: Call) -> Response:
        """Stage an object whose bytes are at an address. Without a block store they cannot be read."""
        wanted, path = call.body(bodies.Link), call.query.required("path")
        address, size = wanted.staging.physical_address, wanted.size_bytes
        blob = Blob(size, wanted.checksum) if store is None else store.linked(address, size, wanted.checksum)
        entry = server.link_object(
            call.repository,
            call.branch,
            path,
            address,
            blob,
            content_type=wanted.content_type,
            metadata=wanted.user_metadata,
            mtime=wanted.mtime,
            if_absent=call.headers.get("if-none-match") == "*",
            force=wanted.force,
        )
        return JsonAnswer(answers.stats(entry))

    branch = f"{root}/branches/{{branch}}"
    backing = [("GET", f"{branch}/staging/backing", address), ("PUT", f"{branch}/staging/backing", link)]
    return [Route(f"{branch}/objects", upload, methods=["POST"]), *routes(backing, server)]


class _Form:
    """Passes on the bytes of the first field `content` of a form. `problem` says why there are none, or not all."""

    def __init__(self, boundary: bytes, write: Callable[[bytes], None]) -> None:
        self._write = write
        self._name = self._value = b""
        self._headers: dict[bytes, bytes] = {}
        self._is_wanted = False
        self.content_type = ""
        self.problem: LakeFSError | None = LakeFSError("the form has no field 'content'")
        if not boundary:
            self.problem = LakeFSError("the Content-Type of the form names no boundary")
        events = {
            "on_part_begin": self._headers.clear,
            "on_header_field": self._on_field,
            "on_header_value": self._on_value,
            "on_header_end": self._on_header,
            "on_headers_finished": self._on_headers,
            "on_part_data": self._on_data,
            "on_part_end": self._on_end,
        }
        self._parser = MultipartParser(boundary, cast("Any", events)) if boundary else None

    def feed(self, piece: bytes) -> None:
        """Take the next bytes; what follows a mistake is not looked at."""
        try:
            if self._parser is not None:
                self._parser.write(piece)
        except MultipartParseError:
            self._parser = None

    def _on_field(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def _on_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _on_header(self) -> None:
        self._headers[self._name.lower()] = self._value
        self._name = self._value = b""

    def _on_headers(self) -> None:
        name = parse_options_header(self._headers.get(b"content-disposition"))[1].get(b"name")
        self._is_wanted = self.problem is not None and name == b"content"
        if self._is_wanted:
            self.content_type = self._headers.get(b"content-type", b"").decode("latin-1")
            self.problem = Invalid("the form ends within the field 'content'")

    def _on_data(self, data: bytes, start: int, end: int) -> None:
        if self._is_wanted:
            self._write(data[start:end])

    def _on_end(self) -> None:
        if self._is_wanted:
            self.problem, self._is_wanted = None, False


def _metadata(call: Call) -> dict[str, str]:
    """User metadata and that of lakeFS's own clients, from headers, whose bytes the server reads as UTF-8."""
    found = {}
    for name, value in call.headers.items():
        text = value.encode("latin-1").decode("utf-8", "replace")
        if name.startswith(_META):
            found[name.removeprefix(_META)] = text
        elif name.startswith(_INTERNAL):
            found[f"::lakefs::{name.removeprefix(_INTERNAL)}"] = text
    return found
