"""TLS for the scripted server, and a proxy that tunnels to it."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from pathlib import Path


def tls_context(certificate: Path) -> ssl.SSLContext:
    """A server's side of TLS; `certificate` holds key and certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


class Tunnel:
    """An HTTP proxy that knows CONNECT only; keeps the head of every request in `heads`."""

    def __init__(self) -> None:
        self.heads: list[str] = []
        self._sockets: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._spawn(self._accept)

    def __enter__(self) -> Tunnel:
        return self

    def __exit__(self, *_: object) -> None:
        for end in [self._listener, *self._sockets]:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()
        for thread in self._threads:
            thread.join(10)
            assert not thread.is_alive(), "the tunnel did not stop"

    def _spawn(self, work: object, *arguments: object) -> None:
        assert callable(work)
        thread = threading.Thread(target=work, args=arguments, name="tunnel", daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                head = b""
                while not head.endswith(b"\r\n\r\n"):
                    head += client.recv(1)
                self.heads.append(head.decode())
                host, _, port = head.split()[1].decode().partition(":")
                server = socket.create_connection((host, int(port)), timeout=10)
                client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
                self._sockets += [client, server]
                self._spawn(_pump, client, server)
                self._spawn(_pump, server, client)


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
    with contextlib.suppress(OSError):
        sink.shutdown(socket.SHUT_WR)
