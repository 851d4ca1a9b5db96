"""Log an attempt inside its slot: captured output, lines with ids, and the tail for Conductor.

A function can print more than a disk or a reader can take. So lines are cut, the number of logged lines per second is
limited, and Conductor gets the last ones. A line counts the lines that were left out. The last lines of an attempt are
always logged.

During a call, descriptors 1 and 2 are the write end of a pipe that a thread reads. A random marker after the call ends
the output, because the pipe may never end: a process that the function left behind can keep it open. No output can stop
the worker: bytes that are not UTF-8 are escaped, endless lines are cut, and the wait for the marker has a limit.

A line of `logging` or `current().log` does not go through the pipe. The thread that writes it first reads what the pipe
holds. So all lines that Python writes come out in the order of the calls.

Most functions print nothing. Then no marker is sent and no thread wakes up, which on a busy machine saves more than any
other optimization of a slot.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import io
import logging
import os
import secrets
import select
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, TextIO

from perago.driver import AttemptRecord
from perago.driver.runtime import Direction, Observer
from perago.guardrails.evaluation import Finding
from perago.hanging import service_in
from perago.ports import Delivery
from perago.processes import signals_held
from perago.settings.mask import Mask
from perago.worker import channel, events
from perago.worker.logs import JsonLog, delivery_ids
from perago.worker.plan import WorkerPlan
from perago.workspace.changes import Changes

TAIL_LINES = 200
TAIL_BYTES = 65_536
TRACEBACK_BYTES = 65_536
PROGRESS_BYTES = 200
SENTENCE_BYTES = 1500
"""The largest size of a message to the supervisor, which accepts more (`slots.LONGEST_REASON`)."""

LINES_PER_SECOND = 1000
"""The number of lines per second that a slot logs in the long run. A line of many KiB counts as several lines."""
LINES_AT_ONCE = 3000

TRANSFER_INTERVAL = 0.05
"""Seconds between two messages about one transfer. Its end is always sent."""
PROGRESS_INTERVAL = 0.1
"""Seconds between two lines of `current().progress`; its end is always logged."""


class LineBudget:
    """A budget of lines that a slot may log: `LINES_PER_SECOND`, and `LINES_AT_ONCE` after a quiet time.

    Once the budget is used up, no line is logged until there is budget for a second's lines, because pieces are more
    useful than single lines out of a flood.
    """

    def __init__(self) -> None:
        self._left = float(LINES_AT_ONCE)
        self._needed = 1
        self._then = time.monotonic()

    def allows(self, text: str) -> bool:
        """Whether `text` may be logged. If so, count it."""
        now = time.monotonic()
        self._left = min(LINES_AT_ONCE, self._left + (now - self._then) * LINES_PER_SECOND)
        self._then = now
        if self._left < self._needed:
            self._needed = LINES_PER_SECOND
            return False
        self._needed = 1
        self._left -= 1 + len(text) // 1024
        return True


class Tail:
    """The last lines of an attempt's output, for Conductor's task log: 200 lines, 64 KiB."""

    def __init__(self) -> None:
        self._lines: deque[str] = deque(maxlen=TAIL_LINES)
        self._added = 0

    def add(self, line: str) -> None:
        """Append one line."""
        self._lines.append(line)
        self._added += 1

    def take(self) -> str:
        """Return the tail as one text, with the number of omitted lines, and clear it."""
        text = "\n".join(self._lines).encode("utf-8", "replace")
        if len(text) > TAIL_BYTES:
            text = text[-TAIL_BYTES:].partition(b"\n")[2]
        left_out = self._added - (text.count(b"\n") + 1 if self._lines else 0)
        self._lines.clear()
        self._added = 0
        note = f"[{left_out:,} earlier lines left out]\n" if left_out else ""
        return note + text.decode("utf-8", "ignore")


class AttemptLog(Observer):
    """An `Observer` of the driver, and the destination of the function's output. Methods may be called by several
    threads.

    Args:
        plan: the plan of the worker. With `WorkerPlan.watch`, the supervisor also gets events.
        worker_id: the worker id of the slot, which its events have.
        log: the slot's file.
        delivery: the delivery whose ids are in the lines.
        budget: the number of lines that the slot may still log.
        pipe: the connection to the supervisor, which writes Conductor's task log.
        catch_up: reads the output that was written before a line.
    """

    def __init__(
        self,
        plan: WorkerPlan,
        worker_id: str,
        log: JsonLog,
        delivery: Delivery,
        budget: LineBudget,
        pipe: channel.SlotChannel,
        catch_up: Callable[[], None],
    ) -> None:
        self._catch_up = catch_up
        self._is_watched = plan.watch
        self._worker_id = worker_id
        self._log = log
        self._delivery = delivery
        self._pipe = pipe
        self._ids = delivery_ids(delivery)
        self._mask = plan.mask
        self._budget = budget
        self._lock = threading.RLock()  # a signal handler of the function may log, too
        self._waits = set[str]()
        """The services whose silence was reported."""
        self._tail = Tail()
        self._left_out = 0
        self._last: deque[tuple[str, str, str]] = deque(maxlen=TAIL_LINES)
        """The last omitted lines since a line was logged."""
        self._next_progress = self._next_transfer = 0.0
        self._progress = ""
        """The last progress that Conductor's task log does not have yet."""
        self._extra: list[str] = []
        self.meter: events.TransferMeter = events.TransferMeter()

    # ------------------------------------------------------------- the driver's Observer

    def step(self, name: str) -> None:
        """Forward the step. Steps are logged with their durations at the end of the attempt."""
        self._pass_on(events.StepStarted(self._worker_id, name))

    def transferred(self, direction: Direction, objects: int, size: int, total_objects: int, total_size: int) -> None:
        """Sum the bytes, and pass on the progress of the transfer at an interval."""
        self.meter.transferred(direction, size)
        if objects == total_objects or time.monotonic() >= self._next_transfer:
            self._next_transfer = time.monotonic() + TRANSFER_INTERVAL
            self._pass_on(events.Transferred(self._worker_id, direction, objects, size, total_objects, total_size))

    def log(self, text: str) -> None:
        """Log a line from `current().log`."""
        self._catch_up()
        self._line(self._mask(str(text)), "INFO", "log")

    def progress(self, done: int, total: int) -> None:
        """Log progress from `current().progress`. Conductor's task log gets the last one with each piece of the log,
        because an update of the task's output would give the task away (`docs/dev/servers/conductor.md`, "Attempt state
        machine" and "Lease extension")."""
        self._progress = cut(f"progress {done:,} of {total:,}", PROGRESS_BYTES)
        now = time.monotonic()
        if done == total or now >= self._next_progress:
            self._next_progress = now + PROGRESS_INTERVAL
            self._catch_up()
            self._log.write("INFO", f"progress {done}/{total}", source="progress", **self._ids)
            self._pass_on(events.FunctionProgress(self._worker_id, done, total))

    def waiting(self, text: str, is_over: bool) -> None:
        """Report a wait in the log, in Conductor's task log, and at the terminal of the worker. Report its end once,
        although a call that hung and then failed ends for the watch of hanging calls and for its repetition."""
        with self._lock:
            service = service_in(text)
            if is_over and service not in self._waits:
                return
            (self._waits.discard if is_over else self._waits.add)(service)
        text = cut(self._mask(text), SENTENCE_BYTES)
        self._log.write("INFO" if is_over else "WARNING", text, source="lakefs", **self._ids)
        with self._lock:
            self._tail.add(text)
        self._send(channel.Waiting(self._delivery.identity, text, is_over))

    def repeating(self, service: str, *, waits: bool) -> None:
        """Report that a call to `service` is about to be repeated, or that none waits for it any longer."""
        self._send(channel.Repeating(self._delivery.identity, service.removeprefix("the "), waits))

    def publishing(self, repository: str, branch: str, expected_head: str, reason: str) -> None:
        """Send the supervisor the reason that it must report if this process dies."""
        reason = cut(reason, SENTENCE_BYTES)
        self._send(channel.Publishing(self._delivery.identity, repository, branch, expected_head, reason))
        with contextlib.suppress(channel.ChannelError):
            self._pipe.flush()  # it must be out before the merge is

    # ------------------------------------------------------------------------- the slot

    def recorded(self, record: AttemptRecord) -> None:
        """Forward everything about an attempt that has ended. The slot logs its outcome."""
        for part in in_parts(record) if self._is_watched else ():
            self._pass_on(events.AttemptRecorded(self._worker_id, part))

    def output(self, text: str) -> None:
        """Log a line that the function or one of its processes printed, without secrets."""
        self._line(text, "INFO", "output")

    def record(self, record: logging.LogRecord) -> None:
        """Log a record of the standard `logging`."""
        level = record.levelname if record.levelname in logging.getLevelNamesMapping() else "INFO"
        with contextlib.suppress(Exception):  # arguments that do not fit the message are the author's
            text = f"{record.levelname} {record.name}: {record.getMessage()}"
            self._catch_up()
            self._line(self._mask(text), level, "logging")

    def traceback(self, text: str) -> None:
        """Log the traceback of an error, which is a separate entry in Conductor's task log."""
        text = cut(self._mask(text), TRACEBACK_BYTES)
        self._log.write("ERROR", text, source="traceback", **self._ids)
        self._extra.append(text)
        self._pass_on(events.FunctionSaid(self._worker_id, text))

    def note(self, level: str, message: str, **fields: Any) -> None:
        """Log a line about the attempt itself. A warning also goes to Conductor's task log."""
        message = self._mask(message)
        self._log.write(level, message, **self._ids, **fields)
        if level == "WARNING":
            self._extra.append(f"WARNING {message}")

    def send_new_lines(self) -> None:
        """Send the lines that Conductor's task log does not have yet to the supervisor."""
        with self._lock:
            if text := self._take_unsent():
                self._send(channel.LogSoFar(self._delivery.identity, text))

    def finish(self) -> tuple[str, ...]:
        """End the log: write omitted last lines, and return the entries for Conductor's task log. These are the tail as
        one entry (because each entry is a request), the traceback and the warnings."""
        with self._lock:
            last = list(self._last)
            self._log_omission(self._left_out - len(last))
            for text, level, source in last:
                self._write(text, level, source)
            tail = self._take_unsent()
        return (*([tail] if tail else []), *self._extra)

    def _take_unsent(self) -> str:
        """Return the tail and the progress that Conductor's task log does not have yet, and clear them."""
        texts, self._progress = (self._tail.take(), self._progress), ""
        return "\n".join(filter(None, texts))

    def _send(self, message: channel.FromSlot) -> None:
        with contextlib.suppress(channel.ChannelError):  # without a supervisor the slot ends, but not here
            self._pipe.send(message)

    def _line(self, text: str, level: str, source: str) -> None:
        text = cut(text, MAX_LINE_BYTES)
        with self._lock:
            self._tail.add(text)
            if self._budget.allows(text):
                self._log_omission(self._left_out)
                self._write(text, level, source)
            else:
                self._left_out += 1
                self._last.append((text, level, source))

    def _log_omission(self, lines: int) -> None:
        if lines:
            text = f"[{lines:,} lines left out: more than {LINES_PER_SECOND:,} a second]"
            self._write(text, "WARNING", "limit")
        self._left_out = 0
        self._last.clear()

    def _write(self, text: str, level: str, source: str) -> None:
        self._log.write(level, text, source=source, **self._ids)
        self._pass_on(events.FunctionSaid(self._worker_id, text))

    def _pass_on(self, event: events.Watched) -> None:
        if self._is_watched:
            self._send(event)


def cut(text: str, limit: int) -> str:
    """Return the beginning and the end of `text`, with the size of the omitted part, in `limit` bytes of UTF-8."""
    if len(text) <= limit // 4:  # a character has four bytes at most
        return text
    encoded = text.encode("utf-8", "backslashreplace")
    if len(encoded) <= limit:
        return text
    half = limit // 2 - 30
    first, last = encoded[:half].decode("utf-8", "ignore"), encoded[-half:].decode("utf-8", "ignore")
    return f"{first} [{len(encoded) - 2 * half:,} bytes left out] {last}"


@contextlib.contextmanager
def logging_to(attempt_log: AttemptLog) -> Iterator[None]:
    """Send `logging` records to the attempt's log, unless the author set up handlers, whose output is captured
    anyway."""
    root = logging.getLogger()
    if root.handlers:
        yield
        return
    handler = logging.Handler()
    handler.emit = attempt_log.record  # type: ignore[method-assign]
    root.addHandler(handler)
    try:
        yield
    finally:
        root.removeHandler(handler)


# ---------------------------------------------------------------- records that are passed on

BYTES_OF_A_PART = channel.MOST_BYTES // 2
"""Maximum size of the items in a part of a record, as JSON."""

_CHANGES = ("added", "changed", "removed")


def in_parts(record: AttemptRecord) -> Iterator[AttemptRecord]:
    """Split `record` into records that fit into messages: each has a part of its lists and changed files. Input, output
    and metadata of files are left out, because Conductor's row and lakeFS have them. Very long texts are cut in the
    middle."""
    items: list[tuple[str, Any]] = [(name, _cut(item)) for name in events.IN_PARTS for item in getattr(record, name)]
    items += [("changed_since_adopted", pair) for pair in record.changed_since_adopted.items()]
    for kind in _CHANGES:
        files = getattr(record.changes, kind)
        items += [(kind, replace(file, content_type=None, metadata={})) for file in files]
    report = None if record.report is None else replace(record.report, output={})
    whole = replace(record, delivery=replace(record.delivery, input={}), report=report)
    part: list[tuple[str, Any]] = []
    size = 0
    for item in items:
        length = len(channel.encode(item))
        if size + length > BYTES_OF_A_PART:
            yield _with(whole, part)
            part, size = [], 0
        part.append(item)
        size += length
    yield _with(whole, part)


def _with(record: AttemptRecord, items: list[tuple[str, Any]]) -> AttemptRecord:
    """Return the record with only these items, each given with the name of its list."""
    lists: dict[str, list[Any]] = {name: [] for name in (*events.IN_PARTS, "changed_since_adopted", *_CHANGES)}
    for name, item in items:
        lists[name].append(item)
    changes = Changes(*(tuple(lists.pop(kind)) for kind in _CHANGES))
    since = dict(lists.pop("changed_since_adopted"))
    plain: dict[str, Any] = {name: tuple(parts) for name, parts in lists.items()}
    return replace(record, changes=changes, changed_since_adopted=since, **plain)


def _cut(item: Any) -> Any:
    if isinstance(item, str):
        return cut(item, SENTENCE_BYTES)
    if isinstance(item, Finding):
        detail = item.detail and cut(item.detail, SENTENCE_BYTES)
        return replace(item, message=cut(item.message, SENTENCE_BYTES), detail=detail)
    return item


_LIBC = ctypes.CDLL(None)

NO_MASK = Mask()

MAX_LINE_BYTES = 16_384
CHUNK_BYTES = 262_144
"""Bytes that are read in one call. The pipe has the same size, if the system allows it."""
DRAIN_LIMIT = 5.0
"""Seconds to wait for the remaining output after the function has returned."""

CATCH_UP_LIMIT = 0.5
"""Seconds to wait for output that another thread passes on."""

BUSY_SECONDS = 0.002
"""Seconds for which output gathers while more arrives, because waking the thread costs as much as many lines."""


class LineSplitter:
    """Splits chunks of bytes into lines, up to a marker, and redacts secrets in them.

    A secret has no line break. An endless line is cut into pieces, but never within a secret.
    """

    def __init__(self, marker: bytes, sink: Callable[[str], None], mask: Mask = NO_MASK) -> None:
        self._marker = marker
        self._sink = sink
        self._mask = mask
        self._held = max(len(marker), mask.longest)
        """The number of bytes of an endless line that are held back, because a marker or a secret can have arrived in
        part."""
        self._rest = b""

    def feed(self, chunk: bytes) -> bool:
        """Pass on the complete lines of the received bytes. Return True after the marker."""
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
        self._pid = os.getpid()
        self._reading = threading.RLock()
        self._is_splitting = False
        self._draining = threading.Event()
        self._taken = False
        """Whether bytes of the current call were read from the pipe. Set before the read, cleared after the marker."""
        self._drained = threading.Event()
        self.clogged: bool = False
        """Whether the output of a call was not read to its end in time. Then the process must not run another call."""
        threading.Thread(target=self._read, name="perago-output", daemon=True).start()

    @contextlib.contextmanager
    def capture(self, sink: Callable[[str], None]) -> Iterator[None]:
        """Inside the block, pass the output to descriptors 1 and 2 to `sink`, line by line, on another thread. After
        the block it is discarded. A function finds no descriptor of the worker's own output in its process."""
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

    def catch_up(self) -> None:
        """Pass on the output that is in the pipe now. A child process, which has no pipe to read from, does nothing."""
        if os.getpid() != self._pid:
            return
        # In this order: what is no longer in the pipe is with the other thread, which has said so before it read.
        if _has_bytes(self._read_end) or self._is_splitting:
            with signals_held(), contextlib.suppress(OSError):  # a cancellation must not lose the bytes
                self._take(CATCH_UP_LIMIT)

    def _drain(self, marker: bytes) -> None:
        # In this order: bytes that the first read misses arrived before it, so the second read finds them.
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
                self._take()

    def _take(self, patience: float = -1) -> None:
        """Read once, without waiting, and pass on the lines. Two threads of this process read, one at a time. After
        `patience`, do nothing: the other one may wait for a line that this signal handler has interrupted."""
        if not self._reading.acquire(timeout=patience):
            return
        try:
            if self._is_splitting or not _has_bytes(self._read_end):  # the former in a signal handler of the function
                return
            self._is_splitting = self._taken = True
            try:
                has_ended = self._splitter.feed(os.read(self._read_end, CHUNK_BYTES))
            finally:
                self._is_splitting = False
            if has_ended:
                self._splitter = LineSplitter(b"", _ignore)
                self._taken = False
                self._drained.set()
        finally:
            self._reading.release()


def _has_bytes(descriptor: int) -> bool:
    readable = select.poll()
    readable.register(descriptor, select.POLLIN)
    return bool(readable.poll(0))


def _ignore(line: str) -> None:
    """Drop output that comes after the end of its call."""


class _LineWriter(io.BufferedWriter):
    """A text stream that writes each line when it is complete, also lines that are written as bytes."""

    def write(self, data: Any) -> int:
        written = super().write(data)
        if b"\n" in bytes(data):
            self.flush()
        return written


def _text_stream(descriptor: int) -> TextIO:
    binary = _LineWriter(open(descriptor, "wb", buffering=0, closefd=False))  # noqa: SIM115 - for good
    return io.TextIOWrapper(binary, encoding="utf-8", errors="backslashreplace", line_buffering=True)


def flush_streams() -> None:
    """Flush the output that Python and C libraries still have in memory, so that it belongs to the right attempt."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            stream.flush()
    _LIBC.fflush(None)
