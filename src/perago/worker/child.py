"""One slot process, seen from the supervisor's event loop."""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from perago.driver.processes import descendants, end_processes, running_processes
from perago.signal_mask import signals_held
from perago.worker import channel
from perago.worker.channel import ChannelError, open_channel
from perago.worker.messages import BadMessage, FromSlot, Stop, ToSlot
from perago.worker.plan import WorkerPlan
from perago.worker.stray_processes import orphans

JOIN_LIMIT = 5.0
"""Seconds to wait for a process that was killed."""

FORK_SERVER_GUARD = "perago.worker.preload"
"""Loaded last by the fork server, to settle it."""

_STARTING_OR_ENDING = threading.Lock()
"""multiprocessing looks at every child of this process whenever one starts, and two looks at once may give one of them
a wrong exit status. There may be several supervisors in one process, each on a thread."""


_servers: set[int] = set()
"""Process ids of fork servers that `warm_up` has made sure of."""


class ForkServerDied(OSError):
    """The fork server is gone, so it has started nothing. The next start of a process starts another one."""


def warm_up(preload: Sequence[str]) -> None:
    """Let the fork server load `preload` while this process continues with its own imports. Returns at once.

    Does nothing where slots are spawned. Calling it is optional: the first slot would start the server.
    """
    if sys.platform == "linux":
        from multiprocessing import forkserver, resource_tracker

        forkserver.set_forkserver_preload([*preload, FORK_SERVER_GUARD])
        with signals_held():
            resource_tracker.ensure_running()  # releases some of them
        with signals_held():  # the server never releases them: a signal to a whole group must not take it down
            forkserver.ensure_running()
        _servers.add(forkserver._forkserver._forkserver_pid)  # type: ignore[attr-defined] # there is no public name


def check_fork_server() -> None:
    """Find out whether every fork server that `warm_up` made sure of is still there.

    Raises:
        ForkServerDied: one is gone, even if another one has taken its place.
    """

    def gone(pid: int) -> bool:
        try:  # it stays a zombie here, for multiprocessing to find
            return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
        except ChildProcessError:
            return True

    if any(gone(pid) for pid in _servers):
        raise ForkServerDied("the fork server has died")


def start_process(process: BaseProcess) -> None:
    """Start it, with the signals that end a process held.

    Raises:
        ForkServerDied: it has not been started.
    """
    try:
        with _STARTING_OR_ENDING, signals_held():
            process.start()
    except (EOFError, ConnectionError) as error:
        raise ForkServerDied(f"the fork server has died ({error})") from error


class SlotProcess:
    """Starts a slot process, reads what it says, ends it together with its process group.

    `ended` becomes the description of how it ended, once everything it said before has been passed to `on_message`,
    which may raise `BadMessage`: that, and bytes that are no message, are its end. All methods belong to the event
    loop's thread.
    """

    def __init__(self, plan: WorkerPlan, worker_id: str, on_message: Callable[[FromSlot], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._on_message = on_message
        self._told_to_stop = False
        self.ended: asyncio.Future[str] = self._loop.create_future()
        self._fault: str | None = None
        self._stalled: asyncio.TimerHandle | None = None
        self._channel, theirs = open_channel(plan.limits.max_result_bytes)
        try:
            self._process = _start(plan, worker_id, theirs)
        except BaseException:
            self._channel.close()
            raise
        finally:
            theirs.close()
        self.pid: int = self._process.pid or 0
        own = running_processes().get(self.pid) if plan.start_method == "forkserver" else None
        self._reaper = own.parent if own is not None else None
        self._loop.add_reader(self._channel.fileno(), self._read)
        self._loop.add_reader(self._process.sentinel, self._exited)

    def send(self, message: ToSlot) -> bool:
        """Send `message`; False when the process cannot be reached, which then is its end."""
        self._told_to_stop = self._told_to_stop or isinstance(message, Stop)
        try:
            self._channel.send(message)
        except ChannelError:
            self.kill()
            return False
        return True

    def terminate(self, grace: float) -> None:
        """TERM to the process group, and KILL after `grace` seconds."""
        self._signal(signal.SIGTERM)
        self._loop.call_later(grace, self.kill)

    def kill(self) -> None:
        """KILL the process group, and what has left it. Harmless when it is gone."""
        lives = not self.ended.done() and Path(f"/proc/{self.pid}").exists()
        left = []
        with contextlib.suppress(OSError):  # no descriptor is free to look with; the group goes all the same
            left = descendants(self.pid, running_processes()) if lives else []
        self._signal(signal.SIGKILL)
        for process in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGKILL)

    def _signal(self, signum: signal.Signals) -> None:
        if self.ended.done():
            return
        if not signal_group(self.pid, signum):  # it has not made its own group yet
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signum)

    def _read(self) -> None:
        try:
            self._take_messages()
        except ChannelError:
            self._loop.remove_reader(self._channel.fileno())
            self.kill()
        else:
            self._watch_unfinished()

    def _take_messages(self) -> bool:
        """Pass on what has come, and say whether anything had.

        Raises:
            ChannelError: nothing more will come, or nothing that may be listened to.
        """
        came = self._channel.receive()
        try:
            for message in self._channel.messages():
                self._on_message(message)
        except BadMessage as error:
            hint = "did the function write to a descriptor that is not its own?"
            self._fault = f"the slot's process was ended because it sent {error} ({hint})"
            raise ChannelError(str(error)) from error
        return came

    def _watch_unfinished(self) -> None:
        """A message that has begun continues, or the process is stopped half-way and must end."""
        if self._stalled is not None:
            self._stalled.cancel()
            self._stalled = None
        if self._channel.begun:
            self._stalled = self._loop.call_later(channel.IO_LIMIT, self.kill)

    def _exited(self) -> None:
        self._loop.remove_reader(self._process.sentinel)
        self._loop.remove_reader(self._channel.fileno())
        if self._stalled is not None:
            self._stalled.cancel()
        with contextlib.suppress(ChannelError):
            while self._fault is None and self._take_messages():
                pass
        # The sentinel says "about to end", or that the function closed descriptors that are not its own. KILL makes
        # it true, leaves a status that is already decided as it is, and takes the rest of the group along.
        self.kill()
        with _STARTING_OR_ENDING:
            self._process.join(JOIN_LIMIT)
            how = self._fault or describe_exit(self._process.exitcode)
            reaper = self._reaper
            as_told = self._told_to_stop and self._process.exitcode == 0  # then it leaves nothing
            if reaper is not None and not as_told:
                with contextlib.suppress(OSError):
                    end_processes(lambda: orphans(reaper))
        _reap_group(self.pid)
        self._channel.close()
        with contextlib.suppress(ValueError):  # not even KILL ended it
            self._process.close()
        self.ended.set_result(how)


def _start(plan: WorkerPlan, worker_id: str, connection: Any) -> BaseProcess:
    from perago.worker.slot_process import slot_main

    if plan.start_method == "forkserver":
        warm_up(plan.preload)
    context: Any = multiprocessing.get_context(plan.start_method)
    process: BaseProcess = context.Process(target=slot_main, args=(plan, worker_id, connection), name=worker_id)
    start_process(process)
    return process


def signal_group(group: int, signum: int) -> bool:
    """Send a signal to every process of `group`; False when there is none."""
    try:
        os.killpg(group, signum)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True  # macOS says so of a group that consists of zombies
    return True


def _reap_group(group: int) -> None:
    """As PID 1 we inherit the orphans of a dead slot; collect those of its group, and no other children."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-group, os.WNOHANG)[0]:
            pass


def describe_exit(exit_code: int | None) -> str:
    """How a slot process ended, in words for Conductor and the log."""
    if exit_code is None:
        return "the slot's process could not be ended"
    if exit_code >= 0:
        return f"the slot's process ended with exit status {exit_code}"
    try:
        name = signal.Signals(-exit_code).name
    except ValueError:
        name = f"signal {-exit_code}"
    hint = " (out of memory, or killed from outside)" if name == "SIGKILL" else ""
    return f"the slot's process was killed by {name}{hint}"
