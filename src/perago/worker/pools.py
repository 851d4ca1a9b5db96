"""The threads that wait for Conductor and for processes, so that the supervisor's own thread never does.

Several pools, because none may starve another: a long poll lasts five seconds, a report may be repeated for a minute,
a delivery question or a heartbeat must be asked now, a fork server may stand still, a sweep of a large disk takes
long, and a disk may not answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

LONG_POLLS = 4
"""In flight at most: with five seconds each, 48 requests a minute."""

MAX_THREADS = 16
"""Per pool, however many slots there are. Threads are made when first needed."""


class Pool:
    """A bounded number of threads whose results come back to the event loop.

    They are daemons, unlike those of `ThreadPoolExecutor`: a process that ends does not wait for what they wait for.
    """

    def __init__(self, name: str, threads: int) -> None:
        self.threads = min(threads, MAX_THREADS)
        self._name = name
        self._calls: queue.SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = queue.SimpleQueue()
        self._free = threading.Semaphore(0)
        """Threads that wait for a call which is not in the queue yet."""
        self._started = 0
        self._closed = False

    async def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call `function` on a thread of this pool and wait for its result. Cancelling the wait lets the call end.

        Raises:
            RuntimeError: no thread can be started, or the pool is closed. It is not called.
        """
        if self._closed:
            raise RuntimeError("the pool is closed")
        future: Future[T] = Future()
        if not self._free.acquire(blocking=False) and self._started < self.threads:
            self._start()
        self._calls.put((future, functools.partial(function, *args, **kwargs)))
        return await asyncio.wrap_future(future)

    def close(self) -> None:
        """Start no further call. Those that run end by their own time limits, or with the process."""
        self._closed = True
        with contextlib.suppress(queue.Empty):
            while (waiting := self._calls.get_nowait()) is not None:
                waiting[0].cancel()
        for _ in range(self._started):
            self._calls.put(None)

    def _start(self) -> None:
        try:
            threading.Thread(target=self._work, name=f"perago-{self._name}", daemon=True).start()
        except RuntimeError:
            if not self._started:  # else one of those that are there takes the call
                raise
        else:
            self._started += 1

    def _work(self) -> None:
        while (item := self._calls.get()) is not None:
            future, call = item
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(call())
                except BaseException as error:  # noqa: BLE001 - for the one who waits
                    future.set_exception(error)
            del future, call, item
            self._free.release()


class Pools:
    """The supervisor's threads."""

    def __init__(self, slots: int) -> None:
        self.polls = Pool("poll", 2 * LONG_POLLS)  # a quick look must not wait for a long poll
        self.questions = Pool("question", slots + 1)
        self.reports = Pool("report", 2 * slots + 2)
        self.processes = Pool("process", 1)  # one starts or ends at a time
        self.maintenance = Pool("maintenance", 1)
        self.host = Pool("host", 1)

    def close(self) -> None:
        """Close all pools."""
        for pool in (self.polls, self.questions, self.reports, self.processes, self.maintenance, self.host):
            pool.close()
