"""The serving side: one thread per connection."""

from __future__ import annotations

import os
import pickle
import secrets
import shutil
import socket
import tempfile
import threading
from collections.abc import Sequence
from contextlib import suppress
from multiprocessing import AuthenticationError
from multiprocessing.connection import Connection, Listener, answer_challenge, deliver_challenge
from pathlib import Path
from types import TracebackType
from typing import Any

from perago.embedded.remote.client import StoreFactory
from perago.embedded.remote.messages import Call, Kind
from perago.ports import ObjectEntry, Placement, WorkspaceStore

CLOSE_SECONDS = 5.0
"""How long `StoreServer.close` waits for a call in flight."""

_MAX_SOCKET_PATH = 100  # macOS allows 103 bytes


class _LayoutRefusedError(Exception):
    """The client's layout raised; the client keeps the exception."""


class StoreServer:
    """Serves a store of this process until `close`; `factory` makes clients."""

    def __init__(self, store: WorkspaceStore) -> None:
        self._store = store
        self._directory = _private_directory()
        self.factory = StoreFactory(str(self._directory / "store"), secrets.token_bytes(32))
        self._listener = Listener(self.factory.address, "AF_UNIX", backlog=64)
        self._connections: dict[Connection[Any, Any], threading.Thread] = {}
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._acceptor = threading.Thread(target=self._accept, name="perago-store", daemon=True)
        self._acceptor.start()

    def __enter__(self) -> StoreServer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stop serving: clients lose their connections, calls in flight have a few seconds to end."""
        if self._closing.is_set():
            return
        self._closing.set()
        with suppress(OSError), socket.socket(socket.AF_UNIX) as wake:
            wake.connect(self.factory.address)  # accept() does not notice a closed listener, but one more client
        self._acceptor.join(CLOSE_SECONDS)
        self._listener.close()
        with self._lock:
            threads = list(self._connections.values())
            for connection in self._connections:
                _shut(connection)
        for thread in threads:
            thread.join(CLOSE_SECONDS)
        shutil.rmtree(self._directory, ignore_errors=True)

    def _accept(self) -> None:
        while not self._closing.is_set():
            try:
                connection = self._listener.accept()
            except OSError:
                continue  # the client has gone already
            thread = threading.Thread(target=self._serve, args=(connection,), name="perago-store-client", daemon=True)
            with self._lock:
                self._connections[connection] = thread
            thread.start()

    def _serve(self, connection: Connection[Any, Any]) -> None:
        with suppress(OSError, EOFError, AuthenticationError):
            deliver_challenge(connection, self.factory.key)  # here, so that a stalled client holds up nobody else
            answer_challenge(connection, self.factory.key)
            while not self._closing.is_set():
                connection.send(self._outcome(connection, connection.recv()))
        with self._lock:
            del self._connections[connection]
            connection.close()

    def _outcome(self, connection: Connection[Any, Any], call: Call) -> tuple[Kind, object]:
        options = dict(call.options)
        if call.operation == "download":
            options["layout"] = lambda entries: _ask_for_layout(connection, entries)
        if call.watched:
            sending = threading.Lock()
            name = "on_staged" if call.operation == "upload" else "on_progress"
            options[name] = lambda *done: _send(connection, sending, (Kind.PROGRESS, done))
        try:
            return Kind.RESULT, getattr(self._store, call.operation)(*call.arguments, **options)
        except Exception as error:  # noqa: BLE001 - whatever it is, it belongs to the client
            return Kind.ERROR, _portable(error)


def _private_directory() -> Path:
    directory = Path(tempfile.mkdtemp(prefix="perago-"))
    if len(os.fsencode(directory)) + len("/store") <= _MAX_SOCKET_PATH:
        return directory
    directory.rmdir()
    return Path(tempfile.mkdtemp(prefix="perago-", dir="/tmp"))


def _shut(connection: Connection[Any, Any]) -> None:
    """End a connection that another thread reads from; closing it would not wake that thread."""
    with suppress(OSError), socket.socket(fileno=os.dup(connection.fileno())) as handle:
        handle.shutdown(socket.SHUT_RDWR)


def _send(connection: Connection[Any, Any], sending: threading.Lock, message: object) -> None:
    with sending:
        connection.send(message)


def _ask_for_layout(connection: Connection[Any, Any], entries: Sequence[ObjectEntry]) -> Sequence[Placement]:
    connection.send((Kind.LAYOUT, list(entries)))
    placements: list[Placement] | None = connection.recv()
    if placements is None:
        raise _LayoutRefusedError
    return placements


def _portable(error: Exception) -> Exception:
    """The error itself, or its words where it cannot be pickled."""
    try:
        pickle.loads(pickle.dumps(error))  # noqa: S301 - our own bytes
    except Exception:  # noqa: BLE001 - pickling runs foreign code
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error
