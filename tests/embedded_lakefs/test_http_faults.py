"""Serving on loopback, and faults on the wire: an adapter must meet connections that really break."""

from __future__ import annotations

import http.client
import socket
import time
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
import urllib3

from perago.embedded.clock import VirtualClock
from perago.embedded.http.lakefs import lakefs_app
from perago.embedded.http.serve import serve
from perago.embedded.lakefs import LakeFSServer
from tests.http_faults import FaultyApplication, HttpFaultScript, HttpMoment

OBJECTS = "/api/v1/repositories/repo/branches/main/objects?path=new"
OBJECT = "/api/v1/repositories/repo/refs/main/objects?path=a"


@pytest.fixture
def server() -> LakeFSServer:
    server = LakeFSServer(VirtualClock())
    server.create_repository("repo")
    server.put_object("repo", "main", "a", b"0123456789")
    server.put_object("repo", "main", "big", b"x" * 3_000_000)
    return server


@pytest.fixture
def script() -> HttpFaultScript:
    return HttpFaultScript()


@pytest.fixture
def url(server: LakeFSServer, script: HttpFaultScript) -> Iterator[str]:
    with serve(FaultyApplication(lakefs_app(server, access_key_id="k", secret_access_key="s"), script)) as url:
        yield url
    server.close()


@pytest.fixture
def pool() -> Iterator[urllib3.PoolManager]:
    pool = urllib3.PoolManager(headers=urllib3.make_headers(basic_auth="k:s"), retries=False, timeout=10)
    yield pool
    pool.clear()


def exists(server: LakeFSServer, path: str) -> bool:
    return path in [entry.path for entry in server.all_objects("repo", "main")]


@pytest.mark.parametrize(("moment", "effect"), [(HttpMoment.BEFORE, False), (HttpMoment.AFTER, True)])
def test_a_dropped_connection_gives_no_answer_and_took_effect_or_not(
    server: LakeFSServer, script: HttpFaultScript, url: str, pool: urllib3.PoolManager, moment: HttpMoment, effect: bool
) -> None:
    script.drop("POST", "/objects$", moment=moment)
    with pytest.raises(urllib3.exceptions.ProtocolError):
        pool.request("POST", url + OBJECTS, body=b"x")
    assert exists(server, "new") is effect
    assert pool.request("POST", url + OBJECTS, body=b"x").status == 201
    assert script.unused() == ()


@pytest.mark.parametrize(("moment", "effect"), [(HttpMoment.BEFORE, False), (HttpMoment.AFTER, True)])
@pytest.mark.parametrize("status", [429, 500, 503])
def test_an_answer_can_be_replaced(
    server: LakeFSServer,
    script: HttpFaultScript,
    url: str,
    pool: urllib3.PoolManager,
    status: int,
    moment: HttpMoment,
    effect: bool,
) -> None:
    script.answer("POST", "/objects", status=status, moment=moment, headers={"Retry-After": "7"})
    answer = pool.request("POST", url + OBJECTS, body=b"x" * 500_000)
    assert (answer.status, answer.headers["retry-after"]) == (status, "7")
    assert answer.json() == {"message": f"injected fault: {status}"}
    assert exists(server, "new") is effect


@pytest.mark.parametrize(("path", "size"), [("a", 10), ("big", 3_000_000)])
@pytest.mark.parametrize("keep", [0, 4])
def test_a_truncated_body_breaks_off_after_its_headers(
    script: HttpFaultScript, url: str, pool: urllib3.PoolManager, path: str, size: int, keep: int
) -> None:
    script.truncate("GET", "/objects", keep=keep)
    target = f"{url}/api/v1/repositories/repo/refs/main/objects?path={path}"
    answer = pool.request("GET", target, preload_content=False)
    assert (answer.status, answer.headers["content-length"]) == (200, str(size))
    with pytest.raises(urllib3.exceptions.ProtocolError) as caught:
        answer.read()
    partial = caught.value.args[1]
    assert isinstance(partial, (urllib3.exceptions.IncompleteRead, http.client.IncompleteRead))
    assert pool.request("GET", target).headers["content-length"] == str(size)


def test_a_delay_runs_into_the_clients_time_out(script: HttpFaultScript, url: str, pool: urllib3.PoolManager) -> None:
    script.delay("GET", "/objects", seconds=1.0)
    with pytest.raises(urllib3.exceptions.ReadTimeoutError):
        pool.request("GET", url + OBJECT, timeout=0.1)
    assert pool.request("GET", url + OBJECT).status == 200


def test_only_the_nth_fitting_request_is_hit(script: HttpFaultScript, url: str, pool: urllib3.PoolManager) -> None:
    script.answer("GET", "/objects$", status=503, nth=2).answer("GET", "/nothing", status=500)
    statuses = [pool.request("GET", url + OBJECT).status for _ in range(3)]
    pool.request("HEAD", url + OBJECT)
    assert statuses == [200, 503, 200]
    assert [str(fault) for fault in script.unused()] == ["GET /nothing #1: answer"]


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


def test_a_taken_port_is_an_error_at_once(server: LakeFSServer) -> None:
    app = lakefs_app(server, access_key_id="k", secret_access_key="s")
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        with pytest.raises(OSError, match="in use"), serve(app, port=other.getsockname()[1]):
            pass
