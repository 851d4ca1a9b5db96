"""A store of this process, served to the slot processes of `perago run` over a private Unix socket.

Only the port's methods are served. Messages are JSON, which carries nothing but data, so neither side can make the
other run code. Files are not sent: both processes are on one machine, so the server reads and writes the paths that the
client names. Callbacks of a call (the progress of a transfer) run in the client. Errors of the port, of the disk and of
the workspace keep their types. docs/dev/decisions.md explains why this is not HTTP.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import socket
import tempfile
import threading
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache, partial
from inspect import signature
from multiprocessing import AuthenticationError
from multiprocessing.connection import Client, Connection, Listener, answer_challenge, deliver_challenge
from pathlib import Path
from types import GenericAlias
from typing import Any, cast, get_args, get_origin, get_type_hints

from pydantic import TypeAdapter

from perago import ports
from perago.ports import MergeRefusal, MergeRefused, ServiceError, Unavailable, Unclear, WorkspaceStore, no_progress
from perago.workspace.scan import FileChanging

ANSWER_SECONDS = 120.0
"""Seconds that a client waits for the next message of a call."""

CLOSE_SECONDS = 5.0
"""Seconds that `StoreServer.close` waits for a call in flight."""

_MAX_SOCKET_PATH = 100  # macOS allows 103 bytes
_UNCLEAR = frozenset({"commit", "merge", "revert"})  # repeating any other operation is harmless
_OPERATIONS = frozenset(name for name in vars(WorkspaceStore) if not name.startswith("_")) - {"close"}
_RESULT, _ERROR, _CALLBACK = "result", "error", "callback"
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
                continue  # the client has closed the connection
            thread = threading.Thread(target=self._serve, args=(connection,), name="perago-store-client", daemon=True)
            with self._lock:
                self._connections[connection] = thread
            thread.start()

    def _serve(self, connection: Connection[Any, Any]) -> None:
        with suppress(OSError, EOFError, AuthenticationError):
            deliver_challenge(connection, self.factory.key)  # here, so that a stalled client holds up no other
            answer_challenge(connection, self.factory.key)
            while not self._closing.is_set():
                _send(connection, self._outcome(connection, connection.recv_bytes()))
        with self._lock:
            del self._connections[connection]
            connection.close()

    def _outcome(self, connection: Connection[Any, Any], message: bytes) -> tuple[str, Any]:
        """Serve one call. A message that is not a call of the port is refused like a call that fails."""
        sending = threading.Lock()

        def call_back(name: str, *arguments: object) -> None:
            with sending:
                _send(connection, (_CALLBACK, [name, call.callbacks[name].dump_python(arguments, mode="json")]))

        try:
            operation, arguments, callbacks = json.loads(message)
            call = _call_of(operation)
            options = {name: call.arguments[name].validate_python(value) for name, value in arguments.items()}
            options |= {name: partial(call_back, name) for name in call.callbacks if name in callbacks}
            outcome = getattr(self._store, operation)(**options)
            return _RESULT, call.result.dump_python(outcome, mode="json")
        except Exception as error:  # noqa: BLE001 - whatever it is, it belongs to the client
            return _ERROR, _described(error)


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
        if operation not in _OPERATIONS:
            raise AttributeError(operation)
        return partial(self._call, operation)

    def close(self) -> None:
        """Close the connection. The served store stays open, because it belongs to the server."""
        with self._lock:
            self._disconnect()

    def _call(self, operation: str, *arguments: object, **options: object) -> object:
        call = _call_of(operation)
        named = call.named(*arguments, **options)
        callbacks = {name: named[name] for name in call.callbacks if name in named}
        sent = {
            name: form.dump_python(named[name], mode="json") for name, form in call.arguments.items() if name in named
        }
        with self._lock:
            try:
                result, error = self._converse((operation, sent, list(callbacks)), call, callbacks)
            except (OSError, EOFError) as problem:
                self._disconnect()
                lost = Unclear if operation in _UNCLEAR else Unavailable
                detail = f"the process that serves the embedded store gave no answer: {problem or 'connection closed'}"
                raise lost("lakeFS", operation, detail) from problem
            except BaseException:
                self._disconnect()
                raise
        if error is not None:
            raise error
        return call.result.validate_python(result)

    def _converse(
        self, message: object, call: _Call, callbacks: Mapping[str, Callable[..., object]]
    ) -> tuple[Any, Exception | None]:
        """Send a call, serve the server's calls back until its outcome arrives, and return its result or its error.

        Raises:
            OSError, EOFError: the connection is lost, or nothing came for too long.
        """
        if self._connection is None or self._process != os.getpid():
            self._connection = Client(self._factory.address, "AF_UNIX", authkey=self._factory.key)
            self._process = os.getpid()
        _send(self._connection, message)
        while True:
            if not self._connection.poll(ANSWER_SECONDS):
                raise TimeoutError(f"nothing within {ANSWER_SECONDS:g} s")
            kind, payload = json.loads(self._connection.recv_bytes())
            if kind == _RESULT:
                return payload, None
            if kind == _ERROR:
                return None, _error_of(*payload)
            name, arguments = payload
            try:
                callbacks[name](*call.callbacks[name].validate_python(arguments))
            except Exception as error:  # noqa: BLE001 - the caller's, not the connection's
                self._disconnect()  # no conversation can be continued in its middle
                return None, error

    def _disconnect(self) -> None:
        if self._connection is not None:
            with suppress(OSError):
                self._connection.close()
        self._connection = None


# ---------------------------------------------------------------------------- messages


@dataclass(frozen=True, slots=True)
class _Call:
    """The JSON forms of one call of the port, made from its annotations."""

    named: Callable[..., Mapping[str, Any]]
    """Returns the arguments of a call by name, without callbacks that do nothing."""
    arguments: Mapping[str, TypeAdapter[Any]]
    callbacks: Mapping[str, TypeAdapter[Any]]
    """The arguments of each callback."""
    result: TypeAdapter[Any]


@cache
def _call_of(operation: str) -> _Call:
    """Return the forms of a call.

    Raises:
        NotImplementedError: the port has no such call.
    """
    if operation not in _OPERATIONS:
        raise NotImplementedError(f"{operation!r} is not a call of the store")
    method = getattr(WorkspaceStore, operation)
    hints: dict[str, Any] = get_type_hints(method)
    callbacks = {name: form for name, hint in hints.items() if (form := _callback_form(hint)) is not None}
    collections = {name for name, hint in hints.items() if get_origin(hint) is Collection}
    hints |= {name: GenericAlias(list, get_args(hints[name])) for name in collections}  # pydantic has lists only
    bind = signature(method).bind

    def named(*arguments: object, **options: object) -> Mapping[str, Any]:
        bound = bind(None, *arguments, **options).arguments
        bound |= {name: list(bound[name]) for name in collections}
        return {name: value for name, value in bound.items() if value is not None and value is not no_progress}

    result = TypeAdapter(hints.pop("return"))
    arguments = {name: TypeAdapter(hint) for name, hint in hints.items() if name not in callbacks}
    return _Call(named, arguments, callbacks, result)


def _callback_form(hint: Any) -> TypeAdapter[Any] | None:
    """Return the form of the arguments of a callback, or None for a parameter that is data."""
    kinds = [kind for kind in (hint, *get_args(hint)) if get_origin(kind) is Callable]
    if not kinds:
        return None
    parameters: Any = GenericAlias(tuple, tuple(get_args(kinds[0])[0]))
    return TypeAdapter(parameters)


def _send(connection: Connection[Any, Any], message: object) -> None:
    connection.send_bytes(json.dumps(message).encode())


_SERVICE_ERRORS: Mapping[str, type[ServiceError]] = {
    name: kind for name, kind in vars(ports).items() if isinstance(kind, type) and issubclass(kind, ServiceError)
}
_ERRORS: Mapping[str, type[Exception]] = {
    kind.__name__: kind for kind in (*_SERVICE_ERRORS.values(), FileChanging, NotImplementedError, OSError)
}
"""The errors that keep their types. Others become a RuntimeError."""


def _described(error: Exception) -> tuple[str, list[Any]]:
    """Return the name of an error's type, and the arguments that make it again."""
    if isinstance(error, ServiceError) and type(error).__name__ in _SERVICE_ERRORS:
        reason = [error.reason] if isinstance(error, MergeRefused) else []
        return type(error).__name__, [error.service, error.operation, error.detail, *reason]
    if isinstance(error, OSError) and error.errno is not None:
        name = None if error.filename is None else os.fsdecode(error.filename)
        return OSError.__name__, [error.errno, error.strerror, name]
    for kind in (FileChanging, NotImplementedError):
        if isinstance(error, kind):
            return kind.__name__, [str(error)]
    return RuntimeError.__name__, [f"{type(error).__name__}: {error}"]


def _error_of(name: str, arguments: list[Any]) -> Exception:
    """Make the error again that `_described` describes."""
    if name == MergeRefused.__name__:
        arguments[-1] = MergeRefusal(arguments[-1])
    return _ERRORS.get(name, RuntimeError)(*arguments)


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
