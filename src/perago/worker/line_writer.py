"""What a worker prints while it works, on a thread of its own: a reader that is slow or stands still (Ctrl-S, a pipe
that is full) costs lines, which are counted, and never the time of an attempt or of a heartbeat."""

from __future__ import annotations

import os
import select
import threading
from collections import deque
from collections.abc import Callable
from typing import TextIO

MOST_WAITING = 16 * 2**20
"""Bytes that wait for the reader. What comes beyond them is left out."""
CLOSE_LIMIT = 2.0
"""Seconds that the reader gets to take what waits at the end."""
GATHERING_SECONDS = 0.02
"""How long lines gather once there are more and more of them: each waking of the thread costs as much as many lines."""


class LineWriter:
    """Writes lines to the descriptor of `stream`, in the encoding of that. `write` may be called by any thread and
    never waits. `missing` makes the line that says how many were left out."""

    def __init__(self, stream: TextIO, missing: Callable[[int], str]) -> None:
        stream.flush()
        self._descriptor = stream.fileno()
        self._encoding = stream.encoding
        self._missing = missing
        self._changed = threading.Condition()
        self._waiting: deque[bytes] = deque()
        self._size = self._left_out = 0
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="perago-lines", daemon=True)
        self._thread.start()

    def write(self, line: str) -> None:
        """Append a line, which is given without its end."""
        data = self._encoded(line)
        with self._changed:
            if self._size + len(data) > MOST_WAITING:
                self._left_out += 1
                return
            if self._left_out:
                self._append(self._encoded(self._missing(self._left_out)))
                self._left_out = 0
            self._append(data)

    def leave_out(self) -> None:
        """Count a line that cannot be written."""
        with self._changed:
            self._left_out += 1

    @property
    def waiting(self) -> int:
        """Bytes that the reader has not taken yet."""
        return self._size

    def close(self) -> None:
        """Write what waits, as far as the reader takes it within `CLOSE_LIMIT`. Safe to repeat."""
        with self._changed:
            self._closed.set()
            self._changed.notify()
        self._thread.join(CLOSE_LIMIT)

    def _encoded(self, line: str) -> bytes:
        return f"{line}\n".encode(self._encoding, "backslashreplace")

    def _append(self, data: bytes) -> None:
        self._waiting.append(data)
        self._size += len(data)
        self._changed.notify()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._closed.is_set())
                if not self._waiting:
                    return
            while self._waiting:
                data = self._waiting.popleft()
                self._write_out(data)
                with self._changed:
                    self._size -= len(data)
            self._closed.wait(GATHERING_SECONDS)

    def _write_out(self, data: bytes) -> None:
        """Without a reader there is no line, and no reason to stop working."""
        while data:
            try:
                select.select([], [self._descriptor], [])
                data = data[os.write(self._descriptor, data) :]
            except BlockingIOError:  # another writer took the room
                continue
            except OSError:
                return
