"""Everything a function prints, line by line: its own output, its libraries', its child processes'.

For the duration of a call, descriptors 1 and 2 are the write end of a pipe that a thread reads. The end of the output
is a random marker written after the call, because the pipe's own end may never come: a process that the function left
behind may keep it open. Nothing that is printed can stop the worker: bytes that are no UTF-8 are escaped, endless
lines are cut, and the wait for the marker has a limit.

Most functions print nothing. For them no marker is sent and no thread wakes up, which on a busy machine is worth more
than everything else a slot does around a call.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import secrets
import select
import sys
import threading
from collections.abc import Callable, Iterator
from typing import TextIO

from perago.settings.mask import Mask

_LIBC = ctypes.CDLL(None)

NO_MASK = Mask()

MAX_LINE_BYTES = 16_384
CHUNK_BYTES = 262_144
"""Read at once; also what the pipe holds, where the system allows it."""
DRAIN_LIMIT = 5.0
"""Seconds to wait for the rest of the output once the function has returned."""

BUSY_SECONDS = 0.002
"""How long the reading thread lets output gather while more and more comes: each waking costs as much as many lines."""


class LineSplitter:
    """Turns chunks of bytes into lines, up to a marker, and strikes secrets out of them.

    A secret has no line break. An endless line is cut into pieces, but never within a secret.
    """

    def __init__(self, marker: bytes, sink: Callable[[str], None], mask: Mask = NO_MASK) -> None:
        self._marker = marker
        self._sink = sink
        self._mask = mask
        self._held = max(len(marker), mask.longest)
        """A marker or a secret may have come in part, so that much of an endless line stays back."""
        self._rest = b""

    def feed(self, chunk: bytes) -> bool:
        """Pass on the complete lines of what has come; True once the marker was among it."""
        data = self._rest + chunk
        end = data.find(self._marker) if self._marker else -1
        if end >= 0:
            data = data[:end]
        lines, line_break, self._rest = data.rpartition(b"\n")
        if line_break:
            for line in self._masked(lines).split(b"\n"):
                self._emit(line)
        if len(self._rest) > MAX_LINE_BYTES + self._held:
            self._rest = self._masked(self._rest)
        while len(self._rest) > MAX_LINE_BYTES + self._held:
            self._emit(self._rest[:MAX_LINE_BYTES])
            self._rest = self._rest[MAX_LINE_BYTES:]
        if end < 0:
            return False
        self.flush()
        return True

    def flush(self) -> None:
        """Pass on an unfinished line."""
        if self._rest:
            self._emit(self._masked(self._rest))
            self._rest = b""

    def _masked(self, text: bytes) -> bytes:
        if not self._mask.longest:
            return text
        return self._mask(text.decode("utf-8", "surrogateescape")).encode("utf-8", "surrogateescape")

    def _emit(self, line: bytes) -> None:
        for start in range(0, max(1, len(line)), MAX_LINE_BYTES):
            text = line[start : start + MAX_LINE_BYTES].decode("utf-8", "backslashreplace")
            self._sink(text.removesuffix("\r"))


class OutputPipe:
    """The pipe and the reading thread of one slot process."""

    def __init__(self, mask: Mask = NO_MASK) -> None:
        self._mask = mask
        self._nowhere = os.open(os.devnull, os.O_WRONLY)
        self._read_end, self._write_end = os.pipe()
        if hasattr(fcntl, "F_SETPIPE_SZ"):
            with contextlib.suppress(OSError):  # the user has too many large pipes already
                fcntl.fcntl(self._write_end, fcntl.F_SETPIPE_SZ, CHUNK_BYTES)
        self._pending = select.poll()
        self._pending.register(self._read_end, select.POLLIN)
        self._splitter = LineSplitter(b"", _ignore)
        self._draining = threading.Event()
        self._taken = False
        """Bytes of the present call have been taken from the pipe. Set before they are, cleared after the marker."""
        self._drained = threading.Event()
        self.clogged = False
        """Output of a call was not read to its end in time. The process should not run another."""
        threading.Thread(target=self._read, name="perago-output", daemon=True).start()

    @contextlib.contextmanager
    def capture(self, sink: Callable[[str], None]) -> Iterator[None]:
        """Inside the block, what reaches descriptors 1 and 2 goes to `sink`, on another thread, line by line; after it,
        nowhere. A function finds no descriptor of the worker's own output in its process."""
        marker = b"<end of output " + secrets.token_hex(16).encode() + b">"
        flush_streams()
        streams = sys.stdout, sys.stderr
        self._splitter = LineSplitter(marker, sink, self._mask)
        os.dup2(self._write_end, 1)
        os.dup2(self._write_end, 2)
        sys.stdout, sys.stderr = _text_stream(1), _text_stream(2)
        try:
            yield
        finally:
            flush_streams()
            sys.stdout, sys.stderr = streams
            os.dup2(self._nowhere, 1)
            os.dup2(self._nowhere, 2)
            self._drain(marker)

    def _drain(self, marker: bytes) -> None:
        # In this order: bytes that the first look misses were taken before it, and the second look knows of them.
        if not self._pending.poll(0) and not self._taken:
            return
        self._drained.clear()
        self._draining.set()
        writable = select.poll()
        writable.register(self._write_end, select.POLLOUT)
        if writable.poll(DRAIN_LIMIT * 1000):
            os.write(self._write_end, marker)
        self.clogged = not self._drained.wait(DRAIN_LIMIT)
        self._draining.clear()

    def _read(self) -> None:
        waiting = select.poll()
        waiting.register(self._read_end, select.POLLIN)
        with contextlib.suppress(OSError):  # the function closed descriptors that are not its own
            while True:
                if waiting.poll(BUSY_SECONDS * 1000):
                    self._draining.wait(BUSY_SECONDS)
                else:
                    waiting.poll()
                self._taken = True
                if self._splitter.feed(os.read(self._read_end, CHUNK_BYTES)):
                    self._splitter = LineSplitter(b"", _ignore)
                    self._taken = False
                    self._drained.set()


def _ignore(line: str) -> None:
    """Where output goes that comes after the end of its call."""


def _text_stream(descriptor: int) -> TextIO:
    return open(descriptor, "w", buffering=1, encoding="utf-8", errors="backslashreplace", closefd=False)


def flush_streams() -> None:
    """Bring out what Python and C libraries still hold in memory, while it is clear whose output it is."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            stream.flush()
    _LIBC.fflush(None)
