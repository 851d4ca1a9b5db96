"""Decides whether this host can take work: both roots must take files and have the reserve free.

A worker that polls with a full disk takes attempts away from hosts that could run them.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable

from perago.back_off import RestartDelay
from perago.cache import CacheUnusable, give_room
from perago.worker.events import Event, PollingPaused, PollingResumed
from perago.worker.plan import WorkerPlan
from perago.worker.pools import Pool
from perago.workspace.directory import root_problem
from perago.workspace.disk import disk_problem
from perago.workspace.layout import RESERVE

CHECK_INTERVAL = 5.0
"""Seconds between two checks of a host that takes work."""
ANSWER_LIMIT = 30.0
"""Seconds after which a disk that does not answer counts as unusable."""


class HostCheck:
    """Owns the decision whether this host can take work. The poller asks `problem`; all others receive
    `PollingPaused` and `PollingResumed`. Belongs to the event loop's thread.

    Args:
        plan: the worker's, which names the roots.
        pool: the thread that waits for the disks.
        emit: takes the events.
        resumed: is called when polls can be made again.
    """

    def __init__(
        self, plan: WorkerPlan, pool: Pool, emit: Callable[[Event], None], resumed: Callable[[], None]
    ) -> None:
        self._plan = plan
        self._pool = pool
        self._emit = emit
        self._resumed = resumed
        self._call: asyncio.Future[str | None] | None = None
        self._delay = RestartDelay()
        self._retry_at = 0.0
        self._since = time.monotonic()
        """When the host began to take work, or to take none."""
        self._is_paused = False
        self._hurry = asyncio.Event()
        self.problem: str | None = "its disks have not been checked yet"
        """Why the host takes no work; None if it does."""

    async def run(self) -> None:
        """Check the host until canceled: every `CHECK_INTERVAL`, and with a growing delay while it takes no work."""
        while True:
            found = await self._check()
            if found is not None:
                self._refuse(found)
            elif self.problem is not None and time.monotonic() >= self._retry_at:
                self._resume()
            waiting = CHECK_INTERVAL if self.problem is None else max(0.0, self._retry_at - time.monotonic())
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(waiting):
                    await self._hurry.wait()
            self._hurry.clear()

    def check_now(self) -> None:
        """Check a host that takes work at once: an attempt has met a problem that may be the host's."""
        if self.problem is None:
            self._hurry.set()

    def _refuse(self, problem: str) -> None:
        """Take no work until a later check finds the host able.

        Problems that are found before the next check is due count as one.
        """
        now = time.monotonic()
        if self.problem is not None and now < self._retry_at:
            return
        self._retry_at = now + self._delay.after_crash(now - self._since if self.problem is None else 0.0)
        self.problem = problem
        if not self._is_paused:
            self._is_paused, self._since = True, now
            self._emit(PollingPaused(problem))

    def _resume(self) -> None:
        now, was_paused = time.monotonic(), self._is_paused
        seconds, self._since = now - self._since, now
        self.problem, self._is_paused = None, False
        if was_paused:
            self._emit(PollingResumed(seconds))
        self._resumed()

    async def _check(self) -> str | None:
        """Return what is wrong with the roots. A call that a disk does not answer is not made twice."""
        if self._call is None:
            self._call = asyncio.ensure_future(self._pool.run(roots_problem, self._plan))
        done, _ = await asyncio.wait([self._call], timeout=ANSWER_LIMIT)
        if not done:
            return f"the disks of the roots have not answered for {ANSWER_LIMIT:g} s"
        call, self._call = self._call, None
        error = call.exception()
        return call.result() if error is None else f"the roots cannot be checked: {type(error).__name__}: {error}"


def roots_problem(plan: WorkerPlan) -> str | None:
    """Return why a root takes no files, has less than the reserve, or is not safe; None if both are usable.

    The cache gives way first, because nothing else makes it smaller while the worker takes no work. A log
    root that is missing is made, readable by the user alone.
    """
    root, variable = plan.workspace_root, "PERAGO_WORKSPACE_ROOT"
    problem = root_problem(root, RESERVE)
    if problem is not None:
        with contextlib.suppress(CacheUnusable, OSError):
            problem = root_problem(root, RESERVE) if give_room(root, RESERVE) else problem
    if problem is None and plan.logs.files:
        problem, variable = disk_problem(plan.logs.root, RESERVE), "PERAGO_LOG_ROOT"
        if problem is None:  # nobody could make it on a disk that was read-only at the start
            plan.logs.root.mkdir(mode=0o700, parents=True, exist_ok=True)
    return None if problem is None else f"{problem.rstrip('.')}. Repair that disk, or set {variable} to another one"
