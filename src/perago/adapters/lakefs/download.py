"""Download objects to disk, on parallel streams, as files that appear complete or not at all.

A checksum can only be computed from the first byte to the last. A chunk that arrives in order is hashed in memory. A
chunk that arrives early is read back from the disk later, which the page cache makes cheap.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from http.client import HTTPException
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeAlias
from urllib.parse import quote

import xxhash
from urllib3.exceptions import HTTPError
from urllib3.response import BaseHTTPResponse

from perago.adapters.http import Answer
from perago.adapters.http_answers import NoAnswerError, clean, no_answer, unanswered
from perago.adapters.http_connections import Wire
from perago.adapters.lakefs.block_store import STORE, Addresses, DirectFailed, check_status
from perago.adapters.lakefs.session import SERVICE, Call, path_in, refusal
from perago.adapters.lakefs.transfers import Transfer, TransferPool, new_md5
from perago.cache import ObjectId
from perago.ports import CorruptTransfer, ObjectEntry, Placement, Progress, Unavailable
from perago.retry import retry

if TYPE_CHECKING:
    from hashlib import _Hash

LARGEST_WHOLE = 64 * 1024 * 1024
"""Bytes of the largest object that one thread downloads. Larger ones are downloaded as parallel ranges."""
RANGE = 32 * 1024 * 1024
"""Bytes of the largest range of an object that is downloaded in ranges."""
CHUNK = 1024 * 1024
SMALL = 64 * 1024
"""Bytes of the largest object that is copied from the cache before the threads of the transfer start."""
EMPTY_MD5 = "d41d8cd98f00b204e9800998ecf8427e"
_MD5 = re.compile(r"[0-9a-f]{32}")
_AT_ONCE = 8
"""Number of chunks that are read back before a thread reads its connection again."""
_LAKEFS_SECONDS = 600.0
"""Seconds that threads together wait for requests to lakeFS. Each request has its own shorter limit."""
_MOST_BREAKS = 3
"""The number of broken connections within one range, each after some bytes, before the rest is downloaded through
lakeFS."""
_LONGEST_ERROR = 64 * 1024
_PARTIAL, _NO_SUCH_RANGE = 206, 416
_FLAGS = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
_MODE = 0o644


class Download:
    """One download of objects of a commit (`WorkspaceStore.download`)."""

    def __init__(self, transfer: Transfer, commit: str) -> None:
        self._transfer = transfer
        self._shelf = transfer.shelf
        self._store = transfer.block_store
        self._commit = commit
        # By commit id, because a read by branch would include staged objects.
        self._target = path_in(transfer.repository, "refs", commit, "objects") + "?path="
        self._placements: list[tuple[ObjectEntry, Path]] = []
        self._addresses: Addresses | None = None
        self._addresses_lock = threading.Lock()
        self._objections: dict[str, CorruptTransfer] = {}
        """Errors that the block store reported for objects that have not arrived since, by key."""

    def run(self, workspace: Path, placements: Sequence[Placement], on_progress: Progress) -> int:
        """Download all objects that have a place on the disk. Return how many the cache had."""
        self._placements = [(placement.entry, placement.path) for placement in placements if placement.path is not None]
        objects, size, lock = 0, 0, threading.Lock()

        def arrived(entry: ObjectEntry) -> None:
            nonlocal objects, size
            with lock:
                objects, size = objects + 1, size + entry.size
                on_progress(objects, size)

        with FileWriter(workspace, {path.parent for _, path in self._placements}) as writer:
            left = self._copy_small(writer, arrived)
            with TransferPool(self._transfer, self._jobs(left), size=_size_of) as workers:

                def work(job: _Job) -> None:
                    span = job if isinstance(job, Range) else Arrival(*job).ranges[0]
                    if self._download(span, writer, workers):
                        arrived(span.arrival.entry)

                workers.run(work)
        return self._shelf.hits if self._shelf is not None else 0

    def _is_on_the_shelf(self, entry: ObjectEntry) -> bool:
        return self._shelf is not None and self._shelf.holds(object_id(entry))

    def _copy_small(self, writer: FileWriter, arrived: Callable[[ObjectEntry], None]) -> list[tuple[ObjectEntry, Path]]:
        """Copy the small objects that the cache has. Return the other ones. Several threads would wait for each other
        longer than such a copy takes."""
        if self._shelf is None:
            return self._placements
        left, file = [], None
        for entry, path in self._placements:
            if 0 < entry.size <= SMALL:
                file = file or writer.begin()
                if self._shelf.copy_to(object_id(entry), file.handle):
                    writer.finish(file, entry, path)
                    file = None
                    arrived(entry)
                    continue
            left.append((entry, path))
        return left

    def _jobs(self, placements: Iterable[tuple[ObjectEntry, Path]]) -> Iterator[_Job]:
        for entry, path in placements:
            if entry.size > LARGEST_WHOLE and has_md5(entry) and not self._is_on_the_shelf(entry):
                if self._shelf is not None:
                    self._shelf.note_miss()
                yield from Arrival(entry, path, parts=-(-entry.size // RANGE)).ranges
            else:
                yield entry, path

    def _download(self, span: Range, writer: FileWriter, workers: TransferPool[_Job]) -> bool:
        """Fill a range. Return whether its object is complete and in its place.

        Ranges are only a faster way. If one of them fails in an unexpected way, the complete object is downloaded
        instead.
        """
        arrival = span.arrival
        arrival.begin(writer)
        try:
            if not arrival.is_given_up:
                self._fill(span, workers)
        except CorruptTransfer:
            if span.is_whole:
                raise
            arrival.is_given_up = True
        if not arrival.was_last():
            return False
        if not span.is_whole and (arrival.is_given_up or arrival.mismatch() is not None):
            writer.discard(arrival.file)
            return self._download(Arrival(arrival.entry, arrival.path).ranges[0], writer, workers)
        if arrival.was_fetched:
            self._objections.pop(arrival.entry.key, None)
            if self._shelf is not None:
                self._shelf.add(object_id(arrival.entry), arrival.file.handle, arrival.checksum)
        writer.finish(arrival.file, arrival.entry, arrival.path)
        return True

    def _fill(self, span: Range, workers: TransferPool[_Job]) -> None:
        """Fill a range from the cache, or from the servers."""
        entry, file = span.arrival.entry, span.arrival.file.handle
        if entry.size == 0 and entry.checksum == EMPTY_MD5:
            return  # nothing to ask for
        is_new = span.is_whole and entry.size > SMALL  # `_copy_small` has tried the others
        if is_new and self._shelf is not None and self._shelf.copy_to(object_id(entry), file):
            return
        self._fetch(span, workers)
        span.arrival.was_fetched = True

    def _fetch(self, span: Range, workers: TransferPool[_Job]) -> None:
        if self._fetch_directly(span, workers):
            return
        try:
            retry(
                lambda: self.fetch_through_lakefs(span, workers.wire),
                self._transfer.session.policy.retries(
                    (Unavailable, CorruptTransfer) if span.is_whole else (Unavailable,)
                ),
                stopped=workers.stopped,
                notice=workers.notice,
            )
        except Unavailable as error:
            if not (objections := list(self._objections.values())):
                raise
            # lakeFS breaks off where the store has fewer bytes than the listing says. That looks like an outage.
            raise objections[0] from error

    def fetch_through_lakefs(self, span: Range, wire: Wire) -> None:
        """Send one request for the rest of a range. An object with a single range is verified at the end.

        Raises:
            CorruptTransfer: size, MD5 or position of the bytes are wrong. An object with a single range then begins
                again.
            Unavailable: no complete answer; the received bytes stay.
            NotFound, AccessDenied, Refused: by status.
        """
        target = self._target + quote(span.arrival.entry.key)
        try:
            self._exchange(span, wire, SERVICE, partial(self._transfer.session.pool.open, "GET", target))
        except NoAnswerError as failure:
            raise unanswered(SERVICE, self._call(span).operation, failure) from failure

    def _fetch_directly(self, span: Range, workers: TransferPool[_Job]) -> bool:
        """Fill a range from the block store. Return False if the rest must be downloaded through lakeFS.

        An object without an MD5 is downloaded through lakeFS if an attacker on that connection could have changed its
        address.
        """
        entry = span.arrival.entry
        if not (self._store.encrypted or has_md5(entry)):
            return False
        with workers.wire.exchange(_LAKEFS_SECONDS):
            if not self._store.offer().objects:
                return False
        try:
            self._fetch_by_addresses(span, workers.wire)
        except CorruptTransfer as error:
            self._objections[entry.key] = error
            workers.direct_failed(DirectFailed(error.detail))
            return False
        except DirectFailed as failure:
            workers.direct_failed(failure)
            return False
        self._store.worked()
        return True

    def _fetch_by_addresses(self, span: Range, wire: Wire) -> None:
        """Ask once more for an address that the store refuses, perhaps because it has expired."""
        key, used, breaks = span.arrival.entry.key, "", 0
        while True:
            before, address = span.at, self._address(key, wire, other_than=used)
            try:
                return self._exchange(span, wire, STORE, partial(self._store.open, "GET", address))
            except (NoAnswerError, DirectFailed) as error:
                failure = DirectFailed(error.text) if isinstance(error, NoAnswerError) else error
            if failure.refused and not used:
                used = address
            elif span.at > before and breaks < _MOST_BREAKS:
                breaks += 1
            else:
                raise failure

    def _address(self, key: str, wire: Wire, *, other_than: str) -> str:
        with wire.exchange(_LAKEFS_SECONDS):
            with self._addresses_lock:
                if self._addresses is None:
                    missing = [entry for entry, _ in self._placements if not self._is_on_the_shelf(entry)]
                    pool, repository = self._transfer.session.pool, self._transfer.repository
                    self._addresses = Addresses(pool, repository, self._commit, missing)
            address = self._addresses.of(key, other_than=other_than)
        if address is None:
            raise DirectFailed(self._addresses.problem, unreachable=True)
        return address

    def _call(self, span: Range) -> Call:
        """Return the words of a message about reading an object."""
        key, repository = span.arrival.entry.key, self._transfer.repository
        return Call(f"read {key!r} of {repository}", repository, f"object {key!r}")

    def _exchange(self, span: Range, wire: Wire, source: str, send: Callable[..., BaseHTTPResponse]) -> None:
        """Send one request for the rest of a range, and write the bytes to their file."""
        call = self._call(span)
        if span.at > span.start and not has_md5(span.arrival.entry):
            span.arrival.restart()
        expected = span.end - span.start  # a server may send the whole where the rest of it was asked for
        asked = span.header
        with wire.exchange(self._transfer.seconds(expected)):
            response = send(headers={"Range": asked} if asked else {})
            try:
                _check_status(call, response, source, is_partial=asked is not None)
                _receive(call, span, response, source)
                response.release_conn()
            except CorruptTransfer:
                response.close()
                if span.is_whole:
                    span.arrival.restart()
                raise
            except BaseException:
                response.close()
                raise


def _corrupt(call: Call, what: str) -> CorruptTransfer:
    """Return the error for an object that differs from its entry in the listing."""
    return CorruptTransfer(SERVICE, call.operation, f"{what}, which differs from the listing")


def _check_status(call: Call, response: BaseHTTPResponse, source: str, *, is_partial: bool) -> None:
    if response.status == 200 or (is_partial and response.status == _PARTIAL):
        return
    if is_partial and response.status == _NO_SUCH_RANGE:
        raise _corrupt(call, "the server has fewer bytes")
    if source == STORE:
        check_status(response.status, response.headers)
    try:
        body = response.read(_LONGEST_ERROR)
    except (HTTPError, HTTPException, OSError) as error:
        raise no_answer(error) from error
    raise refusal(call, Answer(response.status, response.headers, body))


def _check_head(call: Call, span: Range, response: BaseHTTPResponse, source: str) -> None:
    """Check that the announced bytes are the missing ones."""
    arrival = span.arrival
    if response.status == _PARTIAL:
        place = response.headers.get("Content-Range", "no place of its bytes")
        if place != f"bytes {span.at}-{span.end - 1}/{arrival.entry.size}":
            raise _corrupt(call, f"the server sends {clean(place)}")
    elif span.is_whole and span.at:
        arrival.restart()
    elif not span.is_whole:
        raise _corrupt(call, "the server sends no ranges")
    announced = response.headers.get("Content-Length")
    if announced is not None and announced != str(span.left):
        raise _corrupt(call, f"the server sends {clean(announced)} bytes")
    if not arrival.is_version(source, response.headers.get("ETag")):
        raise _corrupt(call, "the object was replaced during the download")


def _receive(call: Call, span: Range, response: BaseHTTPResponse, source: str) -> None:
    """Read the body in chunks. Ask for one byte more than is missing, so that a body that is too long is noticed."""
    _check_head(call, span, response, source)
    while True:
        try:
            chunk = response.read(min(CHUNK, span.left + 1))
        except (HTTPError, HTTPException, OSError) as error:
            raise no_answer(error) from error
        if not chunk:
            break
        if len(chunk) > span.left:
            raise _corrupt(call, f"the server sends more than {span.arrival.entry.size} bytes")
        span.add(chunk)
    if span.left:
        got, size = span.at - span.start, span.end - span.start
        raise NoAnswerError(f"the answer was cut off after {got} of {size} bytes", sent=True)
    if span.is_whole and (wrong := span.arrival.mismatch()):
        raise _corrupt(call, wrong)


class Arrival:
    """One object during its download. Each range is filled by one thread at a time."""

    file: Unfinished

    def __init__(self, entry: ObjectEntry, path: Path, parts: int = 1) -> None:
        """`parts`: the number of ranges of about equal size."""
        self.entry = entry
        self.path = path
        edges = [entry.size * number // parts for number in range(parts + 1)]
        self.ranges: list[Range] = [Range(self, start, end) for start, end in itertools.pairwise(edges)]
        self.was_fetched = self.is_given_up = False
        self._left = parts
        self._lock = threading.Lock()
        self.restart()

    def begin(self, writer: FileWriter) -> None:
        """Make the file, for the first of the ranges."""
        with self._lock:
            if not hasattr(self, "file"):
                self.file = writer.begin()

    def was_last(self) -> bool:
        """Record that a range has ended. Return whether all ranges have ended."""
        with self._lock:
            self._left -= 1
            return self._left == 0

    def is_version(self, source: str, etag: str | None) -> bool:
        """Whether an answer has the ETag of the first answer of the same source, so that both are from the same
        object."""
        return etag is None or self._etags.setdefault(source, etag) == etag

    def follow(self, offset: int, chunk: bytes) -> None:
        """Hash the bytes that have arrived without a gap, including `chunk`, unless another thread is hashing."""
        if self._lock.acquire(blocking=False):
            try:
                if offset == self._hashed:
                    self._hash(chunk)
                self._catch_up(_AT_ONCE)
            finally:
                self._lock.release()

    def mismatch(self) -> str | None:
        """Return the defect of the complete bytes, or None. A checksum that is not an MD5 is not compared, because an
        imported object may have any ETag."""
        with self._lock:
            self._catch_up(self.entry.size)
            if self._hashed != self.entry.size:
                return f"only {self._hashed} of {self.entry.size} bytes arrived"
            if not has_md5(self.entry) or self._digest.hexdigest() == self.entry.checksum:
                return None
            return f"the MD5 of the downloaded bytes is {self._digest.hexdigest()}"

    @property
    def checksum(self) -> bytes:
        """The XXH3-128 of the received bytes without a gap, which is the object's once `mismatch` is None."""
        return self._fast.digest()

    def restart(self) -> None:
        """Discard the received bytes."""
        for span in self.ranges:
            span.at = span.start
        self._digest: _Hash = new_md5()
        self._fast = xxhash.xxh3_128()
        self._hashed = self._current = 0
        self._etags: dict[str, str] = {}

    def _hash(self, chunk: bytes) -> None:
        self._digest.update(chunk)
        self._fast.update(chunk)
        self._hashed += len(chunk)

    def _catch_up(self, most: int) -> None:
        """Hash up to `most` chunks that are on the disk already."""
        for _ in range(most):
            while self._hashed == self.ranges[self._current].end and self._current + 1 < len(self.ranges):
                self._current += 1
            ahead = self.ranges[self._current].at - self._hashed
            chunk = os.pread(self.file.handle, min(CHUNK, ahead), self._hashed) if ahead else b""
            if not chunk:
                return
            self._hash(chunk)


class Range:
    """The bytes of an object from `start` up to `end`, which is excluded. `at` is the position of the next byte."""

    __slots__ = ("arrival", "at", "end", "start")

    def __init__(self, arrival: Arrival, start: int, end: int) -> None:
        self.arrival: Arrival = arrival
        self.start: int = start
        self.at: int = start
        self.end: int = end

    @property
    def is_whole(self) -> bool:
        """Whether it is the complete object."""
        return self.end - self.start == self.arrival.entry.size

    @property
    def left(self) -> int:
        """The number of missing bytes."""
        return self.end - self.at

    @property
    def header(self) -> str | None:
        """The header `Range` that requests the rest. None for the complete object."""
        return f"bytes={self.at}-{self.end - 1}" if self.left < self.arrival.entry.size else None

    def add(self, chunk: bytes) -> None:
        """Write the next bytes to the file.

        Raises:
            OSError: the disk refused.
        """
        offset, view = self.at, memoryview(chunk)
        while view:
            written = os.pwrite(self.arrival.file.handle, view, self.at)
            self.at += written
            view = view[written:]
        self.arrival.follow(offset, chunk)


def has_md5(entry: ObjectEntry) -> bool:
    """Whether the bytes of the object can be verified. An imported object, or one that other tools sent in parts, can
    be replaced in the store while lakeFS keeps its ETag. So its bytes must come from one answer, without ranges and
    without resuming."""
    return _MD5.fullmatch(entry.checksum) is not None


_Job: TypeAlias = tuple[ObjectEntry, Path] | Range
"""An object to download to a path, or one range of it."""


def _size_of(job: _Job) -> int:
    return job.end - job.start if isinstance(job, Range) else job[0].size


def object_id(entry: ObjectEntry) -> ObjectId:
    """The identity of an object in the cache."""
    return ObjectId(entry.physical_address, entry.checksum, entry.size)


class Unfinished(NamedTuple):
    """A temporary file that has not been moved to its place yet."""

    path: str
    handle: int


class FileWriter:
    """Writes files in a private directory next to the workspace, which no key can name, and renames them when they are
    complete.

    Raises:
        OSError: from every method, if the disk fails.
    """

    def __init__(self, workspace: Path, directories: Iterable[Path]) -> None:
        """`directories`: the directories of the files."""
        self._workspace = workspace
        self._directories = directories
        self._numbers = itertools.count()
        self._naming = threading.Lock()  # threads that wait for a directory in the kernel take a third longer
        self._open: set[Unfinished] = set()

    def __enter__(self) -> FileWriter:
        for directory in sorted(self._directories):
            directory.mkdir(parents=True, exist_ok=True)
        self._workspace.parent.mkdir(parents=True, exist_ok=True)
        self._directory = tempfile.mkdtemp(prefix=f".{self._workspace.name}-incoming-", dir=self._workspace.parent)
        return self

    def __exit__(self, *_: object) -> None:
        for file in list(self._open):
            self.discard(file)
        shutil.rmtree(self._directory, ignore_errors=True)

    def begin(self) -> Unfinished:
        """Create an empty file, for `finish` or `discard`."""
        path = f"{self._directory}/{next(self._numbers)}"
        with self._naming:
            file = Unfinished(path, os.open(path, _FLAGS, _MODE))
        self._open.add(file)
        return file

    def finish(self, file: Unfinished, entry: ObjectEntry, path: Path) -> None:
        """Move the file to its place, with mode 0644 minus the umask, and with the object's modification time."""
        os.utime(file.handle, (entry.mtime, entry.mtime))
        self._close(file)
        with self._naming:
            os.rename(file.path, path)  # noqa: PTH104 - a thousand files a second, and both are plain strings

    def discard(self, file: Unfinished) -> None:
        """Remove the file, if it still exists."""
        self._close(file)
        with contextlib.suppress(OSError):
            os.unlink(file.path)  # noqa: PTH108

    def _close(self, file: Unfinished) -> None:
        if file in self._open:
            self._open.discard(file)
            os.close(file.handle)
