"""Upload files to a staging branch, on parallel streams: through lakeFS, or large ones directly to its block store.

lakeFS trusts the link call (`docs/dev/servers/lakefs.md`, "Presigned transfers"). So before a link, the MD5 of the sent
bytes must equal both the store's ETag and the result of the change detection.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar
from urllib.parse import quote

import xxhash

from perago.adapters.http_answers import typed
from perago.adapters.lakefs.block_store import DirectFailed
from perago.adapters.lakefs.session import SERVICE, Call, json_of, once, path_in
from perago.adapters.lakefs.transfers import Transfer, TransferPool, new_md5
from perago.cache import Addition, ObjectId, Shelf
from perago.ports import CorruptTransfer, Refused, ServiceError, Staged, Upload
from perago.retry import retry
from perago.workspace.scan import changed_since_scan, open_unchanged

if TYPE_CHECKING:
    from hashlib import _Hash

DIRECT = 1024 * 1024
"""The size in bytes from which a file goes directly to the store: the signed address and the link call are two
requests, and an upload through lakeFS is one."""
PART = 64 * 1024 * 1024
"""Bytes of a part. A larger file is sent in parts. The address of each part is requested just before it is sent."""
_MOST_PARTS = 10_000
_PLACE = "physical_address"
_URL = "presigned_url"
_CONTENT_TYPE = "application/octet-stream"
"""The content type of a file without one. The signatures of addresses include it."""
_CHUNK = 128 * 1024
"""Bytes that are sent in one step. Each chunk must be accepted within the connect limit, so this limits how slow a link
can be."""
T = TypeVar("T")
_Stored: TypeAlias = tuple[str, int, str]
"""The checksum, the size and the address of the object that a server says it stored."""


class Uploads:
    """One set of files for one branch (`WorkspaceStore.upload`)."""

    def __init__(self, transfer: Transfer, branch: str) -> None:
        self._transfer = transfer
        self._branch = branch
        self._path = path_in(transfer.repository, "branches", branch)

    def run(self, uploads: Sequence[Upload], on_staged: Staged | None) -> None:
        """Send all files; the first error stops the remaining ones."""
        with TransferPool(self._transfer, uploads, size=lambda upload: upload.size) as workers:

            def work(upload: Upload) -> None:
                self._send(upload, workers)
                if on_staged is not None:
                    on_staged(upload)

            workers.run(work)

    def _send(self, upload: Upload, workers: TransferPool[Upload]) -> None:
        repository = self._transfer.repository
        call = Call(f"stage {upload.key!r} on {self._branch} of {repository}", repository, f"branch {self._branch}")
        try:
            target = f"{self._path}/objects?path={quote(upload.key)}"
        except UnicodeEncodeError as error:
            raise Refused(SERVICE, call.operation, "the name is not valid UTF-8, which lakeFS cannot store") from error
        headers = _headers(call, upload)
        if upload.size >= DIRECT and self._send_directly(call, upload, workers):
            return
        retry(
            lambda: self._send_once(call, target, headers, upload, workers),
            self._transfer.session.policy.retries(),
            stopped=workers.stopped,
            notice=workers.notice,
        )

    def _send_once(
        self, call: Call, target: str, headers: Mapping[str, str | bytes], upload: Upload, workers: TransferPool[Upload]
    ) -> None:
        pool, limit = self._transfer.session.pool, self._transfer.seconds(upload.size)
        with _OpenFile(upload, self._transfer.shelf) as file:
            chunks = file.read(upload.size)
            body = b"".join(map(bytes, chunks)) if upload.size <= _CHUNK else chunks
            send = partial(pool.call, "POST", target, headers=headers, body=body, lasting=limit)
            with workers.wire.exchange(limit):
                stored = once(call, send, lambda answer: _stored(json_of(answer)))
            self._accept(call, file, stored)

    def _send_directly(self, call: Call, upload: Upload, workers: TransferPool[Upload]) -> bool:
        """Send a large file directly to the block store. Return False if it must go through lakeFS."""
        transfer, store = self._transfer, self._transfer.block_store
        if not store.takes_uploads:
            return False
        with workers.wire.exchange(transfer.seconds(0)):
            offer = store.offer()
        if not offer.objects:
            return False
        with _OpenFile(upload, transfer.shelf) as file:
            direct = DirectUpload(transfer, call, self._path, file)
            try:
                with workers.wire.exchange(transfer.seconds(upload.size, requests=4)):
                    stored = direct.run(parts=offer.parts)
            except ServiceError as error:
                workers.direct_failed(DirectFailed(f"lakeFS: {error.detail}"))
                return False
            except DirectFailed as failure:
                workers.direct_failed(failure)
                return False
            self._accept(call, file, stored)
        store.worked()
        return True

    def _accept(self, call: Call, file: _OpenFile, stored: _Stored) -> None:
        """Compare the stored object with the file that change detection saw, and put the file into the cache for the
        attempt that works on it next."""
        upload, (checksum, size, address) = file.upload, stored
        if size != upload.size or checksum != upload.checksum:
            what = f"{upload.path} changed while it was being published"
            detail = f"{what}: the server stored {size} bytes with checksum {checksum}"
            raise CorruptTransfer(SERVICE, call.operation, detail)
        if file.addition is not None:
            file.addition.finish(ObjectId(address, upload.checksum, upload.size), file.sent.digest())


class DirectUpload:
    """One file on its way to the block store. A failure leaves nothing visible behind. It raises `DirectFailed` for
    failures of the store, and `ServiceError` for lakeFS."""

    def __init__(self, transfer: Transfer, call: Call, branch_path: str, file: _OpenFile) -> None:
        """`branch_path`: the path of the branch in lakeFS's interface. The file must be at its beginning."""
        self._transfer = transfer
        self._call = call
        self._file = file
        self._upload = file.upload
        self._staging = f"{branch_path}/staging"
        self._path = f"path={quote(file.upload.key)}"
        self._whole = new_md5()

    def run(self, *, parts: bool) -> _Stored:
        """Send the file in one request, or in parts if it is large and the server signs `parts`. Return lakeFS's answer
        to the link call.

        Raises:
            FileChanging: the file has changed since change detection.
        """
        if parts and self._upload.size > PART:
            address = self._send_parts()
        else:
            address, url = self._ask(
                "GET",
                f"backing?{self._path}&presign=true",
                lambda reply: (typed(reply, dict), typed(reply[_URL], str, _URL)),
            )
            self._put(url, self._upload.size, self._whole)
            self._check_whole()
        link = {
            "staging": address,
            "checksum": self._upload.checksum,
            "size_bytes": self._upload.size,
            "content_type": self._upload.content_type or _CONTENT_TYPE,
            "user_metadata": dict(self._upload.metadata),
        }
        return self._ask("PUT", f"backing?{self._path}", _stored, link)

    def _send_parts(self) -> dict[str, Any]:
        place, upload_id = self._ask(
            "POST", f"pmpu?{self._path}", lambda reply: ({_PLACE: reply[_PLACE]}, str(reply["upload_id"])), {}
        )
        upload = f"pmpu/{quote(upload_id, safe='')}"
        try:
            sent = self._put_parts(upload, place)
            self._check_whole()
            self._ask("PUT", f"{upload}?{self._path}", _ignore, {**place, "parts": sent})
        except BaseException:
            with suppress(ServiceError):  # parts that are never completed cost storage, and nothing shows them
                self._ask("DELETE", f"{upload}?{self._path}", _ignore, place)
            raise
        return place

    def _put_parts(self, upload: str, place: dict[str, str]) -> list[dict[str, Any]]:
        size, left = max(PART, -(-self._upload.size // _MOST_PARTS)), self._upload.size
        sent: list[dict[str, Any]] = []
        while left:
            number, length = len(sent) + 1, min(size, left)
            target = f"{upload}/parts/{number}?{self._path}"
            address = self._ask("PUT", target, lambda reply: typed(reply[_URL], str, _URL), place)
            sent.append({"part_number": number, "etag": self._put(address, length, new_md5())})
            left -= length
        return sent

    def _put(self, address: str, length: int, digest: _Hash) -> str:
        """Send the next `length` bytes of the file to an address. Return the ETag of the store, which must be their MD5
        (`digest`)."""
        body = self._file.read(length, {digest, self._whole})
        headers = {"Content-Type": _CONTENT_TYPE, "Content-Length": str(length)}
        seconds = self._transfer.seconds(length)
        answer = self._transfer.block_store.call("PUT", address, headers=headers, body=body, seconds=seconds)
        etag = answer.headers.get("ETag", "").strip('"')
        if etag != digest.hexdigest():
            raise DirectFailed("the store's ETag is not the MD5 of the sent bytes", unproven=True)
        return etag

    def _check_whole(self) -> None:
        if self._whole.hexdigest() != self._upload.checksum:
            raise changed_since_scan(self._upload, "changed its bytes")

    def _ask(self, method: str, target: str, read: Callable[[Any], T], content: dict[str, Any] | None = None) -> T:
        """Send a request to lakeFS. Return the result of `read` for the JSON of its answer."""
        body = None if content is None else json.dumps(content).encode()
        headers = {"Content-Type": "application/json"} if body is not None else {}
        pool = self._transfer.session.pool
        send = partial(pool.call, method, f"{self._staging}/{target}", headers=headers, body=body)
        return once(self._call, send, lambda answer: read(json.loads(answer.body or b"null")))


class _OpenFile:
    """The open file of an upload, whose bytes go to the cache while they are sent. `sent` is the checksum of the bytes
    that were read so far."""

    def __init__(self, upload: Upload, shelf: Shelf | None) -> None:
        self.upload = upload
        self.handle: int = open_unchanged(upload)
        self.sent: xxhash.xxh3_128 = xxhash.xxh3_128()
        self.addition: Addition | None = shelf.begin(upload.size) if shelf is not None else None
        if self.addition is not None:
            self.addition.share(self.handle)

    def __enter__(self) -> _OpenFile:
        return self

    def __exit__(self, *_: object) -> None:
        if self.addition is not None:
            self.addition.discard()
        os.close(self.handle)

    def read(self, size: int, digests: Iterable[_Hash] = ()) -> Iterator[memoryview]:
        """Read exactly the next `size` bytes through one buffer, and update the digests."""
        buffer = memoryview(bytearray(min(_CHUNK, max(size, 1))))
        remaining = size
        while remaining:
            count = os.readv(self.handle, [buffer[: min(len(buffer), remaining)]])
            if not count:
                raise changed_since_scan(self.upload, f"lost its last {remaining} bytes")
            remaining -= count
            self.sent.update(buffer[:count])
            if self.addition is not None:
                self.addition.write(buffer[:count])
            for digest in digests:
                digest.update(buffer[:count])
            yield buffer[:count]


def _stored(reply: Any) -> _Stored:
    checksum, size = typed(reply["checksum"], str, "checksum"), typed(reply["size_bytes"], int, "size_bytes")
    return checksum, size, str(reply.get(_PLACE) or "")


def _ignore(_: object) -> None:
    """Ignore the content of an answer."""


def _headers(call: Call, upload: Upload) -> Mapping[str, str | bytes]:
    """Return content type, length and user metadata as headers; texts are sent as UTF-8 bytes."""
    named = {f"x-lakefs-meta-{name}": value for name, value in upload.metadata.items()}
    named["Content-Type"] = upload.content_type or _CONTENT_TYPE
    headers: dict[str, str | bytes] = {name: _header(call, name, value) for name, value in named.items()}
    headers["Content-Length"] = str(upload.size)
    return headers


def _header(call: Call, name: str, value: str) -> bytes:
    try:
        encoded = value.encode()
    except UnicodeEncodeError:
        encoded = b"\0"
    if not re.fullmatch(r"[!-9;-~]+", name) or re.search(rb"[\x00-\x08\x0a-\x1f\x7f]", encoded):
        raise Refused(SERVICE, call.operation, f"its {name!r} cannot be sent as a header")
    return encoded
