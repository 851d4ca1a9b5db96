"""The log of an attempt that somebody watches: what happens in it goes to the supervisor, too."""

from __future__ import annotations

import contextlib
import time

from perago.driver.observer import Direction
from perago.ports import Delivery
from perago.worker.attempt_log import AttemptLog
from perago.worker.channel import Channel, ChannelError
from perago.worker.events import FunctionProgress, FunctionSaid, StepStarted, Transferred, Watched
from perago.worker.logs import JsonLog
from perago.worker.messages import Saw

TRANSFER_INTERVAL = 0.05
"""Seconds between two messages about one transfer; its end is always told."""


class WatchedAttemptLog(AttemptLog):
    """An `AttemptLog` that also passes on what it hears."""

    def __init__(self, log: JsonLog, delivery: Delivery, worker_id: str, channel: Channel) -> None:
        super().__init__(log, delivery)
        self._worker_id = worker_id
        self._channel = channel
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

    def progress(self, done: int, total: int) -> None:
        """Log and pass on."""
        super().progress(done, total)
        self._send(FunctionProgress(self._worker_id, done, total))

    def traceback(self, text: str) -> None:
        """Log and pass on."""
        super().traceback(text)
        self._send(FunctionSaid(self._worker_id, text))

    def _line(self, text: str, level: str, source: str) -> None:
        super()._line(text, level, source)
        self._send(FunctionSaid(self._worker_id, text))

    def _send(self, event: Watched) -> None:
        with contextlib.suppress(ChannelError):  # the supervisor is gone; the slot ends for that, not here
            self._channel.send(Saw(event))
