"""The log of a worker: its lines, its JSONL files, and each event as text.

`LogLines` makes the lines (docs/logs.md explains their fields), `JsonLog` writes them to such a file. `Journal` is the
supervisor's: every event as one line, with ids.

loguru has one logger per process, and in a slot that one belongs to the author's code, which may reconfigure it. So
every log here is a logger of its own. A log that cannot be written never disturbs an attempt.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from perago.authoring.context import metrics_json
from perago.driver import AttemptRecord
from perago.ports import Delivery
from perago.text import count, json_text, listing, one_line
from perago.worker import events
from perago.worker.events import Event
from perago.worker.plan import LogPlan, WorkerPlan

if TYPE_CHECKING:
    from loguru import Logger


ZONE = timezone(timedelta(hours=8))
"""All log times are UTC+08:00."""


def timestamp() -> str:
    """Now, as log lines have it."""
    return datetime.now(UTC).astimezone(ZONE).isoformat(timespec="milliseconds")


class LogLines:
    """Makes the lines of one process's log: what is in them is printable, valid JSON, and without secrets."""

    def __init__(self, worker: WorkerPlan, worker_id: str) -> None:
        self._mask = worker.mask
        self._fields = {"module": worker.name, "worker_id": worker_id, "pid": os.getpid()}

    def __call__(self, level: str, message: str, **fields: Any) -> dict[str, Any]:
        """A line that is written now."""
        line = {"time": timestamp(), "level": level, **self._fields, **fields, "message": message}
        return {name: cleaned(value, self._mask) for name, value in line.items()}


def cleaned(value: Any, mask: Callable[[str], str] = str) -> Any:
    """`value` as strict readers of JSON take it, and `mask` applied to its texts: half a surrogate pair, which stands
    for a byte that is no UTF-8, is spelled out as output is."""
    if isinstance(value, str):
        return mask(value).encode("utf-8", "backslashreplace").decode()
    if isinstance(value, Mapping):
        return {cleaned(str(key)): cleaned(found, mask) for key, found in value.items()}
    if isinstance(value, list | tuple):
        return [cleaned(found, mask) for found in value]
    return value


class JsonLog:
    """The log of one process. The file appears with its first line, readable by its owner only. `pass_on` also gets
    each line."""

    def __init__(
        self, worker: WorkerPlan, worker_id: str, pass_on: Callable[[dict[str, Any]], object] | None = None
    ) -> None:
        plan = worker.logs
        self._lines = LogLines(worker, worker_id)
        self._pass_on = pass_on
        self._logger: Logger = _independent_logger()
        started = datetime.now(UTC).astimezone(ZONE).strftime("%Y%m%dT%H%M%S.%f%z")
        self.path = plan.root / worker.name / f"worker_id={worker_id}" / f"pid={os.getpid()}__started={started}.jsonl"
        if not plan.files:
            return

        def trim(_: object) -> None:
            trim_logs(plan, worker.name)

        self._logger.add(
            str(self.path).replace("{", "{{").replace("}", "}}"),
            format="{message}",
            rotation=plan.max_bytes,
            retention=trim,
            delay=True,
            watch=True,
            catch=False,
            opener=_open_private,
            encoding="utf-8",
        )

    def write(self, level: str, message: str, **fields: Any) -> None:
        """Append one line, without secrets. Without a disk to write to, do without the line."""
        line = self._lines(level, message, **fields)
        with contextlib.suppress(Exception):
            self._logger.info(as_json(line))
        with contextlib.suppress(Exception):
            if self._pass_on is not None:
                self._pass_on(line)

    def close(self) -> None:
        """Close the file."""
        with contextlib.suppress(OSError):
            self._logger.remove()


def as_json(line: Mapping[str, Any]) -> str:
    """A line as one line of JSON.

    Raises:
        ValueError: it has a number that JSON does not know.
    """
    return json_text(line, default=str, allow_nan=False)


def trim_logs(plan: LogPlan, name: str) -> int:
    """Remove log files that were last written before the retention time and, oldest first, what the directory `name`
    holds beyond `LogPlan.max_total_bytes`. A process whose file is gone begins another one. Returns how
    many were removed."""
    now = time.time()
    total = removed = 0
    for path, status in sorted(_log_files(plan.root / name), key=lambda found: found[1].st_mtime, reverse=True):
        total += status.st_size
        if total > plan.max_total_bytes or status.st_mtime < now - plan.retention_days * 86_400:
            with contextlib.suppress(OSError):
                path.unlink()
                removed += 1
    return removed


def _log_files(directory: Path) -> Iterator[tuple[Path, os.stat_result]]:
    for path in directory.glob("worker_id=*/pid=*__started=*.jsonl"):
        with contextlib.suppress(OSError):
            yield path, path.stat()


def _open_private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _independent_logger() -> Logger:
    """A logger made as loguru makes its own, sharing nothing with it."""
    from loguru import _logger as loguru

    make: Any = loguru.Logger
    logger: Logger = make(
        core=loguru.Core(),  # type: ignore[no-untyped-call]
        exception=None,
        depth=0,
        record=False,
        lazy=False,
        colors=False,
        raw=False,
        capture=True,
        patchers=[],
        extra={},
    )
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


def delivery_ids(delivery: Delivery) -> dict[str, Any]:
    """The ids that every log line about a delivery carries."""
    return {
        "workflow_id": delivery.workflow_id,
        "task_id": delivery.task_id,
        "task_name": delivery.task_name,
        "reference_name": delivery.reference_name,
        "iteration": delivery.iteration,
        "retry_count": delivery.retry_count,
        "poll_count": delivery.poll_count,
        "start_time": delivery.start_time,
    }


def seen(record: AttemptRecord) -> dict[str, Any]:
    """What the log says about the workspace of an attempt that is over: verdicts, and the first `LOGGED_FILES` changed
    files with their sizes in bytes."""
    changes = record.changes
    parts = (("added", changes.added), ("changed", changes.changed), ("removed", changes.removed))
    files = [{"kind": kind, "path": file.path, "size": file.size} for kind, part in parts for file in part]
    return {
        "guardrails": [{"satisfied": each.satisfied, "message": each.message} for each in record.findings],
        "objects": record.objects,
        "from_cache": record.from_cache,
        "metrics": metrics_json(record.metrics),
        "changed": len(files),
        "files": files[:LOGGED_FILES],
    }


class Journal:
    """A `Listener` that writes the log of the supervisor, up to `Stopped`."""

    def __init__(self, plan: WorkerPlan) -> None:
        self._log = JsonLog(plan, plan.supervisor_id)

    def __call__(self, event: Event) -> None:
        """Write `event`."""
        if isinstance(event, events.UNLOGGED):
            return
        level, message, fields = journalled(event)
        self._log.write(level, message, **fields)
        if isinstance(event, events.Stopped):
            self._log.close()


def journalled(event: Event) -> tuple[str, str, dict[str, Any]]:
    """Level, message and fields of the supervisor's line about `event`."""
    return _level(event), describe(event), {"event": type(event).__name__, **_fields(event)}


def _level(event: Event) -> str:
    if isinstance(event, events.AttemptEnded):
        failed = "ERROR" if event.ending is events.Ending.UNREPORTED else "WARNING"
        return "INFO" if event.completed else failed
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


def _which(delivery: Delivery) -> str:
    text = f"{delivery.task_name} {delivery.task_id}"
    return f"{text} (retry {delivery.retry_count})" if delivery.retry_count else text


def _ended(event: events.AttemptEnded) -> str:
    what = (event.status or "").lower()
    if event.ending is events.Ending.LOST:
        return f"lost {_which(event.delivery)} after {event.seconds:.2f} s, nothing was sent: {event.reason}"
    if event.ending is events.Ending.UNREPORTED:
        which = f"report {_which(event.delivery)} as {what}" if what else f"hand back {_which(event.delivery)}"
        return f"could not {which}: {event.reason}"
    if event.ending is events.Ending.HANDED_BACK:
        return f"handed back {_which(event.delivery)} after {event.seconds:.2f} s, before its function: {event.reason}"
    text = f"{what} {_which(event.delivery)} in {event.seconds:.2f} s"
    if event.published_commit is not None:
        text += f", workspace at {event.published_commit[:12]}"
    if event.remarks:
        text += f" ({', '.join(event.remarks)})"
    return f"{text}: {event.reason}" if event.reason and not event.completed else text


def _handed_back(event: events.HandedBack) -> str:
    if event.error is None:
        return f"handed back {_which(event.delivery)}"
    return f"could not hand back {_which(event.delivery)}: {event.error}; its response time-out will free it"


def describe(event: Event) -> str:
    """`event` as one line, ids included, without a time. What it quotes cannot make it two, or hide anything."""
    return one_line(_words(event))


def _words(event: Event) -> str:
    match event:
        case events.WorkerReady(module, task_name, worker_id, slots, seconds, shared):
            what = f"{slots} {'slot' if slots == 1 else 'slots'}"
            what = f"up to {what} when there is work" if shared else what
            return f"ready: {task_name} ({module}), {what}, polling as {worker_id}, after {seconds:.2f} s"
        case events.SlotReady(worker_id, pid, task_name):
            return f"{worker_id}: ready for {task_name} (process {pid})"
        case events.SlotStartFailed(worker_id, reason, task_name):
            return f"{worker_id}: cannot start for {task_name}: {reason}"
        case events.SlotDied(worker_id, pid, reason, restart_seconds):
            which = f" (process {pid})" if pid else ""
            return f"{worker_id}: {reason}{which}; restart in {restart_seconds:g} s"
        case events.SlotReplaced(worker_id, pid, reason):
            return f"{worker_id}: process {pid} replaced: {reason}"
        case events.SlotEnded(worker_id, pid, reason):
            return f"{worker_id}: process {pid} ended: {reason}"
        case events.AttemptReceived(delivery, worker_id):
            return f"{worker_id}: received {_which(delivery)}"
        case events.AttemptEnded():
            return f"{event.worker_id}: {_ended(event)}"
        case events.HandedBack():
            return _handed_back(event)
        case events.LeaseDoubtful(delivery, worker_id, reason):
            return f"{worker_id}: no heartbeat of {_which(delivery)} gets through, its delivery is in doubt: {reason}"
        case events.FenceNotEnforced(repository):
            return (
                f"warning: lakeFS does not run the hooks of {repository}, so no publish fence guards it: a late merge "
                "may still appear there. Switch hooks on in the server's configuration (actions.enabled: true)"
            )
        case events.WaitingForLakeFS(worker_id, text):
            return f"{worker_id}: {text}"
        case events.ConductorUnreachable(reason, denied, task_name):
            what = "Conductor rejects the credentials" if denied else "Conductor is unreachable"
            what = f"Conductor refuses polls for {task_name}" if task_name else what
            return f"{what}, trying on: {reason}"
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
            return f"removed staging branches of attempts that are over: {', '.join(branches)}"
        case events.BranchSweepFailed(repositories, error):
            return f"could not remove all dead staging branches of {listing(repositories)}: {error}"
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
            return f"{signal} again: cancelling {running} running; a third signal kills"
        case events.Stopped(exit_code):
            return f"stopped with exit code {exit_code}"
        case _:
            return f"{getattr(event, 'worker_id', 'worker')}: {type(event).__name__}"


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
"""Events that a terminal need not show: the log has them."""


class PlainLines:
    """A `Listener` that passes on one line per event of interest, at most one per attempt. What functions say in
    watched attempts follows at once, a line each, with the attempt in front."""

    def __init__(self, write: Callable[[str], object]) -> None:
        self._write = write
        self._attempts: dict[str, str] = {}
        """What stands in front of the lines of each slot's present attempt."""

    def __call__(self, event: Event) -> None:
        """Pass on the lines about `event`."""
        match event:
            case events.AttemptReceived(delivery, worker_id):
                short = f"{delivery.task_name} {delivery.task_id[:_SHORT_ID]}"
                self._attempts[worker_id] = f"{short} attempt {delivery.retry_count + 1} | "
            case events.FunctionSaid(worker_id, text):
                for line in text.rstrip("\n").split("\n"):
                    self._write(one_line(self._attempts.get(worker_id, "") + line))
            case events.FunctionProgress(worker_id, done, total):
                self._write(one_line(f"{self._attempts.get(worker_id, '')}progress {done:,} of {total:,}"))
            case _ if not isinstance(event, QUIET):
                self._write(describe(event))


def missing(number: int) -> str:
    """The line that stands for so many that were left out."""
    return f"{count(number, 'line')} left out: the terminal took no more"
