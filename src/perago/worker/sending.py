"""Write lines and send data in the background: no caller waits, an outage is reported once, and the end of a worker
takes a limited time.

`BackgroundLines` is a queue handler of `logging` with a limit. Its records do not pass through any logger, so no
setting of `logging` affects them.
"""

from __future__ import annotations

import logging
import os
import queue
import select
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from logging.handlers import QueueHandler, QueueListener
from typing import Any, Generic, TextIO, TypeVar

from perago.hanging import done_within
from perago.settings.mask import Mask
from perago.text import count, one_line
from perago.worker.plan import Notices

MOST_WAITING = 16 * 2**20
"""Maximum number of bytes that wait for the reader of a stream. Further lines are dropped."""
CLOSE_LIMIT = 2.0
"""Seconds that the reader gets for the waiting lines at the end."""
GATHERING_SECONDS = 0.02
"""Seconds for which lines gather while more arrive, because waking the thread costs as much as many lines."""

MOST_EVENTS = 1000
"""Events that wait for the thread of an exporter. Further ones are lost."""
END_LIMIT = 3.0
"""Seconds that the end of a worker can take for unsent data."""
LONGEST_REASON = 400
"""Characters of the reason in a warning. Clients quote more than an operator wants to read."""

Say = Callable[[str], None]
T = TypeVar("T")


class BackgroundLines(QueueHandler):
    """Writes records on a thread, in order, so that no caller waits. Any thread can call `handle`.

    Args:
        write: writes a record, on the thread. This can take any time.
        omission: makes the record that stands for so many dropped records.
        most: the largest size of all records that are not written yet. Records that exceed it are dropped and counted.
            A later record says how many.
        size_of: returns the size of a record. By default, records are counted.
        end: is called after the last record.
    """

    def __init__(
        self,
        write: Callable[[logging.LogRecord], object],
        omission: Callable[[int], logging.LogRecord],
        *,
        most: int,
        size_of: Callable[[logging.LogRecord], int] = lambda _: 1,
        end: Callable[[], object] = lambda: None,
    ) -> None:
        records = queue.SimpleQueue[Any]()
        super().__init__(records)
        self._write, self._omission = write, omission
        self._most, self._size_of = most, size_of
        self._size_lock = threading.Lock()
        self._dropped = 0
        self.waiting: int = 0
        """The size of the records that are not written yet."""
        self._listener: _Listener | None = _Listener(records, self._write_record, end)
        self._listener.start()

    def prepare(self, record: logging.LogRecord) -> logging.LogRecord:
        """Leave the formatting to the thread."""
        return record

    def enqueue(self, record: logging.LogRecord) -> None:
        """Append a record, or count it if too many wait."""
        with self._size_lock:
            if self.waiting + self._size_of(record) > self._most:
                self._dropped += 1
                return
            records = [self._omission(self._dropped), record] if self._dropped else [record]
            self._dropped = 0
            self.waiting += sum(map(self._size_of, records))
        for queued in records:
            super().enqueue(queued)

    def drop(self) -> None:
        """Count a record that cannot be written."""
        with self._size_lock:
            self._dropped += 1

    def close(self) -> None:
        """Write the waiting records, as far as that takes no longer than `CLOSE_LIMIT`. It is safe to repeat this."""
        listener, self._listener = self._listener, None
        if listener is not None:
            listener.close(CLOSE_LIMIT)
        super().close()

    def _write_record(self, record: logging.LogRecord) -> None:
        with suppress(Exception):  # one bad record must not end the thread
            self._write(record)
        with self._size_lock:
            self.waiting -= self._size_of(record)


_LAST = logging.makeLogRecord({})
"""Follows the last record, and asks for the end of the thread."""


class _Listener(QueueListener):
    """Calls a function with each record of a queue. Records gather while more arrive."""

    def __init__(
        self, records: queue.SimpleQueue[Any], write: Callable[[logging.LogRecord], None], end: Callable[[], object]
    ) -> None:
        super().__init__(records)
        self._records = records
        self._write, self._end = write, end
        self._ended = threading.Event()

    def close(self, limit: float) -> None:
        """Wait at most `limit` seconds until the waiting records are written, then end the thread.

        It starts no thread for this, because `logging` also closes handlers when no thread can be started anymore.
        """
        self._records.put(_LAST)
        self.enqueue_sentinel()
        self._ended.wait(limit)

    def dequeue(self, block: bool) -> Any:
        if self._records.empty():
            time.sleep(GATHERING_SECONDS)
        return super().dequeue(block)

    def handle(self, record: logging.LogRecord) -> None:
        if record is not _LAST:
            self._write(record)
            return
        try:
            self._end()
        finally:
            self._ended.set()


class LineWriter(BackgroundLines):
    """Writes lines to the descriptor of `stream`, in its encoding. Any thread can call `write`, which never waits.
    `omission` makes the line with the number of dropped lines."""

    def __init__(self, stream: TextIO, omission: Callable[[int], str]) -> None:
        stream.flush()
        self._descriptor = stream.fileno()
        self._encoding = stream.encoding or "utf-8"  # a stream that rich replaces has no encoding
        super().__init__(
            self._write_line,
            lambda number: self._record(omission(number)),
            most=MOST_WAITING,
            size_of=lambda record: len(record.msg),
        )

    def write(self, line: str) -> None:
        """Append a line, which is given without its end."""
        self.handle(self._record(line))

    def _record(self, line: str) -> logging.LogRecord:
        return logging.makeLogRecord({"msg": f"{line}\n".encode(self._encoding, "backslashreplace")})

    def _write_line(self, record: logging.LogRecord) -> None:
        """Write a line to the reader. Without a reader it is dropped, and the worker continues."""
        line: bytes = record.msg  # type: ignore[assignment] # encoded, so that its size is known
        while line:
            select.select([], [self._descriptor], [])
            with suppress(BlockingIOError):  # another writer filled the pipe
                line = line[os.write(self._descriptor, line) :]


def terminal_omission(number: int) -> str:
    """Return the line that stands for dropped lines."""
    return f"{count(number, 'line')} left out: the terminal did not keep up"


@contextmanager
def warnings_to(notices: Notices) -> Iterator[Say]:
    """Print warnings while a worker runs. Like everything that a worker prints, they do not wait for the reader."""
    writer = LineWriter(sys.stderr, terminal_omission)
    try:
        yield lambda text: writer.write(notices.warning_text(text))
    finally:
        writer.close()


class EventThread(Generic[T]):
    """Gives events to `work` on a thread of its own, through a queue of limited size, so that no caller waits."""

    def __init__(self, name: str, work: Callable[[Iterator[T]], object]) -> None:
        self._name = name
        self._events: queue.Queue[T | None] = queue.Queue(MOST_EVENTS)
        self._thread = threading.Thread(target=work, args=(iter(self._events.get, None),), name=name, daemon=True)
        self._thread.start()

    def put(self, event: T) -> bool:
        """Queue an event. Return False if too many wait, so that it is lost."""
        try:
            self._events.put_nowait(event)
        except queue.Full:
            return False
        return True

    def end(self) -> int | None:
        """End after the queued events. Return None, or after `END_LIMIT` the number of events that still wait."""

        def finish() -> None:
            while self._thread.is_alive():
                with suppress(queue.Full):
                    self._events.put(None, timeout=0.1)
                    self._thread.join()

        return None if done_within(END_LIMIT, f"{self._name}-end", [finish]) else self._events.qsize()


class ClientMessages(logging.Handler):
    """Collects the messages of some loggers until `end`, so that they are not printed, and keeps the first message of
    each thread."""

    def __init__(self, mask: Mask, *loggers: str) -> None:
        super().__init__(logging.WARNING)
        self.mask: Mask = mask
        self._first = threading.local()
        self._loggers = [logging.getLogger(name) for name in loggers]
        self._propagated = [logger.propagate for logger in self._loggers]
        for logger in self._loggers:
            logger.propagate = False
            logger.addHandler(self)

    def end(self) -> None:
        """Restore the previous handling."""
        for logger, propagated in zip(self._loggers, self._propagated, strict=True):
            logger.removeHandler(self)
            logger.propagate = propagated

    def emit(self, record: logging.LogRecord) -> None:
        """Keep the record if it is the first."""
        self._first.text = getattr(self._first, "text", "") or record.getMessage()

    def take(self) -> str:
        """Return the first message of this thread since the last call; empty: there was none."""
        text, self._first.text = getattr(self._first, "text", ""), ""
        return self.mask(text)


class Watch:
    """Reports once that a server accepts nothing, and once that it does again, with the number of lost items.

    Args:
        server: the beginning of the lines, such as `OpenTelemetry: the collector`.
        what: the items that are sent, in plural.
        words: the messages of the client, as reasons.
        say: takes the lines. Several threads call it.
    """

    def __init__(self, server: str, what: str, messages: ClientMessages, say: Say) -> None:
        self._server = server
        self._what = what
        self._messages = messages
        self._say = say
        self._lock = threading.Lock()
        self._lost = 0
        self._since: float | None = None
        """The begin of the outage."""

    def __call__(self, export: Callable[[], Any], items: int = 1) -> bool:
        """Whether `export` was a success. It raises, or returns a result of OpenTelemetry; None is a success."""
        self._messages.take()
        try:
            result = export()
            succeeded, reason = result is None or bool(result.name == "SUCCESS"), ""
        except Exception as error:  # noqa: BLE001 - whatever it is, the next ones are to be sent
            succeeded, reason = False, self._messages.mask(f"{type(error).__name__}: {error}")
        if succeeded:
            self._succeeded()
        else:
            self.lose(items, reason or self._messages.take() or "no answer")
        return succeeded

    def lose(self, items: int, reason: str) -> None:
        """Report an outage, unless that was done already, and count what is lost in it."""
        with self._lock:
            self._lost += items
            is_new, self._since = self._since is None, self._since or time.monotonic()
        if is_new:
            reason = one_line(reason)[:LONGEST_REASON]
            self._say(f"{self._server} does not accept {self._what}, which are lost until it does: {reason}")

    def _succeeded(self) -> None:
        with self._lock:
            since, self._since, lost = self._since, None, self._lost
            self._lost = 0
        if since is not None:
            seconds = time.monotonic() - since
            self._say(f"{self._server} accepts {self._what} again after {seconds:.0f} s; lost: {lost:,} {self._what}")
