"""Start and end slot processes: their messages, their status, and the processes that dead slots leave running.

The slot is the reaper of its descendants (`perago.processes`), so it finds and ends them. If it is killed first, the
fork server becomes their reaper, and the supervisor ends them there (`orphans`). If the supervisor has ended as well,
the fork server ends them at its own end (`perago.worker.preload`). On macOS a slot knows only its children, which end
with its process group.
"""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import os
import signal
import socket
from collections.abc import Callable
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from perago.processes import Process, descendants, end_processes, is_running, running_processes
from perago.worker import channel
from perago.worker.channel import MOST_BYTES, BadMessage, Deliver, FromSlot, Stop, ToSlot, framed, messages_in
from perago.worker.fork_server import STARTING_OR_ENDING, Stall, end_fork_server, fate, start_process, warm_up
from perago.worker.host import Pool
from perago.worker.plan import WorkerPlan
from perago.worker.slot_process import slot_main

JOIN_LIMIT = 5.0
"""Seconds to wait for a killed process."""

_PIECE = 16 * 1024
"""Number of bytes that the process must read within `channel.IO_LIMIT`."""

_LAST_MESSAGES_LIMIT = 1.0
"""Seconds for the end of the pipe of a process that has ended."""

STATUS_UNKNOWN = 255
"""The exit status that multiprocessing reports for a process whose fork server has ended."""


class SlotProcess:
    """A slot process that `start` has started. It reads the messages, and ends the process together with its process
    group.

    Every message of the process goes to `on_message`, which can raise `BadMessage`. That, bytes that are not a message,
    and a message that does not continue end the process. All methods belong to the event loop's thread.
    """

    def __init__(
        self,
        process: BaseProcess,
        server: int | None,
        pipe: socket.socket,
        limit: int,
        on_message: Callable[[FromSlot], None],
        threads: Pool,
    ) -> None:
        """`limit`: most bytes of a message."""
        self.pid: int = process.pid or 0
        self._loop = asyncio.get_running_loop()
        self._process = process
        self._server = server
        self._pipe = pipe
        self._limit = limit
        self._on_message = on_message
        self._threads = threads
        self._unsent = bytearray()
        self._queued = self._delivered_at = 0
        """Bytes of all messages to the process, and of those up to the last delivery."""
        self._is_stopping = self._is_killed = False
        self._fault: str | None = None
        self._sending: asyncio.Task[None] | None = None
        self._listening = self._loop.create_task(self._listen())
        self.exit: asyncio.Task[None] = self._loop.create_task(self._wait_for_exit())
        """Done when the process has ended or is about to end: it sends and accepts no more messages."""

    @staticmethod
    async def start(
        plan: WorkerPlan, worker_id: str, on_message: Callable[[FromSlot], None], threads: Pool
    ) -> SlotProcess:
        """Start a process on one of the `threads`, which also wait for its end.

        Raises:
            OSError: it could not be started.
        """
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        with Connection(theirs.detach()) as connection:
            try:
                process, server = await threads.run(_start, plan, worker_id, connection)
            except BaseException:
                ours.close()
                raise
        limit = channel.REPORT_BYTES + plan.limits.max_result_bytes
        return SlotProcess(process, server, ours, limit, on_message, threads)

    async def ended(self) -> str:
        """Wait for the end of the process, and return how it ended. Call it once."""
        await self.exit
        how = await self._threads.run(self._collect)
        self._pipe.close()
        return how

    def send(self, message: ToSlot) -> bool:
        """Send `message` without waiting. Return False if the process cannot be reached; it is ended then.

        Raises:
            RecursionError: the message is nested too deeply. Nothing was sent.
        """
        data, goes_first = framed(message), not self._unsent
        self._is_stopping = self._is_stopping or isinstance(message, Stop)
        self._unsent += data
        self._queued += len(data)
        if isinstance(message, Deliver):
            self._delivered_at = self._queued
        try:
            if goes_first:
                del self._unsent[: self._pipe.send(self._unsent)]
        except BlockingIOError:
            pass
        except OSError:
            self.kill()
            return False
        if goes_first and self._unsent:
            self._sending = self._loop.create_task(self._send_rest())
        return not self.exit.done()

    async def _send_rest(self) -> None:
        """Send the bytes that the process did not accept immediately."""
        try:
            while self._unsent:
                piece = bytes(self._unsent[:_PIECE])
                async with asyncio.timeout(channel.IO_LIMIT):
                    await self._loop.sock_sendall(self._pipe, piece)
                del self._unsent[: len(piece)]
        except TimeoutError:
            self._end(f"did not take a message within {channel.IO_LIMIT} s")
        except OSError:
            self.kill()

    @property
    def has_delivery(self) -> bool:
        """Whether the process may have read the last delivery. It has not, if the delivery was sent only in part."""
        return self._queued - len(self._unsent) >= self._delivered_at

    async def _listen(self) -> None:
        """Pass on the valid messages of the process until its end or the first invalid one. Then end the process."""
        buffer = bytearray()
        try:
            while chunk := await self._receive(is_unfinished=bool(buffer)):
                buffer += chunk
                for message in messages_in(buffer, self._limit):
                    self._on_message(message)
                await asyncio.sleep(0)  # a slot that sends without end must not keep the loop
        except BadMessage as error:
            self._end(f"sent {error} (did the function write to a descriptor that is not its own?)")
        except TimeoutError:
            self._end(f"sent {len(buffer):,} bytes of a message and did not continue within {channel.IO_LIMIT} s")
        except OSError:
            self.kill()
        except Exception as error:  # noqa: BLE001 - a defect, which ends the worker
            self._loop.call_exception_handler({"message": "a message was not handled", "exception": error})
        else:
            self.kill()

    async def _receive(self, *, is_unfinished: bool) -> bytes:
        """Return the next bytes; none when there will be no more.

        Raises:
            TimeoutError: the rest of a message did not arrive in time.
        """
        while True:
            with contextlib.suppress(ConnectionResetError):  # comes once, before what was sent earlier
                async with asyncio.timeout(channel.IO_LIMIT if is_unfinished else None):
                    return await self._loop.sock_recv(self._pipe, MOST_BYTES)

    async def _wait_for_exit(self) -> None:
        ending = asyncio.Event()
        self._loop.add_reader(self._process.sentinel, ending.set)
        await ending.wait()
        self._loop.remove_reader(self._process.sentinel)
        # The sentinel says "about to end", or that the function closed descriptors of others. KILL makes it true, does
        # not change a status that is already decided, and ends the rest of the group. With the group the pipe ends,
        # unless a process that has left the group holds it.
        self.kill()
        tasks = [task for task in (self._listening, self._sending) if task is not None]
        _, left = await asyncio.wait(tasks, timeout=_LAST_MESSAGES_LIMIT)
        for task in left:
            task.cancel()
        if left:
            await asyncio.wait(left)

    def _end(self, what: str) -> None:
        """End a process that violates the protocol of the pipe."""
        self._fault = self._fault or f"the slot's process was ended because it {what}"
        self.kill()

    def terminate(self, grace: float) -> None:
        """Send TERM to the process group, and KILL after `grace` seconds."""
        self._signal(signal.SIGTERM)
        self._loop.call_later(grace, self.kill)

    def kill(self) -> None:
        """Send KILL to the process group and to descendants that have left it. Harmless if they have ended."""
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
                self._await_end(Stall(self._server))

    def _await_end(self, stall: Stall) -> None:
        """Make sure that the end of a killed process is noticed. The fork server reports it, unless it hangs."""
        if self.exit.done():
            return
        with contextlib.suppress(OSError):
            if not is_running(self.pid) and (how := stall.check()) is not None:
                end_fork_server(how)
                return
        self._loop.call_later(1.0, self._await_end, stall)

    def _signal(self, signum: signal.Signals) -> None:
        if self.exit.done():
            return
        if not signal_group(self.pid, signum):  # it has not made its own group yet
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signum)

    def _collect(self) -> str:
        """Collect the exit status and the remaining processes. This waits, so it needs a thread."""
        with STARTING_OR_ENDING:
            self._process.join(JOIN_LIMIT)
            exit_code = self._process.exitcode
            has_stopped = self._is_stopping and exit_code == 0  # then it leaves nothing
            if (server := self._server) is not None and not has_stopped:
                with contextlib.suppress(OSError):
                    end_processes(lambda: orphans(server))
        with contextlib.suppress(ChildProcessError):
            # as PID 1 we inherit the orphans of a dead slot; collect those of its group, and no other children
            while os.waitpid(-self.pid, os.WNOHANG)[0]:
                pass
        with contextlib.suppress(ValueError):  # not even KILL ended it
            self._process.close()
        died = fate(self._server) if exit_code == STATUS_UNKNOWN else None
        return self._fault or (
            f"the slot's process was ended because its fork server {died}" if died else describe_exit(exit_code)
        )


def _start(plan: WorkerPlan, worker_id: str, connection: Connection) -> tuple[BaseProcess, int | None]:
    """The process, and the fork server that started it."""
    if plan.start_method == "forkserver":
        warm_up(plan.preload)
    context: Any = multiprocessing.get_context(plan.start_method)
    process: BaseProcess = context.Process(target=slot_main, args=(plan, worker_id, connection), name=worker_id)
    server = start_process(process)
    return process, server if plan.start_method == "forkserver" else None


def signal_group(group: int, signum: int) -> bool:
    """Send a signal to every process of `group`; False if the group does not exist."""
    try:
        os.killpg(group, signum)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True  # macOS says so of a group that consists of zombies
    return True


def describe_exit(exit_code: int | None) -> str:
    """Return the end of a slot process, in words for Conductor and the log."""
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


def orphans(reaper: int) -> list[Process]:
    """Return the processes that dead slots have left to their fork server, the process `reaper`.

    Its other children are processes that it has just forked, which still share its session, and processes that
    multiprocessing knows. No process may start or end at the same time.
    """
    among = running_processes()
    if reaper not in among:
        return []
    ours = {process.pid or 0 for process in multiprocessing.active_children()}
    children = [process for process in among.values() if process.parent == reaper]
    ours |= {child.pid for child in children if child.session == among[reaper].session}
    return descendants(reaper, among, but=ours)
