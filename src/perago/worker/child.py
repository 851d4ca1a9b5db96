"""One slot process, seen from the supervisor's event loop."""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import os
import signal
from collections.abc import Callable
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from perago.driver.processes import descendants, end_processes, is_running, running_processes
from perago.worker import channel
from perago.worker.channel import ChannelError, SupervisorChannel, open_channel
from perago.worker.fork_server import STARTING_OR_ENDING, Stall, end_fork_server, fate, start_process, warm_up
from perago.worker.messages import BadMessage, Deliver, FromSlot, Stop, ToSlot
from perago.worker.plan import WorkerPlan
from perago.worker.pools import Pool
from perago.worker.stray_processes import orphans

JOIN_LIMIT = 5.0
"""Seconds to wait for a process that was killed."""

STATUS_UNKNOWN = 255
"""What multiprocessing takes for the exit status of a process whose fork server cannot tell it any more."""


class SlotProcess:
    """A slot process, which `start` has started: reads what it says, ends it together with its process group.

    `ended` tells how it ended, once everything it said before has been passed to `on_message`, which may raise
    `BadMessage`: that, and bytes that are no message, are its end. All methods belong to the event loop's thread.
    """

    def __init__(
        self,
        process: BaseProcess,
        server: int | None,
        ours: SupervisorChannel,
        on_message: Callable[[FromSlot], None],
        threads: Pool,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._process = process
        self._server = server
        self._channel = ours
        self._on_message = on_message
        self._threads = threads
        self._told_to_stop = False
        self._delivered_at = 0
        self.exit: asyncio.Future[None] = self._loop.create_future()
        """Done when it has ended, or is about to: it says nothing more, and takes nothing."""
        self._is_killed = False
        self._fault: str | None = None
        self._stalled: asyncio.TimerHandle | None = None
        self._untaken: asyncio.TimerHandle | None = None
        self.pid: int = self._process.pid or 0
        self._loop.add_reader(self._channel.fileno(), self._read)
        self._loop.add_reader(self._process.sentinel, self._exited)

    @staticmethod
    async def start(
        plan: WorkerPlan, worker_id: str, on_message: Callable[[FromSlot], None], threads: Pool
    ) -> SlotProcess:
        """Start a process on one of the `threads`, which also wait for its end.

        Raises:
            OSError: it could not be started.
        """
        ours, theirs = open_channel(plan.limits.max_result_bytes)
        try:
            process, server = await threads.run(_start, plan, worker_id, theirs)
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        return SlotProcess(process, server, ours, on_message, threads)

    async def ended(self) -> str:
        """Wait for its end; returns how it ended. Once."""
        await self.exit
        how = await self._threads.run(self._bury)
        self._channel.close()
        return how

    def send(self, message: ToSlot) -> bool:
        """Send `message` without waiting; False when the process cannot be reached, which then is its end."""
        self._told_to_stop = self._told_to_stop or isinstance(message, Stop)
        try:
            self._channel.send(message)
        except ChannelError:
            self.kill()
            return False
        if isinstance(message, Deliver):
            self._delivered_at = self._channel.queued
        if self._channel.unsent and self._untaken is None and not self.exit.done():
            self._loop.add_writer(self._channel.fileno(), self._write)
            self._watch_untaken()
        return True

    @property
    def has_delivery(self) -> bool:
        """Whether the process may have read the last delivery. A delivery that left this process in part it has not."""
        return self._channel.queued - self._channel.unsent >= self._delivered_at

    def _write(self) -> None:
        """Send more, as the process takes some."""
        self._stop_writing()
        try:
            self._channel.flush()
        except ChannelError:
            self.kill()
            return
        if self._channel.unsent:
            self._loop.add_writer(self._channel.fileno(), self._write)
            self._watch_untaken()

    def _watch_untaken(self) -> None:
        self._untaken = self._loop.call_later(channel.IO_LIMIT, self._end, "did not take a message")

    def _stop_writing(self) -> None:
        if self._untaken is not None:
            self._loop.remove_writer(self._channel.fileno())
            self._untaken.cancel()
            self._untaken = None

    def _end(self, what: str) -> None:
        """End a process that does not continue with a message."""
        self._fault = self._fault or f"the slot's process was ended because it {what} within {channel.IO_LIMIT} s"
        self.kill()

    def terminate(self, grace: float) -> None:
        """TERM to the process group, and KILL after `grace` seconds."""
        self._signal(signal.SIGTERM)
        self._loop.call_later(grace, self.kill)

    def kill(self) -> None:
        """KILL the process group, and what has left it. Harmless when it is gone."""
        lives = not self.exit.done() and Path(f"/proc/{self.pid}").exists()
        left = []
        with contextlib.suppress(OSError):  # no descriptor is free to look with; the group goes all the same
            left = descendants(self.pid, running_processes()) if lives else []
        self._signal(signal.SIGKILL)
        for process in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGKILL)
        if not self._is_killed:
            self._is_killed = True
            if self._server is not None:
                self._insist(Stall(self._server))

    def _insist(self, stall: Stall) -> None:
        """See to it that the end of a process that was killed is heard of: the fork server tells, unless it hangs."""
        if self.exit.done():
            return
        with contextlib.suppress(OSError):
            if not is_running(self.pid) and (how := stall.check()) is not None:
                end_fork_server(how)
                return
        self._loop.call_later(1.0, self._insist, stall)

    def _signal(self, signum: signal.Signals) -> None:
        if self.exit.done():
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
            what = f"sent {self._channel.begun:,} bytes of a message and did not continue"
            self._stalled = self._loop.call_later(channel.IO_LIMIT, self._end, what)

    def _exited(self) -> None:
        self._loop.remove_reader(self._process.sentinel)
        self._loop.remove_reader(self._channel.fileno())
        self._stop_writing()
        if self._stalled is not None:
            self._stalled.cancel()
        with contextlib.suppress(ChannelError):
            while self._fault is None and self._take_messages():
                pass
        # The sentinel says "about to end", or that the function closed descriptors that are not its own. KILL makes
        # it true, leaves a status that is already decided as it is, and takes the rest of the group along.
        self.kill()
        self.exit.set_result(None)

    def _bury(self) -> str:
        """Collect its exit status and what it has left. Waits, so it is for a thread."""
        with STARTING_OR_ENDING:
            self._process.join(JOIN_LIMIT)
            exit_code = self._process.exitcode
            as_told = self._told_to_stop and exit_code == 0  # then it leaves nothing
            if (server := self._server) is not None and not as_told:
                with contextlib.suppress(OSError):
                    end_processes(lambda: orphans(server))
        _reap_group(self.pid)
        with contextlib.suppress(ValueError):  # not even KILL ended it
            self._process.close()
        died = fate(self._server) if exit_code == STATUS_UNKNOWN else None
        return self._fault or (
            f"the slot's process was ended because its fork server {died}" if died else describe_exit(exit_code)
        )


def _start(plan: WorkerPlan, worker_id: str, connection: Connection) -> tuple[BaseProcess, int | None]:
    """The process, and the fork server that it comes from."""
    from perago.worker.slot_process import slot_main

    if plan.start_method == "forkserver":
        warm_up(plan.preload)
    context: Any = multiprocessing.get_context(plan.start_method)
    process: BaseProcess = context.Process(target=slot_main, args=(plan, worker_id, connection), name=worker_id)
    server = start_process(process)
    return process, server if plan.start_method == "forkserver" else None


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
