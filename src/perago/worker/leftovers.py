"""What a function leaves behind in its slot: threads, and processes however deeply they hid.

On Linux the slot is made the reaper of its descendants, so even a daemon that forked twice and left the process group
becomes its child again when its parent ends, and is found here. Elsewhere direct children are found, and the slot's
process group is ended from outside.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

PR_SET_CHILD_SUBREAPER = 36

SETTLE_SECONDS = 0.1
"""A thread or process that is about to end gets this long."""

KILL_LIMIT = 2.0
"""Seconds to wait for killed processes to disappear."""


def adopt_descendants() -> None:
    """Become the parent of orphaned descendants, where the system can do that. Called once per slot process."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def end_leftovers(threads_before: set[threading.Thread]) -> str | None:
    """Kill the processes that the function left and say in words what it left, or None.

    Children go now, before anybody looks at the workspace that they may still be writing to. Threads cannot be ended;
    the process has to go with them.
    """
    found = []
    if not _becomes_true(lambda: not _has_children(), SETTLE_SECONDS):
        found.append("child processes")
        _kill_children()
    if not _becomes_true(lambda: not _new_threads(threads_before), SETTLE_SECONDS):
        names = ", ".join(sorted(thread.name for thread in _new_threads(threads_before)))
        found.append(f"threads ({names})")
    return " and ".join(found) or None


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


def _kill_children() -> None:
    """Kill children, and their children as they become ours, until none is left."""

    def none_left() -> bool:
        for pid in _child_pids():
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        return not _has_children()

    _becomes_true(none_left, KILL_LIMIT)


def _child_pids() -> list[int]:
    if sys.platform != "linux":
        return []
    me, found = os.getpid(), []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                # "pid (name) state ppid ...", where the name may contain anything
                parent = (entry / "stat").read_text(errors="replace").rpartition(")")[2].split()[1]
                if int(parent) == me:
                    found.append(int(entry.name))
    return found
