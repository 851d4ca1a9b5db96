"""The threads of one transfer: started for it, bounded, all gone when it ends."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Generic, TypeVar

from perago.adapters.http.wire import Wire

LARGE = 8 * 1024 * 1024
"""Bytes from which an object counts as large."""
LARGE_STREAMS = 4
"""Streams that saturate a server with large objects (`docs/servers/lakefs.md` 4)."""
_TICK = 1.0

Job = TypeVar("Job")


class JobQueue(Generic[Job]):
    """Jobs, largest first so that none is left as a long tail; large ones on few threads."""

    def __init__(self, jobs: Iterable[Job], size: Callable[[Job], int]) -> None:
        ordered = sorted(jobs, key=size, reverse=True)
        self._large = deque(job for job in ordered if size(job) >= LARGE)
        self._small = deque(ordered[len(self._large) :])

    def width(self, threads: int) -> int:
        """How many threads have something to do."""
        return min(threads, min(len(self._large), LARGE_STREAMS) + len(self._small))

    def take(self, thread: int) -> Job | None:
        """The next job for a thread (0, 1, ...), or None when there is none left for it."""
        queues = (self._large, self._small) if thread < LARGE_STREAMS else (self._small,)
        for queue in queues:
            try:
                return queue.popleft()
            except IndexError:
                continue
        return None


class TransferPool:
    """Runs work on threads; the first error ends the waits of all others at once and is what `join` raises.

    A context manager: leaving it, in whatever way, leaves no thread behind.
    """

    def __init__(self) -> None:
        self.wire = Wire()
        self.stopped = threading.Event()
        self._lock = threading.Lock()
        self._error: BaseException | None = None
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> TransferPool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop(error)
        self._wait()

    def start(self, threads: int, work: Callable[[int], None]) -> None:
        """Run `work(0)`, `work(1)`, ... on as many threads."""
        for number in range(threads):
            thread = threading.Thread(
                target=self._run, args=(work, number), name=f"perago-transfer-{number}", daemon=True
            )
            self._threads.append(thread)
            thread.start()

    def join(self) -> None:
        """Wait until all work is done.

        Raises:
            BaseException: the first error of any thread.
        """
        self._wait()
        if self._error is not None:
            raise self._error

    def settle(self, seconds: float) -> None:
        """Give the threads some time to end by themselves."""
        limit = time.monotonic() + seconds
        for thread in self._threads:
            thread.join(max(0.0, limit - time.monotonic()))

    def _run(self, work: Callable[[int], None], number: int) -> None:
        try:
            work(number)
        except BaseException as error:  # noqa: BLE001 - handed to join()
            self._stop(error)

    def _stop(self, error: BaseException | None) -> None:
        with self._lock:
            if self._error is None:
                self._error = error
        self.stopped.set()
        self.wire.cut()

    def _wait(self) -> None:
        for thread in self._threads:
            while thread.is_alive():
                thread.join(_TICK)
                self.wire.cut_overdue()
        self._threads.clear()
