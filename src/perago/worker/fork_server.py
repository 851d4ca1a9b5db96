"""The process that slots are forked from (on Linux): its beginning, its work, and its end if it does no more of that.

A fork server that stands still starts nothing, and tells of no process that has ended. So everything that waits for it
has a limit, after which it is killed: that ends the wait and, since they would run unwatched, its slots. The next start
of a process starts another one.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from multiprocessing.process import BaseProcess

from perago.signal_mask import signals_held

GUARD = "perago.worker.preload"
"""Loaded last by the fork server, to settle it."""

LIMIT = 60
"""Seconds that it gets to start a process, the first of which waits for what is loaded before, or to tell of the end of
one."""

STARTING_OR_ENDING = threading.Lock()
"""multiprocessing looks at every child of this process whenever one starts, and two looks at once may give one of them
a wrong exit status. There may be several supervisors in one process."""

_PIPES = 3
"""With as many ends as multiprocessing opens files for a start, at most."""

_LOOKS, _PAUSE = 20, 0.005
"""At a process that is dying, and the seconds after each."""

_servers: set[int] = set()
"""Process ids of fork servers that `warm_up` has made sure of."""
_fates: dict[int, str] = {}
"""Why those were killed that were."""


class ForkServerDied(OSError):
    """The fork server is gone, so it has started nothing. The next start of a process starts another one."""


def warm_up(preload: Sequence[str]) -> None:
    """Let the fork server load `preload` while this process continues with its own imports. Returns at once.

    Does nothing where slots are spawned. Calling it is optional: the first slot would start the server.
    """
    if sys.platform == "linux":
        from multiprocessing import forkserver, resource_tracker

        forkserver.set_forkserver_preload([*preload, GUARD])
        with signals_held():
            resource_tracker.ensure_running()  # releases some of them
        with signals_held():  # the server never releases them: a signal to a whole group must not take it down
            forkserver.ensure_running()
        if (pid := _present()) is not None:
            _servers.add(pid)


def check_fork_server() -> None:
    """Find out whether every fork server that `warm_up` made sure of is still there.

    Raises:
        ForkServerDied: one is gone, even if another one has taken its place.
    """
    if any(_is_gone(pid) for pid in _servers):
        raise ForkServerDied("the fork server has died")


def start_process(process: BaseProcess) -> int | None:
    """Start it, with the signals that end a process held. Waits for the fork server, `LIMIT` seconds at most.

    Returns:
        The process id of the present fork server, which it comes from unless it is spawned.

    Raises:
        ForkServerDied: it has not been started.
    """
    server = None
    try:
        with STARTING_OR_ENDING, signals_held(), _limited():
            _find_room()
            server = _present()
            process.start()
            return server or _present()
    except (EOFError, ConnectionError) as error:
        if (how := fate(server)) is None:  # it may wait for the end of its slots, and neither starts nor watches any
            _end(how := f"has died ({error})")
        raise ForkServerDied(f"the fork server {how}") from error


def _find_room() -> None:
    """The fork server ends with a request that breaks off, as one does for which there is no room half-way."""
    with contextlib.ExitStack() as opened:
        for _ in range(_PIPES):
            for end in os.pipe():
                opened.callback(os.close, end)


def end_fork_server(seconds: float) -> None:
    """Kill the present fork server, which stands still for so many seconds now, and thereby its slots."""
    _end(f"stood still for {seconds:g} s")


def _end(why: str) -> None:
    pid = _present()
    if pid is not None and not _is_gone(pid):
        _fates[pid] = why
        os.kill(pid, signal.SIGKILL)


def fate(server: int | None) -> str | None:
    """How the fork server with this process id, which seems to be dead, has ended, as a verb; None: it lives."""
    if server is None:
        return None
    for _ in range(_LOOKS):
        if server in _fates or _is_gone(server):
            return _fates.get(server, "has died")
        time.sleep(_PAUSE)  # its descriptors are closed before it is said to be dead
    return None


@contextlib.contextmanager
def _limited() -> Iterator[None]:
    done = threading.Event()

    def watch() -> None:
        for _ in range(LIMIT):  # second by second: all processes of a container may stand still for a while
            if done.wait(1.0):
                return
        end_fork_server(LIMIT)

    threading.Thread(target=watch, name="perago-fork-server", daemon=True).start()
    try:
        yield
    finally:
        done.set()


def _present() -> int | None:
    """The process id of the fork server, if there is one."""
    from multiprocessing import forkserver

    pid: int | None = forkserver._forkserver._forkserver_pid  # type: ignore[attr-defined] # there is no public name
    return pid


def _is_gone(server: int) -> bool:
    try:  # it stays a zombie here, for multiprocessing to find
        return os.waitid(os.P_PID, server, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    except ChildProcessError:
        return True
