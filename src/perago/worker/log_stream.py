"""All that a worker logs as one stream, for containers: the lines of docs/logs.md, as JSON or as text, on a descriptor.

The supervisor alone writes; slots send it their lines. A reader that is slow or stands still costs lines, which are
counted, and never the time of an attempt or of a heartbeat.
"""

from __future__ import annotations

import os
import select
import threading
from collections import deque
from collections.abc import Mapping
from typing import Any

from perago.settings.values import LogFormat
from perago.worker import events
from perago.worker.events import Event
from perago.worker.logs import LogLines, as_json, cleaned, journalled, timestamp
from perago.worker.plan import WorkerPlan
from perago.workspace.text import visible

STANDARD_ERROR = 2
MOST_WAITING = 16 * 2**20
"""Bytes that wait for the reader. What comes beyond them is left out."""
CLOSE_LIMIT = 2.0
"""Seconds that the reader gets to take what waits at the end."""


class LineWriter:
    """Writes log lines to a descriptor, on a thread of its own. `write` may be called by any thread and never waits."""

    def __init__(self, form: LogFormat, descriptor: int = STANDARD_ERROR) -> None:
        self._form = form
        self._descriptor = descriptor
        self._changed = threading.Condition()
        self._waiting: deque[bytes] = deque()
        self._size = self._left_out = 0
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="perago-log-stream", daemon=True)
        self._thread.start()

    def write(self, line: Mapping[str, Any]) -> None:
        """Append a line. One that JSON cannot hold, which only a forged one may be, is left out."""
        try:
            data = rendered(line, self._form).encode()
        except (ValueError, RecursionError):
            data = None
        with self._changed:
            if data is None or self._size + len(data) > MOST_WAITING:
                self._left_out += 1
                return
            if self._left_out:
                self._append(rendered(_missing(self._left_out), self._form).encode())
                self._left_out = 0
            self._append(data)

    @property
    def waiting(self) -> int:
        """Bytes that the reader has not taken yet."""
        return self._size

    def close(self) -> None:
        """Write what waits, as far as the reader takes it within `CLOSE_LIMIT`. Safe to repeat."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join(CLOSE_LIMIT)

    def _append(self, data: bytes) -> None:
        self._waiting.append(data)
        self._size += len(data)
        self._changed.notify()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._closed)
                if not self._waiting:
                    return
                data = self._waiting.popleft()
            self._write_out(data)
            with self._changed:
                self._size -= len(data)

    def _write_out(self, data: bytes) -> None:
        """Without a reader there is no line, and no reason to stop working."""
        try:
            while data:
                select.select([], [self._descriptor], [])
                data = data[os.write(self._descriptor, data) :]
        except BlockingIOError:
            self._write_out(data)
        except OSError:
            return


def _missing(lines: int) -> dict[str, Any]:
    text = f"[{lines:,} lines left out: standard error took no more]"
    return {"time": timestamp(), "level": "WARNING", "source": "limit", "message": text}


def as_text(line: Mapping[str, Any]) -> str:
    """A line for people: time, level, worker, attempt, and the message, each of whose lines gets them in front."""
    attempt = f"{line.get('task_name')} {line['task_id']}: " if "task_id" in line and "event" not in line else ""
    front = f"{line.get('time')} {line.get('level')!s:<7} {line.get('worker_id', 'perago')} {attempt}"
    return "\n".join(front + visible(each) for each in str(line.get("message")).rstrip("\n").split("\n"))


def rendered(line: Mapping[str, Any], form: LogFormat) -> str:
    """A line as it is written, with its end.

    Raises:
        ValueError: JSON cannot hold it.
    """
    line = cleaned(line)
    return f"{as_json(line) if form is LogFormat.JSON else as_text(line)}\n"


class LogStream:
    """A `Listener` that writes what the supervisor and its slots log, up to `Stopped`."""

    def __init__(self, plan: WorkerPlan, form: LogFormat, descriptor: int = STANDARD_ERROR) -> None:
        self._lines = LogLines(plan, plan.supervisor_id)
        self._writer = LineWriter(form, descriptor)

    def __call__(self, event: Event) -> None:
        """Write the line about `event`, or the line that a slot has sent."""
        if isinstance(event, events.Logged):
            self._writer.write({**event.line, "worker_id": event.worker_id})
        elif not isinstance(event, events.UNLOGGED):
            level, message, fields = journalled(event)
            self._writer.write(self._lines(level, message, **fields))
        if isinstance(event, events.Stopped):
            self._writer.close()
