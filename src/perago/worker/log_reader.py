"""The logs of workers about attempts: output, progress, steps, guardrails, changed files.

Conductor gets little of this, and late. The JSONL files get each line immediately.
"""

from __future__ import annotations

import heapq
import json
import os
import sys
import threading
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, TypeAlias

from perago.worker.logs import LOG_FILES

FIRST_READ_BYTES = 4 * 1024 * 1024
"""Number of bytes at the end of a file that are read first. Older lines are not shown."""
MAX_FILES = 100
"""Number of files that are read, the newest first."""
MAX_LINES = 200
"""The number of lines of a delivery. Conductor's task log has as many."""
MAX_LINE = 1000
"""The number of characters of a line. A traceback can have sixty times as many."""
MAX_WITH_LINES = 300
"""Number of latest deliveries whose lines are kept."""

CLOCK_DIFFERENCE = 3600.0
"""Seconds by which the clock of the log's file system may be behind that of Conductor, or step back."""

_MARK = b'"task_id"'
_EVENTS = frozenset({"LeaseDoubtful", "HandedBack", "SlotDied", "SlotReplaced", "WARNING"})
"""Events of a supervisor that belong in an attempt's log, and the level of a slot's warnings."""
_ENDINGS = frozenset({"lost", "unreported", "handed_back"})
"""Endings of an attempt that Conductor does not know."""

DeliveryKey: TypeAlias = tuple[str, int, int]
"""Task id, poll count and start time: one delivery."""


@dataclass(frozen=True, slots=True)
class TraceLine:
    """One line; `time` in milliseconds since the epoch, 0 if the log does not say."""

    time: int
    source: str
    text: str


@dataclass(slots=True)
class DeliveryTrace:
    """The log of one delivery. Guardrails and files are logged at its end, if its process lives that long."""

    lines: deque[TraceLine] = field(default_factory=lambda: deque(maxlen=MAX_LINES))
    left_out: int = 0
    """Number of lines before `lines`."""
    progress: tuple[int, int] | None = None
    steps: tuple[tuple[str, float], ...] = ()
    """Names and seconds, in their order."""
    guardrails: tuple[tuple[bool, str], ...] = ()
    """The verdicts of guardrails: whether each was satisfied, and its text."""
    files: tuple[tuple[str, str, int], ...] | None = None
    """Kind (added, changed, removed), path and bytes of the first changed files."""
    changed: int = 0
    """The number of all changed files."""
    remarks: tuple[str, ...] = ()
    paths: set[Path] = field(default_factory=set)
    """The files with its lines: those of its slot, and those of its supervisor."""
    slot: str = ""
    """The worker id of its slot, if the supervisor's log is here."""
    has_ended: bool = False
    """Whether the supervisor logged its end."""

    def add(self, line: TraceLine) -> None:
        """Append a line. Remove the earliest one if there are too many."""
        self.left_out += len(self.lines) == MAX_LINES
        self.lines.append(line)


AttemptTrace: TypeAlias = Mapping[DeliveryKey, DeliveryTrace]
"""The deliveries of one attempt."""


def no_traces(task_id: str) -> AttemptTrace:  # noqa: ARG001 - as `WorkerLogs`
    """The deliveries of an attempt without logs."""
    return {}


class WorkerLogs:
    """Reads the logs below a directory. Each call reads only the lines that were written since the previous one.

    Args:
        root: the directory.
        only: the task id of the only requested attempt. Then the files are read in full, and other attempts are
            ignored.
        since: skip files that were last written `CLOCK_DIFFERENCE` before this time, in seconds since the epoch.
    """

    def __init__(self, root: Path, *, only: str | None = None, since: float = 0.0) -> None:
        self._root = root
        self._mark = _MARK if only is None else json.dumps(only, ensure_ascii=False).encode(errors="replace")
        self._first_read = FIRST_READ_BYTES if only is None else sys.maxsize
        self._most_files = MAX_FILES if only is None else sys.maxsize
        self._written_since = since - CLOCK_DIFFERENCE
        self._offsets: dict[tuple[int, int], int] = {}
        """The files by device and inode, because a rotated file gets another name."""
        self._traces: dict[str, dict[DeliveryKey, DeliveryTrace]] = {}
        self._latest: deque[DeliveryTrace] = deque()
        self._lock = threading.Lock()

    def __call__(self, task_id: str) -> AttemptTrace:
        """Return every known delivery of `task_id`. Unreadable logs are ignored."""
        with self._lock:
            for path in self._files():
                self._read_on(path)
            return dict(self._traces.get(task_id, {}))

    def _files(self) -> list[Path]:
        dated_paths = []
        for path in (path for pattern in LOG_FILES for path in self._root.glob(f"*/{pattern}")):
            try:
                written = path.stat().st_mtime
            except OSError:
                continue
            if written >= self._written_since:
                dated_paths.append((written, path))
        return [path for _, path in reversed(heapq.nlargest(min(self._most_files, len(dated_paths)), dated_paths))]

    def _read_on(self, path: Path) -> None:
        """Read the lines that were completed since the last call."""
        try:
            with path.open("rb") as file:
                status = os.fstat(file.fileno())
                size, identity = status.st_size, (status.st_dev, status.st_ino)
                start = self._offsets.get(identity, max(0, size - self._first_read))
                if size == start:
                    return
                start = file.seek(start if start < size else 0)  # a new file can have the inode of a removed one
                for raw in file:
                    if not raw.endswith(b"\n"):
                        break
                    start += len(raw)
                    if self._mark in raw:
                        self._parse(raw, path)
            self._offsets[identity] = start
        except OSError:
            return

    def _parse(self, raw: bytes, path: Path) -> None:
        try:
            entry: Any = json.loads(raw)
            key = (str(entry["task_id"]), int(entry["poll_count"]), int(entry["start_time"]))
            trace = self._delivery(key)
            trace.paths.add(path)
            trace.slot = str(entry.get("slot", trace.slot))
            _apply(entry, trace)
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            return  # a line of another kind

    def _delivery(self, key: DeliveryKey) -> DeliveryTrace:
        deliveries = self._traces.setdefault(key[0], {})
        if key not in deliveries:
            deliveries[key] = DeliveryTrace()
            self._latest.append(deliveries[key])
            if len(self._latest) > MAX_WITH_LINES:
                self._latest.popleft().lines.clear()
        return deliveries[key]


def _apply(entry: Mapping[str, Any], trace: DeliveryTrace) -> None:
    source, message = entry.get("source"), str(entry.get("message", ""))
    trace.has_ended |= "ending" in entry
    if "steps" in entry:
        trace.steps = tuple((str(name), float(seconds)) for name, seconds in entry["steps"].items()) or trace.steps
        trace.remarks = tuple(map(str, entry.get("remarks", ()))) or trace.remarks
    if "guardrails" in entry:
        trace.guardrails = tuple((bool(rule["satisfied"]), str(rule["message"])) for rule in entry["guardrails"])
        trace.files = tuple((str(file["kind"]), str(file["path"]), int(file["size"])) for file in entry["files"])
        trace.changed = int(entry["changed"])
    if source == "progress":
        done, _, total = message.removeprefix("progress ").partition("/")
        trace.progress = int(done), int(total)
    elif source is not None or entry.get("ending") in _ENDINGS or entry.get("event", entry.get("level")) in _EVENTS:
        limit = 64 * MAX_LINE if source == "traceback" else MAX_LINE
        text = message if len(message) <= limit else f"{message[:limit]}…"
        trace.add(TraceLine(_milliseconds(entry.get("time")), str(source or "worker"), text))


def _milliseconds(text: Any) -> int:
    try:
        return round(datetime.fromisoformat(text).timestamp() * 1000)
    except (TypeError, ValueError):
        return 0
