"""Files to a staging branch, on parallel streams."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from urllib.parse import quote

import xxhash

from perago.adapters.http import Answer, CallPolicy, HttpPool, NoAnswerError
from perago.adapters.http.retry import retry
from perago.adapters.lakefs import errors
from perago.adapters.lakefs.block_store import BlockStore, DirectFailed
from perago.adapters.lakefs.direct_upload import DIRECT, ChangedMeanwhile, DirectUpload
from perago.adapters.lakefs.errors import SERVICE, Call
from perago.adapters.lakefs.transfer_pool import TransferPool
from perago.cache import ObjectId, Shelf
from perago.ports import CorruptTransfer, Refused, Staged, Upload
from perago.workspace.sending import changed_since_scan, open_unchanged

_CHUNK = 128 * 1024  # each chunk must be taken within the connect limit, so this bounds how slow a link may be
_CONTENT_TYPE = "application/octet-stream"


class Uploads:
    """One set of files for one branch (`WorkspaceStore.upload`)."""

    def __init__(
        self,
        pool: HttpPool,
        policy: CallPolicy,
        threads: int,
        repository: str,
        branch: str,
        *,
        shelf: Shelf | None = None,
        block_store: BlockStore | None = None,
    ) -> None:
        """`shelf`: where what was sent is kept, for the attempt that works on it next. `block_store`: where large files
        are sent to, as far as that works."""
        self._shelf = shelf
        self._block_store = block_store
        self._pool = pool
        self._policy = policy
        self._threads = threads
        self._repository = repository
        self._branch = branch
        self._branch_path = f"/repositories/{quote(repository, safe='')}/branches/{quote(branch, safe='')}"
        self._target = f"{self._branch_path}/objects?path="

    def run(self, uploads: Sequence[Upload], on_staged: Staged | None) -> None:
        """Send all; the first error stops the rest."""
        with TransferPool(self._threads, self._policy, uploads, size=lambda upload: upload.size) as workers:

            def work(upload: Upload) -> None:
                self._send(upload, workers)
                if on_staged is not None:
                    on_staged(upload)

            workers.run(work)

    def _send(self, upload: Upload, workers: TransferPool[Upload]) -> None:
        call = Call(f"stage {upload.key!r} on {self._branch} of {self._repository}", self._repository, self._missing)
        target = self._target + _quoted(call, upload.key)
        headers = _headers(call, upload)
        if upload.size >= DIRECT and self._send_directly(call, upload, workers):
            return
        retry(
            lambda: self._send_once(call, target, headers, upload, workers),
            self._policy,
            stopped=workers.stopped,
            notice=workers.notice,
        )

    def _send_once(
        self, call: Call, target: str, headers: Mapping[str, str | bytes], upload: Upload, workers: TransferPool[Upload]
    ) -> None:
        handle, sent = open_unchanged(upload), xxhash.xxh3_128()
        try:
            chunks = _chunks(handle, upload, upload.size, sent)
            body = b"".join(map(bytes, chunks)) if upload.size <= _CHUNK else chunks
            limit = self._policy.connect + self._policy.answer + upload.size / self._policy.slowest
            with workers.wire.exchange(limit):
                answer = self._pool.call("POST", target, headers=headers, body=body, lasting=limit)
            if answer.status not in (200, 201):
                raise errors.refusal(call, answer)
            self._keep(ObjectId(_check_stored(call, upload, answer), upload.checksum, upload.size), handle, sent)
        except NoAnswerError as failure:
            raise errors.unanswered(call, failure) from failure
        finally:
            os.close(handle)

    def _send_directly(self, call: Call, upload: Upload, workers: TransferPool[Upload]) -> bool:
        """Send a large file to the block store itself; False if it has to go through lakeFS."""
        store = self._block_store
        if store is None or not store.takes_uploads:
            return False
        with workers.wire.exchange(self._policy.connect + self._policy.answer):
            offer = store.offer()
        if not offer.objects:
            return False
        handle, sent = open_unchanged(upload), xxhash.xxh3_128()
        try:
            direct = DirectUpload(
                self._pool,
                store,
                self._policy,
                self._branch_path,
                upload,
                lambda size: _chunks(handle, upload, size, sent),
            )
            seconds = 4 * (self._policy.connect + self._policy.answer) + upload.size / self._policy.slowest
            with workers.wire.exchange(seconds):
                answer = direct.run(parts=offer.parts)
            self._keep(ObjectId(_check_stored(call, upload, answer), upload.checksum, upload.size), handle, sent)
        except ChangedMeanwhile as error:
            raise changed_since_scan(upload, "changed its bytes") from error
        except DirectFailed as failure:
            workers.direct_failed(store, failure)
            return False
        finally:
            os.close(handle)
        store.worked()
        return True

    def _keep(self, stored: ObjectId, handle: int, sent: xxhash.xxh3_128) -> None:
        if self._shelf is not None:
            self._shelf.add(stored, handle, sent.digest())

    @property
    def _missing(self) -> str:
        return f"branch {self._branch}"


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


def _check_stored(call: Call, upload: Upload, answer: Answer) -> str:
    """Compare what the server says it stored with what change detection saw; returns where it has put the bytes."""
    try:
        stored = json.loads(answer.body)
        checksum, size, address = stored["checksum"], stored["size_bytes"], stored.get("physical_address") or ""
    except (ValueError, TypeError, KeyError) as error:
        raise errors.unreadable(call) from error
    if size != upload.size or checksum != upload.checksum:
        what = f"the server stored {size} bytes with checksum {checksum}"
        raise CorruptTransfer(SERVICE, call.operation, f"{upload.path} changed while it was being published: {what}")
    return str(address)


def _quoted(call: Call, key: str) -> str:
    try:
        return quote(key)
    except UnicodeEncodeError as error:
        raise Refused(SERVICE, call.operation, "the name is not valid UTF-8, which lakeFS cannot store") from error


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
