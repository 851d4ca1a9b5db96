"""The log of a worker: its lines, its JSONL files, and its events as text.

`LogLines` makes the lines (docs/workers.md explains their fields). `JsonLog` writes them to
`<root>/<module>/worker_id=<id>/date=<day>.jsonl`. Two exporters use them: `journal` logs the supervisor's events,
`printing` shows them to the person who started the worker.

A log that cannot be written never disturbs an attempt.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import itertools
import os
import select
import sys
import threading
import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TextIO, TypeAlias, TypeVar

from perago.authoring.context import metrics_json
from perago.driver import AttemptRecord
from perago.ports import Delivery, TaskStatus
from perago.settings.sources import LogFormat
from perago.text import LOG_ZONE, count, duration, json_text, listing, one_line, short, visible
from perago.worker import events
from perago.worker.events import Event, Listener
from perago.worker.plan import ExportContext, LogPlan, WorkerPlan

if TYPE_CHECKING:
    from loguru import Logger


def timestamp() -> str:
    """Return the current time, as in log lines."""
    return datetime.now(LOG_ZONE).isoformat(timespec="milliseconds")


class LogLines:
    """Formats the lines of one process's log: printable, valid JSON, without secrets."""

    def __init__(self, worker: WorkerPlan, worker_id: str) -> None:
        self._mask = worker.mask
        self._fields = {"module": worker.name, "worker_id": worker_id, "pid": os.getpid()}

    def __call__(self, level: str, message: str, *, time: str = "", **fields: Any) -> dict[str, Any]:
        """Return a line with this time, or the current one."""
        line = {"time": time or timestamp(), "level": level, **self._fields, **fields, "message": message}
        return {name: cleaned(value, self._mask) for name, value in line.items()}


def cleaned(value: Any, mask: Callable[[str], str] = str) -> Any:
    """Return `value` in a form that strict readers of JSON accept, with `mask` applied to its texts.

    Half a surrogate pair, which represents a byte that is not UTF-8, is escaped as in output.
    """
    if isinstance(value, str):
        return mask(value).encode("utf-8", "backslashreplace").decode()
    if isinstance(value, Mapping):
        return {cleaned(str(key)): cleaned(member, mask) for key, member in value.items()}
    if isinstance(value, list | tuple):
        return [cleaned(member, mask) for member in value]
    return value


MOST_WAITING = 16 * 2**20
"""Maximum number of bytes that wait for the reader. Further lines are left out."""
CLOSE_LIMIT = 2.0
"""Seconds that the reader gets for the waiting lines at the end."""
GATHERING_SECONDS = 0.02
"""Seconds for which lines gather while more arrive, because waking the thread costs as much as many lines."""
MOST_ENTRIES = 10_000
"""Maximum number of log lines of the supervisor that wait for its disk. Further lines are left out."""


LOG_FILES = ("worker_id=*/date=*.jsonl", "worker_id=*/pid=*__started=*.jsonl")
"""The log files below the directory of a module: `date=<day>.jsonl`, with a time in the name once it is rotated, and
those of earlier versions."""


T = TypeVar("T")
LogEntry: TypeAlias = tuple[str, str, str, dict[str, Any]]
"""Time, level, message and fields of a line."""


class JsonLog:
    """The log of one process: a file for each worker id and day, which later processes of that id continue. It appears
    with its first line, readable by its owner only. `pass_on` also gets each line."""

    def __init__(
        self, worker: WorkerPlan, worker_id: str, pass_on: Callable[[dict[str, Any]], object] | None = None
    ) -> None:
        self._plan, self._name = worker.logs, worker.name
        self._directory = worker.logs.root / worker.name / f"worker_id={worker_id}"
        self._lines = LogLines(worker, worker_id)
        self._pass_on = pass_on
        self._logger = copy.deepcopy(load_loguru())  # as loguru makes independent loggers
        self._day = ""
        self._opening = threading.RLock()  # a signal handler of the function may log, too

    def write(self, level: str, message: str, **fields: Any) -> None:
        """Append one line, without secrets. If the disk refuses, the line is dropped."""
        self._append([self._lines(level, message, **fields)])

    def write_all(self, entries: Sequence[LogEntry]) -> None:
        """Append a line for each entry. If the disk refuses, the lines of a day are dropped."""
        lines = []
        for at, level, message, fields in entries:
            with contextlib.suppress(Exception):  # one bad line must not end the thread
                lines.append(self._lines(level, message, time=at, **fields))
        for _, of_a_day in itertools.groupby(lines, key=_day):
            self._append(list(of_a_day))

    def _append(self, lines: Sequence[dict[str, Any]]) -> None:
        """Append lines of one day."""
        texts = []
        for line in lines:
            with contextlib.suppress(Exception):
                texts.append(as_json(line))
        if (pass_on := self._pass_on) is not None:  # first, because the disk may hang
            for line in lines:
                with contextlib.suppress(Exception):
                    pass_on(line)
        if texts:
            with contextlib.suppress(Exception):
                self._open(_day(lines[0]))
                self._logger.info("\n".join(texts))

    def close(self) -> None:
        """Close the file."""
        with contextlib.suppress(OSError):
            self._logger.remove()

    def _trim(self, _: object) -> None:
        trim_logs(self._plan, self._name)

    def _open(self, day: str) -> None:
        """Continue or begin the file of a day, unless it is open."""
        with self._opening:
            if day == self._day or not self._plan.files:
                return
            self._day = day
            with contextlib.suppress(OSError):
                self._logger.remove()
            self._logger.add(
                str(self._directory / f"date={day}.jsonl").replace("{", "{{").replace("}", "}}"),
                format="{message}",
                rotation=self._plan.max_bytes,
                retention=self._trim,
                delay=True,
                watch=True,
                catch=False,
                opener=functools.partial(os.open, mode=0o600),
                encoding="utf-8",
            )


class Gatherer(Generic[T]):
    """Puts out items on a thread of its own, in order, so that no caller waits. Any thread can call `add`.

    Args:
        name: the name of the thread.
        put_out: puts out items, on the thread. This can take any time.
        missing: makes the item that replaces so many items.
        most: the largest size of all items that wait. Items that exceed it are counted and left out; a later one says
            how many.
        at_once: the largest number of items that are put out together.
        size_of: returns the part of `most` that an item takes. By default items are counted.
        end: does what follows the last item, on the thread.
    """

    def __init__(
        self,
        name: str,
        put_out: Callable[[Sequence[T]], None],
        missing: Callable[[int], T],
        *,
        most: int,
        at_once: int,
        size_of: Callable[[T], int] = lambda _: 1,
        end: Callable[[], None] = lambda: None,
    ) -> None:
        self._put_out, self._missing, self._end = put_out, missing, end
        self._most, self._at_once, self._size_of = most, at_once, size_of
        self._changed = threading.Condition()
        self._waiting: deque[T] = deque()
        self._size = self._left_out = 0
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def add(self, item: T) -> None:
        """Append an item, or count it if too many wait."""
        with self._changed:
            if self._size + self._size_of(item) > self._most:
                self._left_out += 1
                return
            if self._left_out:
                self._append(self._missing(self._left_out))
                self._left_out = 0
            self._append(item)

    def leave_out(self) -> None:
        """Count an item that cannot be put out."""
        with self._changed:
            self._left_out += 1

    @property
    def waiting(self) -> int:
        """The size of the items that are not put out yet."""
        return self._size

    def close(self) -> None:
        """Put out the waiting items, as far as that takes no longer than `CLOSE_LIMIT`. It is safe to repeat this."""
        with self._changed:
            self._closed.set()
            self._changed.notify()
        self._thread.join(CLOSE_LIMIT)

    def _append(self, item: T) -> None:
        self._waiting.append(item)
        self._size += self._size_of(item)
        self._changed.notify()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._closed.is_set())
                if not self._waiting:
                    break
            while self._waiting:
                items = [self._waiting.popleft() for _ in range(min(len(self._waiting), self._at_once))]
                self._put_out(items)
                with self._changed:
                    self._size -= sum(map(self._size_of, items))
            self._closed.wait(GATHERING_SECONDS)
        self._end()


class LogThread(Gatherer[LogEntry]):
    """Formats and writes the lines of a log, so that neither a slow disk nor a long line delays the caller."""

    def __init__(self, log: JsonLog) -> None:
        super().__init__("perago-log", log.write_all, _missing_lines, most=MOST_ENTRIES, at_once=1000, end=log.close)

    def write(self, level: str, message: str, **fields: Any) -> None:
        """Append one line with the current time."""
        self.add((timestamp(), level, message, fields))


def _missing_lines(number: int) -> LogEntry:
    return timestamp(), "WARNING", f"{count(number, 'line')} left out: the disk did not keep up", {}


def _day(line: Mapping[str, Any]) -> str:
    return str(line["time"])[: len("2026-11-29")]


def as_json(line: Mapping[str, Any]) -> str:
    """A line as one line of JSON.

    Raises:
        ValueError: it has a number that JSON does not know.
    """
    return json_text(line, default=str, allow_nan=False)


def trim_logs(plan: LogPlan, name: str) -> int:
    """Remove log files in the directory `name` that were last written before the retention time. While the others
    exceed `LogPlan.max_total_bytes`, remove the oldest file of the worker id with the most bytes. So a function that
    prints much does not remove the log of the supervisor. A process whose file was removed begins a new one. Return the
    number of removed files."""
    begin, removed = time.time() - plan.retention_days * 86_400, 0
    logs: defaultdict[Path, deque[tuple[Path, int]]] = defaultdict(deque)
    sizes: Counter[Path] = Counter()
    excess: list[Path] = []
    for path, status in sorted(_log_files(plan.root / name), key=lambda log_file: log_file[1].st_mtime):
        if status.st_mtime < begin:
            excess.append(path)
        else:
            logs[path.parent].append((path, status.st_size))
            sizes[path.parent] += status.st_size
    while sizes.total() > plan.max_total_bytes:
        largest = max(sizes, key=sizes.__getitem__)
        path, size = logs[largest].popleft()
        sizes[largest] -= size
        excess.append(path)
    for path in excess:
        with contextlib.suppress(OSError):
            path.unlink()
            removed += 1
    return removed


def _log_files(directory: Path) -> Iterator[tuple[Path, os.stat_result]]:
    for path in (path for pattern in LOG_FILES for path in directory.glob(pattern)):
        with contextlib.suppress(OSError):
            yield path, path.stat()


@functools.cache
def load_loguru() -> Logger:
    """Return the logger of a second copy of loguru, which this process uses only for its log. It has no handlers.

    loguru has one logger per process, and in a slot that one belongs to the author's code, which may reconfigure it.
    """
    name, known = "perago_loguru", find_spec("loguru")
    if known is None or known.origin is None:
        raise ModuleNotFoundError("loguru cannot be found", name="loguru")
    spec = spec_from_file_location(name, known.origin, submodule_search_locations=known.submodule_search_locations)
    assert spec is not None  # noqa: S101 - it is a file
    assert spec.loader is not None  # noqa: S101
    loguru = sys.modules[name] = module_from_spec(spec)
    spec.loader.exec_module(loguru)
    logger: Logger = loguru.logger
    logger.remove()
    return logger


# ------------------------------------------------------------------------ the supervisor's own log

WARNINGS = (
    events.SlotDied,
    events.LeaseDoubtful,
    events.FenceNotEnforced,
    events.WaitingForLakeFS,
    events.ConductorUnreachable,
    events.PollingPaused,
    events.CleanUpFailed,
    events.CacheFailed,
    events.BranchSweepFailed,
    events.Cancelling,
)
LOGGED_FILES = 200
ERRORS = (events.SlotStartFailed,)


_IDS = ("workflow_id", "task_id", "task_name", "reference_name", "iteration", "retry_count", "poll_count", "start_time")


def delivery_ids(delivery: Delivery) -> dict[str, Any]:
    """The ids that every log line about a delivery carries."""
    return {name: getattr(delivery, name) for name in _IDS}


def workspace_fields(record: AttemptRecord) -> dict[str, Any]:
    """Return the log fields about the workspace of an attempt that has ended: verdicts, and the first `LOGGED_FILES`
    changed files with their sizes in bytes."""
    changes = record.changes
    parts = (("added", changes.added), ("changed", changes.changed), ("removed", changes.removed))
    files = [{"kind": kind, "path": file.path, "size": file.size} for kind, part in parts for file in part]
    return {
        "guardrails": [{"satisfied": verdict.satisfied, "message": verdict.message} for verdict in record.findings],
        "objects": record.objects,
        "from_cache": record.from_cache,
        "metrics": metrics_json(record.metrics),
        "changed": len(files),
        "files": files[:LOGGED_FILES],
    }


@contextlib.contextmanager
def journal(context: ExportContext) -> Iterator[Listener]:
    """Write the log of the supervisor. With a log format, standard error gets its lines and those of the slots, too."""
    form = None if context.settings is None else context.settings.log_format
    if form is None:
        with journal_of(context.plan) as listener:
            yield listener
        return
    writer = LineWriter(sys.stderr, functools.partial(stream_missing, form=form))
    try:
        with journal_of(context.plan, functools.partial(write_rendered, writer, form)) as listener:
            yield listener
    finally:
        writer.close()


@contextlib.contextmanager
def journal_of(plan: WorkerPlan, stream: Callable[[Mapping[str, Any]], object] | None = None) -> Iterator[Listener]:
    """Log each event as one line, with ids. `stream` also gets each line, and the lines that slots forward."""
    log = LogThread(JsonLog(plan, plan.supervisor_id, stream))

    def listener(event: Event) -> None:
        if isinstance(event, events.Logged) and stream is not None:
            stream({**event.line, "worker_id": event.worker_id})
        elif not isinstance(event, events.UNLOGGED):
            level, message, fields = journalled(event)
            log.write(level, message, **fields)

    try:
        yield listener
    finally:
        log.close()


def journalled(event: Event) -> tuple[str, str, dict[str, Any]]:
    """Level, message and fields of the supervisor's line about `event`."""
    return _level(event), describe(event), {"event": type(event).__name__, **_fields(event)}


def _level(event: Event) -> str:
    if isinstance(event, events.AttemptEnded):
        final = event.ending is events.Ending.UNREPORTED or event.status is TaskStatus.FAILED_WITH_TERMINAL_ERROR
        return "INFO" if event.completed else "ERROR" if final else "WARNING"
    denied = isinstance(event, events.ConductorUnreachable) and event.denied
    if denied or isinstance(event, ERRORS):
        return "ERROR"
    return "WARNING" if isinstance(event, WARNINGS) else "INFO"


def _fields(event: Event) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    delivery = getattr(event, "delivery", None)
    if delivery is not None:
        fields.update(delivery_ids(delivery))
    if isinstance(event, events.AttemptEnded):
        fields.update(
            ending=event.ending.value,
            status=event.status,
            reason=event.reason,
            published_commit=event.published_commit,
            remarks=list(event.remarks),
            fence=event.fence,
            seconds=round(event.seconds, 4),
            steps={name: round(seconds, 4) for name, seconds in event.steps},
        )
    if isinstance(event, events.ConductorUnreachable | events.ConductorBack) and event.task_name:
        fields["task_name"] = event.task_name
    if isinstance(event, events.FenceNotEnforced):
        fields["repository"] = event.repository
    slot = getattr(event, "worker_id", None)
    return fields if slot is None else {"slot": slot, **fields}


# ------------------------------------------------------------------------ events as text


def _which(delivery: Delivery) -> str:
    text = f"{delivery.task_name} {delivery.task_id}"
    return f"{text} (retry {delivery.retry_count})" if delivery.retry_count else text


def _ended(event: events.AttemptEnded) -> str:
    what = (event.status or "").lower()
    if event.ending is events.Ending.LOST:
        return f"lost {_which(event.delivery)} after {duration(event.seconds)}, nothing was sent: {event.reason}"
    if event.ending is events.Ending.UNREPORTED:
        which = f"report {_which(event.delivery)} as {what}" if what else f"hand back {_which(event.delivery)}"
        return f"could not {which}: {event.reason}"
    if event.ending is events.Ending.HANDED_BACK:
        return (
            f"handed back {_which(event.delivery)} after {duration(event.seconds)}, before its function: {event.reason}"
        )
    text = f"{what} {_which(event.delivery)} in {duration(event.seconds)}"
    if event.published_commit is not None:
        text += f", workspace at {short(event.published_commit)}"
    if event.remarks:
        text += f" ({', '.join(event.remarks)})"
    return f"{text}: {event.reason}" if event.reason and not event.completed else text


def describe(event: Event) -> str:
    """Return `event` as one line with ids, without a time. Quoted text can neither break the line nor hide anything."""
    return one_line(_words(event))


def _words(event: Event) -> str:
    match event:
        case events.WorkerReady(module, task_name, worker_id, slots, seconds, shared):
            what = count(slots, "slot")
            what = f"up to {what} when there is work" if shared else what
            return f"ready: {task_name} ({module}), {what}, polling as {worker_id}, after {duration(seconds)}"
        case events.SlotReady(worker_id, pid, task_name):
            return f"{worker_id}: ready for {task_name} (process {pid})"
        case events.SlotStartFailed(worker_id, reason, task_name, restart_seconds):
            return f"{worker_id}: cannot start for {task_name}, restart in {restart_seconds:g} s: {reason}"
        case events.SlotDied(worker_id, pid, reason, restart_seconds, delivery):
            which = f" (process {pid})"
            which += f" during {_which(delivery)}" if delivery else ""
            return f"{worker_id}: {reason}{which}; restart in {restart_seconds:g} s"
        case events.SlotReplaced(worker_id, pid, reason):
            return f"{worker_id}: process {pid} replaced: {reason}"
        case events.SlotEnded(worker_id, pid, reason):
            return f"{worker_id}: process {pid} ended: {reason}"
        case events.AttemptReceived(delivery, worker_id):
            return f"{worker_id}: received {_which(delivery)}"
        case events.AttemptEnded():
            return f"{event.worker_id}: {_ended(event)}"
        case events.HandedBack(delivery, None):
            return f"handed back {_which(delivery)}"
        case events.HandedBack(delivery, error):
            then = "Conductor delivers it again after its response timeout"
            return f"could not hand back {_which(delivery)}: {error}; {then}"
        case events.LeaseDoubtful(delivery, worker_id, reason):
            return f"{worker_id}: heartbeats of {_which(delivery)} fail, so Conductor may deliver it again: {reason}"
        case events.FenceNotEnforced(repository):
            return (
                f"warning: lakeFS does not run the hooks of {repository}, so no publish fence guards it. A late merge "
                "may still appear there. Set actions.enabled: true in the server's configuration"
            )
        case events.WaitingForLakeFS(worker_id, text) | events.LakeFSBack(worker_id, text):
            return f"{worker_id}: {text}"
        case events.ConductorUnreachable(reason, denied, task_name):
            what = "Conductor rejects the credentials" if denied else "Conductor is unreachable"
            what = f"Conductor refuses polls for {task_name}" if task_name else what
            return f"{what}, retrying: {reason}"
        case events.ConductorBack(seconds, task_name):
            what = f"accepts polls for {task_name}" if task_name else "answers"
            return f"Conductor {what} again after {seconds:.0f} s"
        case events.PollingPaused(reason):
            return f"no further polls until this host can take work: {reason}"
        case events.PollingResumed(seconds):
            return f"polling again after {seconds:.0f} s because this host can take work"
        case events.DirectoriesSwept(paths):
            return f"removed {len(paths)} attempt directories of an earlier worker"
        case events.BranchesSwept(branches):
            return f"removed staging branches of attempts that have ended: {', '.join(branches)}"
        case events.BranchSweepFailed(repositories, error):
            return f"could not remove all leftover staging branches of {listing(repositories)}: {error}"
        case events.CleanUpFailed(path, error):
            return f"could not remove {path}: {error}"
        case events.CacheFailed(error):
            return f"warning: the cache is not used: {error}"
        case events.CacheTrimmed(objects):
            return f"deleted from the cache to keep to its limit: {count(objects, 'object')}"
        case events.LogsTrimmed(files):
            return f"removed old logs: {count(files, 'file')}"
        case events.Draining(running):
            return f"stopping: no further polls, {running} running; signal again to cancel"
        case events.Cancelling(signal, running):
            return f"{signal} again: canceling {running} running; a third signal kills"
        case events.Stopped(exit_code):
            return f"stopped with exit code {exit_code}"
        case _:
            return f"{getattr(event, 'worker_id', 'worker')}: {type(event).__name__}"


# ------------------------------------------------------------------------ what is printed

_SHORT_ID = 8
QUIET = (
    events.AttemptReceived,
    events.SlotReady,
    events.SlotEnded,
    events.DirectoriesSwept,
    events.BranchesSwept,
    events.BranchSweepFailed,
    events.CacheTrimmed,
    events.LogsTrimmed,
    *events.UNLOGGED,
)
"""Events that a terminal does not show, because the log has them."""


class PlainLines:
    """A `Listener` that passes on one line per event of interest, at most one per attempt. Output of functions
    in watched attempts follows immediately, one line each, with the attempt in front."""

    def __init__(self, write: Callable[[str], object]) -> None:
        self._write = write
        self._attempts: dict[str, str] = {}
        """The beginning of the lines of each slot's current attempt."""

    def __call__(self, event: Event) -> None:
        """Pass on the lines about `event`."""
        match event:
            case events.AttemptReceived(delivery, worker_id):
                name = f"{delivery.task_name} {delivery.task_id[:_SHORT_ID]}"
                self._attempts[worker_id] = f"{name} attempt {delivery.retry_count + 1} | "
            case events.FunctionSaid(worker_id, text):
                for line in text.rstrip("\n").split("\n"):
                    self._write(one_line(self._attempts.get(worker_id, "") + line))
            case events.FunctionProgress(worker_id, done, total):
                self._write(one_line(f"{self._attempts.get(worker_id, '')}progress {done:,} of {total:,}"))
            case _ if not isinstance(event, QUIET):
                self._write(describe(event))


def terminal_missing(number: int) -> str:
    """Return the line that replaces omitted lines."""
    return f"{count(number, 'line')} left out: the terminal did not keep up"


class LineWriter(Gatherer[bytes]):
    """Writes lines to the descriptor of `stream`, in its encoding. Any thread can call `write`, which never waits.
    `missing` makes the line with the number of omitted lines."""

    def __init__(self, stream: TextIO, missing: Callable[[int], str]) -> None:
        stream.flush()
        self._descriptor = stream.fileno()
        self._encoding = stream.encoding or "utf-8"  # a stream that rich stands in for has no encoding

        def missing_line(number: int) -> bytes:
            return self._encoded(missing(number))

        super().__init__("perago-lines", self._write, missing_line, most=MOST_WAITING, at_once=1, size_of=len)

    def write(self, line: str) -> None:
        """Append a line, which is given without its end."""
        self.add(self._encoded(line))

    def _encoded(self, line: str) -> bytes:
        return f"{line}\n".encode(self._encoding, "backslashreplace")

    def _write(self, items: Sequence[bytes]) -> None:
        """Write lines to the reader. Without a reader they are dropped, and the worker continues."""
        data = b"".join(items)
        while data:
            try:
                select.select([], [self._descriptor], [])
                data = data[os.write(self._descriptor, data) :]
            except BlockingIOError:  # another writer took the room
                continue
            except OSError:
                return


def stream_missing(number: int, form: LogFormat) -> str:
    """Return the line that replaces omitted lines."""
    text = f"[{number:,} lines left out: standard error did not keep up]"
    return rendered({"time": timestamp(), "level": "WARNING", "source": "limit", "message": text}, form)


def as_text(line: Mapping[str, Any]) -> str:
    """Return a line for people: time, level, worker, attempt, and the message. Each line of a long message gets the
    same beginning."""
    attempt = f"{line.get('task_name')} {line['task_id']}: " if "task_id" in line and "event" not in line else ""
    front = f"{line.get('time')} {line.get('level')!s:<7} {line.get('worker_id', 'perago')} {attempt}"
    return "\n".join(front + visible(text) for text in str(line.get("message")).rstrip("\n").split("\n"))


def rendered(line: Mapping[str, Any], form: LogFormat) -> str:
    """Return a line in the given form, without its line end.

    Raises:
        ValueError: JSON cannot hold it.
    """
    line = cleaned(line)
    return as_json(line) if form is LogFormat.JSON else as_text(line)


def write_rendered(writer: LineWriter, form: LogFormat, line: Mapping[str, Any]) -> None:
    """Write a line. A line that JSON cannot represent is left out; only a forged line can be one."""
    try:
        writer.write(rendered(line, form))
    except (ValueError, RecursionError):
        writer.leave_out()


@contextlib.contextmanager
def printing(context: ExportContext) -> Iterator[Listener | None]:
    """Print lines for people to standard output while a worker runs, unless its log goes to standard error. Lines that
    wait at the end are written when the block is left, as far as they are read."""
    if context.settings is None or context.settings.log_format is not None:
        yield None
        return
    writer = LineWriter(sys.stdout, terminal_missing)
    try:
        yield PlainLines(writer.write)
    finally:
        writer.close()
