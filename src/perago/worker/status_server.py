"""The server of a worker's pages. It has its own thread, because probes need an answer even before the event loop runs
and when it is stuck."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from urllib.parse import urlsplit

MOST_CONNECTIONS = 32
"""The number of connections at the same time. A further one ends the oldest, so that a probe is answered even if other
clients are silent."""
MOST_OF_ONE_ADDRESS = 16
"""The number of connections of one address. A further one ends the oldest of the same address, so that no client can
end the connections of all others."""
REQUEST_DEADLINE = 1.0
"""Seconds from the start of a connection until its request line must be complete."""
DEADLINE = 5.0
"""Maximum duration of a connection in seconds."""


@dataclass(frozen=True, slots=True)
class Page:
    """An answer."""

    status: int
    content_type: str
    body: bytes


_MOST_HEADERS = 100
_LOOPBACK = ("localhost", "127.0.0.1", "::1")

Pages = Mapping[str, Callable[[str], Page]]
"""The function that makes each page from the `Accept` header of the request, by path. Several threads call it."""


@dataclass(slots=True)
class _Connection:
    address: str
    has_asked: bool = False
    """Whether the request line is complete."""


class StatusServer:
    """Serves `pages` from `start` to `close`, on its own thread.

    Raises:
        OSError: the address cannot be used. The constructor binds it.
    """

    def __init__(self, host: str, port: int, pages: Pages) -> None:
        self._socket = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._socket.bind((host, port))
        except OSError:
            self._socket.close()
            raise
        self.address: str = str(self._socket.getsockname()[0])
        self._pages = pages
        self._connections: dict[asyncio.StreamWriter, _Connection] = {}
        """The open connections, the oldest first."""
        self._loop = asyncio.new_event_loop()
        self._closing = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name="perago-status", daemon=True)

    @property
    def url(self) -> str:
        """The address of the server, with the port that it got."""
        host = f"[{self.address}]" if ":" in self.address else self.address
        return f"http://{host}:{self._socket.getsockname()[1]}"

    def start(self) -> None:
        """Begin to answer."""
        self._socket.listen(MOST_CONNECTIONS)
        self._thread.start()

    def close(self) -> None:
        """Release the address, and end every connection and the thread."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._closing.set)
            self._thread.join()
        self._socket.close()
        self._loop.close()

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        async with await asyncio.start_server(self._attend, sock=self._socket, backlog=MOST_CONNECTIONS):
            await self._closing.wait()
            for writer in self._connections:
                writer.transport.abort()

    async def _attend(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one request. A client that is slow or has disconnected is ignored silently."""
        connection = _Connection(str((writer.get_extra_info("peername") or ("",))[0]))
        others = [writer for writer, its in self._connections.items() if its.address == connection.address]
        self._make_room(others, MOST_OF_ONE_ADDRESS)
        self._make_room([*self._connections], MOST_CONNECTIONS)
        self._connections[writer] = connection
        writer.transport.set_write_buffer_limits(0)  # so that `drain` waits for the client
        try:
            async with asyncio.timeout(DEADLINE):
                async with asyncio.timeout(REQUEST_DEADLINE):
                    request = await reader.readuntil(b"\n")
                connection.has_asked = True
                page = self._page(request.decode("latin-1"), await _headers_in(reader))
                writer.write(_as_response(page))
                await writer.drain()
            writer.close()
        except Exception:  # noqa: BLE001 - whatever it is, the next client is answered
            writer.transport.abort()
        finally:
            self._connections.pop(writer, None)

    def _make_room(self, among: list[asyncio.StreamWriter], most: int) -> None:
        """End the oldest connections until one more fits, beginning with those without a request."""
        among.sort(key=lambda writer: self._connections[writer].has_asked)
        for writer in among[: max(0, len(among) + 1 - most)]:
            del self._connections[writer]
            writer.transport.abort()

    def _page(self, request: str, headers: Mapping[str, str]) -> Page:
        method, _, target = request.partition(" ")
        make = self._pages.get(target.split()[0].partition("?")[0])
        if not self._is_asked_by_its_own_name(headers.get("host", "")):
            return plain_page(403, "This is a perago worker. Call it as 127.0.0.1.")
        if method != "GET":
            return plain_page(501, "A worker answers GET only.")
        if make is None:
            return plain_page(404, "There is no such page. The pages are:", *self._pages)
        return make(headers.get("accept", ""))

    def _is_asked_by_its_own_name(self, host: str) -> bool:
        """Check the requested host name, because a web page could map its own name to this machine and read local
        pages. On other addresses any name is accepted."""
        with contextlib.suppress(ValueError):
            return urlsplit(f"//{host}").hostname in (None, *_LOOPBACK) or self.address not in _LOOPBACK
        return False


async def _headers_in(reader: asyncio.StreamReader) -> dict[str, str]:
    """Read the headers of a request, by their names in lower case.

    Raises:
        ValueError: there are too many, or one is too long.
    """
    headers: dict[str, str] = {}
    for _ in range(_MOST_HEADERS):
        if not (line := (await reader.readuntil(b"\n")).decode("latin-1").strip()):
            return headers
        name, _, value = line.partition(":")
        headers[name.strip().lower()] = value.strip()
    raise ValueError("too many headers")


def plain_page(status: int, *lines: str) -> Page:
    """Return a page of text lines."""
    return Page(status, "text/plain; charset=utf-8", "".join(f"{line}\n" for line in lines).encode())


def _as_response(page: Page) -> bytes:
    head = (
        f"HTTP/1.0 {page.status} {HTTPStatus(page.status).phrase}",
        "Server: perago",
        f"Content-Type: {page.content_type}",
        f"Content-Length: {len(page.body)}",
        "Cache-Control: no-store",
    )
    return "\r\n".join((*head, "", "")).encode() + page.body
