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
from typing import TYPE_CHECKING

import xxhash

from perago.ports import ObjectEntry

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
        """What is wrong with the whole bytes, or None. A checksum that is no MD5 is not compared: an imported object
        may carry any ETag instead."""
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
        """What the header `Range` says to ask for the rest; None if that is the whole object."""
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
