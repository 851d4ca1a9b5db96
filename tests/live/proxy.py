"""A TCP proxy between a worker and a server that can refuse, stall and cut connections, at will or at one request.

It knows nothing of HTTP but where requests begin: with the first bytes that a client sends after an answer. Clients
that send one request at a time on a connection are all there are here.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import threading
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, TypeVar
from urllib.parse import urlsplit, urlunsplit

from perago.embedded.http.loopback import bound

from .waiting import LIMIT

_CHUNK = 64 * 1024
_CALL_SECONDS = 20.0

T = TypeVar("T")


class Cut(StrEnum):
    """Where a trap cuts the connection."""

    REQUEST = "before the server sees the request"
    ANSWER = "after the server has carried it out, before its answer"
    NOWHERE = "nowhere"


@dataclass(slots=True)
class Trap:
    """Springs once, at the first request whose first line matches `pattern`."""

    pattern: re.Pattern[bytes]
    cut: Cut
    pass_on: int = 0
    """With `Cut.ANSWER`: bytes of the answer that still reach the client."""
    first: Callable[[], object] | None = None
    """Called (on a thread) when the connection is cut: before the request reaches the server, or, with `Cut.ANSWER`,
    before any byte of the answer reaches the client."""
    then_refuse: bool = False
    """Whether the proxy refuses connections afterwards."""
    sprung: bool = False
    """Whether its request has arrived. `first` can still be running."""
    _over: Future[None] = field(default_factory=Future)
    _acting: bool = False

    def wait(self, limit: float = 6 * LIMIT) -> None:
        """Wait until what it was laid for has happened: `first` has returned, and the server is away if it is to be.

        Raises:
            AssertionError: it has not, within `limit` seconds.
            BaseException: what `first` raised.
        """
        try:
            self._over.result(limit)
        except TimeoutError:
            if self._over.done():
                raise
            state = "is still at work" if self.sprung else "has not sprung"
            raise AssertionError(f"waited {limit:g} s in vain: the trap at {self.pattern.pattern!r} {state}") from None

    async def act(self) -> None:
        """Call `first`, the first time. It runs to its end even if the connection, and so this call, ends before."""
        if not self._acting:
            self._acting = True
            await asyncio.to_thread(self._call_first)

    def _call_first(self) -> None:
        try:
            if self.first is not None:
                self.first()
        except BaseException as error:
            self._over.set_exception(error)
            raise
        if not self.then_refuse:
            self._over.set_result(None)

    def refused(self, _: object) -> None:
        """Note that the proxy refuses connections now."""
        if not self._over.done():
            self._over.set_result(None)

    def springs(self, data: bytes) -> bool:
        """Whether it springs at a request that begins with `data`."""
        if self.sprung or not self.pattern.match(data.partition(b"\r\n")[0]):
            return False
        self.sprung = True
        return True


class Proxy:
    """Forwards its own loopback port to one server. Methods can be called from any thread."""

    def __init__(self, target: str, port: int = 0) -> None:
        """`target` is the server's URL; `url` is the same one through the proxy, on a free port or on this one."""
        parts = urlsplit(target)
        if parts.scheme != "http" or not parts.hostname:
            raise ValueError("the proxy forwards plain http only")
        self._target = (parts.hostname, parts.port or 80)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self._thread.start()
        self._flows: set[asyncio.Task[None]] = set()
        self._open = asyncio.Event()
        self._traps: list[Trap] = []
        self._listener: socket.socket | None = None
        self._refusal: asyncio.Task[None] | None = None
        self._port = port
        self.restore()
        self.url = urlunsplit(parts._replace(netloc=f"127.0.0.1:{self._port}"))

    def refuse(self) -> None:
        """Cut open connections and refuse new ones, as a stopped server does."""
        self._call(self._refuse())

    def restore(self) -> None:
        """Accept connections, and forward everything again."""
        self._call(self._restore())

    def stall(self) -> None:
        """Accept connections, but forward no byte in either direction."""
        self._loop.call_soon_threadsafe(self._open.clear)

    def trap(
        self,
        pattern: str,
        cut: Cut,
        *,
        pass_on: int = 0,
        first: Callable[[], object] | None = None,
        then_refuse: bool = False,
    ) -> Trap:
        """Set a trap for requests whose first line (method, target, version) matches `pattern` at its beginning."""
        trap = Trap(re.compile(pattern.encode()), cut, pass_on, first, then_refuse)
        self._traps.append(trap)
        return trap

    def disarm(self) -> None:
        """Remove all traps."""
        self._traps.clear()

    def close(self) -> None:
        """Cut all connections and stop."""
        self.refuse()
        self._call(self._settle())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_CALL_SECONDS)
        self._loop.close()

    # ------------------------------------------------------------------- on the loop

    def _call(self, work: Coroutine[Any, Any, T]) -> T:
        future: Future[T] = asyncio.run_coroutine_threadsafe(work, self._loop)
        return future.result(_CALL_SECONDS)

    async def _restore(self) -> None:
        self._open.set()
        if self._listener is None:
            self._listener = bound(self._port)
            self._listener.setblocking(False)
            self._port = self._listener.getsockname()[1]
            self._loop.add_reader(self._listener, self._accept, self._listener)

    async def _refuse(self) -> None:
        if self._listener is not None:
            self._loop.remove_reader(self._listener)
            self._listener.close()
            self._listener = None
        await self._cut()

    async def _cut(self) -> None:
        await asyncio.sleep(0)  # a flow that is cancelled before it begins would not close its socket
        flows = list(self._flows)
        for flow in flows:
            flow.cancel()
        await asyncio.gather(*flows, return_exceptions=True)

    async def _settle(self) -> None:
        """Cut all connections, including one that is just being accepted, and end them before the loop ends."""
        me = asyncio.current_task()
        while others := [task for task in asyncio.all_tasks() if task is not me]:
            await self._cut()
            await asyncio.wait(others, return_when=asyncio.FIRST_COMPLETED)
        await asyncio.sleep(0)

    def _accept(self, listener: socket.socket) -> None:
        """Begin a connection. An `asyncio.Server` that is closed while it accepts loses the socket without closing
        it."""
        try:
            accepted, _ = listener.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return  # the client has gone
        flow = self._loop.create_task(self._forward(accepted))
        self._flows.add(flow)
        flow.add_done_callback(self._flows.discard)

    async def _forward(self, accepted: socket.socket) -> None:
        accepted.setblocking(False)
        from_client, to_client = await asyncio.open_connection(sock=accepted)
        writers = [to_client]
        try:
            from_server, to_server = await asyncio.open_connection(*self._target)
            writers.append(to_server)
            connection = _Connection(self._traps, self._open)
            await _first_of(connection.requests(from_client, to_server), connection.answers(from_server, to_client))
            if connection.sprung is not None and connection.sprung.then_refuse:
                self._refusal = asyncio.create_task(self._refuse())
                self._refusal.add_done_callback(connection.sprung.refused)
        except OSError:
            pass  # the server itself is away: the client sees its connection end
        except asyncio.CancelledError:
            for writer in writers:
                writer.transport.abort()
            raise
        finally:
            for writer in writers:
                writer.close()


async def _first_of(*works: Coroutine[Any, Any, None]) -> None:
    """Run coroutines concurrently until one ends, then cancel the others."""
    tasks = [asyncio.create_task(work) for work in works]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class _Connection:
    """One client's connection. A coroutine ends when the connection is to be cut."""

    def __init__(self, traps: list[Trap], open_: asyncio.Event) -> None:
        self._traps = traps
        self._open = open_
        self._answered = True
        self.sprung: Trap | None = None
        """Return the trap that springs, or has sprung, at the current request."""

    async def requests(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Forward the client's bytes."""
        while data := await reader.read(_CHUNK):
            await self._open.wait()
            if self._answered:
                self._answered = False
                self.sprung = next((trap for trap in self._traps if trap.springs(data)), None)
                if self.sprung is not None and self.sprung.cut is not Cut.ANSWER:
                    await self.sprung.act()
                if self.sprung is not None and self.sprung.cut is Cut.REQUEST:
                    return
            writer.write(data)
            await writer.drain()

    async def answers(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Forward the server's bytes."""
        while data := await reader.read(_CHUNK):
            await self._open.wait()
            trap = self.sprung
            if trap is not None and trap.cut is Cut.ANSWER:
                await trap.act()
                data, trap.pass_on = data[: trap.pass_on], trap.pass_on - len(data[: trap.pass_on])
            self._answered = True
            writer.write(data)
            await writer.drain()
            if trap is not None and trap.cut is Cut.ANSWER and trap.pass_on <= 0:
                return


@contextmanager
def proxied(target: str, port: int = 0) -> Iterator[Proxy]:
    """A proxy to `target` while the `with` block runs."""
    with contextlib.closing(Proxy(target, port)) as proxy:
        yield proxy
