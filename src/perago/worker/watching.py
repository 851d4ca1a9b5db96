"""The log of an attempt that somebody watches: what happens in it goes to the supervisor, too."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace

from perago.driver import AttemptRecord
from perago.driver.observer import Direction
from perago.ports import Delivery
from perago.settings.mask import Mask
from perago.worker.attempt_log import AttemptLog, LineBudget
from perago.worker.channel import SlotChannel
from perago.worker.events import AttemptRecorded, FunctionProgress, FunctionSaid, StepStarted, Transferred, Watched
from perago.worker.logs import JsonLog
from perago.worker.messages import ForwardedEvent
from perago.workspace.changes import ChangedFile, Changes

FILES_IN_A_MESSAGE = 1000
"""Changed files: with keys of 1,024 bytes, escaped, that is half of what a message may have."""

TRANSFER_INTERVAL = 0.05
"""Seconds between two messages about one transfer; its end is always told."""


class WatchedAttemptLog(AttemptLog):
    """An `AttemptLog` that also passes on what it hears."""

    def __init__(
        self, log: JsonLog, delivery: Delivery, mask: Mask, budget: LineBudget, worker_id: str, channel: SlotChannel
    ) -> None:
        super().__init__(log, delivery, mask, budget, channel)
        self._worker_id = worker_id
        self._next_transfer = 0.0

    def step(self, name: str) -> None:
        """Pass on the name of the command."""
        self._send(StepStarted(self._worker_id, name))

    def transferred(self, direction: Direction, objects: int, size: int, total_objects: int, total_size: int) -> None:
        """Pass on how far the transfer is, now and then."""
        if objects < total_objects and time.monotonic() < self._next_transfer:
            return
        self._next_transfer = time.monotonic() + TRANSFER_INTERVAL
        self._send(Transferred(self._worker_id, direction, objects, size, total_objects, total_size))

    def traceback(self, text: str) -> None:
        """Log and pass on."""
        super().traceback(text)
        self._send(FunctionSaid(self._worker_id, self._extra[-1]))

    def recorded(self, record: AttemptRecord) -> None:
        """Pass on everything about the attempt."""
        for part in in_parts(record):
            self._send(AttemptRecorded(self._worker_id, part))

    def _progressed(self, done: int, total: int) -> None:
        super()._progressed(done, total)
        self._send(FunctionProgress(self._worker_id, done, total))

    def _write(self, text: str, level: str, source: str) -> None:
        super()._write(text, level, source)
        self._send(FunctionSaid(self._worker_id, text))

    def _send(self, event: Watched) -> None:
        self._tell(ForwardedEvent(event))


def in_parts(record: AttemptRecord) -> Iterator[AttemptRecord]:
    """`record` as records that fit into messages: each has some of the changed files. Input, output and metadata of
    files are left out, which Conductor's row and lakeFS have."""
    report = None if record.report is None else replace(record.report, output={})
    whole = replace(record, delivery=replace(record.delivery, input={}), report=report)
    changes = record.changes
    files = [
        *(("added", file) for file in changes.added),
        *(("changed", file) for file in changes.changed),
        *(("removed", file) for file in changes.removed),
    ]
    for start in range(0, max(1, len(files)), FILES_IN_A_MESSAGE):
        some: dict[str, list[ChangedFile]] = {"added": [], "changed": [], "removed": []}
        for kind, file in files[start : start + FILES_IN_A_MESSAGE]:
            some[kind].append(replace(file, content_type=None, metadata={}))
        yield replace(whole, changes=Changes(**{kind: tuple(found) for kind, found in some.items()}))
