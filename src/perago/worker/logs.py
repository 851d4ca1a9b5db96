"""The log of a worker: its lines, its JSONL files, and its events as text.

`LogLines` formats the lines (docs/workers.md explains their fields). `JsonLog` writes them to
`<root>/<module>/worker_id=<id>/date=<day>.jsonl`. Two exporters use this module: `journal` logs the events of the
supervisor, and `printing` prints them for the person who started the worker.

A log that cannot be written never affects an attempt.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import sys
import threading
import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from perago.authoring.context import metrics_json
from perago.driver import AttemptRecord
from perago.ports import Delivery, TaskStatus
from perago.settings.sources import LogFormat
from perago.text import count, duration, json_text, listing, log_zone, one_line, short, use_zone, visible
from perago.worker import events
from perago.worker.events import Event, Listener
from perago.worker.plan import ExportContext, LogPlan, WorkerPlan
from perago.worker.sending import BackgroundLines, LineWriter, terminal_omission


def timestamp(seconds: float | None = None) -> str:
    """Return the current time, or that of `seconds` since the epoch, as in log lines."""
    time = datetime.now(log_zone()) if seconds is None else datetime.fromtimestamp(seconds, log_zone())
    return time.isoformat(timespec="milliseconds")


class LogLines:
    """Formats the lines of one process's log: printable, valid JSON, without secrets."""

    def __init__(self, worker: WorkerPlan, worker_id: str) -> None:
        use_zone(worker.logs.time_zone)  # a slot reads no settings
        self._mask = worker.mask
        self._fields = {"module": worker.name, "worker_id": worker_id, "pid": os.getpid()}

    def __call__(self, level: str, message: str, *, time: str = "", **fields: Any) -> dict[str, Any]:
        """Return a line with this time, or with the current time."""
        line = {"time": time or timestamp(), "level": level, **self._fields, **fields, "message": message}
        return {name: cleaned(value, self._mask) for name, value in line.items()}


def cleaned(value: Any, mask: Callable[[str], str] = str) -> Any:
    """Return `value` in a form that strict JSON readers accept, with `mask` applied to its texts.

    Escape half a surrogate pair, which represents a byte that is not UTF-8, as in captured output.
    """
    if isinstance(value, str):
        return mask(value).encode("utf-8", "backslashreplace").decode()
    if isinstance(value, Mapping):
        return {cleaned(str(key)): cleaned(member, mask) for key, member in value.items()}
    if isinstance(value, list | tuple):
        return [cleaned(member, mask) for member in value]
    return value


MOST_ENTRIES = 10_000
"""Maximum number of log lines of the supervisor that wait for its disk. Further lines are dropped."""

LOG_FILES = ("worker_id=*/date=*.jsonl", "worker_id=*/pid=*__started=*.jsonl")
"""The log files below the directory of a module: `date=<day>.jsonl`, with a time in the name once it is rotated, and
those of earlier versions."""


class DailyFile:
    """Appends lines to `date=<day>.jsonl` in a directory. The file appears with its first line, and only its owner can
    read it. A file that was removed or rotated, or whose descriptor a function has closed, is opened again."""

    def __init__(self, directory: Path, max_bytes: int, on_rotation: Callable[[], object]) -> None:
        self._directory = directory
        self._max_bytes = max_bytes
        self._on_rotation = on_rotation
        self._descriptor = -1
        self._status: os.stat_result | None = None
        self._is_torn = False
        """Whether the disk refused the rest of the last line."""
        self._lock = threading.RLock()  # a signal handler of the function may log, too

    def append(self, day: str, text: str) -> None:
        """Append one line. Rotate a file that would become too large.

        Raises:
            OSError: the disk refuses.
        """
        with self._lock:
            path, line = self._directory / f"date={day}.jsonl", f"{text}\n".encode()
            size = self._open(path)
            if size and size + len(line) > self._max_bytes:
                path.rename(path.with_suffix(f".{datetime.now(log_zone()):%Y-%m-%d_%H-%M-%S_%f}.jsonl"))
                self._on_rotation()
                self._open(path)
            line = b"\n" * self._is_torn + line
            self._is_torn = os.write(self._descriptor, line) < len(line)

    def close(self) -> None:
        """Close the file, unless the descriptor is now that of another file."""
        with self._lock, contextlib.suppress(OSError):
            if self._status is not None and os.path.samestat(os.fstat(self._descriptor), self._status):
                os.close(self._descriptor)
            self._status = None

    def _open(self, path: Path) -> int:
        """Open the file unless it is open. Return its size."""
        with contextlib.suppress(OSError):
            status = os.fstat(self._descriptor)
            if self._status is not None and os.path.samestat(status, path.stat()):
                return status.st_size
        self.close()
        self._directory.mkdir(parents=True, exist_ok=True)
        self._descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._status = os.fstat(self._descriptor)
        return self._status.st_size


class JsonLog:
    """The log of one process: a file for each worker id and day, to which later processes of that id append.

    `pass_on` also gets each line. Nothing that user code configures in `logging` or loguru affects this log.
    """

    def __init__(
        self, worker: WorkerPlan, worker_id: str, pass_on: Callable[[dict[str, Any]], object] = lambda _: None
    ) -> None:
        plan, directory = worker.logs, worker.logs.root / worker.name / f"worker_id={worker_id}"
        self._lines = LogLines(worker, worker_id)
        self._pass_on = pass_on
        self._file = DailyFile(directory, plan.max_bytes, lambda: trim_logs(plan, worker.name)) if plan.files else None

    def write(self, level: str, message: str, *, time: str = "", **fields: Any) -> None:
        """Append one line, without secrets. Drop a line that the disk refuses, or that JSON cannot represent."""
        with contextlib.suppress(Exception):
            line = self._lines(level, message, time=time, **fields)
            with contextlib.suppress(Exception):
                self._pass_on(line)  # first, because the disk may hang
            if self._file is not None:
                self._file.append(str(line["time"])[: len("2026-11-29")], as_json(line))

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()


class QueuedLog(BackgroundLines):
    """Writes the lines of a log on a thread, so that neither a slow disk nor a long line delays the caller."""

    def __init__(self, log: JsonLog) -> None:
        def write(record: logging.LogRecord) -> None:
            entry = record.__dict__
            log.write(record.levelname, record.msg, time=timestamp(record.created), **entry["fields"])

        def omission(number: int) -> logging.LogRecord:
            return _record("WARNING", f"{count(number, 'line')} left out: the disk did not keep up", {})

        super().__init__(write, omission, most=MOST_ENTRIES, end=log.close)

    def write(self, level: str, message: str, **fields: Any) -> None:
        """Append one line with the current time."""
        self.handle(_record(level, message, fields))


def _record(level: str, message: str, fields: Mapping[str, Any]) -> logging.LogRecord:
    return logging.makeLogRecord({"levelname": level, "msg": message, "fields": fields})


def as_json(line: Mapping[str, Any]) -> str:
    """Return a line as one line of JSON.

    Raises:
        ValueError: it contains a number that JSON cannot represent.
    """
    return json_text(line, default=str, allow_nan=False)


def trim_logs(plan: LogPlan, name: str) -> int:
    """Remove old log files in the directory `name`. Return the number of removed files.

    First, remove files that were last written before the retention time. Then, while the remaining files exceed
    `LogPlan.max_total_bytes`, remove the oldest file of the worker id with the most bytes. So a function that prints
    much does not displace the log of the supervisor. A process whose file was removed creates a new one.
    """
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
    """Return the ids that every log line about a delivery has."""
    return {name: getattr(delivery, name) for name in _IDS}


def workspace_fields(record: AttemptRecord) -> dict[str, Any]:
    """Return the log fields about the workspace of an attempt that has ended: guardrail verdicts, and the first
    `LOGGED_FILES` changed files with their sizes in bytes."""
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
    """Write the log of the supervisor. With a log format, also write its lines and those of the slots to standard
    error."""
    form = None if context.settings is None else context.settings.log_format
    if form is None:
        with journal_of(context.plan) as listener:
            yield listener
        return
    writer = LineWriter(sys.stderr, functools.partial(stream_omission, form=form))
    try:
        with journal_of(context.plan, functools.partial(write_rendered, writer, form)) as listener:
            yield listener
    finally:
        writer.close()


@contextlib.contextmanager
def journal_of(plan: WorkerPlan, stream: Callable[[Mapping[str, Any]], object] | None = None) -> Iterator[Listener]:
    """Log each event as one line, with ids. `stream` also gets these lines, and those that slots forward."""
    log = QueuedLog(JsonLog(plan, plan.supervisor_id, stream or (lambda _: None)))

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


def event_lines(plan: WorkerPlan) -> Callable[[Event], dict[str, Any] | None]:
    """Return a function that makes the log line of an event, or None for an event that is not logged."""
    lines = LogLines(plan, plan.supervisor_id)

    def line_of(event: Event) -> dict[str, Any] | None:
        if isinstance(event, events.UNLOGGED):
            return None
        level, message, fields = journalled(event)
        return lines(level, message, **fields)

    return line_of


def journalled(event: Event) -> tuple[str, str, dict[str, Any]]:
    """Return level, message and fields of the supervisor's line about `event`."""
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
    """Return `event` as one line with ids, without a time. Quoted text is escaped, so it stays on that line."""
    return one_line(_event_text(event))


def _event_text(event: Event) -> str:
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
        case events.HandedBack(delivery, None, reason):
            return f"handed back {_which(delivery)}" + (f": {reason}" if reason else "")
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
    """A `Listener` that passes on one line per event that a terminal shows, at most one per attempt.

    In watched attempts, each line of output follows immediately, with the name of the attempt before it.
    """

    def __init__(self, write: Callable[[str], object]) -> None:
        self._write = write
        self._attempts: dict[str, str] = {}
        """The prefix of the lines of each slot's current attempt."""

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


def stream_omission(number: int, form: LogFormat) -> str:
    """Return the line that stands for dropped lines."""
    text = f"[{number:,} lines left out: standard error did not keep up]"
    return rendered({"time": timestamp(), "level": "WARNING", "source": "limit", "message": text}, form)


def as_text(line: Mapping[str, Any]) -> str:
    """Return a line for people: time, level, worker, attempt and message. Each line of a message with several lines
    gets the same prefix."""
    attempt = f"{line.get('task_name')} {line['task_id']}: " if "task_id" in line and "event" not in line else ""
    front = f"{line.get('time')} {line.get('level')!s:<7} {line.get('worker_id', 'perago')} {attempt}"
    return "\n".join(front + visible(text) for text in str(line.get("message")).rstrip("\n").split("\n"))


def rendered(line: Mapping[str, Any], form: LogFormat) -> str:
    """Return a line in the log format `form`, without a line break at its end.

    Raises:
        ValueError: JSON cannot represent it.
    """
    line = cleaned(line)
    return as_json(line) if form is LogFormat.JSON else as_text(line)


def write_rendered(writer: LineWriter, form: LogFormat, line: Mapping[str, Any]) -> None:
    """Write a line. Drop one that JSON cannot represent, which only untrusted code can send."""
    try:
        writer.write(rendered(line, form))
    except (ValueError, RecursionError):
        writer.drop()


@contextlib.contextmanager
def printing(context: ExportContext) -> Iterator[Listener | None]:
    """Print lines for people to standard output while a worker runs, unless its log goes to standard error.

    At the end of the block, waiting lines are written for as long as their reader accepts them.
    """
    if context.settings is None or context.settings.log_format is not None:
        yield None
        return
    writer = LineWriter(sys.stdout, terminal_omission)
    try:
        yield PlainLines(writer.write)
    finally:
        writer.close()
