"""The suite's own tools, without any server: what breaks on purpose must break as it says."""

from __future__ import annotations

import contextlib
import os
import stat
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import urllib3
from urllib3.exceptions import HTTPError

from .conductor_server import MissingToolError, find_java, find_maven, main
from .proxy import Cut, Proxy, proxied
from .waiting import LIMIT, wait_for


class Counting(BaseHTTPRequestHandler):
    """Answers with the number of requests that it has seen."""

    protocol_version = "HTTP/1.1"
    seen = 0

    def do_GET(self) -> None:
        type(self).seen += 1
        body = str(self.seen).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name of the base class
        """Say nothing."""


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    """A proxy in front of a server that counts."""
    Counting.seen = 0
    with ThreadingHTTPServer(("127.0.0.1", 0), Counting) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        with proxied(f"http://127.0.0.1:{server.server_port}/base") as proxy:
            yield proxy
        server.shutdown()


@pytest.fixture
def client() -> Iterator[urllib3.PoolManager]:
    """One kept connection at a time."""
    client = urllib3.PoolManager(maxsize=1, retries=False, timeout=5)
    yield client
    client.clear()


def _get(client: urllib3.PoolManager, url: str, timeout: float = 5) -> int:
    return int(client.request("GET", url, timeout=timeout).data)


def _ask(url: str) -> None:
    """Ask once, on a connection of its own; it may be cut."""
    with contextlib.suppress(HTTPError), urllib3.PoolManager(retries=False) as client:
        _get(client, url, LIMIT)


def test_a_proxy_lets_through_until_it_refuses_and_again_when_restored(
    proxy: Proxy, client: urllib3.PoolManager
) -> None:
    assert proxy.url.endswith("/base")
    assert [_get(client, proxy.url) for _ in range(2)] == [1, 2]
    proxy.refuse()
    with pytest.raises(HTTPError):
        _get(client, proxy.url)
    proxy.restore()
    assert _get(client, proxy.url) == 3


def test_a_stalled_proxy_answers_late(proxy: Proxy, client: urllib3.PoolManager) -> None:
    proxy.stall()
    with pytest.raises(HTTPError):
        _get(client, proxy.url, timeout=0.2)
    proxy.restore()
    assert _get(client, f"{proxy.url}/late") >= 1


@pytest.mark.parametrize(("cut", "seen_by_the_server"), [(Cut.REQUEST, 1), (Cut.ANSWER, 2)])
def test_a_trap_springs_once_where_it_was_laid(
    proxy: Proxy, client: urllib3.PoolManager, cut: Cut, seen_by_the_server: int
) -> None:
    trap = proxy.trap("GET /base/trapped ", cut)
    assert _get(client, f"{proxy.url}/other") == 1
    with pytest.raises(AssertionError, match="has not sprung"):
        trap.wait(0)
    with pytest.raises(HTTPError):
        _get(client, f"{proxy.url}/trapped")
    trap.wait()
    assert _get(client, f"{proxy.url}/trapped") == seen_by_the_server + 1


def test_a_trap_can_take_the_server_away(proxy: Proxy, client: urllib3.PoolManager) -> None:
    trap = proxy.trap("GET", Cut.ANSWER, then_refuse=True)
    with pytest.raises(HTTPError):
        _get(client, proxy.url)
    trap.wait()
    with pytest.raises(HTTPError):
        _get(client, proxy.url)
    proxy.restore()
    assert _get(client, proxy.url) == 2


def test_a_trap_can_act_before_the_request_continues(proxy: Proxy, client: urllib3.PoolManager) -> None:
    proxy.trap("GET", Cut.NOWHERE, first=lambda: _get(urllib3.PoolManager(), proxy.url))
    assert _get(client, proxy.url) == 2


@pytest.mark.parametrize("cut", Cut)
def test_waiting_for_a_trap_ends_when_its_event_has_happened(proxy: Proxy, cut: Cut) -> None:
    go = threading.Event()
    trap = proxy.trap("GET", cut, first=lambda: go.wait(LIMIT))
    with pytest.raises(AssertionError, match="'GET' has not sprung"):
        trap.wait(0.01)
    caller = threading.Thread(target=_ask, args=(proxy.url,))
    caller.start()
    wait_for("the trap to spring", lambda: trap.sprung)
    with pytest.raises(AssertionError, match="'GET' is still at work"):
        trap.wait(0.01)
    go.set()
    trap.wait()
    caller.join(LIMIT)


def test_waiting_for_a_trap_reports_its_errors(proxy: Proxy, client: urllib3.PoolManager) -> None:
    def fail() -> None:
        raise LookupError("no such workflow")

    trap = proxy.trap("GET", Cut.REQUEST, first=fail)
    with pytest.raises(HTTPError):
        _get(client, proxy.url)
    with pytest.raises(LookupError, match="no such workflow"):
        trap.wait()


# ----------------------------------------------------------------------------- toolchain


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A machine with an empty PATH, whose usual directories hold nothing."""
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


def test_the_first_new_enough_jdk_is_taken(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JAVA_HOME", str(_fake_java(bare / "old", "17.0.15").parents[1]))
    new = _fake_java(bare / "new", "21.0.2")
    monkeypatch.setenv("JAVA_HOME_21_X64", str(new.parents[1]))
    assert find_java() == new


def test_a_jdk_that_is_too_old_is_named(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    java = _fake_java(bare / "old", "17.0.15")
    monkeypatch.setenv("JAVA_HOME", str(java.parents[1]))
    with pytest.raises(MissingToolError, match=rf"a JDK of 21 or later, but there is none \({java} is 17\)"):
        find_java()


def test_a_missing_maven_is_reported_before_anything_is_done(bare: Path) -> None:
    with pytest.raises(MissingToolError, match="there is no mvn on PATH"):
        find_maven()


def test_the_command_line_reports_missing_settings(bare: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "--", sys.executable]) == 1
    assert "error: Conductor needs a JDK of 21 or later" in capsys.readouterr().err


def test_a_command_that_does_not_exist_is_refused_before_a_server_is_started(
    bare: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", "--", "no-such-command"]) == 1
    assert capsys.readouterr().err == "error: no-such-command: no such command\n"
