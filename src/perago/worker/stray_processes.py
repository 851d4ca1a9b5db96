"""What a function leaves behind in its slot: threads, and processes however deeply they hid.

The slot is the reaper of its descendants (`perago.driver.processes`), so it finds and ends them itself. If it is killed
first, they go to the fork server, which is their reaper then: the supervisor ends them there (`orphans`), and when the
supervisor is gone as well, so does the fork server at its own end (`perago.worker.preload`). On macOS a slot knows only
of its children; they go with its process group.
"""

from __future__ import annotations

import multiprocessing
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from perago.driver.processes import Process, descendants, end_processes, named, running_processes

SETTLE_SECONDS = 0.1
"""A thread or process that is about to end gets this long."""
KILL_SECONDS = 2.0
"""One that was killed gets this long, which it needs on a busy machine."""


@dataclass(frozen=True, slots=True)
class Strays:
    """What the function left, in words; empty if that is nothing. `alive`: there are processes that still run, and may
    write to the workspace."""

    words: str = ""
    alive: bool = False


def end_strays(threads_before: set[threading.Thread]) -> Strays:
    """Kill the processes that the function left and say what it left.

    They go now, before anything looks at the workspace that they may still be writing to. Threads cannot be ended; the
    process has to go with them.
    """
    found = []
    alive = False
    if not _becomes_true(lambda: not _has_children(), SETTLE_SECONDS):
        left = _descendants()
        who = named(f"{each.name} with pid {each.pid}" for each in left)
        found.append(f"child processes ({who})" if left else "child processes")
        alive = not _becomes_true(_ended, KILL_SECONDS)
    if not _becomes_true(lambda: not _new_threads(threads_before), SETTLE_SECONDS):
        names = ", ".join(sorted(thread.name for thread in _new_threads(threads_before)))
        found.append(f"threads ({names})")
    return Strays(" and ".join(found), alive)


def end_descendants() -> None:
    """Kill every process that descends from this one."""
    end_processes(_descendants)


def orphans(reaper: int) -> list[Process]:
    """What slots that are dead have left to their fork server, the process `reaper`.

    Its other children are the processes that it has just forked, which share its session still, and those that
    multiprocessing knows. No process of this one may be starting or ending meanwhile.
    """
    among = running_processes()
    if reaper not in among:
        return []
    ours = {child.pid or 0 for child in multiprocessing.active_children()}
    ours |= {each.pid for each in among.values() if each.parent == reaper and each.session == among[reaper].session}
    return descendants(reaper, among, but=ours)


def _ended() -> bool:
    end_processes(_descendants)
    return not _has_children()


def _descendants() -> list[Process]:
    return descendants(os.getpid(), running_processes())


def _becomes_true(condition: Callable[[], bool], limit: float) -> bool:
    deadline = time.monotonic() + limit
    while not condition():
        if time.monotonic() >= deadline:
            return False
        time.sleep(0.005)
    return True


def _new_threads(before: set[threading.Thread]) -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread not in before and thread.is_alive()}


def _has_children() -> bool:
    """Whether a child is alive; those that have ended are collected."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return False
    return True
