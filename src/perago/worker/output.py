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
import os
import secrets
import select
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator
from typing import TextIO

_LIBC = ctypes.CDLL(None)

MAX_LINE_BYTES = 16_384
CHUNK_BYTES = 65_536
DRAIN_LIMIT = 5.0
"""Seconds to wait for the rest of the output once the function has returned."""

TAIL_LINES = 200
TAIL_BYTES = 65_536


class Tail:
    """The last lines of an attempt's output, for Conductor's task log: 200 lines, 64 KiB (contract 7)."""

    def __init__(self) -> None:
        self._lines: deque[str] = deque(maxlen=TAIL_LINES)
        self._lock = threading.Lock()

    def add(self, line: str) -> None:
        """Append one line. May be called by several threads."""
        with self._lock:
            self._lines.append(line)

    def take(self) -> str:
        """The tail as one text; afterwards it is empty."""
        with self._lock:
            lines = list(self._lines)
            self._lines.clear()
        encoded = "\n".join(lines).encode("utf-8", "replace")
        return encoded[-TAIL_BYTES:].decode("utf-8", "ignore")


class LineSplitter:
    """Turns chunks of bytes into lines, up to a marker."""

    def __init__(self, marker: bytes, sink: Callable[[str], None]) -> None:
        self._marker = marker
        self._sink = sink
        self._rest = b""

    def feed(self, chunk: bytes) -> bool:
        """Pass on the complete lines of what has come; True once the marker was among it."""
        data = self._rest + chunk
        end = data.find(self._marker) if self._marker else -1
        if end >= 0:
            data = data[:end]
        *lines, self._rest = data.split(b"\n")
        for line in lines:
            self._emit(line)
        # A marker may have come in part, so that much stays back.
        while len(self._rest) > MAX_LINE_BYTES + len(self._marker):
            self._emit(self._rest[:MAX_LINE_BYTES])
            self._rest = self._rest[MAX_LINE_BYTES:]
        if end < 0:
            return False
        self.flush()
        return True

    def flush(self) -> None:
        """Pass on an unfinished line."""
        if self._rest:
            self._emit(self._rest)
            self._rest = b""

    def _emit(self, line: bytes) -> None:
        for start in range(0, max(1, len(line)), MAX_LINE_BYTES):
            text = line[start : start + MAX_LINE_BYTES].decode("utf-8", "backslashreplace")
            self._sink(text.removesuffix("\r"))


class OutputPipe:
    """The pipe and the reading thread of one slot process."""

    def __init__(self) -> None:
        self._originals = os.dup(1), os.dup(2)
        self._read_end, self._write_end = os.pipe()
        self._pending = select.poll()
        self._pending.register(self._read_end, select.POLLIN)
        self._splitter = LineSplitter(b"", _ignore)
        self._taken = False
        """Bytes of the present call have been taken from the pipe. Set before they are, cleared after the marker."""
        self._drained = threading.Event()
        self.clogged = False
        """Output of a call was not read to its end in time. The process should not run another."""
        threading.Thread(target=self._read, name="perago-output", daemon=True).start()

    @contextlib.contextmanager
    def capture(self, sink: Callable[[str], None]) -> Iterator[None]:
        """Inside the block, what reaches descriptors 1 and 2 goes to `sink`, on another thread, line by line."""
        marker = b"<end of output " + secrets.token_hex(16).encode() + b">"
        flush_streams()
        streams = sys.stdout, sys.stderr
        self._splitter = LineSplitter(marker, sink)
        os.dup2(self._write_end, 1)
        os.dup2(self._write_end, 2)
        sys.stdout, sys.stderr = _text_stream(1), _text_stream(2)
        try:
            yield
        finally:
            flush_streams()
            sys.stdout, sys.stderr = streams
            os.dup2(self._originals[0], 1)
            os.dup2(self._originals[1], 2)
            self._drain(marker)

    def _drain(self, marker: bytes) -> None:
        # In this order: bytes that the first look misses were taken before it, and the second look knows of them.
        if not self._pending.poll(0) and not self._taken:
            return
        self._drained.clear()
        writable = select.poll()
        writable.register(self._write_end, select.POLLOUT)
        if writable.poll(DRAIN_LIMIT * 1000):
            os.write(self._write_end, marker)
        self.clogged = not self._drained.wait(DRAIN_LIMIT)

    def _read(self) -> None:
        waiting = select.poll()
        waiting.register(self._read_end, select.POLLIN)
        with contextlib.suppress(OSError):  # the function closed descriptors that are not its own
            while True:
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
