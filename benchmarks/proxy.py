"""A proxy on loopback that counts requests by method and path, bytes of bodies up, and bytes down.

It supports the part of HTTP/1.1 that the clients of the benchmarks send. Nothing is timed through it, because it costs
time itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from urllib.parse import urlsplit

_BLOCK = 256 * 1024
_SEGMENTS = frozenset(
    [
        *("tasks", "poll", "batch", "log", "metadata", "taskdefs"),
        *("repositories", "branches", "refs", "objects", "ls", "commits", "commit", "merge", "delete", "diff"),
    ]
)
"""Segments of a path that are no names."""


@dataclass(slots=True)
class Counts:
    """Requests and bytes so far."""

    calls: Counter[str] = field(default_factory=Counter)
    """By method and the last two segments of the path that are no names."""
    up: int = 0
    """Bytes of bodies, without heads."""
    down: int = 0
    """Bytes with heads."""

    @property
    def requests(self) -> int:
        """All calls."""
        return self.calls.total()

    def __str__(self) -> str:
        return ", ".join(f"{number} {call}" for call, number in self.calls.most_common())


class CountingProxy:
    """Passes connections on to one server. `url` is the server's URL with the proxy in the server's place."""

    def __init__(self, target: str) -> None:
        parts = urlsplit(target)
        if parts.scheme != "http" or parts.hostname is None:
            raise ValueError(f"the counting proxy supports plain http only, not {parts.scheme}")
        self._target = (parts.hostname, parts.port or 80)
        self._path = parts.path
        self.counts = Counts()
        self.url = ""
        self._writers: set[asyncio.StreamWriter] = set()
        self._connections: set[asyncio.Task[None]] = set()

    def reset(self) -> None:
        """Start counting again."""
        self.counts = Counts()

    async def serve(self, ready: threading.Event, stopped: asyncio.Event) -> None:
        """Serve until `stopped` is set."""
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0, limit=_BLOCK)
        port = server.sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{port}{self._path}"
        ready.set()
        async with server:
            await stopped.wait()
            for writer in self._writers:
                writer.close()
            if self._connections:
                await asyncio.wait(self._connections, timeout=5)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = asyncio.create_task(self._connection(reader, writer))
        self._connections.add(connection)
        connection.add_done_callback(self._connections.discard)

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            server_reader, server_writer = await asyncio.open_connection(*self._target, limit=_BLOCK)
            ends = {writer, server_writer}
            self._writers |= ends
            down = asyncio.create_task(self._pass_down(server_reader, writer))
            try:
                while await self._pass_request(reader, server_writer):
                    pass
            finally:
                server_writer.close()
                await down
                self._writers -= ends
        writer.close()

    async def _pass_down(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while block := await reader.read(_BLOCK):
                self.counts.down += len(block)
                writer.write(block)
                await writer.drain()
        writer.close()

    async def _pass_request(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError:
            return False
        first, *lines = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        method, target, _ = first.split(" ", 2)
        segments = urlsplit(target.removeprefix(self._path)).path.strip("/").split("/")
        kind = "/".join([segment for segment in segments if segment in _SEGMENTS][-2:]) or segments[0]
        self.counts.calls[f"{method} {kind}"] += 1
        writer.write(head)
        if headers.get("transfer-encoding", "").lower() == "chunked":
            await self._pass_chunks(reader, writer)
        else:
            await self._pass_body(reader, writer, int(headers.get("content-length", "0")))
        await writer.drain()
        return True

    async def _pass_body(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, length: int) -> None:
        while length > 0:
            block = await reader.read(min(length, _BLOCK))
            if not block:
                raise asyncio.IncompleteReadError(b"", length)
            length -= len(block)
            self.counts.up += len(block)
            writer.write(block)
            await writer.drain()

    async def _pass_chunks(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        size = -1
        while size:
            line = await reader.readuntil(b"\r\n")
            size = int(line.split(b";")[0], 16)
            writer.write(line)
            await self._pass_body(reader, writer, size)
            writer.write(await reader.readexactly(2))


@contextlib.contextmanager
def counting(target: str) -> Iterator[CountingProxy]:
    """Run a proxy to `target` for the block."""
    proxy = CountingProxy(target)
    ready = threading.Event()
    started: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []

    async def main() -> None:
        stopped = asyncio.Event()
        started.append((asyncio.get_running_loop(), stopped))
        await proxy.serve(ready, stopped)

    thread = threading.Thread(target=asyncio.run, args=(main(),), name="counting proxy", daemon=True)
    thread.start()
    if not ready.wait(10):
        raise RuntimeError("the counting proxy did not start")
    try:
        yield proxy
    finally:
        loop, stopped = started[0]
        loop.call_soon_threadsafe(stopped.set)
        thread.join(10)
