"""Serving on loopback: which address, and how long starting and stopping take."""

from __future__ import annotations

import socket
import time
from urllib.parse import urlsplit

import pytest

from perago.embedded.http.lakefs import lakefs_app
from perago.embedded.http.loopback import serve
from perago.embedded.lakefs import LakeFSServer


def test_serving_binds_loopback_only_and_stops_within_bounds(server: LakeFSServer) -> None:
    with serve(lakefs_app(server, access_key_id="k", secret_access_key="s")) as url:
        address = urlsplit(url)
        assert address.hostname == "127.0.0.1"
        assert address.port
        idle = socket.create_connection((address.hostname, address.port), timeout=5)
        started = time.monotonic()
    assert time.monotonic() - started < 8
    idle.close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((address.hostname, address.port), timeout=5)


def test_a_taken_port_is_an_immediate_error(server: LakeFSServer) -> None:
    app = lakefs_app(server, access_key_id="k", secret_access_key="s")
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        with pytest.raises(OSError, match="in use"), serve(app, port=other.getsockname()[1]):
            pass
