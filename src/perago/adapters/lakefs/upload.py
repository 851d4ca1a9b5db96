"""Files to a staging branch, on parallel streams: through lakeFS, or large ones straight to its block store.

lakeFS believes what a link says (`docs/dev/servers/lakefs.md` 8). So the MD5 of what was sent must be both the store's
ETag and what change detection saw, before anything is linked.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import xxhash

from perago.adapters.http import Answer, NoAnswerError
from perago.adapters.lakefs import errors
from perago.adapters.lakefs.block_store import DirectFailed
from perago.adapters.lakefs.errors import SERVICE, Call
from perago.adapters.lakefs.fetch import new_md5
from perago.adapters.lakefs.transfers import Transfer, TransferPool
from perago.cache import ObjectId
from perago.ports import CorruptTransfer, Refused, Staged, Upload
from perago.retry import retry
from perago.workspace.scan import changed_since_scan, open_unchanged

if TYPE_CHECKING:
    from hashlib import _Hash


DIRECT = 1024 * 1024
"""Bytes from which a file goes to the store: the signed address and the link are two requests, a small file is one."""
PART = 64 * 1024 * 1024
"""Bytes of a part. A larger file is sent in parts, each with an address that is asked for when its turn comes."""
_MOST_PARTS = 10_000
_TYPE = {"Content-Type": "application/octet-stream"}
"""The content that the addresses are signed for."""

Read = Callable[[int], Iterator[memoryview]]
"""The next so many bytes of the file."""


class DirectUpload:
    """One file on its way to a branch. Raises `DirectFailed` for all that the store or lakeFS do not do, and leaves
    nothing behind then that is visible."""

    def __init__(self, transfer: Transfer, branch_path: str, upload: Upload, read: Read) -> None:
        """`branch_path`: the path of the branch in lakeFS's interface. `read` starts at the beginning of the file."""
        self._transfer = transfer
        self._upload = upload
        self._read = read
        self._staging = f"{branch_path}/staging"
        self._path = f"path={quote(upload.key)}"
        self._whole = new_md5()

    def run(self, *, parts: bool) -> Answer:
        """Send the file, as one or, if it is large and the server signs `parts`, in parts; returns lakeFS's answer to
        the link.

        Raises:
            DirectFailed: it did not work.
            FileChanging: the file is not what change detection saw any more.
        """
        in_parts = parts and self._upload.size > PART
        address = self._send_parts() if in_parts else self._send_whole()
        link = {
            "staging": address,
            "checksum": self._upload.checksum,
            "size_bytes": self._upload.size,
            "content_type": self._upload.content_type or "application/octet-stream",
            "user_metadata": dict(self._upload.metadata),
        }
        return self._ask("PUT", f"backing?{self._path}", link)

    def _send_whole(self) -> dict[str, Any]:
        address = self._fields(self._ask("GET", f"backing?{self._path}&presign=true"))
        self._put(_text(address, "presigned_url"), self._upload.size, self._whole)
        self._check_whole()
        return address

    def _send_parts(self) -> dict[str, Any]:
        begun = self._fields(self._ask("POST", f"pmpu?{self._path}", {}))
        place = {"physical_address": _text(begun, "physical_address")}
        upload = f"pmpu/{quote(_text(begun, 'upload_id'), safe='')}"
        try:
            sent = self._put_parts(upload, place)
            self._check_whole()
            self._ask("PUT", f"{upload}?{self._path}", {**place, "parts": sent})
        except BaseException:
            with suppress(DirectFailed):  # parts that are never completed cost storage, and nothing shows them
                self._ask("DELETE", f"{upload}?{self._path}", place)
            raise
        return place

    def _put_parts(self, upload: str, place: dict[str, str]) -> list[dict[str, Any]]:
        size, left = max(PART, -(-self._upload.size // _MOST_PARTS)), self._upload.size
        sent: list[dict[str, Any]] = []
        while left:
            number, length = len(sent) + 1, min(size, left)
            signed = self._fields(self._ask("PUT", f"{upload}/parts/{number}?{self._path}", place))
            sent.append({"part_number": number, "etag": self._put(_text(signed, "presigned_url"), length, new_md5())})
            left -= length
        return sent

    def _put(self, address: str, length: int, digest: _Hash) -> str:
        """Send the next `length` bytes of the file to an address; returns their MD5 (`digest`), the store's ETag."""
        body = self._hashed(length, digest)
        headers, seconds = {**_TYPE, "Content-Length": str(length)}, self._transfer.seconds(length)
        answer = self._transfer.block_store.call("PUT", address, headers=headers, body=body, seconds=seconds)
        etag = answer.headers.get("ETag", "").strip('"')
        if etag != digest.hexdigest():
            raise DirectFailed("the store's ETag is not the MD5 of what was sent", unproven=True)
        return etag

    def _hashed(self, length: int, part: _Hash) -> Iterator[memoryview]:
        for chunk in self._read(length):
            part.update(chunk)
            if part is not self._whole:
                self._whole.update(chunk)
            yield chunk

    def _check_whole(self) -> None:
        if self._whole.hexdigest() != self._upload.checksum:
            raise changed_since_scan(self._upload, "changed its bytes")

    def _ask(self, method: str, target: str, content: dict[str, Any] | None = None) -> Answer:
        body = None if content is None else json.dumps(content).encode()
        headers = {"Content-Type": "application/json"} if body is not None else {}
        try:
            answer = self._transfer.pool.call(method, f"{self._staging}/{target}", headers=headers, body=body)
        except NoAnswerError as failure:
            raise DirectFailed(f"lakeFS: {failure.text}") from failure
        if not 200 <= answer.status < 300:
            raise DirectFailed(f"lakeFS answers {answer.status} to {method} {target.partition('?')[0].split('/')[0]}")
        return answer

    def _fields(self, answer: Answer) -> dict[str, Any]:
        try:
            found = json.loads(answer.body)
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise DirectFailed("lakeFS's answer has no address")
        return found


def _text(fields: dict[str, Any], name: str) -> str:
    value = fields.get(name)
    if not isinstance(value, str) or not value:
        raise DirectFailed(f"lakeFS's answer has no {name}")
    return value


_CHUNK = 128 * 1024  # each chunk must be taken within the connect limit, so this bounds how slow a link may be
_CONTENT_TYPE = "application/octet-stream"


class Uploads:
    """One set of files for one branch (`WorkspaceStore.upload`)."""

    def __init__(self, transfer: Transfer, branch: str) -> None:
        self._transfer = transfer
        self._branch = branch
        self._branch_path = f"/repositories/{quote(transfer.repository, safe='')}/branches/{quote(branch, safe='')}"

    def run(self, uploads: Sequence[Upload], on_staged: Staged | None) -> None:
        """Send all; the first error stops the rest."""
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
            target = f"{self._branch_path}/objects?path={quote(upload.key)}"
        except UnicodeEncodeError as error:
            raise Refused(SERVICE, call.operation, "the name is not valid UTF-8, which lakeFS cannot store") from error
        headers = _headers(call, upload)
        if upload.size >= DIRECT and self._send_directly(call, upload, workers):
            return
        retry(
            lambda: self._send_once(call, target, headers, upload, workers),
            self._transfer.policy.retries(),
            stopped=workers.stopped,
            notice=workers.notice,
        )

    def _send_once(
        self, call: Call, target: str, headers: Mapping[str, str | bytes], upload: Upload, workers: TransferPool[Upload]
    ) -> None:
        with _opened(upload) as (handle, sent):
            chunks = _chunks(handle, upload, upload.size, sent)
            body = b"".join(map(bytes, chunks)) if upload.size <= _CHUNK else chunks
            limit = self._transfer.seconds(upload.size)
            try:
                with workers.wire.exchange(limit):
                    answer = self._transfer.pool.call("POST", target, headers=headers, body=body, lasting=limit)
            except NoAnswerError as failure:
                raise errors.unanswered(call, failure) from failure
            if answer.status not in (200, 201):
                raise errors.refusal(call, answer)
            self._check_stored(call, upload, answer, handle, sent)

    def _send_directly(self, call: Call, upload: Upload, workers: TransferPool[Upload]) -> bool:
        """Send a large file to the block store itself; False if it has to go through lakeFS."""
        transfer, store = self._transfer, self._transfer.block_store
        if not store.takes_uploads:
            return False
        with workers.wire.exchange(transfer.seconds(0)):
            offer = store.offer()
        if not offer.objects:
            return False
        with _opened(upload) as (handle, sent):
            direct = DirectUpload(transfer, self._branch_path, upload, lambda size: _chunks(handle, upload, size, sent))
            try:
                with workers.wire.exchange(transfer.seconds(upload.size, requests=4)):
                    answer = direct.run(parts=offer.parts)
            except DirectFailed as failure:
                workers.direct_failed(failure)
                return False
            self._check_stored(call, upload, answer, handle, sent)
        store.worked()
        return True

    def _check_stored(self, call: Call, upload: Upload, answer: Answer, handle: int, sent: xxhash.xxh3_128) -> None:
        """Compare what the server says it stored with what change detection saw, and put the file on the shelf for the
        attempt that works on it next."""
        try:
            stored = json.loads(answer.body)
            checksum, size, address = stored["checksum"], stored["size_bytes"], stored.get("physical_address") or ""
        except (ValueError, TypeError, KeyError) as error:
            raise errors.unreadable(call) from error
        if size != upload.size or checksum != upload.checksum:
            what = f"{upload.path} changed while it was being published"
            detail = f"{what}: the server stored {size} bytes with checksum {checksum}"
            raise CorruptTransfer(SERVICE, call.operation, detail)
        if self._transfer.shelf is not None:
            self._transfer.shelf.add(ObjectId(str(address), upload.checksum, upload.size), handle, sent.digest())


@contextmanager
def _opened(upload: Upload) -> Iterator[tuple[int, xxhash.xxh3_128]]:
    """The open file and the checksum of what is sent of it."""
    handle = open_unchanged(upload)
    try:
        yield handle, xxhash.xxh3_128()
    finally:
        os.close(handle)


def _chunks(handle: int, upload: Upload, size: int, sent: xxhash.xxh3_128) -> Iterator[memoryview]:
    """Read exactly the next `size` bytes of the file through one buffer, and update their checksum."""
    buffer = memoryview(bytearray(min(_CHUNK, max(size, 1))))
    remaining = size
    while remaining:
        count = os.readv(handle, [buffer[: min(len(buffer), remaining)]])
        if not count:
            raise changed_since_scan(upload, f"lost its last {remaining} bytes")
        remaining -= count
        sent.update(buffer[:count])
        yield buffer[:count]


def _headers(call: Call, upload: Upload) -> Mapping[str, str | bytes]:
    """Content type, length and user metadata; texts travel as UTF-8 bytes."""
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
