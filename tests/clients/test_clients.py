"""The official clients that `perago.clients` makes, on embedded servers and without any."""

from __future__ import annotations

import builtins
import json
import pickle
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lakefs
import pytest
from conductor.client.http.api.event_resource_api import EventResourceApi
from conductor.client.http.api_client import ApiClient
from conductor.client.http.rest import ApiException
from conductor.client.orkes_clients import OrkesClients
from lakefs_sdk import models
from lakefs_sdk.exceptions import ServiceException

from perago.clients import conductor_configuration, configuration_of, lakefs_client, published
from perago.embedded.services import EmbeddedServices
from perago.settings import ConductorSettings, ConfigurationError

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of conductor-python, about its own models


@pytest.fixture(scope="module")
def services() -> Iterator[EmbeddedServices]:
    with EmbeddedServices() as services:
        yield services


@pytest.fixture
def variables(services: EmbeddedServices, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    for name, value in services.environment().items():
        monkeypatch.setenv(name, value)


def test_both_clients_reach_the_configured_servers(services: EmbeddedServices, variables: None) -> None:
    services.lakefs.seed("reached", "main", {"a.txt": "x"})
    repository = lakefs.Repository("reached", client=lakefs_client())
    assert repository.branch("main").object("a.txt").reader(mode="r").read() == "x"
    assert OrkesClients(conductor_configuration()).get_task_client().get_queue_size_for_task("t") == 0


def test_nothing_is_sent_and_no_secret_is_shown_before_the_first_call(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"http://127.0.0.1:{server.getsockname()[1]}"
        monkeypatch.setenv("CONDUCTOR_SERVER_URL", f"{address}/api")
        monkeypatch.setenv("CONDUCTOR_AUTH_KEY", "the-key")
        monkeypatch.setenv("CONDUCTOR_AUTH_SECRET", "s3cret")
        monkeypatch.setenv("LAKECTL_SERVER_ENDPOINT_URL", address)
        monkeypatch.setenv("LAKECTL_CREDENTIALS_ACCESS_KEY_ID", "id")
        monkeypatch.setenv("LAKECTL_CREDENTIALS_SECRET_ACCESS_KEY", "s3cret")
        configuration, client = conductor_configuration(), lakefs_client()
        clients = OrkesClients(configuration)
        server.settimeout(0.2)
        with pytest.raises(TimeoutError):
            server.accept()
        for shown in (configuration, client, clients, configuration.http_connection, client.config):
            assert "s3cret" not in repr(shown)
            assert "s3cret" not in str(shown)


def test_keys_are_accepted_by_a_server_without_tokens(
    services: EmbeddedServices, variables: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONDUCTOR_AUTH_KEY", "key")
    monkeypatch.setenv("CONDUCTOR_AUTH_SECRET", "secret")
    tasks = OrkesClients(conductor_configuration()).get_task_client()
    assert [tasks.get_queue_size_for_task("t") for _ in range(2)] == [0, 0]


def test_missing_variables_have_the_message_of_perago(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("CONDUCTOR_SERVER_URL", "LAKECTL_SERVER_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ConfigurationError, match="CONDUCTOR_SERVER_URL: not set"):
        conductor_configuration()
    with pytest.raises(ConfigurationError, match="LAKECTL_SERVER_ENDPOINT_URL: not set"):
        lakefs_client()


def test_a_missing_package_names_the_extra(variables: None, monkeypatch: pytest.MonkeyPatch) -> None:
    original = builtins.__import__

    def refuse(name: str, *rest: Any) -> Any:
        if name.partition(".")[0] in ("lakefs", "conductor"):
            raise ImportError(f"No module named {name!r}")
        return original(name, *rest)

    monkeypatch.setattr(builtins, "__import__", refuse)
    for function in (conductor_configuration, lakefs_client):
        with pytest.raises(ImportError, match="install perago with the extra sdk"):
            function()


def test_the_module_itself_imports_no_sdk() -> None:
    code = "import sys, perago.clients; assert not {'httpx', 'lakefs', 'lakefs_sdk', 'conductor'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_the_connection_of_conductor_uses_the_proxy_and_can_be_pickled(
    services: EmbeddedServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", services.lakefs_url)
    configuration = pickle.loads(pickle.dumps(configuration_of(ConductorSettings("http://conductor.invalid/api"))))
    with pytest.raises(ApiException) as caught:
        OrkesClients(configuration).get_task_client().get_queue_size_for_task("t")
    assert caught.value.status > 0, "an answer of the proxy, because the name has no address"


def test_published_opens_the_newest_of_several_commits(services: EmbeddedServices, variables: None) -> None:
    older = services.lakefs.seed("several", "main", {"a.txt": "1"}).id
    side = services.lakefs.seed("several", "side", {"b.txt": "3"}).id
    newer = services.lakefs.seed("several", "main", {"a.txt": "2"}).id

    def output(ref: Any) -> dict[str, Any]:
        return {"workspace": {"repository": "several", "branch": "main", "ref_type": "commit", "ref": ref}}

    for ref in (newer, [older, None, newer], [newer, older]):
        assert published(output(ref)).object("a.txt").reader(mode="r").read() == "2"
    with pytest.raises(ValueError, match="has the other one in its history"):
        published(output([newer, side]))
    with pytest.raises(ValueError, match="names no commit"):
        published(output([None]))
    with pytest.raises(ValueError, match="has no workspace"):
        published({"result": 1})
    with pytest.raises(ValueError, match="has no workspace"):
        published(None)


def test_calls_without_a_model_are_named_through_both_sdks(services: EmbeddedServices) -> None:
    with pytest.raises(ApiException) as refused:
        EventResourceApi(ApiClient(services.conductor_configuration)).get_event_handlers()
    assert refused.value.status == 501
    assert refused.value.message.startswith("getEventHandlers")
    assert json.loads(refused.value.body)["message"] == refused.value.message
    assert '"message":"getEventHandlers' in str(refused.value), "the SDK writes its status first"
    with pytest.raises(ServiceException) as unavailable:
        services.lakefs_client.sdk_client.pulls_api.list_pull_requests("several")
    assert unavailable.value.status == 501
    assert json.loads(str(unavailable.value.body))["message"].startswith("listPullRequests")
    assert '"message":"listPullRequests' in str(unavailable.value)
    branch = lakefs.Repository("several", client=services.lakefs_client).branch("main")
    with pytest.raises(lakefs.exceptions.ServerException) as wrapped:
        branch.import_data("x").prefix("s3://x/", "").start()
    assert wrapped.value.body["message"].startswith("importStart")
    sampled = models.RepositoryCreation(name="new", storage_namespace="local://new", sample_data=True)
    with pytest.raises(ServiceException) as parameter:
        services.lakefs_client.sdk_client.repositories_api.create_repository(sampled)
    assert json.loads(str(parameter.value.body))["message"].startswith("POST /api/v1/repositories with sample_data is")
