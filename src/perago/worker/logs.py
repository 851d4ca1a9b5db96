"""JSONL log files: `<root>/<module>/worker_id=<id>/pid=<pid>__started=<time>.jsonl` (docs/design/contract.md 7).

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

from perago.authoring.metrics import metrics_json
from perago.driver import AttemptRecord
from perago.ports import Delivery
from perago.worker import events
from perago.worker.events import Event
from perago.worker.lines import describe
from perago.worker.plan import LogPlan, WorkerPlan
from perago.workspace.text import json_text

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
