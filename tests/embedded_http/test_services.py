"""Both embedded services on one port, for programs of this machine only."""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import re
import resource
import socket
import time
from collections.abc import Iterator
from typing import Any, cast
from urllib.parse import urlsplit

import pytest

from perago.console import console_of
from perago.embedded.http import loopback
from perago.embedded.http.loopback import bound
from perago.embedded.lakefs.values import KeyPair
from perago.embedded.services import EmbeddedServices, _swept

from ..definitions import flow, simple


@pytest.fixture(scope="module")
def services() -> Iterator[EmbeddedServices]:
    with EmbeddedServices(page=console_of, longest_poll=0.1) as running:
        yield running


def ask(
    services: EmbeddedServices,
    path: str,
    method: str = "GET",
    *,
    token: bool = True,
    body: bytes = b"",
    **headers: str,
) -> tuple[int, http.client.HTTPMessage, bytes]:
    """A request with exactly these headers, to the address with the token or without it."""
    path = f"{urlsplit(services.url).path}{path}" if token else path
    connection = http.client.HTTPConnection(urlsplit(services.url).netloc, timeout=20)
    try:
        connection.putrequest(method, path, skip_host="Host" in headers)
        for name, value in headers.items():
            connection.putheader(name.replace("_", "-"), value)
        connection.putheader("Content-Length", str(len(body)))
        connection.endheaders(body)
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read()
    finally:
        connection.close()


def test_the_path_decides_who_answers(services: EmbeddedServices) -> None:
    assert json.loads(ask(services, "/api/metadata/taskdefs")[2]) == []
    assert json.loads(ask(services, "/health")[2])["healthy"] is True
    assert ask(services, "/api/v1/healthcheck")[0] == 204
    assert ask(services, "/api/v1/repositories")[0] == 401
    assert b"<!doctype html>" in ask(services, "/")[2]
    assert ask(services, "/static/style.css")[0] == 200
    assert ask(services, "")[0] == 200


@pytest.mark.parametrize("path", ["/", "/static/style.css", "/api", "/api/metadata/taskdefs", "/api/workflow/none"])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_without_the_token_neither_page_nor_conductor_answers(
    services: EmbeddedServices, path: str, method: str
) -> None:
    status, _, body = ask(services, path, method, token=False)
    assert status == 403
    assert b"the address lacks its token" in body
    for wrong in ("0" * 32, services.keys.token[:-1], f"{services.keys.token}0", services.keys.token.upper()):
        assert ask(services, f"/{wrong}{path}", method, token=False)[0] == 403


@pytest.mark.parametrize("path", ["/api/v1/healthcheck", "/health", "/_health"])
def test_lakefs_has_its_own_keys_and_health_is_not_a_secret(services: EmbeddedServices, path: str) -> None:
    assert ask(services, path, token=False)[0] in (200, 204)
    assert ask(services, "/api/v1/repositories", token=False)[0] == 401


def test_the_page_sets_no_cookie_and_its_addresses_have_the_token(services: EmbeddedServices) -> None:
    """A browser sends a cookie to each port of this machine."""
    _, headers, body = ask(services, "/")
    addresses = re.findall(rb' (?:href|src|action)="(/[^"]*)', body)
    root = f"/{services.keys.token}/".encode()
    assert addresses
    assert [address for address in addresses if not address.startswith(root)] == []
    assert headers["Set-Cookie"] is None
    assert ask(services, "/task-types", token=False, Cookie=f"perago={services.keys.token}")[0] == 403


def test_a_form_of_the_page_leads_to_an_address_with_the_token(services: EmbeddedServices) -> None:
    workflow = services.conductor.start_workflow("a", definition=flow(simple("a"), name="a"))
    status, headers, _ = ask(services, f"/workflows/{workflow}/terminate", "POST")
    assert (status, headers["Location"]) == (303, f"/{services.keys.token}/workflows/{workflow}")
    status, headers, _ = ask(services, "/task-types/?a=b")
    assert (status, headers["Location"]) == (307, f"/{services.keys.token}/task-types?a=b")


def test_the_token_reveals_nothing_of_the_secret_and_stays_the_same(services: EmbeddedServices) -> None:
    keys = services.keys
    assert keys.token not in keys.secret_access_key
    assert KeyPair(keys.access_key_id, keys.secret_access_key).token == keys.token != KeyPair.random().token
    assert not [secret for secret in (keys.token, keys.secret_access_key) if secret in repr(keys)]
    assert EmbeddedServices().keys != keys


def test_without_a_page_the_root_says_where_the_services_are() -> None:
    with EmbeddedServices() as bare:
        status, _, body = ask(bare, "/")
    assert status == 404
    assert b"/api/v1" in body


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:{port}", 200),
        ("localhost:{port}", 200),
        ("LOCALHOST", 200),
        ("[::1]:{port}", 200),
        ("evil.example", 403),
        ("evil.example:{port}", 403),
        ("127.0.0.1.evil.example", 403),
        ("localhost@evil.example", 403),
        ("[::1", 403),
        ("", 403),
    ],
)
@pytest.mark.parametrize("path", ["/", "/api/metadata/taskdefs", "/api/v1/config/version"])
def test_only_names_of_this_machine_are_served(services: EmbeddedServices, host: str, status: int, path: str) -> None:
    answered = ask(services, path, Host=host.format(port=urlsplit(services.url).port))[0]
    assert (answered == 403) is (status == 403)


@pytest.mark.parametrize(
    ("origin", "refused"),
    [
        ("http://127.0.0.1:{port}", False),
        ("HTTP://127.0.0.1:{port}", False),
        ("http://localhost:{port}", True),
        ("http://127.0.0.1:1", True),
        ("http://127.0.0.1", True),
        ("https://127.0.0.1:{port}", True),
        ("https://evil.example", True),
        ("null", True),
        ("", True),
    ],
)
@pytest.mark.parametrize("path", ["/api/workflow/none", "/api/v1/repositories", "/"])
def test_web_pages_from_elsewhere_start_nothing(
    services: EmbeddedServices, origin: str, refused: bool, path: str
) -> None:
    origin = origin.format(port=urlsplit(services.url).port)
    status, headers, _ = ask(services, path, "POST", Origin=origin)
    assert (status == 403) is refused
    assert not [name for name in headers if name.lower().startswith("access-control")]


@pytest.mark.parametrize(
    ("site", "refused"), [("cross-site", True), ("same-site", True), ("same-origin", False), ("none", False)]
)
def test_a_cross_site_request_is_refused_below_api(services: EmbeddedServices, site: str, refused: bool) -> None:
    for path in ("/api/metadata/taskdefs", "/api/v1/config/version", "/api/v1/healthcheck"):
        assert (ask(services, path, Sec_Fetch_Site=site)[0] == 403) is refused
    assert ask(services, "/", Sec_Fetch_Site=site)[0] == 200


def test_silent_connections_do_not_stop_the_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loopback, "MAX_CONNECTIONS", 20)
    with EmbeddedServices() as services, contextlib.ExitStack() as stack:
        address = ("127.0.0.1", urlsplit(services.url).port)
        silent = [stack.enter_context(socket.create_connection(address, 30)) for _ in range(50)]
        assert ask(services, "/api/metadata/taskdefs")[0] == 200
        for connection in silent[:30]:
            with contextlib.suppress(ConnectionResetError):
                assert connection.recv(1) == b""


@pytest.mark.parametrize(("open_files", "connections"), [(256, 128), (1024, 512), (65536, 512), (-1, 512)])
def test_connections_leave_half_of_the_open_files(
    open_files: int, connections: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (open_files, open_files))
    assert loopback._connection_limit() == connections


def test_a_login_without_credentials_has_a_small_body(services: EmbeddedServices) -> None:
    def login(length: int, **headers: str) -> int:
        body = json.dumps({"access_key_id": "x" * length, "secret_access_key": ""}).encode()
        return ask(
            services, "/api/v1/auth/login", "POST", token=False, body=body, Content_Type="application/json", **headers
        )[0]

    assert login(1000) == 401
    assert login(100_000) == 413
    assert login(100_000, Authorization=f"Basic {base64.b64encode(services.keys.basic).decode()}") == 401


def test_no_preflight_is_answered(services: EmbeddedServices) -> None:
    _, headers, _ = ask(
        services, "/api/workflow", "OPTIONS", Origin="http://localhost:1", Access_Control_Request_Method="POST"
    )
    assert not [name for name in headers if name.lower().startswith("access-control")]


def test_of_two_that_want_one_port_at_the_same_moment_only_one_gets_it() -> None:
    with bound() as first:
        port = first.getsockname()[1]
        with pytest.raises(OSError, match="in use"):
            bound(port)


def test_timeouts_fire_without_any_call() -> None:
    with EmbeddedServices() as services:
        model = services.conductor
        model.register_task_definitions(
            [{"name": "t", "timeoutSeconds": 1, "responseTimeoutSeconds": 1, "retryCount": 0}]
        )
        model.create_workflow_definition(flow(simple("t")))
        workflow = model.start_workflow("w")
        model.poll_tasks("t", "worker")
        for _ in range(200):
            if model.workflow(workflow)["status"] == "TIMED_OUT":
                return
            services.clock.sleep(0.05)
        pytest.fail("it did not time out")


def test_a_workflow_that_breaks_the_sweep_does_not_end_it() -> None:
    """Timeouts of all others are still looked for, and the problem is told once."""

    class Breaking:
        sweeps = 0

        def sweep(self) -> None:
            self.sweeps += 1
            raise ValueError("one bad workflow")

    problems: list[str] = []
    conductor = Breaking()
    deadline = time.monotonic() + 20
    with _swept(cast("Any", conductor), 0.001, problems.append):
        while conductor.sweeps < 3 and time.monotonic() < deadline:
            time.sleep(0.001)
    assert conductor.sweeps >= 3
    assert problems == ["looking for timeouts failed, and is tried again: ValueError('one bad workflow')"]
