"""JSONL log files: `<root>/<module>/worker_id=<id>/pid=<pid>__started=<time>.jsonl` (contract 7).

loguru has one logger per process, and in a slot that one belongs to the author's code, which may reconfigure it. So
every log here is a logger of its own. A log that cannot be written never disturbs an attempt.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from perago.worker.plan import LogPlan, WorkerPlan

if TYPE_CHECKING:
    from loguru import Logger, Record

ZONE = timezone(timedelta(hours=8))
"""All log times are UTC+08:00."""


class JsonLog:
    """The log of one process. The file appears with its first line, readable by its owner only."""

    def __init__(self, plan: LogPlan, module: str, worker_id: str) -> None:
        self._fields = {"worker_id": worker_id, "pid": os.getpid()}
        self._logger: Logger = _independent_logger()
        started = datetime.now(UTC).astimezone(ZONE).strftime("%Y%m%dT%H%M%S.%f%z")
        self.path = (
            _log_directory(plan, module) / f"worker_id={worker_id}" / f"pid={os.getpid()}__started={started}.jsonl"
        )
        self._logger.add(
            str(self.path).replace("{", "{{").replace("}", "}}"),
            format=_format,
            rotation=plan.max_bytes,
            retention=timedelta(days=plan.retention_days),
            delay=True,
            catch=False,
            opener=_open_private,
            encoding="utf-8",
            errors="backslashreplace",
        )

    def write(self, level: str, message: str, **fields: Any) -> None:
        """Append one line. Without a disk to write to, do without the line."""
        with contextlib.suppress(Exception):
            self._logger.bind(**self._fields, **fields).log(level, message)

    def close(self) -> None:
        """Close the file."""
        with contextlib.suppress(OSError):
            self._logger.remove()


def remove_old_logs(plan: WorkerPlan) -> None:
    """Remove log files that were last written before the retention time (loguru looks after its own process only)."""
    oldest = time.time() - plan.logs.retention_days * 86_400
    for path in _log_directory(plan.logs, plan.module).glob("worker_id=*/pid=*__started=*.jsonl"):
        with contextlib.suppress(OSError):
            if path.stat().st_mtime < oldest:
                path.unlink()


def _log_directory(plan: LogPlan, module: str) -> Path:
    return plan.root / module


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


def _format(record: Record) -> str:
    line = {
        "time": record["time"].astimezone(ZONE).isoformat(timespec="milliseconds"),
        "level": record["level"].name,
        **record["extra"],
        "message": record["message"],
    }
    record["extra"]["line"] = json.dumps(line, ensure_ascii=False, default=str)
    return "{extra[line]}\n"
