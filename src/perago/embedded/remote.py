"""A store of this process, served to the slot processes of `perago run` over a private Unix socket.

Only the port's methods are served. Files are not sent: both processes are on one machine, so the server reads and
writes the paths that the client names. Callbacks of a call (the progress of a transfer) run in the client. Errors keep
their types. docs/dev/decisions.md explains why this is not HTTP.
"""

from __future__ import annotations

import functools
import os
import pickle
import secrets
import shutil
import socket
import tempfile
import threading
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import AuthenticationError
from multiprocessing.connection import Client, Connection, Listener, answer_challenge, deliver_challenge
from pathlib import Path
from typing import Any, cast

from perago.ports import Unavailable, Unclear, WorkspaceStore, no_progress

ANSWER_SECONDS = 120.0
"""Seconds that a client waits for the next message of a call."""

CLOSE_SECONDS = 5.0
"""Seconds that `StoreServer.close` waits for a call in flight."""

_MAX_SOCKET_PATH = 100  # macOS allows 103 bytes
_UNCLEAR = frozenset({"commit", "merge", "revert"})  # repeating any other operation is harmless
_RESULT, _ERROR, _TELL = "result", "error", "tell"
"""The kind of a message of the server: the outcome of a call, or one call back."""


@dataclass(frozen=True, slots=True)
class StoreFactory:
    """Makes clients of one server. Picklable: hand it to a slot process and call it there."""

    address: str
    key: bytes

    def __call__(self) -> WorkspaceStore:
        return cast("WorkspaceStore", _RemoteStore(self))

    def __repr__(self) -> str:
        return f"StoreFactory({self.address!r})"


class StoreServer:
    """Serves a store of this process until `close`, one thread a connection; `factory` makes clients."""

    def __init__(self, store: WorkspaceStore) -> None:
        self._store = store
        self._directory = _private_directory()
        self.factory: StoreFactory = StoreFactory(str(self._directory / "store"), secrets.token_bytes(32))
        self._listener = Listener(self.factory.address, "AF_UNIX", backlog=64)
        self._connections: dict[Connection[Any, Any], threading.Thread] = {}
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._acceptor = threading.Thread(target=self._accept, name="perago-store", daemon=True)
        self._acceptor.start()

    def __enter__(self) -> StoreServer:
        return self

    def __exit__(self, *_: object) -> None:
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
            deliver_challenge(connection, self.factory.key)  # here, so that a stalled client holds up no other
            answer_challenge(connection, self.factory.key)
            while not self._closing.is_set():
                connection.send(self._outcome(connection, *connection.recv()))
        with self._lock:
            del self._connections[connection]
            connection.close()

    def _outcome(
        self, connection: Connection[Any, Any], operation: str, arguments: Collection[Any], options: Mapping[str, Any]
    ) -> tuple[str, object]:
        local = functools.partial(_local, connection, threading.Lock())
        try:
            method = getattr(self._store, operation)
            return _RESULT, method(*map(local, arguments), **{name: local(value) for name, value in options.items()})
        except Exception as error:  # noqa: BLE001 - whatever it is, it belongs to the client
            return _ERROR, _portable_error(error)


class _RemoteStore:
    """`perago.ports.WorkspaceStore` in another process. It connects on first use, and again after a fork.

    One call runs at a time; further threads wait. A lost connection is `Unclear` for calls that make a commit,
    `Unavailable` for others, and the next call connects again.
    """

    def __init__(self, factory: StoreFactory) -> None:
        self._factory = factory
        self._connection: Connection[Any, Any] | None = None
        self._process = 0
        self._lock = threading.Lock()

    def __getattr__(self, operation: str) -> Callable[..., Any]:
        if operation.startswith("_") or not hasattr(WorkspaceStore, operation):
            raise AttributeError(operation)
        return functools.partial(self._call, operation)

    def close(self) -> None:
        """Close the connection. The served store stays open, because it belongs to the server."""
        with self._lock:
            self._disconnect()

    def _call(self, operation: str, *arguments: object, **options: object) -> object:
        callbacks: list[Callable[..., object]] = []
        sent = [_portable(value, callbacks) for value in arguments]
        named = {name: _portable(value, callbacks) for name, value in options.items()}
        with self._lock:
            try:
                kind, payload = self._converse((operation, sent, named), callbacks)
            except (OSError, EOFError) as error:
                self._disconnect()
                lost = Unclear if operation in _UNCLEAR else Unavailable
                words = f"the process that serves the embedded store gave no answer: {error or 'connection closed'}"
                raise lost("lakeFS", operation, words) from error
            except BaseException:
                self._disconnect()
                raise
        if kind == _ERROR:
            raise cast("Exception", payload)
        return payload

    def _converse(self, call: object, callbacks: list[Callable[..., object]]) -> tuple[str, object]:
        """Send a call and serve the server's calls back until its outcome arrives.

        Raises:
            OSError, EOFError: the connection is lost, or nothing came for too long.
        """
        if self._connection is None or self._process != os.getpid():
            self._connection = Client(self._factory.address, "AF_UNIX", authkey=self._factory.key)
            self._process = os.getpid()
        connection = self._connection
        connection.send(call)
        while True:
            if not connection.poll(ANSWER_SECONDS):
                raise TimeoutError(f"nothing within {ANSWER_SECONDS:g} s")
            kind, payload, *given = connection.recv()
            if kind in (_RESULT, _ERROR):
                return kind, payload
            try:
                callbacks[payload](*given)
            except Exception as error:  # noqa: BLE001 - the caller's, and none of the connection
                self._disconnect()  # no conversation can be taken up again in its middle
                return _ERROR, error

    def _disconnect(self) -> None:
        if self._connection is not None:
            with suppress(OSError):
                self._connection.close()
        self._connection = None


@dataclass(frozen=True, slots=True)
class _Callback:
    """Represents a callable that stays in the client."""

    number: int


def _portable(value: object, callbacks: list[Callable[..., object]]) -> object:
    """Return an argument in the form in which it is sent."""
    if callable(value) and value is not no_progress:
        callbacks.append(value)
        return _Callback(len(callbacks) - 1)
    if isinstance(value, Mapping):
        return dict(value)
    return list(value) if isinstance(value, Collection) and not isinstance(value, str) else value


def _local(connection: Connection[Any, Any], sending: threading.Lock, value: object) -> object:
    """Return an argument in the form that the store gets."""
    if not isinstance(value, _Callback):
        return value

    def call_back(*given: object) -> None:
        with sending:
            connection.send((_TELL, value.number, *given))

    return call_back


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


def _portable_error(error: Exception) -> Exception:
    """Return the error, or an error with its text if it cannot be pickled."""
    try:
        pickle.loads(pickle.dumps(error))  # noqa: S301 - our own bytes
    except Exception:  # noqa: BLE001 - pickling runs foreign code
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error
