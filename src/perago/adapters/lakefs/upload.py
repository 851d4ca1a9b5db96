"""Files to a staging branch, on parallel streams."""

from __future__ import annotations

import errno
import json
import os
import re
import stat
from collections.abc import Iterator, Mapping, Sequence
from urllib.parse import quote

from perago.adapters.http import Answer, CallPolicy, HttpPool, NoAnswerError, retry
from perago.adapters.lakefs import errors
from perago.adapters.lakefs.errors import SERVICE, Call
from perago.adapters.lakefs.transfer_pool import JobQueue, TransferPool
from perago.cache import ObjectId, Shelf
from perago.ports import CorruptTransfer, Refused, Staged, Upload
from perago.workspace.descent import open_file
from perago.workspace.errors import EXHAUSTED

_CHUNK = 128 * 1024  # each chunk must be taken within the connect limit, so this bounds how slow a link may be
_CONTENT_TYPE = "application/octet-stream"
_CHANGED = "changed while it was being published"
_REPLACED = {
    errno.ELOOP: "is a symbolic link now",
    errno.ENOTDIR: "a directory on the way to it is a symbolic link or a file now",
}


class Uploads:
    """One set of files for one branch (`WorkspaceStore.upload`)."""

    def __init__(
        self,
        pool: HttpPool,
        policy: CallPolicy,
        threads: int,
        repository: str,
        branch: str,
        shelf: Shelf | None = None,
    ) -> None:
        """`shelf`: where what was sent is kept, for whichever attempt works on it next."""
        self._shelf = shelf
        self._pool = pool
        self._policy = policy
        self._threads = threads
        self._repository = repository
        self._branch = branch
        self._target = f"/repositories/{quote(repository, safe='')}/branches/{quote(branch, safe='')}/objects?path="

    def run(self, uploads: Sequence[Upload], on_staged: Staged | None) -> None:
        """Send all; the first error stops the rest."""
        jobs = JobQueue(uploads, size=lambda upload: upload.size)

        def work(thread: int) -> None:
            while not workers.stopped.is_set() and (upload := jobs.take(thread)) is not None:
                self._send(upload, workers)
                if on_staged is not None:
                    on_staged(upload)

        with TransferPool() as workers:
            workers.start(jobs.width(self._threads), work)
            workers.join()

    def _send(self, upload: Upload, workers: TransferPool) -> None:
        call = Call(f"stage {upload.key!r} on {self._branch} of {self._repository}", self._repository, self._missing)
        target = self._target + _quoted(call, upload.key)
        headers = _headers(call, upload)
        retry(lambda: self._send_once(call, target, headers, upload, workers), self._policy, stopped=workers.stopped)

    def _send_once(
        self, call: Call, target: str, headers: Mapping[str, str | bytes], upload: Upload, workers: TransferPool
    ) -> None:
        handle = _open(call, upload)
        try:
            body = _small(call, handle, upload) if upload.size <= _CHUNK else _chunks(call, handle, upload)
            limit = self._policy.connect + self._policy.answer + upload.size / self._policy.slowest
            with workers.wire.exchange(limit):
                answer = self._pool.call("POST", target, headers=headers, body=body, lasting=limit)
            if answer.status not in (200, 201):
                raise errors.refusal(call, answer)
            address = _check_stored(call, upload, answer)
            if self._shelf is not None:  # from the same open file, so these are the bytes that the server has hashed
                self._shelf.add(ObjectId(address, upload.checksum, upload.size), handle, is_checked=False)
        except NoAnswerError as failure:
            raise errors.unanswered(call, failure) from failure
        finally:
            os.close(handle)

    @property
    def _missing(self) -> str:
        return f"branch {self._branch}"


def _open(call: Call, upload: Upload) -> int:
    """The file, if it still is what change detection saw. Never follows a link, never waits on a FIFO."""
    try:
        handle = open_file(*upload.place)
    except OSError as error:
        if error.errno in EXHAUSTED:
            raise
        what = _REPLACED.get(error.errno or 0) or error.strerror or "cannot be opened"
        raise _changed(call, upload, what) from error
    status = os.fstat(handle)
    if stat.S_ISREG(status.st_mode) and status.st_size == upload.size:
        return handle
    os.close(handle)
    if not stat.S_ISREG(status.st_mode):
        raise _changed(call, upload, "is no regular file now")
    raise _changed(call, upload, f"has {status.st_size} bytes now, not {upload.size}")


def _small(call: Call, handle: int, upload: Upload) -> bytes:
    return b"".join(bytes(chunk) for chunk in _chunks(call, handle, upload))


def _chunks(call: Call, handle: int, upload: Upload) -> Iterator[memoryview]:
    """Exactly as many bytes as announced, through one buffer."""
    buffer = memoryview(bytearray(min(_CHUNK, max(upload.size, 1))))
    remaining = upload.size
    while remaining:
        count = os.readv(handle, [buffer[: min(len(buffer), remaining)]])
        if not count:
            raise _changed(call, upload, f"ended {remaining} bytes early")
        remaining -= count
        yield buffer[:count]


def _check_stored(call: Call, upload: Upload, answer: Answer) -> str:
    """Compare what the server says it stored with what change detection saw; returns where it has put the bytes."""
    try:
        stored = json.loads(answer.body)
        checksum, size, address = stored["checksum"], stored["size_bytes"], stored.get("physical_address") or ""
    except (ValueError, TypeError, KeyError) as error:
        raise errors.unreadable(call) from error
    if size != upload.size or checksum != upload.checksum:
        raise _changed(call, upload, f"the server stored {size} bytes with checksum {checksum}")
    return str(address)


def _changed(call: Call, upload: Upload, what: str) -> CorruptTransfer:
    return CorruptTransfer(SERVICE, call.operation, f"{upload.path} {_CHANGED}: {what}")


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
