"""Credentials: what a task function can see of them, and a Conductor whose access tokens expire."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from perago.embedded.services import EmbeddedServices

from ..definitions import flow, simple
from ..worker.bench import wait_for
from .conftest import Project
from .dev_command import ready
from .start_command import Started, started

SECRET = "qT7/hunter2+hunter2=="
VARIABLES = {
    "CONDUCTOR_SERVER_URL": "http://127.0.0.1:1/api",
    "CONDUCTOR_AUTH_KEY": "key-of-conductor",
    "CONDUCTOR_AUTH_SECRET": f"conductor-{SECRET}",
    "CONDUCTOR_OF_SOMEBODY_ELSE": "1",
    "LAKECTL_SERVER_ENDPOINT_URL": "http://127.0.0.1:1",
    "LAKECTL_CREDENTIALS_ACCESS_KEY_ID": "AKIAEXAMPLE",
    "LAKECTL_CREDENTIALS_SECRET_ACCESS_KEY": SECRET,
    "LAKECTL_OPTION": "1",
    "OTEL_EXPORTER_OTLP_HEADERS": "authorization=Bearer%20of-the-collector",
    "OTEL_EXPORTER_OTLP_TRACES_HEADERS": "x-team=traces-of-the-collector,x-short=prod",
}
LOOKS = """
import os, subprocess
from pathlib import Path
from pydantic import BaseModel
from perago import task

class Params(BaseModel):
    pass

class Result(BaseModel):
    at_import: list[str]
    seen: dict[str, list[str]]

def names(text):
    return sorted(set(line.split("=")[0] for line in text if line.startswith(("CONDUCTOR_", "LAKECTL_", "OTEL_"))))

AT_IMPORT = names(os.environ)

def of_process(pid):
    file = Path("/proc", str(pid), "environ")
    return names(file.read_text(errors="replace").split("\\0")) if file.exists() else []

@task(name="plain.looks", owner_email="data@example.com"OPTIONS)
def looks(params: Params) -> Result:
    printed = subprocess.run(["env"], capture_output=True, text=True, check=True).stdout
    seen = {
        "environ": names(os.environ),
        "slot": of_process("self"),
        "fork server": of_process(os.getppid()),
        "child": names(printed.splitlines()),
    }
    return Result(at_import=AT_IMPORT, seen=seen)
"""
NOTHING: dict[str, list[str]] = {"environ": [], "slot": [], "fork server": [], "child": []}


def write(project: Project, options: str = "") -> None:
    project.module("plain", LOOKS.replace("OPTIONS", options))


def test_a_function_under_run_and_its_processes_have_no_keys(project: Project) -> None:
    write(project)
    ran = project.run("run", "plain", **VARIABLES).ends(0)
    assert json.loads(ran.out) == {"at_import": [], "seen": NOTHING}


def test_a_function_gets_the_variables_that_its_task_asks_for(project: Project) -> None:
    environment = ["LAKECTL_CREDENTIALS_*", "CONDUCTOR_SERVER_URL", "OTEL_*_TRACES_*"]
    write(project, f", environment={environment}")
    line = f"ok  plain: task plain.looks, no workspace, environment {' '.join(environment)}"
    assert project.run("check", "plain").out.splitlines()[0] == line
    assert json.loads(project.run("check", "--json", "plain").out)["modules"][0]["environment"] == environment
    ran = project.run("run", "plain", **VARIABLES).ends(0)
    asked = [
        "CONDUCTOR_SERVER_URL",
        "LAKECTL_CREDENTIALS_ACCESS_KEY_ID",
        "LAKECTL_CREDENTIALS_SECRET_ACCESS_KEY",
        "OTEL_EXPORTER_OTLP_TRACES_HEADERS",
    ]
    variables = json.loads(ran.out)
    assert variables == {"at_import": [], "seen": {**NOTHING, "environ": asked, "child": asked}}


def test_a_variable_of_the_dotenv_file_stays_there(project: Project) -> None:
    write(project, ', environment=["LAKECTL_*"]')
    (project.directory / ".env").write_text("".join(f"{name}={value}\n" for name, value in VARIABLES.items()))
    ran = project.run("run", "plain").ends(0)
    assert json.loads(ran.out)["seen"] == NOTHING


def test_a_function_in_a_worker_has_no_keys(project: Project) -> None:
    """`perago dev` starts real workers, which find its services in their environment."""
    write(project)
    with ready(replace(project, environment={**project.environment, **VARIABLES}), "plain") as dev:
        output = dev.finished(dev.curl("dev.plain.looks"))["output"]
    assert output["result"] == {"at_import": [], "seen": NOTHING}


LEAKS = """
import base64
from pathlib import Path
from pydantic import BaseModel
from perago import current, task

class Params(BaseModel):
    file: str
    how: str

class Result(BaseModel):
    text: str

@task(name="plain.leaks", owner_email="data@example.com")
def leaks(params: Params) -> Result:
    secrets = [line.partition("=")[2] for line in Path(params.file).read_text().splitlines() if "SECRET" in line]
    print("headers: of-the-collector, traces-of-the-collector in prod")
    print(secrets, *secrets, base64.b64encode(secrets[-1].encode()).decode())
    current().log(secrets[0])
    if params.how == "raise":
        raise ValueError(secrets)
    return Result(text=secrets[0])
"""


@pytest.mark.parametrize("how", ["raise", "return"])
def test_a_function_that_finds_the_secrets_spreads_them_only_in_its_result(project: Project, how: str) -> None:
    project.module("plain", LEAKS)
    dotenv = project.directory / ".env"
    dotenv.write_text("".join(f"{name}={value}\n" for name, value in VARIABLES.items()))
    ran = project.run("run", "plain", "--params", json.dumps({"file": str(dotenv), "how": how}))
    logs = "".join(file.read_text() for file in project.directory.parent.rglob("*.jsonl"))
    assert "['***', '***'] *** *** ***" in ran.err
    assert "['***', '***'] *** *** ***" in logs
    assert "hunter2" not in ran.err + logs
    assert "headers: ***, *** in prod" in ran.err
    assert "headers: ***, *** in prod" in logs
    if how == "raise":
        assert (ran.code, ran.out) == (1, "")
        assert "failed: ValueError: ['***', '***']" in ran.err
    else:  # what it returns is its own business
        assert json.loads(ran.out) == {"text": VARIABLES["CONDUCTOR_AUTH_SECRET"]}


# ----------------------------------------------------------------------------------------------------
# A worker on a Conductor that wants access tokens. They expire, and keys and the token endpoint fail, during
# attempts.


TOKEN_KEY, TOKEN_SECRET = "key-of-a-worker", "secret-of-a-worker"
WAITS = """
import time
from pathlib import Path
from pydantic import BaseModel
from perago import task

class Params(BaseModel):
    go: str

class Result(BaseModel):
    total: int

@task(name="tokens.wait", owner_email="data@example.com")
def work(params: Params) -> Result:
    Path(params.go + ".began").touch()
    while not Path(params.go).exists():
        time.sleep(0.05)
    return Result(total=1)
"""


class GuardedServices(EmbeddedServices):
    """A Conductor that wants a token for every call, and issues tokens for one key. Refusals repeat the secrets."""

    def __init__(self) -> None:
        super().__init__()
        self.issued: list[str] = []
        self.valid: set[str] = set()
        self.key_is_known = True
        self.token_status = 200
        """Of the token endpoint, before it looks at the key."""
        self.expired_status = 401
        self.expired_code: str | None = "EXPIRED_TOKEN"
        self.refused = 0
        """Calls and requests for tokens that were refused."""

    def environment(self) -> dict[str, str]:
        return {**super().environment(), "CONDUCTOR_AUTH_KEY": TOKEN_KEY, "CONDUCTOR_AUTH_SECRET": TOKEN_SECRET}

    def _app(self) -> ASGIApp:
        app = super()._app()

        async def guarded(scope: Scope, receive: Receive, send: Send) -> None:
            path = scope["path"]
            if path.endswith("/api/token"):
                return await self._token(await Request(scope, receive).json())(scope, receive, send)
            token = Request(scope).headers.get("x-authorization", "")
            if path.startswith(f"/{self.keys.token}/api/") and token not in self.valid:
                self.refused += 1
                body = {"error": self.expired_code, "message": f"Token {token} cannot be used", "status": 401}
                return await JSONResponse(body, self.expired_status)(scope, receive, send)
            return await app(scope, receive, send)

        return guarded

    def _token(self, credentials: dict[str, str]) -> Response:
        is_known = credentials == {"keyId": TOKEN_KEY, "keySecret": TOKEN_SECRET} and self.key_is_known
        status = self.token_status if self.token_status != 200 or is_known else 401
        if status != 200:
            self.refused += 1
            return JSONResponse({"message": f"no token for {credentials['keySecret']}", "status": status}, status)
        token = f"token-number-{len(self.issued)}"
        self.issued.append(token)
        self.valid.add(token)
        return JSONResponse({"token": token})


@pytest.fixture
def guarded() -> Iterator[GuardedServices]:
    with GuardedServices() as services:
        yield services


@contextmanager
def working(project: Project, services: GuardedServices) -> Iterator[tuple[Started, str, Path]]:
    """A worker that is within an attempt: the worker, the attempt's workflow, and the file that lets it end."""
    project.module("tokens", WAITS)
    go = project.directory / "go"
    assert project.run("register", "tokens", **services.environment()).code == 0
    with started(project, "tokens", **services.environment()) as worker:
        worker.wait_for("ready: ")
        step = simple("tokens.wait", params={"go": str(go)})
        workflow = services.conductor.start_workflow("w", {}, definition=flow(step))
        wait_for("the function to begin", lambda: Path(f"{go}.began").exists() or None)
        yield worker, workflow, go
        worker.stop()
        assert not re.search(rf"{TOKEN_SECRET}|token-number", worker.text)


def completed_once(services: GuardedServices, workflow: str) -> None:
    """Wait for the end of the workflow, and fail if an attempt was retried or handed out twice."""
    assert services.conductor.await_workflow(workflow, wait_seconds=30)
    rows = services.conductor.workflow(workflow)["tasks"]
    assert [(row["status"], row["pollCount"], row["retryCount"]) for row in rows] == [("COMPLETED", 1, 0)]


@pytest.mark.parametrize(
    ("status", "code"), [(401, "EXPIRED_TOKEN"), (403, "INVALID_TOKEN")], ids=["expired", "invalid"]
)
def test_a_token_that_expires_during_an_attempt_is_renewed(
    project: Project, guarded: GuardedServices, status: int, code: str
) -> None:
    guarded.expired_status, guarded.expired_code = status, code
    with working(project, guarded) as (worker, workflow, go):
        guarded.valid.clear()
        go.touch()
        completed_once(guarded, workflow)
        assert "rejects the credentials" not in worker.text
    assert len(guarded.issued) <= 4, "threads with one stale token fetch one new one"


@pytest.mark.parametrize("failure", ["the endpoint is down", "the key is refused"])
def test_a_report_waits_for_a_token(project: Project, guarded: GuardedServices, failure: str) -> None:
    with working(project, guarded) as (worker, workflow, go):
        if failure == "the key is refused":
            guarded.key_is_known = False
        else:
            guarded.token_status = 503
        guarded.valid.clear()
        before = guarded.refused
        go.touch()
        wait_for("refusals", lambda: guarded.refused > before + 3 or None)
        worker.wait_for("Conductor rejects the credentials" if not guarded.key_is_known else "Conductor is unreachable")
        guarded.key_is_known, guarded.token_status = True, 200
        completed_once(guarded, workflow)
        worker.wait_for("Conductor answers again")


def test_a_wrong_key_is_named_at_the_start(project: Project, guarded: GuardedServices) -> None:
    project.module("tokens", WAITS)
    ran = project.run("start", "tokens", **{**guarded.environment(), "CONDUCTOR_AUTH_SECRET": "another-secret"})
    assert (ran.code, "CONDUCTOR_AUTH_KEY" in ran.err) == (5, True)
    assert "another-secret" not in ran.out + ran.err
    document = json.loads(project.run("doctor", "--json", **guarded.environment()).out)
    assert [finding for finding in document["findings"] if finding["level"] == "problem"] == []
