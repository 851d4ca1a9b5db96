"""Processes and their signals: hold signals for a moment, adopt orphans, end the processes that a function left.

Linux lets a process become the reaper of its descendants: even a daemon that forked twice and left session and process
group becomes its child when its parent ends, and is found in /proc. Elsewhere nothing is found here.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import signal
import sys
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

ENDING = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))


@contextlib.contextmanager
def signals_held() -> Iterator[None]:
    """Inside the block, signals that end a process wait; they arrive when it is left."""
    if sys.platform == "win32":
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def release_signals() -> None:
    """Let them arrive, in a process that was started while they were held."""
    if sys.platform != "win32":
        signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING)


_PR_SET_CHILD_SUBREAPER = 36
_PR_GET_CHILD_SUBREAPER = 37
_KILL_LIMIT = 2.0
"""Seconds to wait for killed processes to disappear."""
_LOOKS = 3
"""So many looks in a row that find nothing prove that nothing is left."""
_PAUSE = 0.005
_SHOWN = 5
_LONGEST_COMMAND = 200


@dataclass(frozen=True, slots=True)
class Process:
    """A process that has not ended. `name` is short and has no arguments, so it may be logged."""

    pid: int
    name: str
    parent: int
    group: int
    session: int

    def command_line(self) -> str:
        """With arguments, which may be secret; the name alone if they cannot be read any more."""
        try:
            words = Path(f"/proc/{self.pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
        except OSError:
            words = []
        text = _printable(" ".join(words).strip())
        return (text if len(text) <= _LONGEST_COMMAND else f"{text[:_LONGEST_COMMAND]}...") or self.name


def adopt_orphans() -> None:
    """Become the parent of descendants whose parent ends, where the system can do that."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


@contextlib.contextmanager
def adopting_orphans() -> Iterator[None]:
    """The same for the length of a block."""
    before = ctypes.c_int(0)
    _prctl(_PR_GET_CHILD_SUBREAPER, ctypes.addressof(before))
    adopt_orphans()
    try:
        yield
    finally:
        _prctl(_PR_SET_CHILD_SUBREAPER, before.value)


def _prctl(option: int, value: int) -> None:
    if sys.platform == "linux":
        _libc().prctl(option, ctypes.c_ulong(value), 0, 0, 0)


@functools.cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None)


def running_processes() -> dict[int, Process]:
    """Every process of this system that is not a zombie, by its id; none where there is no /proc."""
    found = {}
    with contextlib.suppress(FileNotFoundError), os.scandir("/proc") as entries:
        for entry in entries:
            if entry.name.isdigit() and (process := _read(entry.name)) is not None:
                found[process.pid] = process
    return found


def is_running(pid: int) -> bool:
    """Whether there is such a process, and it is not a zombie. False where there is no /proc.

    Raises:
        OSError: it cannot be found out, since no descriptor is free to look with.
    """
    try:
        state = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in b"ZX"


def _read(pid: str) -> Process | None:
    try:
        descriptor = os.open(f"/proc/{pid}/stat", os.O_RDONLY)
        try:
            # "pid (name) state parent group session ...", where the name may contain anything
            before, _, after = os.read(descriptor, 4096).rpartition(b")")
        finally:
            os.close(descriptor)
    except OSError:
        return None
    state, parent, group, session = after.split()[:4]
    name = _printable(before.partition(b"(")[2].decode(errors="replace"))
    return None if state in b"ZX" else Process(int(pid), name, int(parent), int(group), int(session))


def _printable(text: str) -> str:
    return "".join(char if char.isprintable() else "?" for char in text)


def descendants(pid: int, among: Mapping[int, Process], *, but: Collection[int] = ()) -> list[Process]:
    """Children, their children and so on; without those in `but` and what descends from them alone."""
    found: list[Process] = []
    parents = {pid}
    while parents:
        generation = [each for each in among.values() if each.parent in parents and each.pid not in but]
        found += generation
        parents = {each.pid for each in generation}
    return found


def end_processes(find: Callable[[], Iterable[Process]]) -> list[Process]:
    """Kill what `find` finds until it finds nothing, several times; returns what is left after a while.

    Their process groups go, too, at one stroke: what forks all the time would escape otherwise. A single look misses
    such a process now and then.
    """
    deadline = time.monotonic() + _KILL_LIMIT
    in_vain = 0
    while in_vain < _LOOKS:
        left = list(find())
        in_vain = 0 if left else in_vain + 1
        for group in {each.group for each in left} - {os.getpgrp(), 0}:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(group, signal.SIGKILL)
        for process in left:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(process.pid, signal.SIGKILL)
        if time.monotonic() >= deadline:
            break
        time.sleep(_PAUSE)
    return left


def named(texts: Iterable[str]) -> str:
    """Some of them, and how many more."""
    listed = list(texts)
    more = f" and {len(listed) - _SHOWN} more" if len(listed) > _SHOWN else ""
    return ", ".join(listed[:_SHOWN]) + more
