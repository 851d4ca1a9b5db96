"""A worker on a Conductor that wants access tokens. They expire, and keys and the token endpoint fail, during
attempts."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from perago.embedded.services import EmbeddedServices

from ..definitions import flow, simple
from ..worker.bench import wait_for
from .conftest import Project
from .start_command import Started, started

KEY, SECRET = "key-of-a-worker", "secret-of-a-worker"
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
        return {**super().environment(), "CONDUCTOR_AUTH_KEY": KEY, "CONDUCTOR_AUTH_SECRET": SECRET}

    def _app(self) -> ASGIApp:
        app = super()._app()

        async def guarded(scope: Scope, receive: Receive, send: Send) -> None:
            path = scope["path"]
            if path.endswith("/api/token"):
                return await self._token(await Request(scope, receive).json())(scope, receive, send)
            token = Request(scope).headers.get("x-authorization", "")
            if path.startswith(f"/{self.keys.token}/api/") and token not in self.valid:
                self.refused += 1
                words = {"error": self.expired_code, "message": f"Token {token} cannot be used", "status": 401}
                return await JSONResponse(words, self.expired_status)(scope, receive, send)
            return await app(scope, receive, send)

        return guarded

    def _token(self, given: dict[str, str]) -> Response:
        is_known = given == {"keyId": KEY, "keySecret": SECRET} and self.key_is_known
        status = self.token_status if self.token_status != 200 or is_known else 401
        if status != 200:
            self.refused += 1
            return JSONResponse({"message": f"no token for {given['keySecret']}", "status": status}, status)
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
        assert not re.search(rf"{SECRET}|token-number", worker.text)


def completed_once(services: GuardedServices, workflow: str) -> None:
    """Wait for the end of the workflow, and fail if an attempt was retried or handed out twice."""
    shown = wait_for(
        "the end", lambda: ended if (ended := services.conductor.workflow(workflow)).get("endTime") else None
    )
    assert [(row["status"], row["pollCount"], row["retryCount"]) for row in shown["tasks"]] == [("COMPLETED", 1, 0)]


@pytest.mark.parametrize(
    ("status", "code"),
    [(401, "EXPIRED_TOKEN"), (403, "INVALID_TOKEN")],
    ids=["expired", "invalid"],
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
    found = json.loads(project.run("doctor", "--json", **guarded.environment()).out)
    assert [one for one in found["findings"] if one["level"] == "problem"] == []
