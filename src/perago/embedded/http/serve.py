"""Runs an ASGI application on loopback, in a thread, with a bounded start and stop."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

START_SECONDS = 20.0
STOP_SECONDS = 5.0
_BACKLOG = 128


def bound(port: int = 0) -> socket.socket:
    """A socket that listens on a port of 127.0.0.1 for `serve`; 0 takes any free one. Two that are bound and do not
    listen yet could have the same one.

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
def serve(app: Any, *, port: int = 0, held: socket.socket | None = None) -> Iterator[str]:
    """Serve `app` on 127.0.0.1 while the `with` block runs; gives the base URL. Port 0 takes any free one.

    A port that is `held` already is used and given up at the end.

    Raises:
        OSError: the port is taken.
        TimeoutError: the server did not start within 20 s.
    """
    import uvicorn

    with held or bound(port) as listener:
        config = uvicorn.Config(
            app,
            http="h11",
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


def _await_start(server: Any, thread: threading.Thread) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not server.started:
        if not thread.is_alive() or time.monotonic() > deadline:
            raise TimeoutError(f"the embedded HTTP server did not start within {START_SECONDS:g} s")
        time.sleep(0.002)
