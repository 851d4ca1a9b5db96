"""A block store that takes and gives objects by signed addresses, as S3 does behind lakeFS (docs/servers/lakefs.md 8).

It lies beside the API of the same application, which signs the addresses. Parts of large uploads are not modelled, and
the server's configuration says so.
"""

from __future__ import annotations

import hmac
import secrets
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from perago.embedded.http.lakefs import answers
from perago.embedded.http.lakefs.calls import Call
from perago.embedded.lakefs.server import LakeFSServer
from perago.embedded.lakefs.values import Blob, Entry

STORE = "/block-store/"
_SECONDS = 900
"""How long an address is good, as on a real server."""


class SignedStore:
    """The store, and the key that its addresses are signed with."""

    def __init__(self, server: LakeFSServer, now: Callable[[], float] = time.time) -> None:
        """`now`: the clock by which addresses end, in seconds since the epoch."""
        self._server = server
        self._now = now
        self._key = secrets.token_bytes(32)
        self._blobs: dict[str, Blob] = {}
        """What can be read, and what was put, by physical address."""

    @property
    def config(self) -> dict[str, Any]:
        """What the server says about itself."""
        storage = {**answers.STORAGE_CONFIG, "blockstore_type": "s3", "pre_sign_support": True}
        return {**answers.CONFIG, "storage_config": storage}

    def readable(self, call: Call, entry: Entry, described: dict[str, Any]) -> dict[str, Any]:
        """The description of an object with a signed address in the place of its own."""
        if not entry.blob.is_elsewhere:
            self._blobs[entry.address] = entry.blob
        ends = int(self._now()) + _SECONDS
        return {
            **described,
            "physical_address": self._sign(call, "GET", entry.address, ends),
            "physical_address_expiry": ends,
        }

    def writable(self, call: Call, address: str) -> dict[str, Any]:
        """A new address of the store, to be written to and then linked."""
        ends = int(self._now()) + _SECONDS
        signed = self._sign(call, "PUT", address, ends)
        return {"physical_address": address, "presigned_url": signed, "presigned_url_expiry": ends}

    def linked(self, address: str, size: int, checksum: str) -> Blob:
        """The bytes that were put at an address, if there are any. Size and checksum are believed."""
        return replace(self._blobs.get(address, Blob(0, "")), size=size, checksum=checksum)

    def routes(self) -> list[Route]:
        """Reading from and writing to signed addresses."""
        return [Route(f"{STORE}{{address:path}}", self._answer, methods=["GET", "PUT"])]

    def _sign(self, call: Call, method: str, address: str, ends: int) -> str:
        host, signature = call.headers["host"], self._signature(method, address, str(ends))
        return f"http://{host}{STORE}{quote(address)}?expires={ends}&signature={signature}"

    def _signature(self, method: str, address: str, ends: str) -> str:
        return hmac.digest(self._key, f"{method}\n{address}\n{ends}".encode(), "sha256").hex()

    async def _answer(self, request: Request) -> Response:
        address, ends = request.path_params["address"], request.query_params.get("expires", "")
        signature = request.query_params.get("signature", "")
        if "authorization" in request.headers:
            return _refusal(400, "InvalidArgument", "Only one auth mechanism allowed")
        if not hmac.compare_digest(signature, self._signature(request.method, address, ends)):
            return _refusal(403, "SignatureDoesNotMatch", "The signature does not match")
        if self._now() >= int(ends):
            return _refusal(403, "AccessDenied", "Request has expired")
        if request.method == "PUT":
            return await self._put(request, address)
        blob = self._blobs.get(address)
        if blob is None:
            return _refusal(404, "NoSuchKey", "The specified key does not exist")
        headers = {"ETag": f'"{blob.checksum}"', "Content-Length": str(blob.size)}
        return StreamingResponse(blob.chunks(), 200, headers, "application/octet-stream")

    async def _put(self, request: Request, address: str) -> Response:
        with self._server.blobs.sink() as sink:
            async for piece in request.stream():
                sink.write(piece)
            blob = self._blobs[address] = sink.finish()
        return Response(status_code=200, headers={"ETag": f'"{blob.checksum}"'})


def _refusal(status: int, code: str, message: str) -> Response:
    text = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>{message}</Message></Error>"
    return Response(text, status, media_type="application/xml")
