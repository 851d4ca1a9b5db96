"""All that a worker logs as one stream, for containers: the lines of docs/logs.md, as JSON or as text.

The supervisor alone writes; slots send it their lines.
"""

from __future__ import annotations

import contextlib
import functools
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from perago.settings.values import LogFormat
from perago.text import visible
from perago.worker import events, logs
from perago.worker.events import Event, Listener
from perago.worker.line_writer import LineWriter
from perago.worker.logs import LogLines, PlainLines, as_json, cleaned, journalled, timestamp
from perago.worker.plan import WorkerPlan


def missing(number: int, form: LogFormat) -> str:
    """The line that stands for so many that were left out."""
    text = f"[{number:,} lines left out: standard error took no more]"
    return rendered({"time": timestamp(), "level": "WARNING", "source": "limit", "message": text}, form)


def as_text(line: Mapping[str, Any]) -> str:
    """A line for people: time, level, worker, attempt, and the message, each of whose lines gets them in front."""
    attempt = f"{line.get('task_name')} {line['task_id']}: " if "task_id" in line and "event" not in line else ""
    front = f"{line.get('time')} {line.get('level')!s:<7} {line.get('worker_id', 'perago')} {attempt}"
    return "\n".join(front + visible(each) for each in str(line.get("message")).rstrip("\n").split("\n"))


def rendered(line: Mapping[str, Any], form: LogFormat) -> str:
    """A line as it is written, without its end.

    Raises:
        ValueError: JSON cannot hold it.
    """
    line = cleaned(line)
    return as_json(line) if form is LogFormat.JSON else as_text(line)


class LogStream:
    """A `Listener` that writes what the supervisor and its slots log."""

    def __init__(self, plan: WorkerPlan, form: LogFormat, writer: LineWriter) -> None:
        self._lines = LogLines(plan, plan.supervisor_id)
        self._form = form
        self._writer = writer

    def __call__(self, event: Event) -> None:
        """Write the line about `event`, or the line that a slot has sent."""
        if isinstance(event, events.Logged):
            self._write({**event.line, "worker_id": event.worker_id})
        elif not isinstance(event, events.UNLOGGED):
            level, message, fields = journalled(event)
            self._write(self._lines(level, message, **fields))

    def _write(self, line: Mapping[str, Any]) -> None:
        """Write a line. One that JSON cannot hold, which only a forged one may be, is left out."""
        try:
            self._writer.write(rendered(line, self._form))
        except (ValueError, RecursionError):
            self._writer.leave_out()


@contextlib.contextmanager
def printing(plan: WorkerPlan, form: LogFormat | None) -> Iterator[Listener]:
    """Gives what prints while a worker runs: its log to standard error or, without a form of that, lines for people to
    standard output. What waits at the end is written when the block is left, as far as it is read."""
    if form is None:
        writer = LineWriter(sys.stdout, logs.missing)
        listener: Listener = PlainLines(writer.write)
    else:
        writer = LineWriter(sys.stderr, functools.partial(missing, form=form))
        listener = LogStream(plan, form, writer)
    try:
        yield listener
    finally:
        writer.close()
