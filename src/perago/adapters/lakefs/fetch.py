"""The bytes of one object on their way into a file, in one piece or as parallel ranges, and their checksums.

A checksum can only be taken from the first byte to the last. So it follows the bytes that have come without a gap: a
chunk that comes in order is hashed in memory. One that came ahead is read back, which the page cache makes cheap.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import re
import threading
from collections.abc import Callable, Mapping
from http.client import HTTPException
from typing import TYPE_CHECKING
from urllib.parse import quote

import xxhash
from urllib3.exceptions import HTTPError
from urllib3.response import BaseHTTPResponse

from perago.adapters.http import Answer, CallPolicy, HttpPool, NoAnswerError, Wire, clean, no_answer
from perago.adapters.lakefs import errors
from perago.adapters.lakefs.block_store import STORE, BlockStore, DirectFailed, check_status
from perago.adapters.lakefs.errors import SERVICE, Call
from perago.ports import CorruptTransfer, ObjectEntry

if TYPE_CHECKING:
    from hashlib import _Hash


CHUNK = 1024 * 1024
RANGE = 32 * 1024 * 1024
"""Bytes of the largest range of an object that comes in several."""
EMPTY_MD5 = "d41d8cd98f00b204e9800998ecf8427e"
_MD5 = re.compile(r"[0-9a-f]{32}")
_AT_ONCE = 8
"""Chunks that are read back before a thread looks at its connection again."""


class Arrival:
    """One object and its open file. Each range is filled by one thread at a time."""

    def __init__(self, entry: ObjectEntry, file: int, parts: int = 1) -> None:
        """`parts`: into how many ranges of about one size it is cut."""
        self.entry = entry
        self.file = file
        edges = [entry.size * number // parts for number in range(parts + 1)]
        self.ranges = [Range(self, start, end) for start, end in itertools.pairwise(edges)]
        self._lock = threading.Lock()
        self._begin()

    def is_version(self, source: str, etag: str | None) -> bool:
        """Whether an answer's ETag is that of the first answer of the same source: both are of one object then."""
        return etag is None or self._etags.setdefault(source, etag) == etag

    def follow(self, offset: int, chunk: bytes) -> None:
        """Hash what has come without a gap, among it `chunk`, if no other thread is at it."""
        if self._lock.acquire(blocking=False):
            try:
                if offset == self._hashed:
                    self._hash(chunk)
                self._catch_up(_AT_ONCE)
            finally:
                self._lock.release()

    def mismatch(self) -> str | None:
        """Return the defect of the complete bytes, or None. A checksum that is no MD5 is not compared: an imported
        object may carry any ETag instead."""
        with self._lock:
            self._catch_up(self.entry.size)
            if self._hashed != self.entry.size:
                return f"only {self._hashed} of {self.entry.size} bytes are there"
            if not has_md5(self.entry) or self._digest.hexdigest() == self.entry.checksum:
                return None
            return f"the MD5 of what came is {self._digest.hexdigest()}"

    @property
    def checksum(self) -> bytes:
        """The XXH3-128 of the bytes that have come without a gap: of the object, once nothing is wrong with it."""
        return self._fast.digest()

    def restart(self) -> None:
        """Forget what has come of an object that is one range."""
        (whole,) = self.ranges
        whole.at = 0
        self._begin()

    def _begin(self) -> None:
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
            chunk = os.pread(self.file, min(CHUNK, ahead), self._hashed) if ahead else b""
            if not chunk:
                return
            self._hash(chunk)


class Range:
    """The bytes from `start` to before `end` of an object, and `at`, how far they have come."""

    __slots__ = ("arrival", "at", "end", "start")

    def __init__(self, arrival: Arrival, start: int, end: int) -> None:
        self.arrival = arrival
        self.start = self.at = start
        self.end = end

    @property
    def is_whole(self) -> bool:
        """Whether it is the whole object."""
        return self.end - self.start == self.arrival.entry.size

    @property
    def left(self) -> int:
        """Bytes that have not come yet."""
        return self.end - self.at

    @property
    def header(self) -> str | None:
        """The header `Range` that requests the rest; None if that is the whole object."""
        return f"bytes={self.at}-{self.end - 1}" if self.left < self.arrival.entry.size else None

    def add(self, chunk: bytes) -> None:
        """Put the next bytes in their place.

        Raises:
            OSError: the disk refused.
        """
        offset, view = self.at, memoryview(chunk)
        while view:
            written = os.pwrite(self.arrival.file, view, self.at)
            self.at += written
            view = view[written:]
        self.arrival.follow(offset, chunk)


def has_md5(entry: ObjectEntry) -> bool:
    """Whether its bytes can be verified. An object that was imported, or sent in parts by other tools, may be replaced
    in the store behind lakeFS, whose ETag stays the same. So its bytes must come from one answer: no ranges, and
    nothing is resumed."""
    return _MD5.fullmatch(entry.checksum) is not None


def new_md5() -> _Hash:
    """A hash that works where MD5 is banned for security: here it guards against accidents only."""
    return hashlib.md5(usedforsecurity=False)


_LONGEST_ERROR = 64 * 1024
_PARTIAL, _NO_SUCH_RANGE = 206, 416


class Fetcher:
    """Reads objects of one commit. By commit id: a read by branch would also look at what is staged."""

    def __init__(self, pool: HttpPool, policy: CallPolicy, repository: str, commit: str) -> None:
        self._pool = pool
        self._policy = policy
        self._repository = repository
        self._target = f"/repositories/{quote(repository, safe='')}/refs/{quote(commit, safe='')}/objects?path="

    def fetch(self, wanted: Range, wire: Wire) -> None:
        """Send one request for what is left of a range. An object that is one range is verified at the end.

        Raises:
            CorruptTransfer: size, MD5 or place of the bytes are wrong. An object that is one range then begins again.
            Unavailable: no complete answer; what has come stays.
            NotFound, AccessDenied, Refused: by status.
        """
        call = self._call(wanted.arrival.entry)
        target = self._target + quote(wanted.arrival.entry.key)
        try:
            self._exchange(call, wanted, wire, SERVICE, lambda asked: self._pool.open("GET", target, headers=asked))
        except NoAnswerError as failure:
            raise errors.unanswered(call, failure) from failure

    def fetch_directly(self, wanted: Range, store: BlockStore, address: str, wire: Wire) -> None:
        """As `fetch`, from the block store.

        Raises:
            CorruptTransfer: as `fetch`.
            DirectFailed: whatever else the store did instead.
        """
        call = self._call(wanted.arrival.entry)
        try:
            self._exchange(call, wanted, wire, STORE, lambda asked: store.open("GET", address, headers=asked))
        except NoAnswerError as failure:
            raise DirectFailed(failure.text) from failure

    def _call(self, entry: ObjectEntry) -> Call:
        """The words of a message about reading an object."""
        return Call(f"read {entry.key!r} of {self._repository}", self._repository, f"object {entry.key!r}")

    def _exchange(
        self,
        call: Call,
        wanted: Range,
        wire: Wire,
        source: str,
        send: Callable[[Mapping[str, str]], BaseHTTPResponse],
    ) -> None:
        if wanted.at > wanted.start and not has_md5(wanted.arrival.entry):
            wanted.arrival.restart()
        expected = wanted.end - wanted.start  # a server may send the whole where the rest of it was asked for
        limit = self._policy.connect + self._policy.answer + expected / self._policy.slowest
        asked = wanted.header
        with wire.exchange(limit):
            response = send({"Range": asked} if asked else {})
            try:
                _check_status(call, response, source, is_partial=asked is not None)
                _receive(call, wanted, response, source)
                response.release_conn()
            except CorruptTransfer:
                response.close()
                if wanted.is_whole:
                    wanted.arrival.restart()
                raise
            except BaseException:
                response.close()
                raise


def _corrupt(call: Call, what: str) -> CorruptTransfer:
    """The error of an object that is not the one of the listing."""
    return CorruptTransfer(SERVICE, call.operation, f"{what}, which is not what the listing says")


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
    raise errors.refusal(call, Answer(response.status, response.headers, body))


def _check_head(call: Call, wanted: Range, response: BaseHTTPResponse, source: str) -> None:
    """Whether the bytes that come are those that are missing, as far as their announcement tells."""
    arrival = wanted.arrival
    if response.status == _PARTIAL:
        place = response.headers.get("Content-Range", "no place of its bytes")
        if place != f"bytes {wanted.at}-{wanted.end - 1}/{arrival.entry.size}":
            raise _corrupt(call, f"the server sends {clean(place)}")
    elif wanted.is_whole and wanted.at:
        arrival.restart()
    elif not wanted.is_whole:
        raise _corrupt(call, "the server sends no ranges")
    announced = response.headers.get("Content-Length")
    if announced is not None and announced != str(wanted.left):
        raise _corrupt(call, f"the server sends {clean(announced)} bytes")
    if not arrival.is_version(source, response.headers.get("ETag")):
        raise _corrupt(call, "the object was replaced meanwhile")


def _receive(call: Call, wanted: Range, response: BaseHTTPResponse, source: str) -> None:
    """Take the body in chunks. Asks for one byte more than is missing, which is how an over-long one shows."""
    _check_head(call, wanted, response, source)
    while True:
        try:
            chunk = response.read(min(CHUNK, wanted.left + 1))
        except (HTTPError, HTTPException, OSError) as error:
            raise no_answer(error) from error
        if not chunk:
            break
        if len(chunk) > wanted.left:
            raise _corrupt(call, f"the server sends more than {wanted.arrival.entry.size} bytes")
        wanted.add(chunk)
    if wanted.left:
        got, size = wanted.at - wanted.start, wanted.end - wanted.start
        raise NoAnswerError(f"the answer was cut off after {got} of {size} bytes", sent=True)
    if wanted.is_whole and (wrong := wanted.arrival.mismatch()):
        raise _corrupt(call, wrong)
