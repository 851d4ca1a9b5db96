"""Serve on loopback: a server in a thread, the check of its clients, and both embedded services on one port.

Every user of the machine, and every page in the user's browser, can reach a server on loopback. So there are four
rules:

- The Host header names this machine. A page whose host name was made to point at 127.0.0.1 (DNS rebinding) names its
  own host.
- Where a browser says of which page a request is (Origin), it is one of ours: same host, same port.
- Below `/api`, and where a request of the page is more than a look, the browser does not say that it is of a page from
  elsewhere (Sec-Fetch-Site). Images and scripts have no Origin. Another port of this machine is "same-site".
- Page and Conductor require the token as the first part of the path, so that every client needs its address only. There
  is no cookie, because a browser would send it to each port of this machine. lakeFS requires its own keys instead.

There are no CORS headers, so a foreign page can never read an answer.
"""

from __future__ import annotations

import asyncio
import hmac
import resource
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from perago.failure import Failure

if TYPE_CHECKING:
    from perago.embedded.conductor import InMemoryConductor
    from perago.embedded.lakefs import LakeFSServer
    from perago.embedded.lakefs.values import KeyPair

START_SECONDS = 20.0
STOP_SECONDS = 5.0
_BACKLOG = 128

MAX_CONNECTIONS = 512
"""Connections of one server; fewer if the process may have only few open files."""


def bound(port: int = 0) -> socket.socket:
    """Return a socket that listens on a port of 127.0.0.1 for `serve`; 0 takes any free one. Two sockets that are bound
    and do not listen yet could have the same port.

    Raises:
        OSError: the port is taken.
    """
    # The protocol is named because asyncio sets TCP_NODELAY only then; without it each answer waits 40 ms.
    held = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind(("127.0.0.1", port))
        held.listen(_BACKLOG)
    except BaseException:
        held.close()
        raise
    return held


@contextmanager
def held_port(port: int | None, usual: int, note: Callable[[str], object]) -> Iterator[socket.socket]:
    """Listen on 127.0.0.1 first, so that a taken port is reported early.

    Args:
        wanted: the port; 0 for any free one, None for the usual one or any free one.
        usual: the port of a person who names none.
        note: gets a line if the usual port is taken.

    Raises:
        Failure: the wanted port is taken.
    """
    try:
        held = bound(usual if port is None else port)
    except OSError as error:
        if port is not None:
            fix = "stop the program that uses it, choose another port, or let perago choose one with --port 0"
            raise Failure(f"port {port} cannot be used: {error.strerror}", fix) from error
        note(f"port {usual} is taken; perago uses a free one")
        held = bound()
    with held:
        yield held


@contextmanager
def serve(app: Any, *, held: socket.socket | None = None) -> Iterator[str]:
    """Serve `app` on a free port of 127.0.0.1 while the `with` block runs; gives the base URL.

    A `held` socket is used, and closed at the end.

    Raises:
        TimeoutError: the server did not start within 20 s.
    """
    import uvicorn

    with held or bound() as listener:
        config = uvicorn.Config(
            app,
            http=_bounded_protocol(),
            backlog=_BACKLOG,
            loop="asyncio",
            ws="none",
            lifespan="off",
            access_log=False,
            log_config=None,
            log_level="critical",
            timeout_graceful_shutdown=int(STOP_SECONDS),
        )
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, args=([listener],), name="perago-http", daemon=True)
        thread.start()
        try:
            _await_start(server, thread)
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(STOP_SECONDS + 1)
            if thread.is_alive():
                server.force_exit = True
                thread.join(STOP_SECONDS)


@cache
def _bounded_protocol() -> type[asyncio.Protocol]:
    """Return uvicorn's protocol with a limit of connections: a new one replaces the oldest one without a request.

    Otherwise silent clients would take all files that the process may open, and the server could accept no more.
    """
    from uvicorn.protocols.http.h11_impl import H11Protocol

    class BoundedProtocol(H11Protocol):
        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            self.opened = self.loop.time()
            if len(self.connections) > _connection_limit():
                idle = [known for known in self.connections if isinstance(known, BoundedProtocol) and known.is_idle()]
                min(idle, key=lambda known: known.opened, default=self).transport.abort()

        def is_idle(self) -> bool:
            has_request = self.cycle is not None and not self.cycle.response_complete
            return not (has_request or self.transport.is_closing() or self.transport.get_write_buffer_size())

    return BoundedProtocol


def _connection_limit() -> int:
    open_files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MAX_CONNECTIONS if open_files < 0 else min(MAX_CONNECTIONS, open_files // 2)


def _await_start(server: Any, thread: threading.Thread) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not server.started:
        if not thread.is_alive() or time.monotonic() > deadline:
            raise TimeoutError(f"the embedded HTTP server did not start within {START_SECONDS:g} s")
        time.sleep(0.002)


# --------------------------------------------------------------------------- who may speak


NAMES = frozenset({"127.0.0.1", "localhost", "::1"})
"""The names of this machine for itself."""

_FOREIGN = frozenset({"cross-site", "same-site"})
_OF_LAKEFS = "/api/v1/"
_HEALTH = frozenset({"/health", "/_health"})


@dataclass(frozen=True, slots=True)
class Admission:
    """Passes on the requests that may be served, without the token in their path, and refuses all others with 403."""

    app: ASGIApp
    token: str
    apis: bool = True
    """Whether there are services below `/api`, too. Without them, nothing is answered without the token."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        scope, knows_token = self._without_token(scope)
        headers = Headers(scope=scope)
        path, refusal = scope["path"], _foreign(headers, scope)
        is_open = self.apis and (path.startswith(_OF_LAKEFS) or path in _HEALTH)
        if refusal is None and not (knows_token or is_open):
            refusal = "the address lacks its token; use the one that was printed when these services started"
        if refusal is not None:
            await PlainTextResponse(f"{refusal}\n", 403)(scope, receive, send)
        else:
            await self.app(scope, receive, send)

    def _without_token(self, scope: Scope) -> tuple[Scope, bool]:
        """Return the request as if its path did not begin with the token, and whether it did."""
        first, _, rest = scope["raw_path"][1:].partition(b"/")
        if not hmac.compare_digest(first, self.token.encode()):
            return scope, False
        return {**scope, "path": scope["path"][len(self.token) + 1 :] or "/", "raw_path": b"/" + rest}, True


def _foreign(headers: Mapping[str, str], scope: Scope) -> str | None:
    """Return the reason why a request is not from this machine and the console's own page, or None."""
    host = headers.get("host", "")
    if not _is_local(f"//{host}"):
        return "the Host header does not name this machine; use 127.0.0.1 or localhost"
    may_change = f"{scope['path']}/".startswith("/api/") or scope["method"] not in ("GET", "HEAD")
    is_foreign = may_change and headers.get("sec-fetch-site", "").lower() in _FOREIGN
    if is_foreign or headers.get("origin", f"http://{host}").lower() != f"http://{host}".lower():
        return "requests of web pages from elsewhere are refused"
    return None


def _is_local(url: str) -> bool:
    try:
        return urlsplit(url).hostname in NAMES
    except ValueError:
        return False


# ---------------------------------------------------------------------------- both services


def embedded_app(
    conductor: InMemoryConductor,
    lakefs: LakeFSServer,
    *,
    keys: KeyPair,
    changed: Callable[[], None] = lambda: None,
    page: Callable[[], ASGIApp] | None = None,
) -> ASGIApp:
    """Return both services and, if there is one, a page as one ASGI application for requests of this machine.

    `/api/v1/...` is lakeFS's, everything else below `/api` is Conductor's, the rest is the page. lakeFS requires the
    key pair; Conductor and the page require its token, see `Admission`.

    Args:
        conductor: the model of Conductor.
        lakefs: the model of lakeFS.
        keys: the keys of both.
        changed: called after every request that may have changed something.
        page: makes the page at its first request: a server that no browser asks needs no templates.
    """
    from perago.embedded.http.conductor import conductor_app
    from perago.embedded.http.lakefs import lakefs_app

    of_conductor = conductor_app(conductor)
    of_lakefs = lakefs_app(lakefs, access_key_id=keys.access_key_id, secret_access_key=keys.secret_access_key)
    page_of = cache(page or (lambda: _NO_PAGE))

    def chosen(path: str) -> ASGIApp:
        if path.startswith("/api/v1/") or path == "/_health":
            return of_lakefs
        if path.startswith("/api/") or path in ("/api", "/health"):
            return of_conductor
        return page_of()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await chosen(scope["path"])(scope, receive, send)
        if scope["method"] not in ("GET", "HEAD"):
            changed()

    return Admission(app, keys.token)


_NO_PAGE: ASGIApp = PlainTextResponse("nothing here: Conductor's API is below /api, lakeFS's below /api/v1\n", 404)
