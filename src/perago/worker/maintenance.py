"""What a worker tidies on the side: what killed workers left, here and on lakeFS, a cache that is full, and logs past
their time."""

from __future__ import annotations

import asyncio
import functools
import json
import subprocess
from collections.abc import Callable, Collection, Mapping

from perago.cache import CacheUnusable, trim
from perago.driver import Limits
from perago.ports import Delivery
from perago.settings import Upkeep, whole_environment
from perago.taskdef.payload import name_problem
from perago.worker.events import (
    BranchesSwept,
    BranchSweepFailed,
    CacheFailed,
    CacheTrimmed,
    CleanUpFailed,
    DirectoriesSwept,
    Event,
    LogsTrimmed,
)
from perago.worker.logs import trim_logs
from perago.worker.plan import WorkerPlan
from perago.worker.pools import Pool
from perago.workspace.directory import sweep

SWEEP_INTERVAL = 3600.0
"""Seconds between two sweeps. What a killed neighbour left must not wait for the next start of a worker."""

MOST_REPOSITORIES = 1000
"""The repositories that a worker remembers; those that were used last."""

BRANCH_SWEEP_LIMIT = 900.0
"""Seconds after which a sweep of branches is given up until the next one."""

CACHE_INTERVAL = 60.0
"""Seconds between two looks at how full the cache is: one small file is read, unless there is something to do."""

LOG_INTERVAL = 3600.0
"""Seconds between two looks at old logs."""


def repository_of(delivery: Delivery, limits: Limits) -> str | None:
    """The repository that a delivery is about, if it may be. Its input is not checked yet, so it may be anything."""
    workspace = delivery.input.get("workspace")
    if not isinstance(workspace, Mapping):
        return None
    name, branch = workspace.get("repository"), workspace.get("branch")
    if not isinstance(name, str) or name_problem("repository", name):
        return None
    return name if limits.allows(name, branch if isinstance(branch, str) else "") else None


def remember(repositories: dict[str, None], name: str) -> None:
    """Note that lakeFS has answered for a repository, and that an attempt is about to publish there."""
    repositories.pop(name, None)
    repositories[name] = None
    if len(repositories) > MOST_REPOSITORIES:
        del repositories[next(iter(repositories))]


async def run_maintenance(
    plan: WorkerPlan, pool: Pool, emit: Callable[[Event], None], repositories: Collection[str]
) -> None:
    """Sweep attempt directories and staging branches, trim the cache, and remove old logs, now and then. On the side,
    so that neither a large root nor a slow disk delays an attempt: a directory in use is recognised by its lock. Does
    what `WorkerPlan.maintenance` names, until it is cancelled.

    Args:
        plan: says where directories and logs are, and which command sweeps branches.
        pool: the threads that wait for the disk.
        emit: takes the events of sweeping.
        repositories: those that attempts of this worker have read. Attempts can add more during the sweep.
    """
    wanted = {
        Upkeep.DIRECTORIES: functools.partial(_keep_swept, plan, pool, emit),
        Upkeep.BRANCHES: functools.partial(_keep_branches_swept, plan, emit, repositories),
        Upkeep.CACHE: functools.partial(_keep_trimmed, plan, pool, emit),
        Upkeep.LOGS: functools.partial(_keep_logs, plan, pool, emit),
    }
    await asyncio.gather(*(keep() for upkeep, keep in wanted.items() if upkeep in plan.maintenance))


async def _keep_swept(plan: WorkerPlan, pool: Pool, emit: Callable[[Event], None]) -> None:
    while True:
        try:
            swept = await pool.run(sweep, plan.workspace_root)
        except OSError as error:
            emit(CleanUpFailed(plan.workspace_root, str(error)))
        else:
            if swept:
                emit(DirectoriesSwept(tuple(swept)))
        await asyncio.sleep(SWEEP_INTERVAL)


async def _keep_branches_swept(plan: WorkerPlan, emit: Callable[[Event], None], repositories: Collection[str]) -> None:
    """In a process of its own: the supervisor has no connection to lakeFS, and needs none."""
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
            emit(BranchesSwept(swept))
        if problem:
            emit(BranchSweepFailed(names, problem))


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
    reading = asyncio.ensure_future(asyncio.to_thread(child.communicate))
    try:
        await asyncio.wait([reading], timeout=BRANCH_SWEEP_LIMIT)
    finally:
        late = not reading.done()
        child.kill()  # nothing, if it has ended
        output, errors = await reading
    if late:
        raise TimeoutError(f"it took longer than {BRANCH_SWEEP_LIMIT:.0f} s")
    complaints = errors.decode(errors="replace").strip().splitlines() if child.returncode else []
    removed = [found for found in json.loads(output or b'{"leftovers": []}')["leftovers"] if _is_gone(found)]
    problems = [line for line in complaints if line.startswith("error: ")] or complaints[:1]
    return tuple(f"{found['repository']}/{found['branch']}" for found in removed), "; ".join(problems)


def _is_gone(found: Mapping[str, str]) -> bool:
    return found["kind"] == "branch" and found["fate"] == "removed"


async def _keep_trimmed(plan: WorkerPlan, pool: Pool, emit: Callable[[Event], None]) -> None:
    """What is wrong with the cache is said once, not each minute: attempts do without it."""
    said = ""
    while plan.cache_bytes is not None:
        try:
            trimmed = await pool.run(trim, plan.workspace_root, plan.cache_bytes)
            said = ""
        except (CacheUnusable, OSError) as error:
            if str(error) != said:
                said = str(error)
                emit(CacheFailed(said))
        else:
            if trimmed:
                emit(CacheTrimmed(trimmed))
        await asyncio.sleep(CACHE_INTERVAL)


async def _keep_logs(plan: WorkerPlan, pool: Pool, emit: Callable[[Event], None]) -> None:
    while True:
        removed = 0
        try:
            for name in {plan.name, *(task.module for task in plan.tasks)}:
                removed += await pool.run(trim_logs, plan.logs, name)
        except OSError as error:
            emit(CleanUpFailed(plan.logs.root, str(error)))
        if removed:
            emit(LogsTrimmed(removed))
        await asyncio.sleep(LOG_INTERVAL)
