"""Checks of this machine: the disks of both roots, open files, the cache, what killed attempts left."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from pathlib import Path

from perago.cache import CacheUnusable, default_limit, usage
from perago.diagnosis.findings import Finding, Level
from perago.driver.gc import Fate, Policy, clear_directories
from perago.settings import Settings
from perago.worker.plan import too_few_files
from perago.worker.presence import workers_here
from perago.workspace.disk import disk_problem, free_space
from perago.workspace.layout import RESERVE
from perago.workspace.text import count, listing, size

LITTLE_FREE = 1024**3
FEW_FILES = 1024
LEFT_FOR = 86_400.0
"""Seconds after which what a killed attempt left counts as left behind."""


def disk(variable: str, root: Path) -> Iterator[Finding]:
    """Check the disk of a root as a worker does: room, and whether a file can be written and locked there. Nothing is
    left. A root that does not exist yet is not made."""
    advice = f"free space there, or set {variable} to another disk"
    if (problem := disk_problem(root, RESERVE)) is not None:
        yield Finding("disk", Level.PROBLEM, problem, "workers here take no work until that is repaired", advice)
        return
    free = free_space(next(path for path in (root, *root.parents) if path.exists())).size
    text = f"{root} has {size(free)} free"
    if free < LITTLE_FREE:
        why = f"workers take no work with less than {size(RESERVE)}"
        yield Finding("disk", Level.WARNING, text, why, advice)
    else:
        yield Finding("disk", Level.OK, text)


def open_files() -> Iterator[Finding]:
    """The limit of open files."""
    if (problem := too_few_files(FEW_FILES)) is not None:
        why = "transfers and functions that open many files fail with: Too many files are open here"
        yield Finding("open files", Level.WARNING, problem.what, why, problem.advice)
    else:
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        number = "any number of" if soft == resource.RLIM_INFINITY else f"{soft:,}"
        yield Finding("open files", Level.OK, f"a process may have {number} files open")


def cache(settings: Settings) -> Iterator[Finding]:
    """The cache of objects."""
    root = settings.workspace_root
    try:
        found = usage(root)
        limit = settings.cache_max_bytes
        if limit is None and root.exists():
            limit = default_limit(root)
    except CacheUnusable as error:
        why = "attempts fetch every object from lakeFS"
        yield Finding("cache", Level.WARNING, f"it is not used: {error}", why, f"remove {root / '.cache'}")
        return
    held = f"{count(found.entries, 'object')}, {size(found.size)}"
    yield Finding("cache", Level.OK, "switched off" if limit == 0 else f"holds {held}")


def leftovers(root: Path, now: float) -> Iterator[Finding]:
    """Directories of attempts that were killed, and the workers that are here."""
    policy = Policy(LEFT_FOR, now, dry_run=True)
    dead = [found for found in clear_directories(root, policy) if found.fate is Fate.REMOVED]
    if dead:
        held = size(sum(found.size or 0 for found in dead))
        what = f"{count(len(dead), 'directory', 'directories')} of attempts that no process holds: {held}"
        yield Finding("leftovers", Level.WARNING, what, "they take room on the disk", "perago gc")
    workers = workers_here(root)
    names = [f"{worker.task_name} ({count(worker.slots, 'slot')}, pid {worker.pid})" for worker in workers]
    yield Finding("workers", Level.OK, f"here: {listing(names)}" if names else "none runs here")
