"""One attempt's lines inside a slot: into the slot's JSONL with the ids, and their tail to Conductor."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator

from perago.driver.observer import Direction
from perago.ports import Delivery
from perago.worker.journal import delivery_ids
from perago.worker.logs import JsonLog
from perago.worker.output import Tail


class AttemptLog:
    """An `Observer` of the driver, and where the function's output goes. Methods may be called by several threads."""

    def __init__(self, log: JsonLog, delivery: Delivery) -> None:
        self._log = log
        self._ids = delivery_ids(delivery)
        self._tail = Tail()
        self._extra: list[str] = []

    # ------------------------------------------------------------- the driver's Observer

    def step(self, name: str) -> None:
        """Steps are logged with their durations when the attempt is over."""

    def transferred(self, direction: Direction, objects: int, size: int, total_objects: int, total_size: int) -> None:
        """Transfers are seen by their steps."""

    def log(self, text: str) -> None:
        """A line from `current().log`."""
        self._line(text, "INFO", "log")

    def progress(self, done: int, total: int) -> None:
        """Progress from `current().progress`."""
        self._log.write("INFO", f"progress {done}/{total}", source="progress", **self._ids)

    # ------------------------------------------------------------------------- the slot

    def output(self, text: str) -> None:
        """A line that the function or one of its processes printed."""
        self._line(text, "INFO", "output")

    def record(self, record: logging.LogRecord) -> None:
        """A record of the standard `logging`."""
        level = record.levelname if record.levelname in logging.getLevelNamesMapping() else "INFO"
        self._line(f"{record.levelname} {record.name}: {record.getMessage()}", level, "logging")

    def traceback(self, text: str) -> None:
        """The traceback of an error, an entry of its own in Conductor's task log."""
        self._log.write("ERROR", text, source="traceback", **self._ids)
        self._extra.append(text)

    def note(self, level: str, message: str, **fields: object) -> None:
        """A line about the attempt itself, for the JSONL only."""
        self._log.write(level, message, **self._ids, **fields)

    def chunks(self) -> tuple[str, ...]:
        """What Conductor's task log gets: the tail joined to one entry (an entry is one request and may be long), and
        the traceback."""
        tail = self._tail.take()
        return (*([tail] if tail else []), *self._extra)

    def _line(self, text: str, level: str, source: str) -> None:
        self._log.write(level, text, source=source, **self._ids)
        self._tail.add(text)


class _RecordHandler(logging.Handler):
    def __init__(self, attempt_log: AttemptLog) -> None:
        super().__init__()
        self._attempt_log = attempt_log

    def emit(self, record: logging.LogRecord) -> None:
        with contextlib.suppress(Exception):  # arguments that do not fit the message are the author's
            self._attempt_log.record(record)


@contextlib.contextmanager
def logging_to(attempt_log: AttemptLog) -> Iterator[None]:
    """Send `logging` records to the attempt's log, unless the author set up handlers, whose output we see anyway."""
    root = logging.getLogger()
    if root.handlers:
        yield
        return
    handler = _RecordHandler(attempt_log)
    root.addHandler(handler)
    try:
        yield
    finally:
        root.removeHandler(handler)
