"""The threads of one transfer: started for it, bounded, all gone when it ends."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Generic, TypeVar

from perago.adapters.http import CallPolicy, Overloaded
from perago.adapters.http.wire import Wire
from perago.adapters.lakefs.block_store import BlockStore, DirectFailed
from perago.adapters.lakefs.pace import LARGE, Pace

_TICK = 1.0

Job = TypeVar("Job")


class TransferPool(Generic[Job]):
    """Does jobs on threads, as many as its pace says; the first error ends the waits of all others at once and is what
    `run` raises.

    A context manager: leaving it, in whatever way, leaves no thread behind.
    """

    def __init__(self, threads: int, policy: CallPolicy, jobs: Iterable[Job], size: Callable[[Job], int]) -> None:
        """`threads`: at most. The largest job comes first, so that none is left as a long tail."""
        ordered = sorted(jobs, key=size, reverse=True)
        self._jobs = deque(ordered)
        self._size = size
        self._policy = policy
        self._pace = Pace(threads, large=bool(ordered) and size(ordered[0]) >= LARGE)
        self.wire = Wire()
        self.stopped = threading.Event()
        self._lock = threading.Lock()
        self._error: BaseException | None = None
        self._threads: list[threading.Thread] = []
        self._working = 0

    def __enter__(self) -> TransferPool[Job]:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop(error)
        self._wait()

    def run(self, do: Callable[[Job], object]) -> None:
        """Do all jobs.

        Raises:
            BaseException: the first error of any thread.
        """
        self._grow(do)
        self._wait()
        if self._error is not None:
            raise self._error

    def notice(self, error: Exception) -> None:
        """Look at the error of a request: if the server has no time, fewer are sent from now on."""
        if isinstance(error, Overloaded):
            self._pace.overloaded(min(error.retry_after, self._policy.longest_delay))

    def direct_failed(self, store: BlockStore, failure: DirectFailed) -> None:
        """Note that the block store did not do what it should, unless this pool itself has cut the connection."""
        if self.wire.is_cut:
            return
        if failure.overload is not None:
            self.notice(failure.overload)
        else:
            store.failed(failure)

    def _grow(self, do: Callable[[Job], object]) -> None:
        """Start the threads that are missing for the jobs that are left."""
        with self._lock:
            for _ in range(min(self._pace.width - self._working, len(self._jobs))):
                name = f"perago-transfer-{len(self._threads)}"
                thread = threading.Thread(target=self._work, args=(do,), name=name, daemon=True)
                self._threads.append(thread)
                self._working += 1
                thread.start()

    def _work(self, do: Callable[[Job], object]) -> None:
        try:
            while (job := self._next()) is not None:
                do(job)
                self._pace.finished(self._size(job))
                self._grow(do)
        except BaseException as error:  # noqa: BLE001 - handed to run()
            self._stop(error)

    def _next(self) -> Job | None:
        """The next job; None for a thread that is to end."""
        if pause := self._pace.pause:
            self.stopped.wait(pause)
        with self._lock:
            if self._jobs and self._working <= self._pace.width and not self.stopped.is_set():
                return self._jobs.popleft()
            self._working -= 1
            return None

    def _stop(self, error: BaseException | None) -> None:
        with self._lock:
            if self._error is None:
                self._error = error
            self._jobs.clear()
        self.stopped.set()
        self.wire.cut()

    def _wait(self) -> None:
        for thread in self._threads:  # one that is started meanwhile comes behind the one that starts it
            while thread.is_alive():
                thread.join(_TICK)
                self.wire.cut_overdue()
