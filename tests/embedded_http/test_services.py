"""Both embedded services on one port, for programs of this machine only."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import lakefs
import pytest
from lakefs.client import Client
from pydantic import SecretStr

from perago.adapters.conductor import ConductorQueue
from perago.embedded.http.services import EmbeddedServices
from perago.settings import ConductorSettings


@pytest.fixture(scope="module")
def services() -> Iterator[EmbeddedServices]:
    with EmbeddedServices(with_page=True, longest_poll=0.1) as running:
        yield running


def ask(
    services: EmbeddedServices, path: str, method: str = "GET", **headers: str
) -> tuple[int, http.client.HTTPMessage, bytes]:
    """A request with exactly these headers."""
    connection = http.client.HTTPConnection(urlsplit(services.url).netloc, timeout=20)
    try:
        connection.putrequest(method, path, skip_host="Host" in headers)
        for name, value in headers.items():
            connection.putheader(name.replace("_", "-"), value)
        connection.putheader("Content-Length", "0")
        connection.endheaders()
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
    found = ask(services, path, Host=host.format(port=urlsplit(services.url).port))[0]
    assert (found == 403) is (status == 403)


@pytest.mark.parametrize(
    ("origin", "refused"),
    [
        ("http://localhost:3000", False),
        ("http://127.0.0.1:7777", False),
        ("https://evil.example", True),
        ("null", True),
    ],
)
def test_web_pages_from_elsewhere_start_nothing(services: EmbeddedServices, origin: str, refused: bool) -> None:
    status, headers, _ = ask(services, "/api/workflow/none", "POST", Origin=origin)
    assert (status == 403) is refused
    assert not [name for name in headers if name.lower().startswith("access-control")]


def test_no_preflight_is_answered(services: EmbeddedServices) -> None:
    _, headers, _ = ask(
        services, "/api/workflow", "OPTIONS", Origin="http://localhost:1", Access_Control_Request_Method="POST"
    )
    assert not [name for name in headers if name.lower().startswith("access-control")]


def test_the_environment_leads_the_official_clients_here(services: EmbeddedServices) -> None:
    environment = services.environment()
    client = Client(
        host=environment["LAKECTL_SERVER_ENDPOINT_URL"],
        username=environment["LAKECTL_CREDENTIALS_ACCESS_KEY_ID"],
        password=environment["LAKECTL_CREDENTIALS_SECRET_ACCESS_KEY"],
    )
    repository = lakefs.Repository("clients", client=client).create("local://clients")
    repository.branch("main").object("a.txt").upload("x")
    assert services.lakefs.tree("clients", "main") == {"a.txt": b"x"}
    queue = ConductorQueue(ConductorSettings(environment["CONDUCTOR_SERVER_URL"], "key", SecretStr("secret")))
    queue.register_task_definitions([{"name": "clients.task"}])
    assert services.conductor.get_task_definition("clients.task") is not None
    queue.close()


def test_keys_are_made_up_anew_and_not_shown() -> None:
    one, other = EmbeddedServices(), EmbeddedServices()
    assert one.keys != other.keys
    assert one.keys.secret_access_key not in repr(one.keys)


def test_timeouts_fire_though_nobody_calls() -> None:
    with EmbeddedServices(sweep_seconds=0.05) as services:
        model = services.conductor
        model.register_task_definitions(
            [{"name": "t", "timeoutSeconds": 1, "responseTimeoutSeconds": 1, "retryCount": 0}]
        )
        step = {"name": "t", "taskReferenceName": "t", "type": "SIMPLE"}
        model.create_workflow_definition({"name": "w", "version": 1, "schemaVersion": 2, "tasks": [step]})
        workflow = model.start_workflow("w")
        model.poll_tasks("t", "worker")
        for _ in range(200):
            if model.workflow(workflow)["status"] == "TIMED_OUT":
                return
            services.clock.sleep(0.05)
        pytest.fail("it did not time out")


def test_state_is_found_again(tmp_path: Path) -> None:
    with EmbeddedServices(state=tmp_path / "state") as before:
        before.lakefs.seed("kept", "main", {"a": "b"})
        before.conductor.register_task_definitions([{"name": "kept"}])
    with EmbeddedServices(state=tmp_path / "state") as after:
        assert after.keys == before.keys
        assert after.lakefs.tree("kept", "main") == {"a": b"b"}
        assert after.conductor.get_task_definition("kept") == before.conductor.get_task_definition("kept")
