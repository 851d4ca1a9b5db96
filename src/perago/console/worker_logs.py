"""The steps of attempts from the JSONL logs of their workers (docs/design/contract.md 7): Conductor is not told of
steps."""

from __future__ import annotations

import json
import threading
from collections import defaultdict
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from perago.console.models import DeliveryKey, StepTimes

FIRST_LOOK_BYTES = 16 * 1024 * 1024
"""How much of the end of a file is read at first: older attempts than that are not shown with their steps."""

_MARK = b'"steps"'
_FILES = "worker_id=*/pid=*__started=*.jsonl"


class WorkerLogs:
    """A `StepSource` on a directory of worker logs. Each look reads only what was written since the one before.

    With `modules`, the logs of other task modules are left aside.
    """

    def __init__(self, root: Path, modules: Collection[str] = ()) -> None:
        self._root = root
        self._modules = frozenset(modules)
        self._offsets: dict[Path, int] = {}
        self._found: defaultdict[str, dict[DeliveryKey, StepTimes]] = defaultdict(dict)
        self._lock = threading.Lock()

    def __call__(self, task_id: str) -> dict[DeliveryKey, StepTimes]:
        """The steps of every delivery of `task_id` that a worker has finished. A log that cannot be read is as if it
        were not there."""
        with self._lock:
            for path in self._files():
                self._read_on(path)
            return dict(self._found.get(task_id, {}))

    def _files(self) -> Iterator[Path]:
        for path in self._root.glob(f"*/{_FILES}"):
            if not self._modules or path.relative_to(self._root).parts[0] in self._modules:
                yield path

    def _read_on(self, path: Path) -> None:
        """Take the lines that were completed since the last look."""
        try:
            size = path.stat().st_size
            start = self._offsets.get(path, max(0, size - FIRST_LOOK_BYTES))
            if size == start:
                return
            with path.open("rb") as file:
                file.seek(start)
                for raw in file:
                    if not raw.endswith(b"\n"):
                        break
                    start += len(raw)
                    if _MARK in raw:
                        self._take(raw)
            self._offsets[path] = start
        except OSError:
            return

    def _take(self, raw: bytes) -> None:
        try:
            entry: Any = json.loads(raw)
            key = (str(entry["task_id"]), int(entry["poll_count"]), int(entry["start_time"]))
            steps = tuple((str(name), float(seconds)) for name, seconds in entry["steps"].items())
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            return
        if steps:
            self._found[key[0]][key] = steps
