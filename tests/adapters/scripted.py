"""A raw TCP server that answers HTTP as a script says, however badly; its TLS."""

from __future__ import annotations

import contextlib
import json
import re
import socket
import ssl
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit


@dataclass(frozen=True)
class Request:
    """One request as it came in; `target` is what stood in the request line."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def path(self) -> str:
        return unquote(urlsplit(self.target).path)

    @property
    def query(self) -> dict[str, str]:
        parsed = parse_qs(urlsplit(self.target).query, keep_blank_values=True)
        return {name: values[0] for name, values in parsed.items()}

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True)
class Reply:
    """A well-formed answer, unless `length` lies."""

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    length: int | None = None
    """Another Content-Length than the body's; the connection is closed after the body."""


@dataclass(frozen=True)
class Chunked:
    """An answer without a Content-Length."""

    body: bytes


@dataclass(frozen=True)
class Drop:
    """Close the connection without a word; with `sent`, after these bytes."""

    sent: bytes = b""


@dataclass(frozen=True)
class Hang:
    """Keep the connection open and say nothing more; with `sent`, after these bytes."""

    sent: bytes = b""


@dataclass(frozen=True)
class Trickle:
    """Send the head, or these first bytes of an answer, then one byte at a time, and close the connection."""

    length: int
    pause: float
    head: bytes | None = None


@dataclass(frozen=True)
class Relay:
    """Connect to a port of this machine, and pass the bytes of both sides on, as a proxy does after CONNECT."""

    port: int


Action = Reply | Chunked | Drop | Hang | Trickle | Relay
Script = Callable[[Request], Action]


def object_reply(request: Request, content: bytes, etag: str = "") -> Reply:
    """The bytes of an object, or the range of them that was asked for."""
    headers = {"ETag": f'"{etag}"'} if etag else {}
    match = re.fullmatch(r"bytes=(\d+)-(\d+)", request.headers.get("range", ""))
    if match is None:
        return Reply(200, content, headers)
    start, end = int(match[1]), min(int(match[2]) + 1, len(content))
    if start >= len(content):
        return Reply(416, headers={**headers, "Content-Range": f"bytes */{len(content)}"})
    place = {"Content-Range": f"bytes {start}-{end - 1}/{len(content)}"}
    return Reply(206, content[start:end], {**headers, **place})


def reply_json(value: object, status: int = 200, **headers: str) -> Reply:
    """A JSON answer; underscores in header names become dashes."""
    named = {name.replace("_", "-"): text for name, text in headers.items()}
    return Reply(status, json.dumps(value).encode(), {"Content-Type": "application/json", **named})


class ScriptedServer:
    """Serves `script` on a loopback port until closed; keeps every request in `requests`."""

    def __init__(self, script: Script, *, tls: ssl.SSLContext | None = None) -> None:
        self.script = script
        self.requests: list[Request] = []
        self.connections = 0
        self.before_body: Callable[[], object] = lambda: None
        """Called when the head of a request has been read and its body has not."""
        self._tls = tls
        self._closing = threading.Event()
        self._lock = threading.Lock()
        self._open: list[socket.socket] = []
        self._last: object = None
        """The address of the last client, which says nothing."""
        self._threads: list[threading.Thread] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._spawn(self._accept)

    def __enter__(self) -> ScriptedServer:
        return self

    def __exit__(self, *_: object) -> None:
        self._accept_what_is_waiting()
        self._closing.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._lock:
            for connection in self._open:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
        for thread in list(self._threads):
            thread.join(10)
            assert not thread.is_alive(), "the scripted server did not stop"

    def _accept_what_is_waiting(self) -> None:
        """Connect once more: who has connected before is accepted by then, and what it has sent will be read."""
        with contextlib.suppress(OSError), socket.socket() as last:
            last.bind(("127.0.0.1", 0))
            self._last = last.getsockname()
            last.connect(("127.0.0.1", self.port))
            self._threads[0].join(10)

    @property
    def url(self) -> str:
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self.port}"

    def count(self, method: str, path_end: str = "") -> int:
        """How many requests of a method came for paths with this end."""
        return sum(1 for request in self.requests if request.method == method and request.path.endswith(path_end))

    def _spawn(self, work: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=work, args=arguments, name="scripted-server", daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                connection, client = self._listener.accept()
            except OSError:
                return
            if client == self._last:
                connection.close()
                return
            with self._lock:
                self.connections += 1
                self._open.append(connection)
            self._spawn(self._serve, connection)

    def _serve(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError, ValueError), contextlib.ExitStack() as stack:
            stack.enter_context(connection)
            if self._tls is not None:
                connection = stack.enter_context(self._tls.wrap_socket(connection, server_side=True))
                with self._lock:
                    self._open.append(connection)
            stream = stack.enter_context(connection.makefile("rb"))
            while (request := _read_request(stream, lambda: self.before_body())) is not None:
                with self._lock:
                    self.requests.append(request)
                if not self._act(connection, self.script(request)):
                    return

    def _act(self, connection: socket.socket, action: Action) -> bool:
        """Perform an action; False if the connection is done for."""
        match action:
            case Reply(length=None):
                connection.sendall(_head(action.status, action.headers, len(action.body)) + action.body)
                return True
            case Reply(length=int(length)):
                connection.sendall(_head(action.status, action.headers, length) + action.body)
            case Chunked(body):
                head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
                connection.sendall(head + b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body))
                return True
            case Drop(sent):
                connection.sendall(sent)
            case Hang(sent):
                connection.sendall(sent)
                self._closing.wait(60)
            case Trickle(length, pause, head):
                connection.sendall(_head(200, {}, length) if head is None else head)
                for _ in range(length):
                    if self._closing.wait(pause):
                        break
                    connection.sendall(b"x")
            case Relay(port):
                with socket.create_connection(("127.0.0.1", port), timeout=10) as server:
                    with self._lock:
                        self._open.append(server)
                    connection.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
                    self._spawn(_pump, server, connection)
                    _pump(connection, server)
        return False


def _head(status: int, headers: Mapping[str, str], length: int) -> bytes:
    lines = [f"HTTP/1.1 {status} Scripted", f"Content-Length: {length}", *(f"{k}: {v}" for k, v in headers.items())]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def _read_request(stream: Any, before_body: Callable[[], object]) -> Request | None:
    line = stream.readline()
    if not line:
        return None
    method, target, _ = line.decode("latin-1").split()
    headers: dict[str, str] = {}
    while (header := stream.readline()) not in (b"\r\n", b""):
        name, _, value = header.decode("latin-1").partition(":")
        headers[name.lower()] = value.strip()
    before_body()
    return Request(method, target, headers, stream.read(int(headers.get("content-length", 0))))


def tls_context(certificate: Path) -> ssl.SSLContext:
    """A server's side of TLS; `certificate` holds key and certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
    with contextlib.suppress(OSError):
        sink.shutdown(socket.SHUT_WR)
