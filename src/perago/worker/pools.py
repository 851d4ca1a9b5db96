"""The threads that wait for Conductor and for processes, so that the supervisor's own thread never does.

Several pools, because none may starve another: a long poll lasts five seconds, a report may be repeated for a minute,
a delivery question or a heartbeat must be asked now, and a fork server may stand still.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

from perago.worker.cadence import LONG_POLLS

P = ParamSpec("P")
T = TypeVar("T")

MAX_THREADS = 16
"""Per pool, however many slots there are. Threads are made when first needed."""


class Pool:
    """A bounded number of threads whose results come back to the event loop."""

    def __init__(self, name: str, threads: int) -> None:
        self.threads = min(threads, MAX_THREADS)
        self._executor = ThreadPoolExecutor(self.threads, thread_name_prefix=f"perago-{name}")

    async def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call `function` on a thread of this pool and wait for its result. Cancelling the wait lets the call end."""
        call = functools.partial(function, *args, **kwargs)
        return await asyncio.get_running_loop().run_in_executor(self._executor, call)

    def close(self) -> None:
        """Start no further call. Those that run end by their own time limits."""
        self._executor.shutdown(wait=False, cancel_futures=True)


class Pools:
    """The supervisor's threads."""

    def __init__(self, slots: int) -> None:
        self.polls = Pool("poll", 2 * LONG_POLLS)  # a quick look must not wait for a long poll
        self.questions = Pool("question", slots + 1)
        self.reports = Pool("report", 2 * slots + 2)
        self.processes = Pool("process", 1)  # one starts or ends at a time

    def close(self) -> None:
        """Close all pools."""
        for pool in (self.polls, self.questions, self.reports, self.processes):
            pool.close()
