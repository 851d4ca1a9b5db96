"""The fork server, which starts the slot processes: start it, watch it, and end it.

A fork server that hangs starts nothing, and does not report ended processes. So every wait for it watches its progress
(`Stall`), and kills it if it makes none. That ends the wait and also its slots, because their ends would not be
reported. The next start of a process starts a new fork server.

It loads all that slots need while its parent prepares the worker. So this module imports little, and is loaded first.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from perago.processes import signals_held

if TYPE_CHECKING:
    from multiprocessing.process import BaseProcess

    from perago.settings import Settings

GUARD = "perago.worker.preload"
"""The module that the fork server loads last, which prepares it."""

LIMIT = 60
"""Seconds without progress after which the fork server hangs: it sleeps or is stopped, and uses no CPU time."""

MOST = 600
"""Seconds for one answer of the fork server, whatever it does in the meantime."""

STARTING_OR_ENDING = threading.Lock()
"""multiprocessing checks every child of this process whenever one starts, and two concurrent checks may give a child
a wrong exit status. There may be several supervisors in one process."""

_PIPES = 3
"""The number of pipes, with as many ends as multiprocessing opens files for a start."""

_DISCARD_LIMIT = 5.0
"""Seconds to wait for the end of a fork server that was killed."""

_CHECKS, _CHECK_DELAY = 20, 0.005
"""The number of checks of a process that is dying, and the seconds after each."""

_servers: set[int] = set()
"""Process ids of the fork servers that `warm_up` has started or found."""
_fates: dict[int, str] = {}
"""The reasons why fork servers were killed, by process id."""


class ForkServerDied(OSError):
    """The fork server has ended, so it has started nothing. The next start of a process starts another one."""


class Stall:
    """Judges whether the fork server hangs while something waits for its answer.

    It uses CPU time and state, because a fork server on a loaded machine can wait for a processor (state R) or a disk
    (D) for minutes. Without /proc, only `MOST` counts.
    """

    def __init__(self, server: int | None) -> None:
        self._server = server
        self._checks = self._without_progress = 0
        self._cpu_seconds = -1.0

    def check(self) -> str | None:
        """Return how the fork server hangs, as a verb, or None. Call it once a second. It counts its calls, because the
        clock continues while all processes of a container are paused."""
        state, cpu_seconds = _activity(self._server)
        works = state[0] in "RD?" or cpu_seconds != self._cpu_seconds
        self._checks += 1
        self._without_progress = 0 if works else self._without_progress + 1
        self._cpu_seconds = cpu_seconds
        activity = f"state {state}, {cpu_seconds:g} s of CPU time in all"
        if self._without_progress >= LIMIT:
            return f"made no progress for {LIMIT} s ({activity}, none of it since)"
        return f"did not answer within {MOST} s ({activity})" if self._checks >= MOST else None


_STATES = {"R": "running", "S": "sleeping", "D": "waiting for a disk", "T": "stopped", "t": "stopped by a debugger"}


def _activity(pid: int | None) -> tuple[str, float]:
    """The state of a process, and the seconds of CPU time that it has used so far."""
    try:
        state, *fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return "? (unknown)", 0.0
    ticks = sum(map(int, fields[10:12]))  # utime and stime
    return f"{state} ({_STATES.get(state, 'other')})", ticks / os.sysconf("SC_CLK_TCK")


def preloaded(settings: Settings) -> tuple[str, ...]:
    """Return the modules that slots share from their start, which is before the tasks are known."""
    return ("perago.driver", *(["perago.adapters.lakefs"] if settings.lakefs else []))


def warm_up(preload: Sequence[str]) -> None:
    """Let the fork server load `preload` while this process continues with its own imports. Return immediately.

    This does nothing where slots are spawned. It is optional, because the first slot would start the server.
    """
    if sys.platform == "linux":
        from multiprocessing import forkserver, resource_tracker

        forkserver.set_forkserver_preload([*preload, GUARD])
        with signals_held():
            resource_tracker.ensure_running()  # releases some of them
        with signals_held():  # the server never releases them: a signal to a whole group must not take it down
            forkserver.ensure_running()
        if (pid := _current_server()) is not None:
            _servers.add(pid)


def check_fork_server() -> None:
    """Find out whether every fork server that `warm_up` has started or found still runs.

    Raises:
        ForkServerDied: one has ended, even if another one has taken its place.
    """
    for pid in filter(_has_ended, _servers):
        raise ForkServerDied(f"the fork server {_fates.get(pid, 'has died')}")


def start_process(process: BaseProcess) -> int | None:
    """Start the process while signals that end a process are held. Wait for the fork server as long as it makes
    progress.

    Returns:
        The process id of the current fork server, which started the process unless it is spawned.

    Raises:
        ForkServerDied: the process has not been started.
        OSError: the system has no process, thread or file left for it. The fork server continues.
    """
    server = None
    try:
        with STARTING_OR_ENDING, signals_held(), _ended_if_hanging():
            _check_descriptors()
            server = _current_server()
            process.start()
            _raise_if_refused(process)
            return server or _current_server()
    except (EOFError, ConnectionError) as error:
        if (how := fate(server)) is None:
            if isinstance(error, BrokenPipeError):  # the answer came before the request was written in full
                raise OSError(error.errno, f"{_REFUSED}, or the new process has ended immediately") from error
            # it may wait for the end of its slots, and neither starts nor watches any
            end_fork_server(how := f"has died ({error})")
        raise ForkServerDied(f"the fork server {how}") from error


_REFUSED = (
    "the fork server cannot fork, because of the limit of processes (pids.max of the container, TasksMax=, ulimit -u) "
    "or of memory"
)


def _raise_if_refused(process: BaseProcess) -> None:
    """The fork server answers with a negative error number if it cannot fork (`perago.worker.preload`)."""
    if (answer := process.pid or 0) < 0:
        process.join()  # returns immediately: the fork server has closed its end
        process.close()
        raise OSError(-answer, f"{_REFUSED}: {os.strerror(-answer)}")


def _check_descriptors() -> None:
    """The fork server ends after an incomplete request, for instance if there was no room for the rest."""
    with contextlib.ExitStack() as opened:
        for _ in range(_PIPES):
            for end in os.pipe():
                opened.callback(os.close, end)


def end_fork_server(why: str) -> None:
    """Kill the current fork server, and thereby its slots. `why` is the verb that messages quote."""
    pid = _current_server()
    if pid is not None and not _has_ended(pid):
        _fates[pid] = why
        os.kill(pid, signal.SIGKILL)


def discard_fork_server() -> None:
    """Kill the current fork server, which has no slots, and wait for its end. Without this it would import everything
    before it notices that its parent has ended."""
    end_fork_server("was not needed")
    deadline = time.monotonic() + _DISCARD_LIMIT
    while (pid := _current_server()) is not None and not _has_ended(pid) and time.monotonic() < deadline:
        time.sleep(_CHECK_DELAY)


def fate(server: int | None) -> str | None:
    """Return the end of the fork server with this process id, which seems to be dead, as a verb; None: it lives."""
    if server is None:
        return None
    for _ in range(_CHECKS):
        if server in _fates or _has_ended(server):
            return _fates.get(server, "has died")
        time.sleep(_CHECK_DELAY)  # its descriptors are closed before it is said to be dead
    return None


@contextlib.contextmanager
def _ended_if_hanging() -> Iterator[None]:
    """Kill the fork server if it hangs before the block is left."""
    done = threading.Event()

    def watch() -> None:
        stalls: dict[int | None, Stall] = {}  # the block may start the server
        while not done.wait(1.0):
            server = _current_server()
            if (how := stalls.setdefault(server, Stall(server)).check()) is not None:
                end_fork_server(how)
                return

    threading.Thread(target=watch, name="perago-fork-server", daemon=True).start()
    try:
        yield
    finally:
        done.set()


def _current_server() -> int | None:
    """The process id of the fork server, if there is one."""
    from multiprocessing import forkserver

    pid: int | None = forkserver._forkserver._forkserver_pid  # type: ignore[attr-defined] # there is no public name
    return pid


def _has_ended(server: int) -> bool:
    try:  # it stays a zombie here, for multiprocessing to find
        return os.waitid(os.P_PID, server, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    except ChildProcessError:
        return True
