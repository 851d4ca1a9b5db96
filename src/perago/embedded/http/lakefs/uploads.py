"""Uploads: a raw body or a form, taken in piece by piece, large ones straight to disk."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from email.message import Message

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from perago.embedded.http.lakefs import answers
from perago.embedded.http.lakefs.calls import Call, call_of, run
from perago.embedded.http.lakefs.multipart import FormReader
from perago.embedded.http.lakefs.objects import NotImplementedByLakeFSError
from perago.embedded.http.lakefs.wire import JsonAnswer
from perago.embedded.lakefs.blobs import Blob, BlobSink
from perago.embedded.lakefs.errors import LakeFSError
from perago.embedded.lakefs.server import LakeFSServer
from perago.embedded.lakefs.staging import DEFAULT_CONTENT_TYPE

_META = "x-lakefs-meta-"
_WORD = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_MEDIA_TYPE = re.compile(rf"({_WORD})?\s*(/\s*({_WORD})?)?\s*")
_PARAMETERS = re.compile(rf'(;\s*{_WORD}=({_WORD}|"[^"]*")\s*)*;?\s*')


@dataclass(frozen=True, slots=True)
class _Received:
    """A body that was taken in. `problem` is what lakeFS says about it, once nothing else stands in the way."""

    blob: Blob
    content_type: str
    problem: LakeFSError | None = None


class UploadRequests:
    """POST of an object."""

    def __init__(self, server: LakeFSServer) -> None:
        self._server = server

    def routes(self, root: str) -> list[Route]:
        """The routes; `root` is one repository's path."""
        return [Route(f"{root}/branches/{{branch}}/objects", self._upload, methods=["POST"])]

    async def _upload(self, request: Request) -> Response:
        # The body is read to its end even if the upload is refused: a client that is still sending would see a broken
        # connection instead of the refusal.
        received = await self._receive(request)
        return await run(self._server, lambda: self._stage(call_of(request, {}), received))

    async def _receive(self, request: Request) -> _Received:
        content_type = request.headers.get("content-type") or DEFAULT_CONTENT_TYPE
        problem = _media_type_problem(content_type)
        with self._server.blobs.sink() as sink:
            form = None
            if problem is None and content_type.partition(";")[0].strip().lower() == "multipart/form-data":
                boundary = _boundary(content_type)
                form = FormReader(boundary, sink.write) if boundary else None
                problem = None if boundary else LakeFSError("no multipart boundary param in Content-Type")
            await _take_in(request, sink, sink.write if form is None else form.feed)
            if form is not None:
                content_type = form.content_type
                problem = form.problem()
            return _Received(sink.finish(), content_type, problem)

    def _stage(self, call: Call, received: _Received) -> Response:
        path, force = call.query.required("path"), call.query.flag("force")
        branch, if_none_match = call.names["branch"], call.headers.get("if-none-match")
        self._server.check_upload(call.repository, branch, path, if_absent=if_none_match == "*")
        if "if-match" in call.headers or if_none_match not in (None, "*"):
            raise NotImplementedByLakeFSError
        if received.problem is not None:
            raise received.problem
        entry = self._server.put_object(
            call.repository,
            branch,
            path,
            received.blob,
            content_type=received.content_type,
            metadata=_metadata(call),
            if_absent=if_none_match == "*",
            force=force,
        )
        return JsonAnswer({**answers.stats(entry), "content_type": entry.content_type}, 201)


async def _take_in(request: Request, sink: BlobSink, write: Callable[[bytes], None]) -> None:
    async for piece in request.stream():
        if sink.on_disk:
            await run_in_threadpool(write, piece)
        else:
            write(piece)


def _metadata(call: Call) -> dict[str, str]:
    """User metadata from the headers, whose bytes the server reads as UTF-8."""
    return {
        name[len(_META) :]: value.encode("latin-1").decode("utf-8", "replace")
        for name, value in call.headers.items()
        if name.startswith(_META)
    }


def _media_type_problem(content_type: str) -> LakeFSError | None:
    """What lakeFS says (with 500) about a content type that is none."""
    media_type, separator, parameters = content_type.partition(";")
    found = _MEDIA_TYPE.match(media_type.strip())
    if found is None or found[1] is None:
        return LakeFSError("mime: no media type")
    rest = media_type.strip()[found.end() :]
    if found[2] is None and rest:
        return LakeFSError("mime: expected slash after first token")
    if found[2] is not None and found[3] is None:
        return LakeFSError("mime: expected token after slash")
    if rest:
        return LakeFSError("mime: unexpected content after media subtype")
    if not _PARAMETERS.fullmatch(separator + parameters):
        return LakeFSError("mime: invalid media parameter")
    return None


def _boundary(content_type: str) -> str:
    message = Message()
    message["content-type"] = content_type
    found = message.get_boundary()
    return found or ""
