"""The host of a worker: its threads, the check of its disks, and its upkeep.

There are several thread pools, so that no kind of work blocks another one. A long poll lasts five seconds, and a report
can be repeated for a minute. A delivery check or a heartbeat is urgent. A fork server can hang, a sweep of a large disk
is slow, and a disk can stop answering.

The disks are checked because a worker that polls with a full disk takes attempts away from hosts that could run them.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import Future
from typing import Any, ParamSpec, TypeVar

from perago.cache import CacheUnusable, give_room, trim
from perago.ports import Delivery
from perago.retry import RestartDelay
from perago.settings import Upkeep, whole_environment
from perago.text import size
from perago.worker import events
from perago.worker.logs import trim_logs
from perago.worker.plan import WorkerPlan
from perago.workspace.directory import root_problem, sweep
from perago.workspace.layout import RESERVE, FreeSpace, disk_problem, existing, free_space
from perago.workspace.sweep import CACHE

P = ParamSpec("P")
T = TypeVar("T")

LONG_POLLS = 4
"""Maximum number of concurrent long polls. With five seconds each, they are 48 requests a minute."""

MAX_THREADS = 16
"""Maximum number of threads of a pool, for any number of slots. Threads start when they are first needed."""

IDLE_SECONDS = 60.0
"""Seconds without a call after which a thread ends, so that a peak of concurrent calls leaves no threads behind."""


class Pool:
    """A limited number of threads whose results return to the event loop.

    They are daemons, unlike those of `ThreadPoolExecutor`, so that a process does not wait for them at its end.
    """

    def __init__(self, name: str, threads: int) -> None:
        self.threads: int = min(threads, MAX_THREADS)
        self._name = name
        self._changed = threading.Condition()
        self._calls: deque[tuple[Future[Any], Callable[[], Any]]] = deque()
        self._idle = 0
        """Number of threads that wait for a call."""
        self._started = 0
        self._closed = False

    async def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call `function` on a thread of this pool and wait for its result. Canceling the wait does not stop the call.

        Raises:
            RuntimeError: no thread can be started, or the pool is closed. Then the function is not called.
        """
        future: Future[T] = Future()
        with self._changed:
            if self._closed:
                raise RuntimeError("the pool is closed")
            if len(self._calls) >= self._idle and self._started < self.threads:
                self._start()
            self._calls.append((future, functools.partial(function, *args, **kwargs)))
            self._changed.notify()
        return await asyncio.wrap_future(future)

    def close(self) -> None:
        """Start no further call. Running calls end by their own time limits, or with the process."""
        with self._changed:
            self._closed = True
            calls, self._calls = self._calls, deque()
            self._changed.notify_all()
        for future, _ in calls:
            future.cancel()

    def _start(self) -> None:
        try:
            threading.Thread(target=self._work, name=f"perago-{self._name}", daemon=True).start()
        except RuntimeError:
            if not self._started:  # else one of those that are there takes the call
                raise
        else:
            self._started += 1

    def _work(self) -> None:
        while (item := self._next_call()) is not None:
            future, call = item
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(call())
                except BaseException as error:  # noqa: BLE001 - for the one who waits
                    future.set_exception(error)
            del future, call, item

    def _next_call(self) -> tuple[Future[Any], Callable[[], Any]] | None:
        """Wait for a call. Return None if this thread must end."""
        with self._changed:
            self._idle += 1
            self._changed.wait_for(lambda: self._calls or self._closed, IDLE_SECONDS)
            self._idle -= 1
            if self._calls:
                return self._calls.popleft()
            self._started -= 1
            return None


class Pools:
    """The supervisor's threads."""

    def __init__(self, slots: int) -> None:
        self.polls: Pool = Pool("poll", 2 * LONG_POLLS)  # a quick look must not wait for a long poll
        self.questions: Pool = Pool("question", slots + 1)
        self.reports: Pool = Pool("report", 2 * slots + 2)
        self.processes: Pool = Pool("process", 1)  # one starts or ends at a time
        self.maintenance: Pool = Pool("maintenance", 1)
        self.host: Pool = Pool("host", 1)

    def close(self) -> None:
        """Close all pools."""
        for pool in (self.polls, self.questions, self.reports, self.processes, self.maintenance, self.host):
            pool.close()


SWEEP_INTERVAL = 3600.0
"""Seconds between two sweeps. Leftovers of a killed worker must not wait for the next start of a worker."""

BRANCH_SWEEP_LIMIT = 900.0
"""Time limit of a sweep of branches in seconds."""

CACHE_INTERVAL = 60.0
"""Seconds between two checks of the size of the cache. A check usually reads one small file."""

LOG_INTERVAL = 3600.0
"""Seconds between two checks for old logs."""


async def run_maintenance(
    plan: WorkerPlan, pool: Pool, emit: Callable[[events.Event], None], repositories: Collection[str]
) -> None:
    """Sweep attempt directories and staging branches, trim the cache, and remove old logs at intervals, until canceled.

    Does what `WorkerPlan.maintenance` names, in the background, so that neither a large root nor a slow disk delays an
    attempt. A directory in use is recognized by its lock.

    Args:
        plan: says where directories and logs are, and which command sweeps branches.
        pool: the threads that wait for the disk.
        emit: takes the events of sweeping.
        repositories: the repositories that attempts of this worker have read. Attempts can add more during the sweep.
    """
    sweeps = {
        Upkeep.DIRECTORIES: functools.partial(_keep_swept, plan, pool, emit),
        Upkeep.BRANCHES: functools.partial(_keep_branches_swept, plan, emit, repositories),
        Upkeep.CACHE: functools.partial(_keep_trimmed, plan, pool, emit),
        Upkeep.LOGS: functools.partial(_keep_logs, plan, pool, emit),
    }
    await asyncio.gather(*(keep() for upkeep, keep in sweeps.items() if upkeep in plan.maintenance))


async def _keep_swept(plan: WorkerPlan, pool: Pool, emit: Callable[[events.Event], None]) -> None:
    while True:
        try:
            swept = await pool.run(sweep, plan.workspace_root)
        except OSError as error:
            emit(events.CleanUpFailed(plan.workspace_root, str(error)))
        else:
            if swept:
                emit(events.DirectoriesSwept(tuple(swept)))
        await asyncio.sleep(SWEEP_INTERVAL)


async def _keep_branches_swept(
    plan: WorkerPlan, emit: Callable[[events.Event], None], repositories: Collection[str]
) -> None:
    """Sweep branches in a separate process, because the supervisor has no connection to lakeFS."""
    while plan.branch_sweep:
        await asyncio.sleep(SWEEP_INTERVAL)
        names = tuple(sorted(repositories))
        if not names:
            continue
        try:
            swept, problem = await sweep_branches((*plan.branch_sweep, *names))
        except (OSError, ValueError, KeyError, TimeoutError) as error:
            swept, problem = (), str(error)
        if swept:
            emit(events.BranchesSwept(swept))
        if problem:
            emit(events.BranchSweepFailed(names, problem))


async def sweep_branches(command: tuple[str, ...]) -> tuple[tuple[str, ...], str]:
    """Return the removed branches and all errors. The command does not outlive the worker."""
    child = subprocess.Popen(
        command,
        env=whole_environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    # No task, and shielded below: the end of the loop would cancel it before the child was waited for.
    reading = asyncio.get_running_loop().run_in_executor(None, child.communicate)
    try:
        await asyncio.wait([reading], timeout=BRANCH_SWEEP_LIMIT)
    finally:
        late = not reading.done()
        child.kill()  # nothing, if it has ended
        output, errors = await asyncio.shield(reading)
    if late:
        raise TimeoutError(f"it took longer than {BRANCH_SWEEP_LIMIT:.0f} s")
    complaints = errors.decode(errors="replace").strip().splitlines() if child.returncode else []
    leftovers = json.loads(output or b'{"leftovers": []}')["leftovers"]
    removed = [leftover for leftover in leftovers if (leftover["kind"], leftover["fate"]) == ("branch", "removed")]
    problems = [line for line in complaints if line.startswith("error: ")] or complaints[:1]
    return tuple(f"{leftover['repository']}/{leftover['branch']}" for leftover in removed), "; ".join(problems)


async def _keep_trimmed(plan: WorkerPlan, pool: Pool, emit: Callable[[events.Event], None]) -> None:
    """Report a problem of the cache only once, because attempts can work without the cache."""
    reported = ""
    while plan.cache_bytes is not None:
        try:
            trimmed = await pool.run(trim, plan.workspace_root, plan.cache_bytes)
            reported = ""
        except (CacheUnusable, OSError) as error:
            problem = str(error)
            if isinstance(error, OSError):
                place = plan.workspace_root / CACHE
                problem = (
                    f"{place}: {error.strerror or error}; free or repair its disk, or clear it: perago cache --clear"
                )
            if problem != reported:
                reported = problem
                emit(events.CacheFailed(reported))
        else:
            if trimmed:
                emit(events.CacheTrimmed(trimmed))
        await asyncio.sleep(CACHE_INTERVAL)


async def _keep_logs(plan: WorkerPlan, pool: Pool, emit: Callable[[events.Event], None]) -> None:
    while True:
        removed = 0
        try:
            for name in {plan.name, *(task.module for task in plan.tasks)}:
                removed += await pool.run(trim_logs, plan.logs, name)
        except OSError as error:
            emit(events.CleanUpFailed(plan.logs.root, str(error)))
        if removed:
            emit(events.LogsTrimmed(removed))
        await asyncio.sleep(LOG_INTERVAL)


CHECK_INTERVAL = 5.0
"""Seconds between two checks of a host that takes work."""
MOST_TOO_SMALL = 1000
"""Number of attempts that ran out of space, and that are remembered; the latest ones."""
MOST_SPACE_WAITS = 15
"""The delivery of a retry that runs although there is not more space than before: after about ten minutes."""
ANSWER_LIMIT = 30.0
"""Seconds after which a disk that does not answer counts as unusable."""


class HostCheck:
    """Decides whether this host can take work. The poller reads `problem`; listeners get `PollingPaused` and
    `PollingResumed`. Belongs to the event loop's thread.

    Args:
        plan: the worker's, which names the roots.
        pool: the thread that waits for the disks.
        emit: takes the events.
        resumed: is called when polls can be made again.
    """

    def __init__(
        self, plan: WorkerPlan, pool: Pool, emit: Callable[[events.Event], None], resumed: Callable[[], None]
    ) -> None:
        self._plan = plan
        self._pool = pool
        self._emit = emit
        self._resumed = resumed
        self._call: asyncio.Future[tuple[str | None, dict[str, FreeSpace]]] | None = None
        self._delay = RestartDelay()
        self._retry_at = 0.0
        self._since = time.monotonic()
        """The time of the last change between taking work and taking none."""
        self._is_paused = False
        self._hurry = asyncio.Event()
        self.problem: str | None = "its disks have not been checked yet"
        """The reason why the host takes no work, or None."""
        self.disks: Mapping[str, FreeSpace] = {}
        """The disks of the root of workspaces and of that of logs, at the last check."""
        self._too_small: dict[str, int] = {}
        """Free bytes at the begin of attempts that ran out of space, by task id."""

    async def run(self) -> None:
        """Check the host until canceled: every `CHECK_INTERVAL`, and after growing delays while it takes no work."""
        while True:
            problem = await self._check()
            if problem is not None:
                self._refuse(problem)
            elif self.problem is not None and time.monotonic() >= self._retry_at:
                self._resume()
            waiting = CHECK_INTERVAL if self.problem is None else max(0.0, self._retry_at - time.monotonic())
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(waiting):
                    await self._hurry.wait()
            self._hurry.clear()

    def check_now(self) -> None:
        """Check a host that takes work immediately, because an attempt has met a problem that may be the host's."""
        if self.problem is None:
            self._hurry.set()

    def ran_out(self, delivery: Delivery, before: FreeSpace | None) -> None:
        """Remember an attempt that ran out of space. `before`: its disk at its begin. An empty disk gets no larger."""
        if before is not None and before.total - before.size > RESERVE:
            self._too_small[delivery.task_id] = before.size
            if len(self._too_small) > MOST_TOO_SMALL:
                del self._too_small[next(iter(self._too_small))]

    def lacks_space_for(self, delivery: Delivery) -> str:
        """Return why the retry of an attempt that ran out of space must wait, or nothing."""
        before, disk = self._too_small.get(delivery.retried_task_id or ""), self.disks.get("workspaces")
        if before is None or disk is None or disk.size >= before + RESERVE or delivery.poll_count >= MOST_SPACE_WAITS:
            return ""
        place = f"the disk of {self._plan.workspace_root} has {size(disk.size)} free"
        return f"{place}, and the attempt before ran out of space with {size(before)}; it needs {size(RESERVE)} more"

    def _refuse(self, problem: str) -> None:
        """Take no work until a later check succeeds.

        Problems that are found before the next check is due count as one.
        """
        now = time.monotonic()
        if self.problem is not None and now < self._retry_at:
            return
        self._retry_at = now + self._delay.after_crash(now - self._since if self.problem is None else 0.0)
        self.problem = problem
        if not self._is_paused:
            self._is_paused, self._since = True, now
            self._emit(events.PollingPaused(problem))

    def _resume(self) -> None:
        now, was_paused = time.monotonic(), self._is_paused
        seconds, self._since = now - self._since, now
        self.problem, self._is_paused = None, False
        if was_paused:
            self._emit(events.PollingResumed(seconds))
        self._resumed()

    async def _check(self) -> str | None:
        """Return the problem of the roots, or None. While a disk does not answer a call, no second call is made."""
        if self._call is None:
            self._call = asyncio.ensure_future(self._pool.run(_roots, self._plan))
        done, _ = await asyncio.wait([self._call], timeout=ANSWER_LIMIT)
        if not done:
            return f"the disks of the roots have not answered for {ANSWER_LIMIT:g} s"
        call, self._call = self._call, None
        if (error := call.exception()) is not None:
            return f"the roots cannot be checked: {type(error).__name__}: {error}"
        problem, self.disks = call.result()
        return problem


def _roots(plan: WorkerPlan) -> tuple[str | None, dict[str, FreeSpace]]:
    problem, disks = roots_problem(plan), dict[str, FreeSpace]()
    roots = {"workspaces": plan.workspace_root, **({"logs": plan.logs.root} if plan.logs.files else {})}
    for name, root in roots.items():
        with contextlib.suppress(OSError):
            disks[name] = free_space(existing(root))
    return problem, disks


def roots_problem(plan: WorkerPlan) -> str | None:
    """Return why a root takes no files, has less than the reserve, or is not safe; None if both are usable.

    The cache is trimmed first, because nothing else trims it while the worker takes no work. A missing log root is
    created, readable by the user only.
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
    return None if problem is None else f"{problem.rstrip('.')}. Correct this, or set {variable} to another directory"
