"""The suite's own tools without a server: the proxy fails connections exactly as requested."""

from __future__ import annotations

import os
import stat
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import urllib3
from urllib3.exceptions import HTTPError

from .conductor_server import ServerError, find_java, find_maven, main
from .proxy import Cut, Proxy, proxied
from .waiting import LIMIT, wait_for


class Counting(BaseHTTPRequestHandler):
    """Answers with the number of its requests so far."""

    protocol_version = "HTTP/1.1"
    requests = 0

    def do_GET(self) -> None:
        type(self).requests += 1
        body = str(self.requests).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name of the base class
        """Log nothing."""


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    """Yield a proxy in front of a server that counts its requests."""
    Counting.requests = 0
    with ThreadingHTTPServer(("127.0.0.1", 0), Counting) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        with proxied(f"http://127.0.0.1:{server.server_port}/base") as proxy:
            yield proxy
        server.shutdown()


@pytest.fixture
def get(proxy: Proxy) -> Iterator[Callable[..., int]]:
    """A client that sends requests through the proxy on one connection at a time."""
    with urllib3.PoolManager(maxsize=1, retries=False, timeout=5) as client:
        yield lambda path="", **options: int(client.request("GET", proxy.url + path, **options).data)


def test_a_proxy_lets_through_until_it_refuses_or_stalls(proxy: Proxy, get: Callable[..., int]) -> None:
    assert proxy.url.endswith("/base")
    assert [get(), get()] == [1, 2]
    proxy.refuse()
    with pytest.raises(HTTPError):
        get()
    proxy.restore()
    assert get() == 3
    proxy.stall()
    with pytest.raises(HTTPError):
        get(timeout=0.2)
    proxy.restore()
    assert get("/late") >= 4


@pytest.mark.parametrize(("cut", "seen_by_the_server"), [(Cut.REQUEST, 1), (Cut.ANSWER, 2)])
def test_a_trap_springs_once_where_it_was_laid(
    proxy: Proxy, get: Callable[..., int], cut: Cut, seen_by_the_server: int
) -> None:
    trap = proxy.trap("GET /base/trapped ", cut)
    assert get("/other") == 1
    with pytest.raises(AssertionError, match="has not sprung"):
        trap.wait(0)
    with pytest.raises(HTTPError):
        get("/trapped")
    trap.wait()
    assert get("/trapped") == seen_by_the_server + 1


def test_a_trap_can_take_the_server_away(proxy: Proxy, get: Callable[..., int]) -> None:
    trap = proxy.trap("GET", Cut.ANSWER, then_refuse=True)
    with pytest.raises(HTTPError):
        get()
    trap.wait()
    with pytest.raises(HTTPError):
        get()
    proxy.restore()
    assert get() == 2


def test_a_trap_can_act_before_the_request_continues(proxy: Proxy, get: Callable[..., int]) -> None:
    proxy.trap("GET", Cut.NOWHERE, first=lambda: urllib3.PoolManager().request("GET", proxy.url))
    assert get() == 2


@pytest.mark.parametrize("cut", Cut)
def test_waiting_for_a_trap_ends_when_its_event_has_happened(proxy: Proxy, get: Callable[..., int], cut: Cut) -> None:
    go = threading.Event()
    trap = proxy.trap("GET", cut, first=lambda: go.wait(LIMIT))
    with ThreadPoolExecutor(1) as caller:
        asked = caller.submit(get, timeout=LIMIT)
        wait_for("the trap to spring", lambda: trap.sprung)
        with pytest.raises(AssertionError, match="'GET' is still at work"):
            trap.wait(0.01)
        go.set()
        trap.wait()
        assert (asked.exception(LIMIT) is None) == (cut is Cut.NOWHERE)


def test_waiting_for_a_trap_reports_its_errors(proxy: Proxy, get: Callable[..., int]) -> None:
    def fail() -> None:
        raise LookupError("no such workflow")

    trap = proxy.trap("GET", Cut.REQUEST, first=fail)
    with pytest.raises(HTTPError):
        get()
    with pytest.raises(LookupError, match="no such workflow"):
        trap.wait()


# ----------------------------------------------------------------------------- toolchain


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A machine with an empty PATH and empty usual directories."""
    for name in [name for name in os.environ if name.startswith(("JAVA_HOME", "MAVEN_HOME", "M2_HOME"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("PERAGO_LIVE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(f"{__package__}.conductor_server._DIRECTORIES", ())
    return tmp_path


def _fake_java(home: Path, release: str) -> Path:
    java = home / "bin/java"
    java.parent.mkdir(parents=True)
    java.write_text(f"#!/bin/sh\necho 'openjdk version \"{release}\"' >&2\n")
    java.chmod(stat.S_IRWXU)
    return java


def test_the_first_new_enough_jdk_is_taken_and_an_older_one_is_named(
    bare: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = _fake_java(bare / "old", "17.0.15")
    monkeypatch.setenv("JAVA_HOME", str(old.parents[1]))
    with pytest.raises(ServerError, match=rf"a JDK of 21 or later, but there is none \({old} is 17\)"):
        find_java()
    new = _fake_java(bare / "new", "21.0.2")
    monkeypatch.setenv("JAVA_HOME_21_X64", str(new.parents[1]))
    assert find_java() == new


def test_missing_commands_are_reported_before_anything_is_done(bare: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ServerError, match="there is no mvn on PATH"):
        find_maven()
    assert main(["run", "--", sys.executable]) == 1
    assert "error: Conductor needs a JDK of 21 or later" in capsys.readouterr().err
    assert main(["run", "--", "no-such-command"]) == 1
    assert capsys.readouterr().err == "error: no-such-command: no such command\n"
