"""What holds for both clients: proxies, TLS, secrets, nothing opened before it is needed.

A signal handler can end a call in the middle, as when a worker's delivery is lost.
"""

from __future__ import annotations

import logging
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from pydantic import SecretStr

from perago.adapters.conductor import ConductorQueue
from perago.adapters.http import CallPolicy, HttpPool, retry_after
from perago.adapters.http_answers import NoAnswerError
from perago.adapters.http_connections import Wire
from perago.adapters.lakefs import LakeFSStore
from perago.ports import AccessDenied, Overloaded, RateLimited, Refused, ServiceError, Unavailable, Unclear, Untrusted
from perago.retry import BackOff, retry
from perago.settings import ConductorSettings, LakeFSSettings

from ..transfers import download, to_upload
from .lakefs_script import CALM, COMMIT, QUICK, SECRET, Tree, failure, lakefs
from .scripted import Action, Drop, Hang, Relay, Reply, Request, ScriptedServer, Trickle, reply_json, tls_context

PROXY_SECRET = "proxy-secret-that-must-not-show"
VARIABLES = (
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "NO_PROXY",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    "SSL_CERT_FILE",
)


@pytest.fixture(autouse=True)
def _plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in VARIABLES:
        monkeypatch.delenv(variable, raising=False)
        monkeypatch.delenv(variable.lower(), raising=False)


def answers(request: Request) -> Action:
    """Enough of lakeFS and of Conductor for one call of each kind."""
    if request.path.endswith("/objects/ls"):
        return reply_json({"pagination": {"has_more": False, "next_offset": ""}, "results": []})
    if "/branches/" in request.path:
        return reply_json({"id": "main", "commit_id": COMMIT})
    return reply_json({})


def store_at(url: str) -> LakeFSStore:
    return LakeFSStore(LakeFSSettings(url, "key", SecretStr(SECRET)), policy=CALM)


def queue_at(url: str) -> ConductorQueue:
    return ConductorQueue(ConductorSettings(f"{url}/api", "key", SecretStr(SECRET)), policy=CALM)


def list_nothing(url: str) -> None:
    download(store_at(url), "repo", COMMIT, Path("unused"))


def read_branch(url: str) -> None:
    store_at(url).history("repo", "main", until=COMMIT, limit=1)


def ping(url: str) -> None:
    ConductorQueue(ConductorSettings(f"{url}/api"), policy=CALM).ping()


CALLS: dict[str, Callable[[str], None]] = {
    "lakeFS transfers": list_nothing,
    "the lakeFS SDK": read_branch,
    "Conductor": ping,
}
each_client = pytest.mark.parametrize("call", CALLS.values(), ids=CALLS.keys())


@each_client
def test_a_proxy_is_used_with_its_credentials(call: Callable[[str], None], monkeypatch: pytest.MonkeyPatch) -> None:
    with ScriptedServer(answers) as proxy:
        monkeypatch.setenv("HTTP_PROXY", f"http://user:{PROXY_SECRET}@127.0.0.1:{proxy.port}")
        call("http://server.invalid:8000")
    assert all(request.target.startswith("http://server.invalid:8000/api") for request in proxy.requests)
    assert all(request.headers["proxy-authorization"].startswith("Basic ") for request in proxy.requests)
    assert proxy.requests


@each_client
@pytest.mark.parametrize("exempt", ["127.0.0.1", "*", "127.0.0.0/8"])
def test_no_proxy_exempts_a_server(call: Callable[[str], None], exempt: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("NO_PROXY", exempt)
    with ScriptedServer(answers) as server:
        call(server.url)
    assert all(request.target.startswith("/api") for request in server.requests)


@each_client
def test_a_proxy_that_is_down_is_no_answer_and_its_password_is_not_named(
    call: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", f"http://user:{PROXY_SECRET}@127.0.0.1:1")
    with pytest.raises(Unavailable) as caught:
        call("http://server.invalid:8000")
    assert PROXY_SECRET not in str(caught.value)


def tls_server(certificate: Path) -> ScriptedServer:
    return ScriptedServer(answers, tls=tls_context(certificate))


@each_client
@pytest.mark.parametrize("variable", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"])
def test_a_private_authority_is_trusted_where_a_variable_names_it(
    call: Callable[[str], None], variable: str, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, str(certificate))
    with tls_server(certificate) as server:
        call(server.url)
    assert server.requests


@each_client
def test_a_tls_server_is_reached_through_a_proxy_s_tunnel(
    call: Callable[[str], None], certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
    with tls_server(certificate) as server, ScriptedServer(lambda _: Relay(server.port)) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"http://user:{PROXY_SECRET}@127.0.0.1:{proxy.port}")
        call(server.url)
    assert server.requests
    assert {(request.method, request.target) for request in proxy.requests} == {("CONNECT", f"127.0.0.1:{server.port}")}
    assert all(request.headers["proxy-authorization"].startswith("Basic ") for request in proxy.requests)
    assert len(proxy.requests) == server.connections


@each_client
def test_a_proxy_that_wants_other_credentials_is_quoted(
    call: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    with ScriptedServer(lambda _: Reply(407)) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"http://user:{PROXY_SECRET}@127.0.0.1:{proxy.port}")
        with pytest.raises(Unavailable, match=r"the proxy refused: .*407") as caught:
            call("https://server.invalid")
    assert PROXY_SECRET not in str(caught.value)


@pytest.mark.parametrize("trouble", ["another fails", "it trickles"])
def test_a_stream_over_tls_can_be_ended_from_outside(
    trouble: str, certificate: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
    both = threading.Barrier(2)

    def script(request: Request) -> Action | None:
        if not request.path.endswith("/objects"):
            return None
        if trouble == "it trickles":
            return Trickle(1000, 0.1)
        both.wait(60)
        return failure(403, "no") if request.query["path"] == "b" else Hang()

    tree = Tree({"a": b"x" * 1000, "b": b"y" * 1000}, script)
    policy = replace(QUICK, tries=1) if trouble == "it trickles" else CALM
    with lakefs(tree, policy, tls=tls_context(certificate)) as (store, _):
        started = time.monotonic()
        with pytest.raises((AccessDenied, Unavailable)):
            download(store, "repo", COMMIT, tmp_path / "w")
        assert time.monotonic() - started < 45


@each_client
def test_an_unknown_certificate_is_refused_before_anything_is_sent(
    call: Callable[[str], None], certificate: Path
) -> None:
    with tls_server(certificate) as server, pytest.raises(Untrusted, match="certificate is not trusted"):
        call(server.url)
    assert server.requests == []


UNUSABLE: dict[str, tuple[str, dict[str, str], str]] = {
    "a bundle": (
        "https://server.invalid",
        {"REQUESTS_CA_BUNDLE": "/no/such/bundle.pem"},
        r"bundle REQUESTS_CA_BUNDLE=/no/such/bundle\.pem cannot be read",
    ),
    "a kind of proxy": (
        "http://server.invalid",
        {"ALL_PROXY": f"socks5://user:{PROXY_SECRET}@127.0.0.1:1"},
        "socks5 proxy is not supported",
    ),
    **{url: (url, {}, "must look like") for url in ("server:8000", "ftp://server", "http://")},
}


@pytest.mark.parametrize(("url", "variables", "message"), UNUSABLE.values(), ids=UNUSABLE)
def test_what_cannot_be_used_is_refused_by_name(
    url: str, variables: dict[str, str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(Refused, match=message) as caught:
        store_at(url)
    assert PROXY_SECRET not in str(caught.value)


@pytest.mark.parametrize("suffix", ["", "/", "/api/v1", "/api/v1/"])
def test_the_lakefs_url_may_name_the_api_or_not(suffix: str) -> None:
    with ScriptedServer(answers) as server:
        list_nothing(server.url + suffix)
        read_branch(server.url + suffix)
    assert {request.path.split("/repositories")[0] for request in server.requests} == {"/api/v1"}


def test_making_a_client_opens_nothing_and_starts_nothing() -> None:
    with ScriptedServer(answers) as server:
        running = set(threading.enumerate())
        store_at(server.url).close()
        queue_at(server.url).close()
        assert set(threading.enumerate()) <= running
        assert server.connections == 0


def test_connections_are_kept_for_the_next_call() -> None:
    with ScriptedServer(answers) as server:
        store = store_at(server.url)
        for _ in range(5):
            store.history("repo", "main", until=COMMIT, limit=1)
            download(store, "repo", COMMIT, Path("unused"))
        store.close()
    assert server.connections == 1


def test_a_stopped_transfer_sends_nothing_more_on_a_kept_connection() -> None:
    with ScriptedServer(answers) as server:
        pool = HttpPool("service", server.url, headers={}, size=1, policy=CALM)
        wire = Wire()
        with wire.exchange(10):
            assert pool.call("GET", "/first").status == 200
        wire.cut()
        with wire.exchange(10), pytest.raises(NoAnswerError):
            pool.call("GET", "/second")
        pool.close()
    assert [request.path for request in server.requests] == ["/first"]


def test_a_closed_client_reports_that_it_is_closed() -> None:
    store = store_at("http://127.0.0.1:1")
    store.close()
    with pytest.raises(Unavailable, match="has been closed"):
        download(store, "repo", COMMIT, Path("unused"))


FAULTS: dict[str, Action] = {"401": failure(401, "no"), "500": failure(500, "boom"), "dropped": Drop()}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS.keys())
def test_secrets_show_nowhere_and_no_client_prints(
    fault: Action, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.INFO)
    texts: list[str] = []
    with ScriptedServer(lambda _: fault) as server:
        store, queue = store_at(server.url), queue_at(server.url)
        calls: list[Callable[[], Any]] = [
            lambda: store.history("repo", "main", until="x", limit=1),
            lambda: store.commit("repo", "main", "text", {}),
            lambda: queue.poll("task", "w", count=1, wait_seconds=0),
            queue.ping,
        ]
        for call in calls:
            with pytest.raises(ServiceError) as caught:
                call()
            texts += [str(caught.value), repr(caught.value), repr(caught.value.args)]
    output = capfd.readouterr()
    everything = "\n".join([*texts, caplog.text, output.out, output.err, repr(store), repr(queue)])
    assert SECRET not in everything
    assert output.out + output.err == ""
    assert [record.getMessage() for record in caplog.records] == []


def test_a_pause_grows_is_jittered_and_bounded() -> None:
    for repetition, ceiling in enumerate([1, 2, 4, 4]):
        pauses = {BackOff(1, 4, jitter=True).pause(repetition) for _ in range(20)}
        assert all(ceiling / 2 <= pause <= ceiling for pause in pauses)
        assert len(pauses) > 1


def test_a_service_may_ask_for_a_longer_pause_within_bounds() -> None:
    retries, error = CallPolicy(delays=BackOff(0.01, 4)).retries(), Overloaded("service", "read", "busy")
    for asked, delay in ((3, 3), (3600, 4)):
        error.retry_after = asked
        assert retries.delay(0, error) == delay


@pytest.mark.parametrize(
    ("value", "expected"), [("7", 7.0), ("", 0.0), ("soon", 0.0), ("²", 0.0), ("Wed, 21 Oct 2015 07:28:00 GMT", 0.0)]
)
def test_retry_after_is_read_in_both_spellings(value: str, expected: float) -> None:
    assert retry_after({"Retry-After": value}) == expected


def test_only_unavailable_calls_are_repeated() -> None:
    calls: list[int] = []

    def unclear() -> None:
        calls.append(1)
        raise Unclear("service", "write", "lost")

    with pytest.raises(Unclear):
        retry(unclear, CALM.retries())
    assert len(calls) == 1


@pytest.mark.parametrize(("status", "error"), [(503, Overloaded), (429, RateLimited)])
def test_an_overloaded_service_is_unavailable(status: int, error: type[ServiceError]) -> None:
    assert issubclass(error, Unavailable)
    with ScriptedServer(lambda _: Reply(status, b"", {"Retry-After": "0"})) as server, pytest.raises(error) as caught:
        ping(server.url)
    assert type(caught.value) is error


class Lost(BaseException):
    """The delivery."""


class Loss:
    """Raises `Lost` once in the main thread, from a signal handler, as a slot does; some time after `come`.

    The signal is sent to that thread until it is taken: one that comes right before a call blocks does not end it.
    """

    def __init__(self) -> None:
        self._taken = threading.Event()
        self._sender = threading.Thread(target=self._send, daemon=True)

    def __enter__(self) -> Loss:
        self._before = signal.signal(signal.SIGALRM, self._take)
        return self

    def __exit__(self, *_: object) -> None:
        self._taken.set()
        self._sender.join(10)
        signal.signal(signal.SIGALRM, self._before)

    def come(self) -> None:
        """From any thread, once."""
        self._sender.start()

    def _send(self) -> None:
        time.sleep(0.1)
        while not self._taken.wait(0.1):
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGALRM)

    def _take(self, _signum: int, _frame: FrameType | None) -> None:
        if not self._taken.is_set():
            self._taken.set()
            raise Lost


STREAMS = 8
INTERRUPTED: dict[str, Callable[[LakeFSStore, Path], object]] = {
    "download": lambda store, place: download(store, "repo", COMMIT, place),
    "upload": lambda store, place: store.upload(
        "repo", "staging", [to_upload(place / str(number), b"1") for number in range(20)]
    ),
    "commit": lambda store, _: store.commit("repo", "staging", "m", {}),
    "merge": lambda store, _: store.merge("repo", COMMIT, "main", "m", {}),
    "history": lambda store, _: store.history("repo", "main", until=COMMIT, limit=3),
    "ancestry": lambda store, _: store.ancestry("repo", COMMIT, limit=3),
}


@pytest.mark.parametrize("call", INTERRUPTED)
def test_an_interrupted_call_ends_immediately_and_the_store_cleans_up(tmp_path: Path, call: str) -> None:
    loss = Loss()
    on_their_way = threading.Semaphore(STREAMS - 1 if call == "upload" else 0)

    def script(request: Request) -> Action:
        if request.method == "DELETE":
            return Reply(204)
        if not on_their_way.acquire(blocking=False):
            loss.come()
        return Hang()

    with lakefs(script) as (store, server):  # asserts that no thread of a transfer is left
        begun = time.monotonic()
        with pytest.raises(Lost), loss:
            INTERRUPTED[call](store, tmp_path)
        assert time.monotonic() - begun < 45, "they hang for 60 s"
        sent = len(server.requests)
        store.delete_branch("repo", "staging")
        assert [request.method for request in server.requests[sent:]] == ["DELETE"]
