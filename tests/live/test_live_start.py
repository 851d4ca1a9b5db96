"""The first seconds of a worker: what it says when all is well, and when a server does not let it in."""

from __future__ import annotations

import time

import pytest

from .commands import Environment, perago
from .conftest import Deploy
from .deploying import TASKS, input_of
from .proxy import Proxy
from .repositories import LakeFSServer, Repository
from .waiting import wait_for
from .workflows import Conductor

pytestmark = pytest.mark.live

UNREACHABLE = 5
NOBODY = "http://127.0.0.1:9"


@pytest.fixture
def environment(conductor: Conductor, lakefs: LakeFSServer, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """The servers' variables, without a deployment."""
    variables = {"CONDUCTOR_SERVER_URL": conductor.url, **lakefs.environment()}
    return Environment(tmp_path_factory.mktemp("start"), variables)


def test_a_worker_says_when_it_is_ready_and_as_whom_it_polls(deploy: Deploy) -> None:
    workspace = deploy("workspace")
    worker = workspace.worker(3)
    line = worker.line("^ready: ")
    assert line.startswith(f"ready: {workspace.task} ({workspace.module}), 3 slots, polling as ")
    assert "0000, after " in line
    assert worker.lines == [line], "a TaskDef that has just been registered is nothing to warn about"


def test_a_task_definition_that_differs_is_warned_about_and_stays(deploy: Deploy) -> None:
    free = deploy("free")
    worker = free.worker(LIVE_RESPONSE_SECONDS="77")
    worker.line("TaskDef .* differs from the module's")
    assert worker.has_line("responseTimeoutSeconds.*60.*77")
    assert not worker.has_line("Schema")
    assert free.conductor.call("GET", f"/metadata/taskdefs/{free.task}")["responseTimeoutSeconds"] == 60
    again = perago(free.environment, "register", free.module, LIVE_RESPONSE_SECONDS="77")
    assert (again.returncode, "responseTimeoutSeconds: 60 -> 77" in again.stdout) == (0, True), again.stdout
    assert free.conductor.call("GET", f"/metadata/taskdefs/{free.task}")["responseTimeoutSeconds"] == 77


WRONG = [
    pytest.param(
        "free",
        {"CONDUCTOR_SERVER_URL": f"{NOBODY}/api"},
        ("Conductor", f"CONDUCTOR_SERVER_URL={NOBODY}/api"),
        id="no Conductor",
    ),
    pytest.param(
        "workspace",
        {"LAKECTL_SERVER_ENDPOINT_URL": NOBODY},
        ("lakeFS", f"LAKECTL_SERVER_ENDPOINT_URL={NOBODY}"),
        id="no lakeFS",
    ),
    pytest.param(
        "workspace",
        {"LAKECTL_CREDENTIALS_SECRET_ACCESS_KEY": "not-the-secret"},
        ("lakeFS", "401", "LAKECTL_CREDENTIALS_SECRET_ACCESS_KEY"),
        id="a wrong secret of lakeFS",
    ),
]


@pytest.mark.parametrize(("module", "variables", "words"), WRONG)
def test_a_server_that_does_not_let_us_in_ends_the_start(
    environment: Environment, module: str, variables: dict[str, str], words: tuple[str, ...]
) -> None:
    done = perago(environment, "start", f"{TASKS}.{module}", "-j", "2", **variables)
    assert done.returncode == UNREACHABLE, done.stderr
    assert all(word in done.stderr for word in words), done.stderr
    assert "Traceback" not in done.stderr
    assert "not-the-secret" not in done.stdout + done.stderr
    assert "ready" not in done.stdout
    wait_for("the end of every process", lambda: not environment.processes())


def test_the_url_of_another_server_is_reported_as_not_a_conductor(
    environment: Environment, lakefs: LakeFSServer
) -> None:
    done = perago(environment, "start", f"{TASKS}.free", CONDUCTOR_SERVER_URL=f"{lakefs.url}/api")
    assert done.returncode == UNREACHABLE, done.stderr
    assert "Conductor" in done.stderr
    wait_for("the end of every process", lambda: not environment.processes())


def test_with_wait_a_worker_starts_once_the_server_is_there(
    deploy: Deploy, conductor_proxy: Proxy, repository: Repository
) -> None:
    ref = repository.commit({"raw/a.txt": b"a"})
    workspace = deploy("workspace")
    conductor_proxy.refuse()
    worker = workspace.starting("--wait", CONDUCTOR_SERVER_URL=conductor_proxy.url)
    worker.line("Conductor.*trying again")
    time.sleep(1)
    assert not worker.has_line("^ready")
    conductor_proxy.restore()
    worker.ready()
    workspace.conductor.completed(workspace.start(input_of(repository, ref)))
